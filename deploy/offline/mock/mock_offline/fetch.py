"""Gets files over http(s) and file://, under caps and with mock's patience.

dnf waits 30 s for a silent server and asks four times; refused, unknown and
missing fail at once. Callers depend on both, so both are kept.
"""

import hashlib
import os
import re

#: Bytes. Fedora's whole primary metadata is below a tenth of the first.
METADATA_CAP = 512 * 1024 * 1024
PACKAGE_CAP = 4 * 1024 * 1024 * 1024
_CHUNK = 1024 * 1024
_DIGESTS = {"sha": "sha1", "sha1": "sha1", "sha224": "sha224", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}


class FetchError(Exception):
    """A URL gave nothing usable; the message is what dnf would say."""


class Fetcher:
    """Downloads to files; remembers how patient to be."""

    def __init__(self, timeout, tries):
        self.timeout = timeout
        self.tries = max(1, tries)

    def get(self, url, target, cap):
        """Stores `url` under `target`, wholly or not at all."""
        partial = f"{target}.partial"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            if url.startswith("file://"):
                self._local(url, partial, cap)
            else:
                self._remote(url, partial, cap)
            os.replace(partial, target)
        except OSError as error:
            raise FetchError(f"Cannot store {url}: {error}") from error
        finally:
            if os.path.exists(partial):
                os.unlink(partial)

    def _local(self, url, target, cap):
        from urllib.parse import unquote

        try:
            with open(unquote(url.removeprefix("file://")), "rb") as source:
                _copy(source, target, cap, url)
        except OSError as error:
            raise FetchError(f"Curl error (37): Couldn't read a file:// file for {url} [{error.strerror}]") from error

    def _remote(self, url, target, cap):
        # Imported here: it costs more than a small build's whole dependency step.
        import http.client
        import urllib.error
        import urllib.request

        if not re.match(r"https?://", url):
            raise FetchError(f"Curl error (1): Unsupported protocol for {url}")
        for attempt in range(1, self.tries + 1):
            try:
                with urllib.request.urlopen(url, timeout=self.timeout) as answer:
                    return _copy(answer, target, cap, url)
            except urllib.error.HTTPError as error:
                raise FetchError(f"Status code: {error.code} for {url} (IP: unknown)") from error
            except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
                if not _timed_out(error) or attempt == self.tries:
                    raise FetchError(f"Curl error: {_reason(error)} for {url}") from error
        return None


def verify(path, checksum):
    """Whether a file has the checksum (type, hex digits) that metadata promised."""
    name = _DIGESTS.get(checksum[0])
    if name is None:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, name).hexdigest() == checksum[1]


def _copy(source, target, cap, url):
    left = cap
    with open(target, "wb") as file:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise FetchError(f"{url} is larger than {cap} bytes")
            file.write(chunk)


def _timed_out(error):
    return isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)


def _reason(error):
    return getattr(error, "reason", None) or error
