"""Looks at source packages before anything else is done, so that a bad one leaves no logs."""

import os
import subprocess
import tempfile

from .errors import BadCommandLine, MockError
from .fetch import PACKAGE_CAP, Fetcher, FetchError


def local_sources(names, chroot):
    """Gives paths; what is a URL is downloaded first."""
    return [_download(name, chroot) if name.startswith(("http://", "https://")) else name for name in names]


def check_headers(paths, binary_too=False):
    """Refuses what cannot be opened, is no package, or is no source package."""
    for path in paths:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise MockError(f"Cannot find/open srpm: {path}. Error: {error}") from error
        done = subprocess.run(
            ["rpm", "-qp", "--nosignature", "--nodigest", "--qf", "%{SOURCEPACKAGE}", "--", path],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            env={"PATH": "/usr/bin", "HOME": "/nonexistent"},
        )
        if done.returncode:
            raise MockError(f"Cannot find/open srpm: {path}. Error: error reading package header")
        if done.stdout.strip() != "1" and not binary_too:
            raise MockError(f"File is not an srpm: {path}.")


def _download(url, chroot):
    directory = tempfile.mkdtemp(prefix="mock-offline-")
    target = os.path.join(directory, os.path.basename(url.split("?")[0]) or "source.src.rpm")
    try:
        Fetcher(chroot.repository_timeout, chroot.repository_tries).get(url, target, PACKAGE_CAP)
    except FetchError as error:
        raise BadCommandLine(f"Invalid {url} source RPM: {error}") from error
    return target
