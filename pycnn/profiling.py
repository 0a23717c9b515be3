"""`profile`: where the time of training or prediction goes, layer by layer and pass by pass.

The engine times the steps of its plans while a profile is open, and only then.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from pycnn import _core
from pycnn._steps import (
    case_of,
    flops_of,
    grouped,
    layers_of,
    layouts_of,
    refusals_of,
    title_of,
)

__all__ = ["Row", "profile", "start_verbose"]


class Row(NamedTuple):
    """One line of a profile: all calls of one computation of one layer.

    Attributes
    ----------
    layer : str
        The layer's or optimizer's name; ``(batch)`` and ``(loss)`` for a Keras model's own work;
        empty for ops outside of layers. ``(between steps)``: what runs cost beside their steps.
    phase : str
        ``"forward"``, ``"backward"`` or ``"update"``.
    op : str
        The engine's op and what was fused into it, ``"conv2d+relu"``.
    impl : str
        The implementation that was chosen.
    case : str
        Op, shapes and attributes, in the words that name tests and benchmarks; of the first call.
    dtype : str
        The result's.
    calls : int
        How often it ran. Ops that are neither convolutions nor matrix products have one line for
        all of a kind in a layer and pass.
    ms : float
        Milliseconds of all calls.
    gflops : float or None
        10^9 operations a second, counted as direct convolution and plain products do them (so
        Winograd may pass the peak); None for other ops.
    of_peak : float or None
        `gflops` as a fraction of the measured peak of all threads.
    share : float
        Of the engine's time.
    refused : str
        Why faster implementations did not take the call.
    """

    layer: str
    phase: str
    op: str
    impl: str
    case: str
    dtype: str
    calls: int
    ms: float
    gflops: float | None
    of_peak: float | None
    share: float
    refused: str


_peaks: dict[tuple[str, int, str], float] = {}


def _peak(dtype: str) -> float:
    """GFLOP/s of all threads together, measured once for their number and instruction set."""
    key = (_core.config()["isa"], _core.get_num_threads(), dtype)
    if key not in _peaks:
        _peaks[key] = _core.fma_peak(all_threads=True, dtype=dtype)
    return _peaks[key]


class profile:
    """Time the engine's work inside a ``with`` block.

    Afterwards ``print(p)`` shows a table, `rows` has it as data. Any code may stand in the block:
    `fit`, `evaluate`, `predict`, calls of models and layers, ops on Tensors with `backward()`, in
    this thread and in others. What is pending is computed before the block begins and before it
    ends, so that it is counted where it was written.

    The table shows the engine's plans. Python between them, reading and preparing data, recording
    and planning are one number, "outside the engine". A profile that was taken may be entered
    again and starts anew. Where no profile is open, nothing is timed.

    Raises
    ------
    RuntimeError
        When entered while another profile is open: they can neither be nested nor taken by two
        threads at once, because a plan's times belong to one of them.

    Examples
    --------
    >>> with pycnn.profile() as p:  # doctest: +SKIP
    ...     model.fit(x, y, batch_size=128)
    >>> print(p)  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._open = False
        self.wall_ms = 0.0
        self.engine_ms = 0.0
        self.plans = 0
        self.runs = 0
        self.threads = 0
        self.isa = ""
        self.peak_gflops = 0.0

    def __enter__(self) -> Self:
        _core.synchronize()
        _core._profile_begin()
        self._open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            _core.synchronize()
        finally:
            self._open = False
            plans, seconds = _core._profile_end()
            self.wall_ms = 1e3 * seconds
            self._gather(plans)

    def _gather(self, plans: Sequence[dict[str, Any]]) -> None:
        ran = [plan for plan in plans if plan["runs"]]
        self.plans = len(ran)
        self.runs = sum(plan["runs"] for plan in ran)
        self.engine_ms = sum(plan["ns"] for plan in ran) / 1e6
        self.threads = _core.get_num_threads()
        config = _core.config()
        emulated = config["isa"] == config["isa_emulated"]
        self.isa = str(config["isa"]) + (", emulated: no measure" if emulated else "")
        self.peak_gflops = _peak("float32")
        merged: dict[tuple[Any, ...], list[Any]] = {}  # step, calls, ns, operations
        for plan in ran:
            seen: Counter[tuple[Any, ...]] = Counter()
            for step in grouped(plan["steps"]):
                if not step["runs"]:
                    continue
                flops = flops_of(step)
                words = (layers_of(step), step["pass"], title_of(step), step["impl"], step["dtype"])
                key: tuple[Any, ...] = words
                if flops is not None:
                    # The large ones have a line each; by their place, so that the plan for an
                    # epoch's last batch joins in.
                    seen[words] += 1
                    key = (*words, seen[words])
                entry = merged.setdefault(key, [step, 0, 0.0, None])
                entry[1] += step["runs"]
                entry[2] += step["ns"]
                if flops is not None:
                    entry[3] = (entry[3] or 0.0) + flops * step["runs"]
        self._rows = [self._row(*entry) for entry in merged.values()]
        inside = sum(row.ms for row in self._rows)
        rest = self.engine_ms - inside
        if self._rows and rest > 0:
            share = rest / self.engine_ms
            empty = ("", "", "", "", "", self.runs, rest, None, None, share, "")
            self._rows.append(Row("(between steps)", *empty))

    def _row(self, step: dict[str, Any], calls: int, ns: float, flops: float | None) -> Row:
        speed = flops / ns if flops is not None and ns > 0 else None
        peak = _peak(step["dtype"]) if speed is not None else 0.0
        return Row(
            layer=layers_of(step),
            phase=step["pass"],
            op=title_of(step),
            impl=step["impl"],
            case=case_of(step),
            dtype=step["dtype"],
            calls=calls,
            ms=ns / 1e6,
            gflops=speed,
            of_peak=speed / peak if speed is not None and peak > 0 else None,
            share=ns / 1e6 / self.engine_ms if self.engine_ms > 0 else 0.0,
            refused=refusals_of(step),
        )

    # ---- results ----

    @property
    def rows(self) -> list[Row]:
        """The lines of the table, in order of execution.

        Raises
        ------
        RuntimeError
            While the profile is open.
        """
        if self._open:
            raise RuntimeError("the profile is still being taken: read it after the with block")
        return list(self._rows)

    @property
    def outside_ms(self) -> float:
        """Milliseconds of the block in which no plan ran: Python, data, recording, planning."""
        return max(self.wall_ms - self.engine_ms, 0.0)

    def layers(self) -> list[Row]:
        """One line a layer and pass, with the ops and implementations of its rows together."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.layer, row.phase), []).append(row)
        peak = self.peak_gflops
        found = []
        for (layer, phase), rows in groups.items():
            counted = [row for row in rows if row.gflops is not None]
            ms = sum(row.ms for row in counted)
            speed = sum((row.gflops or 0.0) * row.ms for row in counted) / ms if ms > 0 else None
            single = all(row.dtype == "float32" for row in counted)
            found.append(
                Row(
                    layer,
                    phase,
                    ", ".join(dict.fromkeys(row.op for row in rows)),
                    ", ".join(dict.fromkeys(row.impl for row in rows)),
                    "",
                    ", ".join(dict.fromkeys(row.dtype for row in rows)),
                    max(rows, key=lambda row: row.ms).calls,
                    sum(row.ms for row in rows),
                    speed,
                    speed / peak if speed is not None and single and peak > 0 else None,
                    sum(row.share for row in rows),
                    "",
                )
            )
        return found

    def _cells(self, sort: str, by: str, limit: int | None) -> list[list[str]]:
        if by not in ("step", "layer"):
            raise ValueError(f"by must be 'step' or 'layer', got {by!r}")
        if limit is not None and limit < 0:
            raise ValueError(f"limit must not be below 0, got {limit}")
        rows = self.rows if by == "step" else self.layers()
        if sort == "time":
            rows.sort(key=lambda row: -row.ms)
        elif sort == "layer":
            order: dict[str, int] = {}
            for row in rows:
                order.setdefault(row.layer, len(order))
            rows.sort(key=lambda row: order[row.layer])
        elif sort != "order":
            raise ValueError(f"sort must be 'time', 'order' or 'layer', got {sort!r}")
        cells = [
            [
                row.layer or "-",
                row.phase or "-",
                row.op or "-",
                row.impl or "-",
                str(row.calls),
                f"{row.ms:.3f}",
                f"{row.ms / row.calls:.4f}" if row.calls else "-",
                "-" if row.gflops is None else f"{row.gflops:.1f}",
                "-" if row.of_peak is None else f"{100 * row.of_peak:.0f} %",
                f"{100 * row.share:.1f} %",
            ]
            for row in rows
        ]
        return cells if limit is None else cells[:limit]

    def _summary(self) -> list[str]:
        share = 100 * self.outside_ms / self.wall_ms if self.wall_ms > 0 else 0.0
        return [
            f"wall {self.wall_ms:.2f} ms; engine {self.engine_ms:.2f} ms in {self.runs} runs of "
            f"{self.plans} plans; outside the engine {self.outside_ms:.2f} ms ({share:.1f} %)",
            f"threads {self.threads}, {self.isa}; measured FMA peak of them "
            f"{self.peak_gflops:.0f} GFLOP/s (float32)",
        ]

    def table(self, sort: str = "time", by: str = "step", limit: int | None = None) -> str:
        """The table as text.

        Parameters
        ----------
        sort : str
            ``"time"`` (longest first), ``"order"`` (of execution) or ``"layer"``.
        by : str
            ``"step"``: one line a computation; ``"layer"``: one line a layer and pass.
        limit : int, optional
            At most so many lines.

        Raises
        ------
        ValueError
            For another word.
        """
        cells = [_HEADER, *self._cells(sort, by, limit)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(_HEADER))]
        lines = []
        for line in cells:
            padded = [
                text.ljust(width) if i < _WORDS else text.rjust(width)
                for i, (text, width) in enumerate(zip(line, widths, strict=True))
            ]
            lines.append("  ".join(padded).rstrip())
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join([*lines, "", *self._summary()])

    def to_markdown(self, sort: str = "time", by: str = "step", limit: int | None = None) -> str:
        """The table in Markdown; parameters as for `table`."""
        lines = [_HEADER, ["---"] * _WORDS + ["---:"] * (len(_HEADER) - _WORDS)]
        lines += self._cells(sort, by, limit)
        rows = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([*rows, "", *(f"- {line}" for line in self._summary())])

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        if self._open:
            return "<profile, open>"
        return f"<profile: {len(self._rows)} rows, engine {self.engine_ms:.2f} ms>"


_HEADER = [
    "layer",
    "pass",
    "op",
    "implementation",
    "calls",
    "ms",
    "ms/call",
    "GFLOP/s",
    "of peak",
    "share",
]
_WORDS = 4  # columns of words; numbers stand on the right


# ---- PYCNN_VERBOSE ----


def _tell(made: bool, plan: dict[str, Any]) -> None:
    """Write a plan's steps when it is made, or their times when it has run."""
    lines = []
    for step in plan["steps"] if made else grouped(plan["steps"]):
        if made:
            layer = layers_of(step)
            parts = [
                f"pycnn: plan {plan['number']}: {case_of(step)}",
                step["dtype"],
                layouts_of(step),
                step["pass"] + (f" of {layer}" if layer else ""),
                step["impl"],
            ]
            if "chain" in step:
                parts.append(f"chain {step['chain']}")
            refused = refusals_of(step)
            if refused:
                parts.append(f"refused: {refused}")
        else:
            parts = [
                f"pycnn: run of plan {plan['number']}: {case_of(step)}",
                step["impl"],
                f"{step['last_ns'] / 1e6:.4f} ms",
            ]
        lines.append(" | ".join(parts) + "\n")
    if sys.stderr is not None:
        sys.stderr.write("".join(lines))


def start_verbose(setting: str | None) -> None:
    """Do what the environment variable ``PYCNN_VERBOSE`` says.

    ``1`` writes a line an op to stderr when a plan is made, ``2`` also one for each run.

    Raises
    ------
    ImportError
        For another value than 0, 1 and 2.
    """
    if not setting or setting == "0":
        return
    if setting not in ("1", "2"):
        raise ImportError(f"PYCNN_VERBOSE={setting} is not one of 0, 1, 2")
    _core._set_plan_hook(_tell, int(setting))
