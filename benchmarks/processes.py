"""The frameworks' processes, seen from the benchmark: started, asked, and given up on."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Process", "WorkerError"]

HERE = Path(__file__).resolve().parent


class WorkerError(RuntimeError):
    """A framework that cannot be imported, fails, or does not answer."""


class Process:
    """A process that answers each line of JSON with another.

    Parameters
    ----------
    name : str
        For messages.
    command : sequence of str
        What to start.
    environment : mapping
        Its whole environment.
    timeout : float
        Seconds that an answer may take; afterwards the process is killed.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> None:
        self.name = name
        self._timeout = timeout
        self._pending = b""
        # A file, because nobody reads a pipe while progress bars fill it.
        self._words = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                env=dict(environment),
                bufsize=0,
            )
        except OSError as error:
            raise WorkerError(f"{name} does not start: {error}") from error

    def answer(self) -> Any:
        """Wait for the next answer.

        Raises
        ------
        WorkerError
            If the process ends or takes too long.
        """
        assert self._process.stdout is not None
        limit = time.monotonic() + self._timeout
        while b"\n" not in self._pending:
            left = limit - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                self.close()
                raise WorkerError(f"{self.name} did not answer within {self._timeout:.0f} s")
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                self.close()
                raise WorkerError(f"{self.name} stopped: {self._last_words()}")
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def ask(self, **order: Any) -> Any:
        """Send an order and wait for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        except OSError:
            pass  # it has ended: the answer will say so
        return self.answer()

    def _last_words(self) -> str:
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[-400:] if lines else f"exit code {self._process.returncode}"

    def close(self) -> None:
        """End the process: by the end of its input, else by force."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
