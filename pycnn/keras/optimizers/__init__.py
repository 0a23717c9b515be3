"""Optimizers: how gradients change the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycnn.keras._config import deserialize_object, make_from_name, serialize_object
from pycnn.keras._errors import unknown_name
from pycnn.keras.optimizers import schedules
from pycnn.keras.optimizers.adam import Adam, AdamW
from pycnn.keras.optimizers.optimizer import Optimizer
from pycnn.keras.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]

# Names are found whatever their case; the error lists them as written here.
_TABLE: dict[str, Any] = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}
_BY_LOWER = {name.lower(): name for name in _TABLE}
_ABSENT = (
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "RMSprop",
    "ScheduleFreeAdamW",
)


def _canonical(name: str) -> str:
    return _BY_LOWER.get(name.lower(), name)


def serialize(optimizer: Any) -> Any:
    """Return the configuration of an optimizer, without its state."""
    return serialize_object(optimizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Make the optimizer that a configuration or name describes."""
    if isinstance(config, str):
        config = _canonical(config)
    elif isinstance(config, Mapping) and isinstance(config.get("class_name"), str):
        config = {**config, "class_name": _canonical(config["class_name"])}
    made = deserialize_object("optimizer", config, _TABLE, custom_objects, _ABSENT)
    return made() if isinstance(made, type) else made


def get(identifier: Any) -> Any:
    """Return an optimizer for a name, a configuration, a class or an instance.

    Raises
    ------
    ValueError
        If the name is unknown (the nearest ones are told) or the value is none of these.
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, str):
        return make_from_name("optimizer", _canonical(identifier), _TABLE, _ABSENT)()
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        factory: Any = identifier
        return factory()
    raise unknown_name("optimizer", identifier, _TABLE)
