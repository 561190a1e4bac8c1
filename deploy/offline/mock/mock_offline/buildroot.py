"""The root: a package database and a build tree of its own, in the image's file system.

mock changes into a chroot; this does not. Files of installed packages land in
the container itself, which is thrown away after the build, and only the package
database and the build tree live under the root's directory.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess

from .errors import Locked, MountError
from .process import Command

STATE = "/var/lib/mock"
CACHE = "/var/cache/mock"
HOME = "/builddir"
TOPDIR = f"{HOME}/build"
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


class Place:
    """The directories of one root."""

    def __init__(self, chroot, extension):
        self.name = f"{chroot.name}-{extension}" if extension else chroot.name
        self.basedir = os.path.join(STATE, self.name)
        self.rootdir = os.path.join(self.basedir, "root")
        self.home = os.path.join(self.rootdir, "builddir")
        self.topdir = os.path.join(self.home, "build")
        self.dbpath = os.path.join(self.rootdir, "var/lib/rpm")
        self.marker = os.path.join(self.rootdir, ".initialized")
        self.cachedir = os.path.join(CACHE, chroot.name)  # shared by all extensions, as in mock

    def make_basedir(self, user):
        """Open to the group mock, because the default result directory lies in it."""
        os.makedirs(self.basedir, exist_ok=True)
        os.chown(self.basedir, 0, user.gid)
        os.chmod(self.basedir, 0o775)

    def root_env(self):
        """What root's commands see; nothing of the caller's, so that no secret reaches a log."""
        return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "vt100"}

    def build_env(self):
        """What the build sees."""
        return {
            "PATH": PATH, "HOME": HOME, "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": "vt100",
            "HOSTNAME": "mock", "PROMPT_COMMAND": 'printf "\\033]0;<mock-chroot>\\007"', "PS1": "<mock-chroot> \\s-\\v\\$ ",
        }


class Buildroot:
    """Prepares, locks and removes the root."""

    def __init__(self, place, chroot, runner, packages):
        self.place = place
        self.chroot = chroot
        self.runner = runner
        self.packages = packages
        self.logs = runner.logs
        self.user = runner.user
        self._lock_file = None

    def initialized(self):
        """Whether an earlier call finished the preparation."""
        return os.path.exists(self.place.marker)

    def init(self, prebuild):
        """Phase `chroot init`: from nothing, or just tidying up what is there."""
        self.logs.start("chroot init")
        exclusive = self.lock(exclusive=True, required=False)
        prepared = self.initialized()
        self.logs.info("calling preinit hooks")
        self.logs.start("cleaning package manager metadata")
        self.logs.finish("cleaning package manager metadata")
        self._make_directories()
        if not prepared:
            self._install_minimal()
        if exclusive and (prebuild or not prepared):
            self._renew_build_tree()
        with open(self.place.marker, "a", encoding="utf-8"):
            pass
        self.lock(exclusive=False, required=True)
        self.logs.finish("chroot init")

    def clean(self):
        """Phase `clean chroot`: removes the root, and the files its packages brought."""
        self.logs.start("clean chroot")
        if os.path.isdir(self.place.basedir):
            self.lock(exclusive=True, required=True)
            self._erase_packages()
            if os.path.isdir(self.place.rootdir):
                shutil.rmtree(self.place.rootdir)
            self.lock(exclusive=False, required=True)
        self.logs.finish("clean chroot")

    def lock(self, exclusive, required):
        """Takes the root's lock, shared or exclusive; gives whether it was to be had."""
        if self._lock_file is None:
            self.place.make_basedir(self.user)
            self._lock_file = open(os.path.join(self.place.basedir, "buildroot.lock"), "a", encoding="utf-8")
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(self._lock_file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if required:
                raise Locked("Build root is locked by another process.") from None
            return False
        return True

    def _make_directories(self):
        for path in (self.place.rootdir, self.place.dbpath, self.place.cachedir, self.place.home):
            os.makedirs(path, exist_ok=True)
        target = self.place.home
        if not os.path.islink(HOME) or os.readlink(HOME) != target:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(HOME)
            os.symlink(target, HOME)

    def _install_minimal(self):
        self.logs.start("installing minimal buildroot with dnf")
        self.runner.check(Command(["rpm", "--dbpath", self.place.dbpath, "--initdb"], env=self.place.root_env(), capture=True))
        self.packages.install(self.chroot.setup_packages)
        self.logs.finish("installing minimal buildroot with dnf")
        self.logs.info("Installed packages:")
        self.logs.debug("\n".join(sorted(self.packages.installed_names())))

    def _renew_build_tree(self):
        """Removes what an earlier build left and gives the tree to the build user."""
        shutil.rmtree(self.place.home)
        os.mkdir(self.place.home, 0o755)
        self._write_macros()
        os.mkdir(self.place.topdir)
        for name in ("", "BUILD", "RPMS", "SOURCES", "SPECS", "SRPMS", "originals"):
            path = os.path.join(self.place.topdir, name)
            os.makedirs(path, mode=0o755, exist_ok=True)
            os.chown(path, self.user.uid, self.user.gid)
        os.chown(self.place.home, self.user.uid, self.user.gid)

    def _write_macros(self):
        macros = {
            "_topdir": TOPDIR,
            "_dbpath": self.place.dbpath,
            "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "dist": self.chroot.dist,
            "_buildhost": "mock-offline",
            "distribution": f"mock-offline ({self.chroot.name})",
            **self.chroot.macros,
        }
        with open(os.path.join(self.place.home, ".rpmmacros"), "w", encoding="utf-8") as file:
            file.writelines(f"%{name} {value}\n" for name, value in macros.items() if value)

    def _erase_packages(self):
        if not self.initialized():
            return
        names = sorted(self.packages.installed_names())
        if names:
            self.runner.check(Command(
                ["rpm", "--dbpath", self.place.dbpath, "-e", "--nodeps", "--allmatches", *names],
                env=self.place.root_env(), capture=True,
            ))


def isolate():
    """A mount namespace with a /dev/shm of its own, which needs what mock needs.

    A container that may not do this could not run mock either, so it is told
    here with mock's exit code instead of working in this stand-in alone.
    """
    try:
        os.unshare(os.CLONE_NEWNS)
    except OSError as error:
        raise MountError(f"Namespace unshare failed: {error.strerror}. The container needs the capability SYS_ADMIN.") from error
    for words in (["--make-rprivate", "/"], ["-n", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"]):
        done = subprocess.run(
            ["mount", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={"PATH": PATH},
        )
        if done.returncode:
            raise MountError(f"Command failed: \n # mount {' '.join(words)}\n{done.stderr.strip()}")
