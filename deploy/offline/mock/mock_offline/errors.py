"""One class per exit code, so that a failure carries the code mock would give."""


class MockError(Exception):
    """Anything without a code of its own; sub-commands pass theirs through."""

    code = 1

    def __init__(self, message, code=None):
        super().__init__(message)
        if code is not None:
            self.code = code


class NotPrivileged(MockError):
    """The kernel refused something that root with mock's capabilities may do."""

    code = 2


class ConfigError(MockError):
    """Unknown chroot, or a chroot configuration that cannot be read."""

    code = 3


class BadCommandLine(MockError):
    """An option has a value that makes no sense, or a source cannot be fetched."""

    code = 5


class Interrupted(Exception):
    """SIGINT: the caller's way of stopping a build. No MockError, so that nothing takes it for a failed step."""

    code = 7


class BuildError(MockError):
    """%generate_buildrequires failed."""

    code = 10


class CommandTimeout(MockError):
    """rpmbuild_timeout passed."""

    code = 11


class PackageManagerError(MockError):
    """A dependency is missing, a repository is broken or an installation failed."""

    code = 30


class MountError(MockError):
    """The container may not mount; 32 is the exit code of mount itself."""

    code = 32


class SourceError(MockError):
    """The source package cannot be unpacked or gave no results."""

    code = 40


class NothingToDo(MockError):
    """A mode that needs a source package got none."""

    code = 50


class Locked(MockError):
    """Another mock-offline works in the same root."""

    code = 60


class ResultDirError(MockError):
    """The result directory cannot be made or written by the build user."""

    code = 70
