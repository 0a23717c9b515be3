"""Learning rates that change with the number of steps taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycnn.keras._config import deserialize_object, serialize_object
from pycnn.keras.optimizers.schedules.learning_rate_schedule import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]

_TABLE: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
    )
}


def serialize(learning_rate_schedule: Any) -> Any:
    """Return the configuration of a schedule."""
    return serialize_object(learning_rate_schedule)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Make the schedule that a configuration describes.

    Raises
    ------
    ValueError
        If its class is unknown.
    """
    return deserialize_object("learning rate schedule", config, _TABLE, custom_objects)
