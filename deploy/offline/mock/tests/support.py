"""What the tests share: sources made on the spot, calls of mock, and what they left."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

sys.path.insert(0, "/usr/lib/mock-offline")

ROOT = "debian-13-x86_64"
PATIENCE = 30.0

SPEC = """
Name: sample
Version: 1.0
Release: 1
Summary: A sample
License: MIT
BuildArch: noarch
{head}
%description
A sample.
{body}
%install
mkdir -p %{{buildroot}}/usr/share/sample
echo built > %{{buildroot}}/usr/share/sample/built
%files
/usr/share/sample/built
"""


@dataclass
class Call:
    """How a call of mock ended."""

    code: int
    stdout: str
    stderr: str
    resultdir: str
    seconds: float

    def log(self, name):
        """A log of the result directory; empty where there is none."""
        path = os.path.join(self.resultdir, f"{name}.log")
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="strict") as file:
            return file.read()

    def phases(self):
        """The lines of state.log without their times."""
        return re.findall(r"(?m)^[-0-9]{10} [:0-9]{8},\d{3} - ((?:Start|Finish): .*)$", self.log("state"))

    def packages(self):
        """Names of the packages in the result directory."""
        return sorted(name for name in os.listdir(self.resultdir) if name.endswith(".rpm"))


def make_source(head="", body="", name="sample.src.rpm"):
    """A source package from a spec with these lines added."""
    work = tempfile.mkdtemp()
    spec = os.path.join(work, "sample.spec")
    with open(spec, "w", encoding="utf-8") as file:
        file.write(SPEC.format(head=head, body=body))
    subprocess.run(
        ["rpmbuild", "-bs", "--quiet", "--nodeps", "--define", f"_topdir {work}", spec], check=True, capture_output=True,
    )
    target = os.path.join(work, name)
    shutil.move(os.path.join(work, "SRPMS", "sample-1.0-1.src.rpm"), target)
    return target


def command(words, resultdir, root=ROOT):
    """The command line the service uses, with `words` at its end."""
    return [
        "mock", "-r", root, "--resultdir", resultdir, "--isolation", "simple", "--no-clean", "--no-cleanup-after", *words,
    ]


def mock(*words, environment=None, root=ROOT):
    """Runs mock to its end."""
    resultdir = os.path.join(tempfile.mkdtemp(), "result")
    os.chmod(os.path.dirname(resultdir), 0o777)
    started = time.monotonic()
    done = subprocess.run(
        command(words, resultdir, root), capture_output=True, check=False, timeout=PATIENCE * 4,
        env={**os.environ, **(environment or {})},
    )
    seconds = time.monotonic() - started
    return Call(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode(), resultdir, seconds)


class Running:
    """A call of mock that goes on; to be watched and stopped."""

    def __init__(self, *words):
        self.resultdir = os.path.join(tempfile.mkdtemp(), "result")
        os.chmod(os.path.dirname(self.resultdir), 0o777)
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command(words, self.resultdir), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def stop(self, number=signal.SIGINT):
        """Sends a signal and waits; `seconds` counts from the signal."""
        started = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return Call(
            self.process.returncode, out.decode("utf-8", "replace"), err.decode(), self.resultdir, time.monotonic() - started,
        )

    def log(self, name):
        """A log as it is now."""
        return Call(0, "", "", self.resultdir, 0).log(name)

    def wait_for(self, name, text):
        """Waits until a log holds a text."""
        wait_until(lambda: text in self.log(name), f"{text!r} in {name}.log")


def wait_until(condition, what):
    """Waits for a condition, up to a deadline."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s for {what}")
        time.sleep(0.02)


def processes_of(uid):
    """Command lines of the living processes of a user."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                line = file.read()
            if os.stat(f"/proc/{entry}").st_uid == uid and line:
                found.append(line)
        except OSError:
            continue
    return found
