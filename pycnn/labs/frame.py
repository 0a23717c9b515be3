"""What a lab is to ``pycnn lab``: its variations, their published figures, what a run gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Lab", "Published", "Result", "Run", "Variation"]


@dataclass(frozen=True)
class Published:
    """One published run; None where the report does not say.

    Accuracies are fractions; ``accuracy`` and ``loss`` are those of training, by epoch.
    """

    source: str
    accuracy: Sequence[float | None] | None = None
    loss: Sequence[float | None] | None = None
    val_loss: float | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Variation:
    """A variation of a lab: a line about it, its epochs, and what was published for it."""

    about: str
    epochs: int = 0
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Run:
    """What a lab is asked for: one training of one variation."""

    variation: str
    epochs: int
    seed: int
    folder: Path
    verbose: int | str = "auto"


@dataclass(frozen=True)
class Result:
    """What one training gave; empty for a variation that only prints."""

    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    test_loss: float | None = None
    test_accuracy: float | None = None
    model_path: Path | None = None


@dataclass(frozen=True)
class Lab:
    """A lab: its variations (the first is the default), seed, and the function that runs one."""

    name: str
    title: str
    variations: Mapping[str, Variation]
    run: Callable[[Run], Result]
    seed: int = 1

    @property
    def default(self) -> str:
        return next(iter(self.variations))
