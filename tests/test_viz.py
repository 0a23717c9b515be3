"""Learning curves: what is drawn, what is refused, what is written."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pycnn.viz import learning_curves

HISTORY = {
    "loss": [1.0, 0.5, 0.25],
    "accuracy": [0.5, 0.75, 0.9],
    "val_loss": [1.1, 0.6, 0.4],
    "val_accuracy": [0.4, 0.7, 0.8],
    "learning_rate": [0.1, 0.1, 0.05],
}


def test_a_panel_for_each_metric_loss_first() -> None:
    figure = learning_curves(HISTORY)
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["training", "validation"]
    assert list(lines[0].get_ydata()) == HISTORY["loss"]
    assert list(lines[1].get_xdata()) == [1, 2, 3]


def test_what_fit_returns_is_taken_too() -> None:
    figure = learning_curves(SimpleNamespace(history=HISTORY), metrics=["accuracy"])
    assert [axes.get_ylabel() for axes in figure.axes] == ["accuracy"]


def test_several_runs_and_the_published_curve() -> None:
    runs = {"seed 1": HISTORY, "seed 2": SimpleNamespace(history={"loss": [2.0, 1.0]})}
    figure = learning_curves(runs, metrics=["loss"], reference={"loss": [1.0, 0.9]}, title="both")
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert labels == [
        "seed 1, training",
        "seed 1, validation",
        "seed 2, training",
        "published, training",
    ]
    assert figure.get_suptitle() == "both"


def test_written_as_png_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "curves.png"
    learning_curves(HISTORY, path)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5_000


@pytest.mark.parametrize(
    ("history", "more", "words"),
    [
        ({}, {}, "history is empty"),
        ({"loss": []}, {}, "history is empty"),
        (HISTORY, {"metrics": ["acc"]}, "no metric 'acc', the history has"),
        ([1.0, 2.0], {}, "got list"),
    ],
)
def test_refusals(history: object, more: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        learning_curves(history, **more)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'pycnn\[viz\]'"):
        learning_curves(HISTORY)


def test_a_trained_model_is_taken_for_its_history() -> None:
    history = SimpleNamespace(history={"loss": [2.0, 1.0]})
    for value in (
        history,
        SimpleNamespace(history=history),
        {"a": SimpleNamespace(history=history)},
    ):
        (axes,) = learning_curves(value).axes
        assert list(axes.lines[0].get_ydata()) == [2.0, 1.0]
    with pytest.raises(ValueError, match="got NoneType"):
        learning_curves(SimpleNamespace(history=None))
