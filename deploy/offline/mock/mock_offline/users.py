"""Who is who: root prepares, the caller's unprivileged user builds."""

import contextlib
import grp
import os
import pwd
from dataclasses import dataclass

from .errors import MockError, NotPrivileged


@dataclass(frozen=True)
class BuildUser:
    """The user that owns the results and runs rpmbuild; never root."""

    uid: int
    gid: int
    name: str


def find_build_user():
    """Takes the build user from SUDO_UID, as mock does when root starts it."""
    if os.geteuid() != 0:
        raise NotPrivileged("Operation not permitted: mock-offline needs root with SUDO_UID of an unprivileged user")
    text = os.environ.get("SUDO_UID", "")
    if not text.isdigit() or int(text) == 0:
        raise MockError(
            "mock will not run from the root account (needs an unprivileged uid so it can drop privs): set SUDO_UID"
        )
    uid = int(text)
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return BuildUser(uid=uid, gid=grp.getgrnam("mock").gr_gid, name=name)


@contextlib.contextmanager
def acting_as(user):
    """Touches files with the build user's rights, so that its links lead nowhere."""
    try:
        os.setegid(user.gid)
        os.seteuid(user.uid)
    except PermissionError as error:
        raise NotPrivileged("Operation not permitted: the container needs the capabilities SETUID and SETGID") from error
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
