"""Ctrl-C between steps: a step is completed, then KeyboardInterrupt is raised."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Hold Ctrl-C back while ``busy``, so that a step and its counters stay together.

    A context manager. The loop sets ``busy`` around a step and calls :meth:`check` after it. A
    second Ctrl-C is not held back. Does nothing away from the main thread, or where the program
    handles Ctrl-C itself.
    """

    def __init__(self) -> None:
        self.busy = False
        self.pending = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
        if kind is None and self.pending:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.busy or self.pending:
            raise KeyboardInterrupt
        self.pending = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C came during the step."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt
