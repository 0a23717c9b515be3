"""The benchmark's picture: for each network, how many times as long as we the others take."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from report import OURS, Result

__all__ = ["draw", "explain_missing"]

# One colour a framework, whichever of them were measured.
COLOURS = {
    "pycnn": "#20639b",
    "torch": "#e4572e",
    "torch-tuned": "#f19f7c",
    "torch-compiled": "#a63d18",
    "keras-tensorflow": "#f2b134",
    "keras-jax": "#7a8b3c",
}

LONGEST = 15.0  # where bars are cut off, so that one slow framework hides no other


def explain_missing(path: Path) -> str | None:
    """Why no picture can be drawn; None: it can. Asked before the measurements, not after."""
    if importlib.util.find_spec("matplotlib") is None:
        return 'a picture needs matplotlib: pip install ".[viz]" or matplotlib'
    from matplotlib.backend_bases import FigureCanvasBase

    if path.suffix[1:].lower() not in FigureCanvasBase.filetypes:
        return f"a picture needs a name that ends in .png, .svg or .pdf, got {path.name}"
    if not path.absolute().parent.is_dir():
        return f"there is no folder {path.parent} for the picture"
    return None


def draw(results: Sequence[Result], path: Path, title: str) -> None:
    """Write the bar chart.

    Parameters
    ----------
    results : sequence of Result
        The networks in which we were measured.
    path : Path
        Where to; its ending says the format.
    title : str
        Over the chart.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [result for result in results if result.of(OURS) is not None]
    names = [name for name in COLOURS if any(result.of(name) is not None for result in shown)]
    slots = len(names) + 1
    figure = Figure(figsize=(9, 2.0 + 0.22 * slots * max(len(shown), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        positions, widths, labels = [], [], []
        for row, result in enumerate(shown):
            ours, measured = result.of(OURS), result.of(name)
            if ours is None or measured is None:
                continue
            ratio = measured.minimum / ours.minimum
            positions.append(row * slots + place)
            widths.append(min(ratio, LONGEST))
            cut = " ..." if ratio > LONGEST else " "
            ms = 1e3 * measured.minimum
            digits = 0 if ms >= 100 else 1 if ms >= 10 else 2
            labels.append(f"{cut}{ratio:.2f} ({ms:.{digits}f} ms)")
        bars = axes.barh(positions, widths, height=0.9, color=COLOURS[name], label=name)
        # On white, so that a goal's line does not cross the figures.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.bar_label(bars, labels, fontsize=7, bbox=box)
    goals = [(row, result.goal) for row, result in enumerate(shown) if result.goal]
    for row, goal in goals:
        axes.plot(
            [goal, goal],
            [row * slots - 0.6, row * slots + len(names) - 0.4],
            color="black",
            linewidth=1,
            linestyle="--",
            label="goal" if row == goals[0][0] else None,
        )
    axes.set_yticks([row * slots + (len(names) - 1) / 2 for row in range(len(shown))])
    axes.set_yticklabels([result.title for result in shown])
    axes.invert_yaxis()
    axes.margins(x=0.25, y=0.02)
    axes.set_xlabel("time of the minimum, ours = 1")
    axes.set_title(title, fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if names:
        figure.legend(fontsize=8, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=150)
