"""Real processes of the command line, watched with bounded patience and stopped by their pid."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional

#: Seconds; only a test that fails waits this long.
PATIENCE = 60.0


def environment(**changes: str) -> Dict[str, str]:
    """Return an environment in which the output is the same on every machine."""
    forgotten = {"FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    kept = {name: value for name, value in os.environ.items() if name not in forgotten}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error", **changes}


def run(*command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command to its end."""
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment(**changes),
        encoding="utf-8",
    )


class Running:
    """A process whose output is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output: List[str] = []
        self._lines: queue.Queue[Optional[str]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match in a line not seen before; fail when the output ends without one."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, f"no {pattern!r} in {''.join(self.output)!r}"
            self.output.append(line)
            match = re.search(pattern, line)
            if match is not None:
                return match

    def stop(self, signum: int) -> int:
        """Send a signal and return the exit code; the rest of the output is in `output`."""
        self.process.send_signal(signum)
        return self.finish()

    def finish(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.output.extend(iter(self._lines.get_nowait, None))
        return code


@contextmanager
def running(*command: str, **changes: str) -> Iterator[Running]:
    """Run a Python command beside the test; standard error goes where standard output goes."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=environment(**changes),
    )
    try:
        with process:
            try:
                yield Running(process)
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        process.wait(PATIENCE)
