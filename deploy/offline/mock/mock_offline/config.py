"""Chroot configurations: TOML files, because a stand-in need not execute any.

mock runs its configurations as Python; a name that walks out of the directory
would then be code. Here it is data, and such a name is simply unknown.
"""

import os
import platform
import tomllib
from dataclasses import dataclass, field

from .errors import ConfigError

DIRECTORY = "/etc/mock-offline"


@dataclass
class Chroot:
    """One target: what is built for and where its packages come from."""

    name: str
    target_arch: str
    releasever: str
    dist: str
    setup_packages: list
    repositories: list
    macros: dict = field(default_factory=dict)
    repository_timeout: int = 30
    repository_tries: int = 4


def load_chroot(name):
    """Finds a chroot by name, or by path when it ends in .cfg."""
    path = name if name.endswith(".cfg") else os.path.join(DIRECTORY, f"{name}.cfg")
    if "/" in name and not name.endswith(".cfg"):
        raise ConfigError(f"Could not find required config file: {path}")
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"Could not find required config file: {path} ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Config error: {path}: {error}") from error
    return _from_data(path, data)


def _from_data(path, data):
    try:
        chroot = Chroot(
            name=data["root"],
            target_arch=data["target_arch"],
            releasever=str(data["releasever"]),
            dist=data.get("dist", ""),
            setup_packages=data["chroot_setup_packages"],
            repositories=[(repo["id"], repo["baseurl"]) for repo in data["repositories"]],
            macros=data.get("macros", {}),
            repository_timeout=int(data.get("repository_timeout", 30)),
            repository_tries=int(data.get("repository_tries", 4)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"Config error: {path}: missing or wrong setting {error}") from error
    if chroot.target_arch not in (platform.machine(), "noarch"):
        raise ConfigError(f"Config error: {path}: cannot build {chroot.target_arch} on {platform.machine()}")
    return chroot
