"""The build of one source package, in mock's order and under mock's phase names."""

import glob
import os
import shlex
import shutil

from .buildroot import TOPDIR
from .errors import BuildError, MockError, SourceError
from .process import Command
from .users import acting_as

#: mock's own limits on rounds that add packages.
STATIC_ROUNDS = 10
DYNAMIC_ROUNDS = 10
MISSING_DYNAMIC = 11


class Build:
    """Turns a source package into the files of the result directory."""

    def __init__(self, buildroot, options):
        self.buildroot = buildroot
        self.place = buildroot.place
        self.packages = buildroot.packages
        self.runner = buildroot.runner
        self.logs = buildroot.logs
        self.user = buildroot.user
        self.options = options
        self.timeout = float(options.setting("rpmbuild_timeout", "0") or 0)

    def build(self, source):
        """Phase `build phase for S`."""
        name = os.path.basename(source)
        phase = f"build phase for {name}"
        self.logs.start(phase)
        try:
            spec, dynamic = self._setup(source, name)
            results = self._rpmbuild(name, spec, dynamic)
            self._copy_results(results)
        finally:
            self.logs.finish(phase)

    def _setup(self, source, name):
        """Phase `build setup for S`: unpack, rewrite the source package, install what it needs."""
        phase = f"build setup for {name}"
        self.logs.start(phase)
        try:
            spec = self._unpack(source, name)
            for _ in range(STATIC_ROUNDS):
                before = self.packages.installed_names()
                rebuilt = self._rebuild_source(spec)
                self.packages.builddep([rebuilt])
                if self.packages.installed_names() == before:
                    break
            needs = self._as_user(["rpm", "-qp", "--requires", "--nosignature", "--nodigest", rebuilt], capture=True)
        finally:
            self.logs.finish(phase)
        return spec, "rpmlib(DynamicBuildRequires)" in needs.out

    def _unpack(self, source, name):
        copy = os.path.join(self.place.topdir, "originals", name)
        shutil.copyfile(source, copy)
        os.chmod(copy, 0o644)
        result = self._as_user(["rpm", "-U", "--nodeps", "--nosignature", copy], capture=True)
        if result.code:
            raise SourceError(f"Source RPM is not installable:\n{result.text()}")
        listing = self._as_user(["rpm", "-qpl", "--nosignature", "--nodigest", copy], capture=True)
        specs = [line for line in listing.out.splitlines() if line.endswith(".spec")]
        if not specs:
            raise SourceError(f"No specfile found in srpm: {name}")
        return os.path.join(TOPDIR, "SPECS", os.path.basename(specs[0]))

    def _rebuild_source(self, spec):
        self._checked(["-bs"], spec)
        found = self._found("SRPMS/*.src.rpm")
        if len(found) != 1:
            raise SourceError(f"Expected to find single rebuilt srpm, found {len(found)} in {self.place.topdir}/SRPMS")
        return found[0]

    def _rpmbuild(self, name, spec, dynamic):
        """Phase `rpmbuild S`."""
        phase = f"rpmbuild {name}"
        self.logs.start(phase)
        try:
            if dynamic:
                self._add_dynamic(spec)
            self._list_installed()
            self._checked(["-ba", "--noprep"] if dynamic else ["-bb"], spec)
        finally:
            self.logs.finish(phase)
        return self._found("RPMS/*.rpm") + self._found("SRPMS/*.rpm")

    def _add_dynamic(self, spec):
        mode = ["-br"]
        for _ in range(DYNAMIC_ROUNDS):
            before = self.packages.installed_names()
            result = self._run(mode, spec)
            if result.code not in (0, MISSING_DYNAMIC):
                raise BuildError(f"Command failed: \n # rpmbuild {' '.join(mode)} {spec}")
            self.logs.build_line("Dynamic buildrequires detected")
            self.logs.build_line("Going to install missing buildrequires. See root.log for details.")
            wanted = self._found("SRPMS/*.buildreqs.nosrc.rpm")
            self.packages.builddep(wanted)
            with acting_as(self.user):
                for path in wanted:
                    os.unlink(path)
            if self.packages.installed_names() == before:
                return
            mode = ["-br", "--noprep"]

    def _list_installed(self):
        phase = "Outputting list of installed packages"
        self.logs.start(phase)
        query = ["rpm", "--dbpath", self.place.dbpath, "-qa", "--qf", "%{nevra} %{buildtime} %{size} installed\\n"]
        text = self.runner.check(Command(query, env=self.place.root_env(), sink="quiet", capture=True))
        self.logs.write_file("installed_pkgs.log", text, self.user)
        self.logs.finish(phase)

    def _copy_results(self, results):
        if not results:
            raise SourceError("No build results found")
        with acting_as(self.user):
            for path in results:
                try:
                    shutil.copy2(path, self.logs.resultdir)
                except OSError as error:
                    raise MockError(f"Can not copy {path} into resultdir {self.logs.resultdir}: {error}") from error

    def _checked(self, mode, spec):
        result = self._run(mode, spec)
        if result.code:
            raise MockError(f"Command failed: \n # {self._shell(mode, spec)}", result.code)

    def _run(self, mode, spec):
        return self.runner.run(Command(
            ["bash", "--login", "-c", self._shell(mode, spec)], user=self.user, env=self.place.build_env(),
            cwd=TOPDIR, sink="build", show=self.logs.show_output, timeout=self.timeout,
        ))

    def _shell(self, mode, spec):
        words = ["/usr/bin/rpmbuild", *mode, "--noclean", "--target", self.buildroot.chroot.target_arch, "--nodeps"]
        return shlex.join([*words, *self.options.rpmbuild_options(), spec])

    def _as_user(self, argv, capture):
        return self.runner.run(Command(
            argv, user=self.user, env=self.place.build_env(), cwd=TOPDIR, capture=capture,
        ))

    def _found(self, pattern):
        return sorted(glob.glob(os.path.join(glob.escape(self.place.topdir), pattern)))
