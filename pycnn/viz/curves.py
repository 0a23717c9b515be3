"""Learning curves: what ``fit`` returned, drawn by epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycnn.viz._matplotlib import new_figure

__all__ = ["learning_curves"]

Curves = Mapping[str, Sequence[float]]


def learning_curves(
    history: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    title: str | None = None,
    reference: Mapping[str, Sequence[float]] | None = None,
) -> Any:
    """Draw the curves of one or several trainings, a panel for each metric.

    Parameters
    ----------
    history : History, Model, mapping, or mapping of them
        What ``fit`` returned, its ``.history``, a trained model, or several of them by label.
    path : path, optional
        The picture's file, written at once (PNG, or what the suffix says).
    metrics : sequence of str, optional
        Names without "val_"; by default all, "loss" first.
    title : str, optional
        Stands above the panels.
    reference : mapping, optional
        Published curves by metric, drawn dotted.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        There is nothing to draw, or no metric of that name.
    """
    runs = _runs(history)
    names = list(dict.fromkeys(key.removeprefix("val_") for run in runs.values() for key in run))
    if metrics is None:
        # The learning rate, which some callbacks put there too, is no curve of learning.
        metrics = sorted((n for n in names if n != "learning_rate"), key=lambda n: n != "loss")
    unknown = [name for name in metrics if name not in names]
    if unknown:
        raise ValueError(f"learning_curves: no metric {unknown[0]!r}, the history has {names}")
    if not metrics or not any(len(values) for run in runs.values() for values in run.values()):
        raise ValueError("learning_curves: the history is empty, train for an epoch first")
    figure = new_figure("learning_curves", 5.0 * len(metrics), 3.6)
    for column, name in enumerate(metrics, 1):
        axes = figure.add_subplot(1, len(metrics), column)
        _panel(axes, name, runs, (reference or {}).get(name))
    if title:
        figure.suptitle(title)
    if path is not None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=120)
    return figure


def _runs(history: Any) -> dict[str, Curves]:
    """The trainings by label; "" is the label of a single one."""
    history = _unwrap(history)
    if not isinstance(history, Mapping):
        raise ValueError(
            "learning_curves: expected what fit returned, its history, or a mapping of them; "
            f"got {type(history).__name__}"
        )
    values: list[Any] = [_unwrap(value) for value in history.values()]
    if values and all(isinstance(value, Mapping) for value in values):
        return dict(zip(map(str, history), values, strict=True))
    return {"": history}


def _unwrap(value: Any) -> Any:
    """The mapping within a History, or within that of a trained model."""
    for _ in range(2):
        value = getattr(value, "history", value)
    return value


def _panel(
    axes: Any, name: str, runs: Mapping[str, Curves], published: Sequence[float] | None
) -> None:
    for number, (label, run) in enumerate(runs.items()):
        for key, kind, style in ((name, "training", "-"), (f"val_{name}", "validation", "--")):
            if key in run and len(run[key]):
                epochs = range(1, len(run[key]) + 1)
                words = f"{label}, {kind}" if label else kind
                mark = {"marker": "o", "markersize": 3} if len(run[key]) <= 20 else {}
                axes.plot(epochs, run[key], style, color=f"C{number}", label=words, **mark)
    if published is not None:
        epochs = range(1, len(published) + 1)
        axes.plot(epochs, published, ":", color="black", label="published, training")
    axes.set_xlabel("epoch")
    axes.set_ylabel(name.replace("_", " "))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
