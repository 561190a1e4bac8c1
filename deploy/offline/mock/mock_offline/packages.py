"""The package manager: what dnf does for mock, against small repositories."""

import os

from .errors import MockError, PackageManagerError
from .fetch import Fetcher
from .metadata import Package
from .process import Command
from .repository import Repository, repository_name
from .solver import Solver, Unsolvable

#: Field separator of the rpm queries; it cannot occur in names or versions.
_HEAD = "\x1e%{NAME}\x1f%{ARCH}\x1f%{EPOCHNUM}\x1f%{VERSION}\x1f%{RELEASE}\n"
_PROVIDES = "[P\x1f%{PROVIDENAME}\x1f%{PROVIDEFLAGS}\x1f%{PROVIDEVERSION}\n]"
_REQUIRES = "[R\x1f%{REQUIRENAME}\x1f%{REQUIREFLAGS}\x1f%{REQUIREVERSION}\n]"
_CONFLICTS = "[C\x1f%{CONFLICTNAME}\x1f%{CONFLICTFLAGS}\x1f%{CONFLICTVERSION}\n]"
_FILES = "[F\x1f%{FILENAMES}\n]"


class PackageManager:
    """Installs into the root's own package database."""

    def __init__(self, place, chroot, options, runner):
        self.place = place
        self.runner = runner
        self.logs = runner.logs
        self.online = options.online
        self.fetcher = Fetcher(chroot.repository_timeout, chroot.repository_tries)
        named = chroot.repositories + [(repository_name(url), url) for url in options.repositories]
        self.repositories = [Repository(name, url, chroot, place.cachedir) for name, url in named]

    def install(self, names):
        """Installs packages by what they provide."""
        self._apply(f"install {' '.join(names)}", [(name, 0, "") for name in names], [])

    def builddep(self, sources):
        """Installs what source packages need to be built."""
        requires, conflicts = [], []
        for source in sources:
            package = self._query(["-qp", "--nosignature", "--nodigest", source], _HEAD + _REQUIRES + _CONFLICTS)[0]
            requires += package.requires
            conflicts += package.conflicts
        self._apply(f"builddep {' '.join(sources)}", requires, conflicts)

    def installed(self):
        """Every package of the root with what it offers."""
        return self._query(["-qa"], _HEAD + _PROVIDES + _CONFLICTS + _FILES)

    def installed_names(self):
        """The full names of the installed packages, to see whether anything was added."""
        return {package.nevra() for package in self._query(["-qa"], _HEAD)}

    def _apply(self, what, requires, conflicts):
        try:
            solver = Solver(self.installed(), self._available())
            chosen = solver.solve(requires)
            solver.refuse_conflicts(conflicts)
            self._transaction(chosen)
        except (Unsolvable, PackageManagerError, MockError) as error:
            for line in str(error).split("\n"):
                self.logs.package_line(line)
            raise PackageManagerError(f"Command failed: \n # mock-offline package manager: {what}\n{error}") from error

    def _available(self):
        packages = []
        for repository in self.repositories:
            found = repository.load(self.fetcher, self.online)
            self.logs.debug(f"{repository.name}: {len(found)} packages in {repository.url}")
            packages += found
        return packages

    def _transaction(self, chosen):
        if not chosen:
            self.logs.package_line("Nothing to do.")
            return
        paths = []
        for package in chosen:
            self.logs.package_line(f"Installing: {package.nevra()}  from {package.repository.name}")
            paths.append(package.repository.fetch_package(package, self.fetcher, self.online))
        self.runner.check(Command(
            self._rpm(["-U", "--nosignature", "--oldpackage", "-v", *paths]), env=self.place.root_env(),
            show=self.logs.show_output, capture=True,
        ))
        self.logs.package_line("Complete!")

    def _rpm(self, words):
        return ["rpm", "--dbpath", self.place.dbpath, *words]

    def _query(self, words, query):
        os.makedirs(self.place.dbpath, exist_ok=True)
        text = self.runner.check(Command(
            self._rpm([*words, "--qf", query]), env=self.place.root_env(), sink="quiet", capture=True,
        ))
        return [_parse(record) for record in text.split("\x1e")[1:]]


def _parse(record):
    head, *lines = record.splitlines()
    name, arch, epoch, version, release = head.split("\x1f")
    package = Package(name, arch, (epoch, version, release))
    kinds = {"P": package.provides, "R": package.requires, "C": package.conflicts}
    for line in lines:
        kind, *fields = line.split("\x1f")
        if kind == "F" and fields:
            package.files.append(fields[0])
        elif kind in kinds and fields[0] != "(none)":
            kinds[kind].append((fields[0], _flags(fields[1]), fields[2]))
    return package


def _flags(text):
    return int(text) & 0xE if text.isdigit() else 0
