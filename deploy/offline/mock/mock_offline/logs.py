"""Where messages go: stderr, state.log, build.log and root.log, as with mock.

stderr has Start/Finish lines and INFO/ERROR lines; state.log the former with
times; root.log everything about packages; build.log what rpmbuild prints.
"""

import os
import sys
import time

from . import BANNER
from .errors import ResultDirError
from .users import acting_as


class Logs:
    """The log files of one call. Until `open` only stderr exists."""

    def __init__(self, show_output):
        self.show_output = show_output
        self.resultdir = None
        self._files = {}

    def open(self, resultdir, user):
        """Makes the result directory as the build user and opens the logs to append."""
        if self._files:
            return
        try:
            with acting_as(user):
                os.makedirs(resultdir, mode=0o775, exist_ok=True)
                for name in ("state", "build", "root"):
                    path = os.path.join(resultdir, f"{name}.log")
                    self._files[name] = open(path, "a", encoding="utf-8", errors="replace")
        except OSError as error:
            raise ResultDirError(
                f"Could not create output directory for built rpms. The directory specified was: {resultdir} "
                f"({error.strerror}). Make it writable for uid {user.uid} or choose another with --resultdir."
            ) from error
        self.resultdir = resultdir
        self._state_line(BANNER)
        self._write("build", BANNER)
        self.info(BANNER)

    def start(self, state):
        """A phase begins."""
        self._state_line(f"Start: {state}")

    def finish(self, state):
        """A phase has ended."""
        self._state_line(f"Finish: {state}")

    def info(self, text):
        """Told to the caller and to root.log."""
        self._tell("INFO", text)

    def warning(self, text):
        """Something is unusual, and the work goes on."""
        self._tell("WARNING", text)

    def error(self, text):
        """The reason of a failure."""
        self._tell("ERROR", text)

    def debug(self, text):
        """Details, for root.log alone."""
        for line in text.split("\n"):
            self._write("root", f"DEBUG mock-offline:  {line}")

    def package_line(self, text):
        """What a package manager would print: root.log, and the main output where wanted."""
        self.debug(text)
        self.show(text.encode("utf-8", "replace") + b"\n")

    def build_line(self, text):
        """One line of build.log."""
        self._write("build", text)

    def write_file(self, name, text, user):
        """Writes a further file into the result directory as the build user."""
        try:
            with acting_as(user), open(os.path.join(self.resultdir, name), "w", encoding="utf-8") as file:
                file.write(f"# {BANNER}\n{text}")
        except OSError as error:
            raise ResultDirError(f"cannot write {name} into {self.resultdir}: {error.strerror}") from error

    def show(self, data):
        """Copies bytes to stdout at once, where the caller wants the main output."""
        if self.show_output and data:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def sinks(self):
        """The functions a running command may write its lines to."""
        return {"build": self.build_line, "root": self.debug, "quiet": lambda line: None}

    def _state_line(self, text):
        print(text, file=sys.stderr, flush=True)
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        self._write("state", f"{stamp},{int(now * 1000) % 1000:03d} - {text}")

    def _tell(self, level, text):
        print(f"{level}: {text}", file=sys.stderr, flush=True)
        self._write("root", f"{level} mock-offline:  {text}")

    def _write(self, name, line):
        file = self._files.get(name)
        if file is not None:
            file.write(line + "\n")
            file.flush()
