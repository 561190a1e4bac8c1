"""The command line, read the way mock reads it: what is no option is a source.

mock hands unknown options on as names of source packages, and callers have to
live with that, so argparse (which would refuse them) is not used.
"""

from dataclasses import dataclass, field

from .errors import BadCommandLine

MODES = {
    "--init": "init",
    "--clean": "clean",
    "--installdeps": "installdeps",
    "--rebuild": "rebuild",
    "--version": "version",
    "--help": "help",
    "-h": "help",
}

FLAGS = {
    "--no-clean": ("clean", False),
    "-n": ("clean", False),
    "--no-cleanup-after": ("cleanup_after", False),
    "-N": ("cleanup_after", False),
    "--cleanup-after": ("cleanup_after", True),
    "--offline": ("online", False),
    "--nocheck": ("check", False),
}

#: Accepted because callers of mock pass them; they change nothing here.
IGNORED_FLAGS = {
    "--no-bootstrap-chroot", "--bootstrap-chroot", "--no-bootstrap-image",
    "--enable-network", "--old-chroot", "--verbose", "-v", "--quiet", "-q",
}
IGNORED_VALUES = {"--plugin-option", "--disable-plugin", "--enable-plugin"}

VALUES = {
    "-r": "root",
    "--root": "root",
    "--resultdir": "resultdir",
    "--isolation": "isolation",
    "--uniqueext": "uniqueext",
}
LISTS = {
    "-a": "repositories",
    "--addrepo": "repositories",
    "--config-opts": "config_opts",
    "-D": "defines",
    "--define": "defines",
    "--with": "with_",
    "--without": "without",
}


@dataclass
class Options:
    """What the caller asked for; lists keep the order of the command line."""

    mode: str = "rebuild"
    root: str = "default"
    resultdir: str | None = None
    isolation: str = "auto"
    uniqueext: str = ""
    clean: bool = True
    cleanup_after: bool | None = None
    online: bool = True
    check: bool = True
    repositories: list = field(default_factory=list)
    config_opts: list = field(default_factory=list)
    defines: list = field(default_factory=list)
    with_: list = field(default_factory=list)
    without: list = field(default_factory=list)
    ignored: list = field(default_factory=list)
    arguments: list = field(default_factory=list)

    def setting(self, name, default=""):
        """The last value given for a --config-opts key."""
        value = default
        for pair in self.config_opts:
            key, separator, text = pair.partition("=")
            if not separator:
                raise BadCommandLine(f"Bad option for '--config-opts' ({pair!r}). Use --config-opts 'key=value'")
            if key == name:
                value = text
        return value

    def rpmbuild_options(self):
        """Options of rpmbuild that --define, --with, --without and --nocheck ask for."""
        found = []
        for text in self.defines:
            found += ["--define", text]
        for name in self.with_:
            found += ["--with", name]
        for name in self.without:
            found += ["--without", name]
        if not self.check:
            found.append("--nocheck")
        return found


def parse(words):
    """Reads the words after the program's name."""
    options = Options()
    rest = list(words)
    while rest:
        _take(options, rest.pop(0), rest)
    if options.isolation not in ("auto", "simple"):
        raise BadCommandLine(f"mock-offline knows the isolation 'simple' only, not '{options.isolation}'")
    options.setting("")  # refuses a malformed pair before anything is done
    return options


def _take(options, word, rest):
    name, separator, attached = word.partition("=")
    if not word.startswith("-"):
        options.arguments.append(word)
    elif word in MODES:
        options.mode = MODES[word]
    elif word in FLAGS:
        key, value = FLAGS[word]
        setattr(options, key, value)
    elif word in IGNORED_FLAGS:
        options.ignored.append(word)
    elif name in VALUES or name in LISTS or name in IGNORED_VALUES:
        _keep(options, name, attached if separator else _next(name, rest))
    else:
        options.arguments.append(word)


def _next(name, rest):
    if not rest:
        raise BadCommandLine(f"option {name} needs a value")
    return rest.pop(0)


def _keep(options, name, value):
    if name in VALUES:
        setattr(options, VALUES[name], value)
    elif name in LISTS:
        getattr(options, LISTS[name]).append(value)
    else:
        options.ignored.append(f"{name} {value}")
