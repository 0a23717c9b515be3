"""The progress bar, in Keras's look."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pycnn.keras import config

__all__ = ["Progbar", "is_live", "print_msg"]

_BOLD, _GREEN, _WHITE, _RESET = "\x1b[1m", "\x1b[32m", "\x1b[37m", "\x1b[0m"
_REDRAW_SECONDS = 0.1


def is_live() -> bool:
    """Tell whether lines that are overwritten can be seen: in a terminal or a notebook."""
    stream = sys.stdout
    if hasattr(stream, "isatty"):
        try:
            if stream.isatty():
                return True
        except ValueError:  # a closed stream
            return False
    # A notebook's stream is no terminal but overwrites lines; a file opened in it does not.
    return type(stream).__module__.partition(".")[0] in ("ipykernel", "google", "pydevd")


def print_msg(message: str, line_break: bool = True) -> None:
    """Print at once; where the stream knows no line-drawing characters, with ``=`` for them."""
    text = f"{message}\n" if line_break else message
    if not config.is_interactive_logging_enabled():
        logging.getLogger("pycnn").info(text.rstrip("\n"))
        return
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "utf-8"
        plain = text.replace("━", "=").encode(encoding, errors="ignore").decode(encoding)
        sys.stdout.write(plain)
    sys.stdout.flush()


class Progbar:
    """A progress bar with metrics.

    Parameters
    ----------
    target : int, optional
        Number of steps; None where unknown.
    width : int
        Width of the bar in characters.
    verbose : int
        0 silent, 1 a bar, 2 one line at the end.
    interval : float
        Seconds between redraws; never less than 0.1.
    stateful_metrics : iterable of str, optional
        Metrics that are shown as they come; all others are averaged.
    stateless_metrics : iterable of str, optional
        Metrics that are averaged; all others are shown as they come.
    unit_name : str
        What a step is called.

    Raises
    ------
    ValueError
        If both lists of metrics are given.

    Notes
    -----
    Source: Keras 3 ``keras.utils.Progbar``. Away from a terminal or notebook only the last line
    is printed, without colours.
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ) -> None:
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError(
                "Progbar: give stateful_metrics (all others are averaged) or stateless_metrics "
                "(all others are shown as they come), not both"
            )
        self.target = target
        self.width = width
        self.verbose = verbose
        self.interval = max(interval, _REDRAW_SECONDS)
        self.unit_name = unit_name
        self._averaged = None if stateless_metrics is None else set(stateless_metrics)
        self._as_is = set(stateful_metrics or ())
        self._live = is_live()
        self._values: dict[str, tuple[Any, int]] = {}
        self._seen_so_far = 0
        self._start = time.perf_counter()
        self._after_first: float | None = None
        self._first_count = 0
        self._last_update = -math.inf
        self._drawn_width = 0
        self._open_line = False

    def wants_update(self, now: float) -> bool:
        """Tell whether :meth:`update` would draw at ``time.perf_counter()`` = ``now``."""
        if self._after_first is None:
            return True  # the first step's time is left out of the estimate
        return self._live and self.verbose == 1 and now - self._last_update >= self.interval

    def update(
        self,
        current: int,
        values: Sequence[tuple[str, Any]] | None = None,
        finalize: bool | None = None,
    ) -> None:
        """Move the bar.

        Parameters
        ----------
        current : int
            Steps done.
        values : list of (name, value), optional
            Metrics to show.
        finalize : bool, optional
            Whether this is the last call; by default when ``current`` reaches the target.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        for name, value in values or ():
            self._record(name, value, current, finalize)
        self._seen_so_far = current
        now = time.perf_counter()
        per_unit = self._step_seconds(current, now)
        if self.verbose == 1:
            if finalize:
                self._draw(current, per_unit, now, True)
            elif self._live and now - self._last_update >= self.interval:
                self._draw(current, per_unit, now, False)
                self._last_update = now
        elif self.verbose == 2 and finalize and self.target:
            digits = len(str(self.target))
            line = f"{current:{digits}d}/{self.target} - {now - self._start:.0f}s"
            print_msg(f"{line} -{self._speed(per_unit)}{self._metrics()}")

    def add(self, n: int, values: Sequence[tuple[str, Any]] | None = None) -> None:
        """Move the bar by ``n`` steps."""
        self.update(self._seen_so_far + n, values)

    def break_line(self) -> None:
        """End a half-drawn line."""
        if self._open_line:
            print_msg("")
            self._open_line = False

    def _record(self, name: str, value: Any, current: int, finalize: bool) -> None:
        if self._averaged is not None:
            averaged = name in self._averaged
        else:
            averaged = name not in self._as_is
        if averaged and not finalize:
            count = max(current - self._seen_so_far, 1)
            total, seen = self._values.get(name, (0.0, 0))
            self._values[name] = (total + value * count, seen + count)
        else:
            self._values[name] = (value, 1)

    def _draw(self, current: int, per_unit: float, now: float, last: bool) -> None:
        bold, green, white, reset = (
            (_BOLD, _GREEN, _WHITE, _RESET) if self._live else ("", "", "", "")
        )
        if self.target:
            digits = len(str(self.target))
            done = int(self.width * min(current / self.target, 1.0))
            count = f"{current:{digits}d}/{self.target}"
            bar = f"{bold}{count}{reset} "
            if done:
                bar += f"{green}{'━' * done}{reset}"
            bar += f"{white}{'━' * (self.width - done)}{reset}"
            visible = len(count) + 1 + self.width
        else:
            bar = f"{current:7d}/Unknown"
            visible = len(bar)
        if self.target and not last:
            clock = _eta(per_unit * (self.target - current))
        else:
            clock = f"{now - self._start:.0f}s"
        rest = f"{self._speed(per_unit)}{self._metrics()}"
        line = f"{bar} {bold}{clock}{reset}{rest}"
        visible += 1 + len(clock) + len(rest)
        padding = " " * (self._drawn_width - visible)
        start = "\r" if self._live else ""
        print_msg(f"{start}{line}{padding}", line_break=last)
        self._drawn_width = visible
        self._open_line = not last

    def _metrics(self) -> str:
        text = ""
        for name, (total, count) in self._values.items():
            average = float(np.mean(total)) / max(1, count)
            shown = f"{average:.4f}" if abs(average) > 1e-3 else f"{average:.4e}"
            text += f" - {name}: {shown}"
        return text

    def _speed(self, seconds: float) -> str:
        if seconds >= 1 or seconds == 0:
            return f" {seconds:.0f}s/{self.unit_name}"
        if seconds >= 1e-3:
            return f" {seconds * 1e3:.0f}ms/{self.unit_name}"
        return f" {seconds * 1e6:.0f}us/{self.unit_name}"

    def _step_seconds(self, current: int, now: float) -> float:
        """Return the mean time of a step; the first, which plans and warms up, left out."""
        if current == 0:
            return 0.0
        if self._after_first is not None and current > self._first_count:
            seconds = (now - self._after_first) / (current - self._first_count)
        else:
            seconds = (now - self._start) / current
        if self._after_first is None:
            self._after_first, self._first_count = now, current
        return seconds


def _eta(seconds: float) -> str:
    """Return the time that is left, as Keras writes it."""
    whole = int(seconds)
    if seconds > 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    if seconds > 60:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole}s"
