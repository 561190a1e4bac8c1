"""Looks at the extra repositories of a build before mock does, which waits two minutes for one that never answers.

usage: repositories.py ARGUMENTS ARCH URL...

A repository is at its URL, or in a folder per architecture below it. mock's arguments for what was found go into the
file ARGUMENTS, one a line. The exit code is mock's own for a repository that cannot be read, and so is the line that
tells of it. Runs in the sandbox, whose network it is that counts.
"""

import concurrent.futures
import os
import socket
import sys
import time
import urllib.error
import urllib.request

#: Seconds that a server may be silent, and seconds for everything.
SILENCE = 8
TOGETHER = 20
#: Bytes of an index that are looked at.
CAP = 65536
#: Answers that mean: not here.
ABSENT = (403, 404, 410)
#: mock's exit code for the package manager's failures.
UNREADABLE = 30


def main(arguments, arch, urls):
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=len(urls) or 1)
    looks = [(url, pool.submit(find, url, arch)) for url in urls]
    until = time.monotonic() + TOGETHER
    found = []
    for url, look in looks:
        try:
            found.append(look.result(timeout=max(0, until - time.monotonic())))
        except concurrent.futures.TimeoutError:
            fail(url, "no answer within %d s" % TOGETHER)
        except Exception as error:  # whatever it is, it is this repository's
            fail(url, getattr(error, "reason", None) or error)
    with open(arguments, "w") as file:
        file.writelines("--addrepo\n%s\n" % base for base in found)
    for url, base in zip(urls, found):
        print("repository %s: %s" % (url, "found" if base == url else "found in its folder " + arch))


def find(url, arch):
    """The URL, or that of the architecture's folder below it."""
    below = url.rstrip("/") + "/" + arch + "/"
    for base in (url, below):
        if has_index(base.rstrip("/") + "/repodata/repomd.xml"):
            return base
    raise LookupError("neither it nor its folder %s has repodata" % arch)


def has_index(url):
    for last in (False, True):
        try:
            with urllib.request.urlopen(url, timeout=SILENCE) as answer:
                return b"<repomd" in answer.read(CAP)
        except urllib.error.HTTPError as error:
            if error.code in ABSENT:
                return False
            if last or error.code < 500:
                raise LookupError("status %d for %s" % (error.code, url))
        except OSError as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, socket.timeout):
                raise LookupError("the server was silent for %d s" % SILENCE)
            # Refused and unknown will be so again; a connection that broke may not.
            if last or not isinstance(reason, ConnectionResetError):
                raise
        time.sleep(1)
    return False


def fail(url, reason):
    address = url.split("://", 1)[-1]
    print("Error: Failed to download metadata for repo '%s': %s" % (address, reason), flush=True)
    # Threads that still wait are not waited for.
    os._exit(UNREADABLE)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
