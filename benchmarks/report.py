"""Tables of the benchmark, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Measured", "import_table", "machine_lines", "network_table", "summary_table"]

OURS = "pycnn"


@dataclass(frozen=True)
class Measured:
    """One framework on one network: seconds of a step, MB above the start."""

    framework: str
    version: str
    minimum: float
    median: float
    megabytes: float


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown processor"


def machine_lines(system: str, threads: int, blocks: int, peak: float | None) -> str:
    told = f"{peak:.0f} GFLOP/s (float32)" if peak else "not measured"
    return (
        f"- machine: {processor()}, {system}\n"
        f"- threads: {threads}; FMA peak on them: {told}\n"
        f"- {blocks} alternating blocks, warm-up discarded"
    )


def network_table(rows: Sequence[Measured], flops: float, peak: float | None) -> str:
    """A line a framework; ratios above 1 mean that it takes that many times as long as we do."""
    ours = next((row for row in rows if row.framework == OURS), None)
    lines = []
    for row in rows:
        speed = flops / row.minimum / 1e9
        share = f" ({100 * speed / peak:.0f} %)" if peak else ""
        lines.append(
            [
                f"{row.framework} ({row.version})",
                f"{1e3 * row.minimum:.2f}",
                f"{1e3 * row.median:.2f}",
                f"{row.minimum / ours.minimum:.2f}" if ours else "-",
                f"{row.median / ours.median:.2f}" if ours else "-",
                f"{speed:.0f}{share}",
                f"{row.megabytes:.0f}",
            ]
        )
    if peak:
        lines.append(["direct, at the peak", f"{flops / peak / 1e6:.2f}", "", "", "", "", ""])
    header = ["", "min ms", "median ms", "min / ours", "median / ours", "GFLOP/s (of peak)", "MB"]
    return table(header, lines)


def summary_table(results: Mapping[str, Sequence[Measured]]) -> str:
    """For each network, how many times as long the fastest other takes."""
    lines = []
    for title, rows in results.items():
        ours = next((row for row in rows if row.framework == OURS), None)
        others = [row for row in rows if row.framework != OURS]
        if ours is None or not others:
            continue
        best = min(others, key=lambda row: row.minimum)
        middle = min(others, key=lambda row: row.median)
        lines.append(
            [
                title,
                f"{1e3 * ours.minimum:.2f}",
                f"{1e3 * best.minimum:.2f} ({best.framework})",
                f"{best.minimum / ours.minimum:.2f}",
                f"{middle.median / ours.median:.2f}",
            ]
        )
    header = ["network", "ours, ms", "fastest other, ms", "ratio of minima", "ratio of medians"]
    return table(header, lines)


def import_table(seconds: Mapping[str, float | None]) -> str:
    rows = [
        [framework, f"{1e3 * value:.0f}" if value is not None else "not installed"]
        for framework, value in seconds.items()
    ]
    return table(["", "ms"], rows)
