"""Repository metadata: repomd.xml and primary.xml, read as a stream."""

import bz2
import gzip
import lzma
import subprocess
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field

from .versions import flags_of

COMMON = "{http://linux.duke.edu/metadata/common}"
RPM = "{http://linux.duke.edu/metadata/rpm}"
REPO = "{http://linux.duke.edu/metadata/repo}"


class MetadataError(Exception):
    """A repository does not hold what its metadata should be."""


@dataclass
class Package:
    """A package of a repository or of the chroot, as far as choosing it needs."""

    name: str
    arch: str
    evr: tuple
    provides: list = field(default_factory=list)
    requires: list = field(default_factory=list)
    conflicts: list = field(default_factory=list)
    obsoletes: list = field(default_factory=list)
    files: list = field(default_factory=list)
    location: str = ""
    checksum: tuple = ("", "")
    repository: object = None

    def nevra(self):
        """The full name, as dnf prints it."""
        epoch, version, release = self.evr
        prefix = f"{epoch}:" if epoch and epoch != "0" else ""
        return f"{self.name}-{prefix}{version}-{release}.{self.arch}"


@dataclass(frozen=True)
class Part:
    """One file that repomd.xml names."""

    href: str
    checksum: tuple


def read_repomd(data):
    """Finds the primary metadata in the text of a repomd.xml."""
    try:
        root = xml.fromstring(data)
    except xml.ParseError as error:
        raise MetadataError(f"repomd.xml parser error: {error}") from error
    for entry in root.iter(f"{REPO}data"):
        location, checksum = entry.find(f"{REPO}location"), entry.find(f"{REPO}checksum")
        if entry.get("type") == "primary" and location is not None and checksum is not None:
            return Part(location.get("href", ""), (checksum.get("type", ""), (checksum.text or "").strip()))
    raise MetadataError("repomd.xml names no primary metadata")


def read_primary(path, arches):
    """The packages of a primary.xml, compressed or not, that fit one of `arches`."""
    packages = []
    try:
        with _opened(path) as file:
            for _, element in xml.iterparse(file):
                if element.tag != f"{COMMON}package":
                    continue
                if element.findtext(f"{COMMON}arch") in arches:
                    packages.append(_package(element))
                element.clear()
    except (xml.ParseError, OSError, EOFError, lzma.LZMAError, AttributeError, ValueError) as error:
        raise MetadataError(f"primary metadata cannot be read: {error}") from error
    return packages


class _Zstd:
    """zstd as a stream; the standard library of this Python has none."""

    def __init__(self, path):
        self.child = subprocess.Popen(
            ["zstd", "-dcq", "--", path], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PATH": "/usr/bin"},
        )

    def __enter__(self):
        return self.child.stdout

    def __exit__(self, kind, error, trace):
        self.child.stdout.close()
        if self.child.wait() and kind is None:
            raise MetadataError("primary metadata cannot be unpacked")


def _opened(path):
    openers = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open, ".zst": _Zstd}
    for suffix, opener in openers.items():
        if path.endswith(suffix):
            return opener(path)
    return open(path, "rb")


def _package(element):
    version = element.find(f"{COMMON}version")
    checksum = element.find(f"{COMMON}checksum")
    details = element.find(f"{COMMON}format")
    return Package(
        name=element.findtext(f"{COMMON}name"),
        arch=element.findtext(f"{COMMON}arch"),
        evr=(version.get("epoch"), version.get("ver"), version.get("rel")),
        provides=_entries(details, "provides"),
        requires=_entries(details, "requires"),
        conflicts=_entries(details, "conflicts"),
        obsoletes=_entries(details, "obsoletes"),
        files=[file.text for file in details.iter(f"{COMMON}file")],
        location=element.find(f"{COMMON}location").get("href"),
        checksum=(checksum.get("type"), checksum.text),
    )


def _entries(details, kind):
    return [
        (entry.get("name"), flags_of(entry.get("flags")), _evr(entry))
        for entry in details.iterfind(f"{RPM}{kind}/{RPM}entry")
    ]


def _evr(entry):
    epoch, version, release = entry.get("epoch"), entry.get("ver") or "", entry.get("rel")
    text = f"{version}-{release}" if release else version
    return f"{epoch}:{text}" if epoch and epoch != "0" else text
