"""One repository: its metadata, kept in the cache, and its packages."""

import hashlib
import os
import re

from .errors import PackageManagerError
from .fetch import METADATA_CAP, PACKAGE_CAP, FetchError, verify
from .metadata import MetadataError, read_primary, read_repomd


class Repository:
    """A base URL with repodata below it; dnf's variables in it are expanded."""

    def __init__(self, name, url, chroot, cachedir):
        self.name = name
        self.url = _expand(url, chroot).rstrip("/")
        self.arches = (chroot.target_arch, "noarch")
        # The URL is part of the cache's name: two chroots may call different places the same.
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self.cache = os.path.join(cachedir, "dnf_cache", f"{name}-{digest}")

    def load(self, fetcher, online):
        """Gives the packages; online the metadata is fetched anew, as mock has it (no expiry)."""
        try:
            primary = self._refresh(fetcher) if online else self._cached()
            packages = read_primary(primary, self.arches)
        except (FetchError, MetadataError, OSError) as error:
            raise PackageManagerError(f"Error: Failed to download metadata for repo '{self.name}': {error}") from error
        for package in packages:
            package.repository = self
        return packages

    def fetch_package(self, package, fetcher, online):
        """Gives the path of a package's file, from the cache where its checksum is right."""
        target = os.path.join(self.cache, "packages", os.path.basename(package.location))
        if os.path.exists(target) and verify(target, package.checksum):
            return target
        if not online:
            raise PackageManagerError(
                f"Error downloading packages: {package.nevra()}: Cannot download, offline mode is specified and "
                "the package is not in the cache"
            )
        try:
            fetcher.get(f"{self.url}/{package.location}", target, PACKAGE_CAP)
        except FetchError as error:
            raise PackageManagerError(f"Error downloading packages: {package.nevra()}: {error}") from error
        if not verify(target, package.checksum):
            os.unlink(target)
            raise PackageManagerError(f"Error downloading packages: {package.nevra()}: checksum doesn't match")
        return target

    def _refresh(self, fetcher):
        index = os.path.join(self.cache, "repomd.xml")
        try:
            fetcher.get(f"{self.url}/repodata/repomd.xml", index, METADATA_CAP)
        except FetchError as error:
            raise FetchError(f"Cannot download repomd.xml: All mirrors were tried: {error}") from error
        part = self._part(index)
        target = self._part_path(part)
        if not (os.path.exists(target) and verify(target, part.checksum)):
            fetcher.get(f"{self.url}/{part.href}", target, METADATA_CAP)
            if not verify(target, part.checksum):
                os.unlink(target)
                raise MetadataError(f"{part.href} does not match its checksum")
        return target

    def _cached(self):
        index = os.path.join(self.cache, "repomd.xml")
        if not os.path.exists(index):
            raise MetadataError(f"Cache-only enabled but no cache for '{self.name}'")
        return self._part_path(self._part(index))

    def _part(self, index):
        with open(index, "rb") as file:
            return read_repomd(file.read())

    def _part_path(self, part):
        return os.path.join(self.cache, os.path.basename(part.href))


def repository_name(url):
    """The id mock makes for --addrepo: slashes become '_', everything else unusual goes."""
    return re.sub(r"[^a-zA-Z0-9_]", "", re.sub(r"^[a-z]+://", "", url).replace("/", "_")) or "repository"


def _expand(url, chroot):
    for name, value in (
        ("basearch", chroot.target_arch), ("releasever", chroot.releasever), ("arch", chroot.target_arch),
    ):
        url = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", value, url)
    return url
