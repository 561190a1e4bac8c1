#!/usr/bin/python3
"""Makes the stand-in's repository: packages that say what the image has.

Runs once, while the image is built. Most packages are empty and only provide
names, paths and sonames of what Debian installed; the demo packages carry
files and a scriptlet, so that an installation is a real one.

usage: make_repository.py PACKAGES.toml DEMO.spec REPOSITORY
"""

import os
import subprocess
import sys
import tempfile
import tomllib

PROGRAM_DIRECTORIES = ("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/")
LIBRARY_DIRECTORIES = ("/lib/x86_64-linux-gnu", "/lib64")


def main(table, demo, repository):
    with open(table, "rb") as file:
        packages = tomllib.load(file)
    with tempfile.TemporaryDirectory() as work:
        spec = os.path.join(work, "image.spec")
        with open(spec, "w", encoding="utf-8") as file:
            file.write(render(packages))
        for path in (spec, demo):
            run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {work}", "--define", "_build_id_links none",
                "--define", f"_rpmdir {repository}", path)
    run("createrepo_c", "--quiet", "--general-compress-type=gz", repository)


def render(packages):
    parts = [
        "Name: mock-offline-image\nVersion: 13\nRelease: 1\nSummary: What the mock-offline image has\n"
        "License: MIT\nAutoReqProv: no\n%description\nWhat the mock-offline image has, told as packages.\n",
    ]
    parts += [render_package(name, entry) for name, entry in sorted(packages.items())]
    return "\n".join(parts)


def render_package(name, entry):
    debian = entry["debian"]
    provides = set(entry.get("provides", []))
    if entry.get("paths", True):
        provides |= offered(debian)
    lines = [f"%package -n {name}", f"Version: {version(debian)}", f"Summary: {name} of the mock-offline image", "AutoReqProv: no"]
    lines += [f"Requires: {need}" for need in entry.get("requires", [])]
    lines += [f"Provides: {offer}" for offer in sorted(provides)]
    lines += [f"%description -n {name}", f"Stands for: {', '.join(debian) or 'a group of packages'}.", f"%files -n {name}", ""]
    lines += [entry.get("script", ""), ""]
    return "\n".join(lines)


def version(debian):
    if not debian:
        return "13"
    text = run("dpkg-query", "-W", "-f", "${Version}", debian[0])
    return text.partition(":")[2].rpartition("-")[0] or text.rpartition("-")[0] or text


def offered(debian):
    """Programs (under both names of a merged /usr) and what their libraries provide."""
    found, libraries = set(), []
    for path in (run("dpkg-query", "-L", *debian).splitlines() if debian else []):
        short = path.removeprefix("/usr")
        if path.startswith(PROGRAM_DIRECTORIES) and os.access(path, os.X_OK) and not os.path.isdir(path):
            found |= {short, f"/usr{short}"}
        elif is_library(path):
            libraries.append(path)
    if libraries:
        found |= set(run("/usr/lib/rpm/elfdeps", "--provides", *libraries).split())
    return found


def is_library(path):
    """A shared library that others link with: plug-ins in folders of their own are none."""
    if os.path.dirname(path).removeprefix("/usr") not in LIBRARY_DIRECTORIES or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return ".so" in os.path.basename(path) and file.read(4) == b"\x7fELF"


def run(*words):
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{words[0]} failed with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
