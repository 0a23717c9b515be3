"""Penalties on weights, added to a model's loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._config import (
    check_number,
    deserialize_object,
    get_object,
    serialize_object,
)
from pycnn.keras._convert import as_tensor

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "serialize",
]


class Regularizer:
    """Base of all regularizers; a subclass defines ``__call__(x)``, a scalar tensor."""

    _keras_module: ClassVar[str] = "keras.regularizers"

    def __call__(self, x: Any) -> Any:
        """Return the penalty on the weight `x`."""
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal regularizer."""
        raise NotImplementedError(f"{type(self).__name__} must define get_config(self).")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """Make a regularizer from `get_config`'s dictionary."""
        return cls(**config)


class L1L2(Regularizer):
    """``l1 * sum(|x|) + l2 * sum(x**2)``.

    Parameters
    ----------
    l1, l2 : float
        The factors, at least 0; by default no penalty.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = check_number("L1L2", "l1", 0.0 if l1 is None else l1, 0.0)
        self.l2 = check_number("L1L2", "l2", 0.0 if l2 is None else l2, 0.0)

    def __call__(self, x: Any) -> Tensor:
        """Return the penalty on the weight `x`."""
        weight = as_tensor(x)
        parts = []
        if self.l1:
            parts.append(_absolute_sum(weight) * self.l1)
        if self.l2:
            parts.append(ops.sum_squares(weight) * self.l2)
        if not parts:
            return as_tensor(0.0, weight.dtype.name)
        result: Tensor = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return result

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal regularizer."""
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """``l1 * sum(|x|)``."""

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = check_number("L1", "l1", 0.01 if l1 is None else l1, 0.0)

    def __call__(self, x: Any) -> Tensor:
        """Return the penalty on the weight `x`."""
        return _absolute_sum(as_tensor(x)) * self.l1

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal regularizer."""
        return {"l1": self.l1}


class L2(Regularizer):
    """``l2 * sum(x**2)``; without the factor 1/2 of other libraries."""

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = check_number("L2", "l2", 0.01 if l2 is None else l2, 0.0)

    def __call__(self, x: Any) -> Tensor:
        """Return the penalty on the weight `x`."""
        result: Tensor = ops.sum_squares(as_tensor(x)) * self.l2
        return result

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal regularizer."""
        return {"l2": self.l2}


def _absolute_sum(x: Tensor) -> Tensor:
    result: Tensor = ops.sum(ops.abs(x))
    return result


l1 = L1
l2 = L2
l1_l2 = L1L2

_TABLE: dict[str, Any] = {"L1": L1, "L2": L2, "L1L2": L1L2, "l1": L1, "l2": L2, "l1_l2": L1L2}
_TABLE["l1l2"] = L1L2
_ABSENT = ("OrthogonalRegularizer",)


def serialize(regularizer: Any) -> Any:
    """Return the configuration of a regularizer."""
    return serialize_object(regularizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Make the regularizer that a configuration or name describes."""
    made = deserialize_object("regularizer", config, _TABLE, custom_objects, _ABSENT)
    return made() if isinstance(made, type) else made


def get(identifier: Any) -> Any:
    """Return a regularizer for a name, a configuration, a class, a function or a number.

    A number stands for L2 of that strength.

    Raises
    ------
    ValueError
        If the name is unknown (the nearest ones are told) or the value is none of these.
    """
    if isinstance(identifier, int | float) and not isinstance(identifier, bool):
        return L2(identifier)
    return get_object("regularizer", identifier, _TABLE, _ABSENT, deserialize)
