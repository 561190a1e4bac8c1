"""Runs commands and reads them like mock: line by line, for as long as they write.

Two habits of mock are kept on purpose, since callers must cope with them: a
command counts as ended when both its pipes are closed, or when it is dead and a
whole second was silent. So a background process that keeps writing to the
inherited output makes this wait for ever, and a silent one costs a second.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field

from .errors import CommandTimeout, MockError

ANSI = re.compile(r"\x1b\[([0-9]{1,2}(;[0-9]{1,2})?)?[m|K]\x0f?")
CHUNK = 64 * 1024
CAPTURE_CAP = 64 * 1024 * 1024
SILENCE_SECONDS = 1.0
KILL_GRACE_SECONDS = 0.3


@dataclass
class Command:
    """One command: who runs it, where its lines go and how long it may take."""

    argv: list
    user: object = None
    env: dict = field(default_factory=dict)
    cwd: str = "/"
    sink: str = "root"
    show: bool = False
    capture: bool = False
    timeout: float = 0

    def describe(self):
        """The command as a person would type it."""
        return " ".join(self.argv)


@dataclass
class Result:
    """What a command printed, as far as it was captured, and how it ended."""

    out: str
    err: str
    code: int

    def text(self):
        """Both streams, for a message."""
        return (self.out + self.err).strip()


class Runner:
    """Runs one command at a time and can end everything it started."""

    def __init__(self, logs, user):
        self.logs = logs
        self.user = user
        self.child = None
        self.started_ticks = _start_ticks("self")

    def run(self, command):
        """Runs to the end, whatever the exit code. A signal gives 256 minus its number."""
        write = self.logs.sinks()[command.sink]
        write(f"Executing command: {command.argv}")
        self.child = _spawn(command)  # stays here when interrupted, so that `end_all` finds it
        out, err = _Pump(self, command, write).run()
        code = self.child.wait()
        self.child = None
        code = 256 + code if code < 0 else code
        write(f"Child return code was: {code}")
        return Result(out, err, code)

    def check(self, command):
        """Like `run`, but a failure is raised with the command's own exit code."""
        result = self.run(command)
        if result.code:
            raise MockError(f"Command failed: \n # {command.describe()}\n{result.text()}", result.code)
        return result.out

    def end_all(self):
        """Ends the running command and what the build user still runs: TERM, then KILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            alive = self._signal_all(number)
            deadline = time.monotonic() + KILL_GRACE_SECONDS
            while alive and time.monotonic() < deadline:
                time.sleep(0.01)  # a dying process of another parent cannot be waited for
                alive = self._alive()
            if not alive:
                return

    def _signal_all(self, number):
        for pid in self._alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return self._alive()

    def _alive(self):
        found = set()
        if self.child is not None:
            self.child.poll()
        group = self.child.pid if self.child is not None else None
        for entry in os.listdir("/proc"):
            if entry.isdigit() and self._ours(entry, group):
                found.add(int(entry))
        return found

    def _ours(self, entry, group):
        """The running command's process group, and newer processes of the build user."""
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                state, _, process_group, *rest = file.read().rpartition(")")[2].split()
            owner = os.stat(f"/proc/{entry}").st_uid
        except (OSError, ValueError):
            return False
        if state in ("Z", "X") or int(entry) == os.getpid():
            return False
        newer = int(rest[16]) >= self.started_ticks
        return int(process_group) == group or (owner == self.user.uid and newer)


def _start_ticks(entry):
    with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def _spawn(command):
    identity = {}
    if command.user is not None:
        identity = {"user": command.user.uid, "group": command.user.gid, "extra_groups": []}
    try:
        return subprocess.Popen(
            command.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=command.env, cwd=command.cwd, start_new_session=True, umask=0o022, **identity,
        )
    except PermissionError:
        raise  # a missing capability, not a failed command
    except OSError as error:
        raise MockError(f"Command failed: \n # {command.describe()}\n{error}") from error


class _Pump:
    """Moves what a command prints to its log until mock would call it done."""

    def __init__(self, runner, command, write):
        self.runner = runner
        self.command = command
        self.write = write
        self.tails = {}
        self.kept = {}
        self.kept_bytes = 0

    def run(self):
        deadline = time.monotonic() + self.command.timeout if self.command.timeout else None
        child = self.runner.child
        with selectors.DefaultSelector() as selector:
            for pipe in (child.stdout, child.stderr):
                selector.register(pipe, selectors.EVENT_READ)
                self.tails[pipe], self.kept[pipe] = [], []
            while selector.get_map():
                if deadline is not None and time.monotonic() > deadline:
                    self._give_up()
                ready = selector.select(SILENCE_SECONDS)
                if not ready and child.poll() is not None:
                    self.write(f"Child pid '{child.pid}' is dead")
                    break
                for key, _ in ready:
                    if not self._read(key.fileobj):
                        selector.unregister(key.fileobj)
        self._flush()
        return [b"".join(self.kept[pipe]).decode("utf-8", "replace") for pipe in (child.stdout, child.stderr)]

    def _read(self, pipe):
        data = os.read(pipe.fileno(), CHUNK)
        if not data:
            return False
        if self.command.show:
            self.runner.logs.show(data)
        if self.command.capture and self.kept_bytes < CAPTURE_CAP:
            self.kept[pipe].append(data)
            self.kept_bytes += len(data)
        *lines, tail = data.split(b"\n")
        for line in lines:
            self.tails[pipe].append(line)
            self._emit(pipe)
        if tail:
            self.tails[pipe].append(tail)
        return True

    def _emit(self, pipe):
        line = b"".join(self.tails[pipe]).decode("utf-8", "replace")
        self.tails[pipe].clear()
        if line:
            self.write(ANSI.sub("", line))

    def _flush(self):
        for pipe in self.tails:
            self._emit(pipe)
            pipe.close()

    def _give_up(self):
        self._flush()
        self.runner.end_all()
        raise CommandTimeout(f"Timeout({self.command.timeout}) expired for command:\n # {self.command.describe()}")
