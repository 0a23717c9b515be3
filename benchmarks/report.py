"""Tables of the benchmark, in Markdown, and the arithmetic behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "INSTALLED",
    "OURS",
    "TUNED",
    "Fitted",
    "Measured",
    "Result",
    "Scaled",
    "fit_table",
    "import_table",
    "machine_lines",
    "network_table",
    "scaling_table",
    "summary_table",
]

OURS = "pycnn"
TUNED = "torch-tuned"
# Those that run as pip installs them; the goals are about the fastest of these.
INSTALLED = ("torch", "torch-compiled", "keras-tensorflow", "keras-jax")
TUNED_GOAL = 2.0
MEMORY_GOAL = 0.5  # of PyTorch's
SCALING_GOAL = 0.92  # of the peak's own


@dataclass(frozen=True)
class Measured:
    """One framework on one network: seconds of a step, MB above the start."""

    framework: str
    version: str
    minimum: float
    median: float
    megabytes: float


@dataclass(frozen=True)
class Result:
    """One network: who was measured, who failed and with which words, what is aimed at."""

    title: str
    rows: Sequence[Measured]
    flops: float
    goal: float | None = None
    failures: Mapping[str, str] = field(default_factory=dict)

    def of(self, framework: str) -> Measured | None:
        """The row of a framework, if it ran."""
        return next((row for row in self.rows if row.framework == framework), None)

    def fastest(self, by: str = "minimum") -> Measured | None:
        """The fastest of the others as they are installed, by ``minimum`` or ``median``."""
        others = [row for row in self.rows if row.framework in INSTALLED]
        return min(others, key=lambda row: float(getattr(row, by)), default=None)

    def ratio(self, by: str = "minimum") -> float | None:
        """How many times as long as we the fastest other takes."""
        ours, best = self.of(OURS), self.fastest(by)
        if ours is None or best is None:
            return None
        return float(getattr(best, by) / getattr(ours, by))

    def tuned_ratio(self) -> float | None:
        """How many times as long as we PyTorch with a tuned allocator takes."""
        ours, tuned = self.of(OURS), self.of(TUNED)
        return tuned.minimum / ours.minimum if ours and tuned else None

    def memory_ratio(self) -> float | None:
        """Our memory as a fraction of PyTorch's."""
        ours, torch = self.of(OURS), self.of("torch")
        return ours.megabytes / torch.megabytes if ours and torch and torch.megabytes else None


@dataclass(frozen=True)
class Scaled:
    """Seconds of a step and the peak in GFLOP/s, on one thread and on several, in one run."""

    title: str
    one: float
    several: float
    peak_one: float
    peak_several: float

    @property
    def speedup(self) -> float:
        return self.one / self.several

    @property
    def peak_speedup(self) -> float:
        return self.peak_several / self.peak_one

    @property
    def share(self) -> float:
        """Our scaling as a fraction of the peak's."""
        return self.speedup / self.peak_speedup


@dataclass(frozen=True)
class Fitted:
    """Seconds of whole epochs through `fit`: the least of each round's mean epoch."""

    title: str
    epochs: int  # that the lab trains
    measured: int  # in each round
    seconds: Mapping[str, Sequence[float]]  # framework: an epoch's, by round
    failures: Mapping[str, str] = field(default_factory=dict)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}" if seconds >= 1e-3 else f"{1e3 * seconds:.3f}"


def _against(value: float | None, goal: float | None, at_most: bool = False) -> str:
    """A figure beside its goal: ``3.10 (goal 3, met)``."""
    if value is None:
        return "-"
    if goal is None:
        return f"{value:.2f}"
    # Judged as printed: 2.996 is 3.00.
    met = round(value, 2) <= goal if at_most else round(value, 2) >= goal
    return f"{value:.2f} (goal {goal:g}, {'met' if met else 'not met'})"


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown processor"


def machine_lines(
    system: str, threads: int, blocks: int, peak: float | None, isa: str | None = None
) -> str:
    told = f"{peak:.0f} GFLOP/s (float32)" if peak else "not measured"
    held = f"\n- every framework held to {isa}" if isa else ""
    return (
        f"- machine: {processor()}, {system}\n"
        f"- threads: {threads}; FMA peak on them: {told}\n"
        f"- {blocks} alternating blocks, warm-up discarded{held}"
    )


def network_table(result: Result, peak: float | None) -> str:
    """A line a framework; ratios above 1 mean that it takes that many times as long as we do."""
    ours = result.of(OURS)
    lines = []
    for row in result.rows:
        speed = result.flops / row.minimum / 1e9
        share = f" ({100 * speed / peak:.0f} %)" if peak else ""
        lines.append(
            [
                f"{row.framework} ({row.version})",
                _ms(row.minimum),
                _ms(row.median),
                f"{row.minimum / ours.minimum:.2f}" if ours else "-",
                f"{row.median / ours.median:.2f}" if ours else "-",
                f"{speed:.0f}{share}",
                f"{row.megabytes:.0f}",
            ]
        )
    for framework, words in result.failures.items():
        lines.append([f"{framework}: {_cell(words)}", *["-"] * 6])
    if peak:
        direct = f"{result.flops / peak / 1e6:.2f}"
        lines.append(["direct, at the peak", direct, "", "", "", "", ""])
    header = ["", "min ms", "median ms", "min / ours", "median / ours", "GFLOP/s (of peak)", "MB"]
    return table(header, lines)


def _cell(words: str) -> str:
    return words.replace("|", "/").replace("\n", " ")


def summary_table(results: Sequence[Result]) -> str:
    """For each network, the ratios to the others beside what is aimed at."""
    lines = []
    for result in results:
        ours, best = result.of(OURS), result.fastest()
        if ours is None:
            lines.append([result.title, "failed", *["-"] * 5])
            continue
        median = result.ratio("median")
        lines.append(
            [
                result.title,
                _ms(ours.minimum),
                f"{_ms(best.minimum)} ({best.framework})" if best else "-",
                _against(result.ratio(), result.goal),
                "-" if median is None else f"{median:.2f}",
                _against(result.tuned_ratio(), TUNED_GOAL),
                _against(result.memory_ratio(), MEMORY_GOAL, at_most=True),
            ]
        )
    header = [
        "network",
        "ours, ms",
        "fastest other as installed, ms",
        "times as fast, minima",
        "medians",
        "PyTorch, tuned allocator / ours",
        "memory / PyTorch's",
    ]
    return table(header, lines)


def scaling_table(found: Sequence[Scaled], threads: int) -> str:
    """Steps on one thread and on several, beside what the peak gains."""
    lines = [
        [
            one.title,
            _ms(one.one),
            _ms(one.several),
            f"{one.speedup:.2f}",
            f"{one.peak_speedup:.2f}",
            _against(one.share, SCALING_GOAL),
        ]
        for one in found
    ]
    header = [
        "network",
        "1 thread, ms",
        f"{threads} threads, ms",
        "times as fast",
        "the peak's own",
        "of the peak's",
    ]
    return table(header, lines)


def fit_table(found: Sequence[Fitted]) -> str:
    """Epochs through `fit`, end to end; where fewer were measured than the lab trains, scaled."""
    lines = []
    for one in found:
        ours = one.seconds.get(OURS)
        for framework, rounds in one.seconds.items():
            epoch = min(rounds)
            whole = one.epochs * epoch
            scaled = "" if one.measured >= one.epochs else f", scaled from {one.measured}"
            lines.append(
                [
                    one.title,
                    framework,
                    f"{epoch:.2f}",
                    f"{whole:.1f} ({one.epochs} epochs{scaled})"
                    if one.epochs > 1
                    else f"{whole:.2f} (1 epoch)",
                    f"{epoch / min(ours):.2f}" if ours else "-",
                ]
            )
        for framework, words in one.failures.items():
            lines.append([one.title, f"{framework}: {_cell(words)}", "-", "-", "-"])
    header = ["network", "", "an epoch, s", "the lab, s", "/ ours"]
    return table(header, lines)


def import_table(seconds: Mapping[str, float | None]) -> str:
    rows = [
        [framework, f"{1e3 * value:.0f}" if value is not None else "not installed"]
        for framework, value in seconds.items()
    ]
    return table(["", "ms"], rows)
