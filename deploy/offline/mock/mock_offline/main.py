"""From command line to exit code."""

import os
import shlex
import signal
import sys
import time
import traceback

from . import VERSION, hardware
from .build import Build
from .buildroot import Buildroot, Place, isolate
from .config import load_chroot
from .errors import BadCommandLine, Interrupted, MockError, NothingToDo, NotPrivileged
from .logs import Logs
from .options import parse
from .packages import PackageManager
from .process import Runner
from .sources import check_headers, local_sources
from .users import find_build_user

ABOUT = f"""mock-offline {VERSION}: a stand-in for mock (rpmbuild on Debian 13, no chroot of its own)
usage: mock -r CHROOT [--resultdir DIR] [--isolation simple] [--no-clean] [--no-cleanup-after] [--offline]
            [--addrepo URL]... [--config-opts KEY=VALUE]... [--uniqueext TEXT]
            (--init | --installdeps SRPM | --rebuild SRPM | --clean | --version)"""


class Terminated(Exception):
    """SIGTERM or SIGHUP; mock ends with 1 then, not with 128 and more."""


def main(argv):
    """Runs one call and gives the exit code; nothing leaves as an exception."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    session = None
    try:
        options = parse(argv[1:])
        if options.mode in ("version", "help"):
            print(f"mock-offline {VERSION}" if options.mode == "version" else ABOUT)
            return 0
        session = Session(options)
        session.run(argv)
        session.runner.end_all()
        return 0
    except (MockError, Interrupted) as error:
        return _fail(session, str(error), error.code)
    except PermissionError as error:
        return _fail(session, f"{error}: the container lacks a capability that mock needs", NotPrivileged.code)
    except Terminated as error:
        return _fail(session, str(error), 1)
    except Exception:  # the last net: mock prints the traceback and ends with 1
        return _fail(session, traceback.format_exc(), 1)


class Session:
    """One call: its parts, and what its mode does with them."""

    def __init__(self, options):
        self.options = options
        self.user = find_build_user()
        self.chroot = load_chroot(options.root)
        shown = options.setting("print_main_output", str(sys.stdout.isatty()))
        self.logs = Logs(show_output=shown.lower() in ("true", "1", "yes"))
        self.runner = Runner(self.logs, self.user)
        self.place = Place(self.chroot, options.uniqueext)
        self.packages = PackageManager(self.place, self.chroot, options, self.runner)
        self.buildroot = Buildroot(self.place, self.chroot, self.runner, self.packages)
        self.resultdir = options.resultdir or os.path.join(self.place.basedir, "result")

    def run(self, argv):
        """The whole of it; `Finish: run` comes only when all went well."""
        self.logs.info(f"mock-offline {VERSION} starting, a stand-in for mock, args: {shlex.join(argv)}")
        self.logs.start("init plugins")
        self.logs.finish("init plugins")
        for text in self.options.ignored:
            self.logs.info(f"accepted and without effect here: {text}")
        self.logs.info("Signal handler active")
        self.logs.start("run")
        os.umask(0o002)
        isolate()
        getattr(self, f"_{self.options.mode}")()
        self.logs.finish("run")

    def _init(self):
        if self.options.clean:
            self.buildroot.clean()
        self._prepare(prebuild=False)

    def _clean(self):
        self.buildroot.clean()

    def _installdeps(self):
        if not self.options.arguments:
            raise NothingToDo("You must specify an SRPM file with --installdeps")
        self._prepare(prebuild=False)
        check_headers(self.options.arguments, binary_too=True)
        self.packages.builddep(self.options.arguments)

    def _rebuild(self):
        sources = local_sources(self.options.arguments, self.chroot)
        if not sources:
            raise NothingToDo("No package specified to rebuild command.")
        if len(sources) > 1 and not self.options.resultdir:
            raise BadCommandLine("More than one srpm given, use --resultdir")
        check_headers(sources)
        for source in sources:
            self._rebuild_one(source)

    def _rebuild_one(self, source):
        started = time.monotonic()
        self.logs.info(f"Start({source})  Config({self.place.name})")
        done = False
        try:
            if self.options.clean:
                self.buildroot.clean()
            self._prepare(prebuild=True)
            Build(self.buildroot, self.options).build(source)
            done = True
        finally:
            seconds = int(time.monotonic() - started)
            text = f"({source}) Config({self.place.name}) {seconds // 60} minutes {seconds % 60} seconds"
            self.logs.info(f"Done{text}") if done else self.logs.error(f"Exception{text}")
            self.logs.info(f"Results and/or logs in: {self.resultdir}")
        if self._cleans_up():
            self.buildroot.clean()

    def _prepare(self, prebuild):
        self.place.make_basedir(self.user)
        self.logs.open(self.resultdir, self.user)
        hardware.write(self.logs, self.place, self.user)
        self.buildroot.init(prebuild)

    def _cleans_up(self):
        """mock cleans after a build by default only where the results lie elsewhere."""
        if self.options.cleanup_after is None:
            return bool(self.options.resultdir) and self.options.clean
        return self.options.cleanup_after


def _interrupt(number, frame):
    raise Interrupted("Exiting on user interrupt, <CTRL>-C")


def _terminate(number, frame):
    raise Terminated(f"Received signal {signal.Signals(number).name} activating orphansKill")


def _fail(session, text, code):
    """Tells the reason and leaves nothing running behind a failed call."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if session is None:
        print(f"ERROR: {text}", file=sys.stderr, flush=True)
        return code
    session.runner.end_all()
    session.logs.error(text)
    return code
