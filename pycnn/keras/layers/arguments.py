"""Checks of constructor arguments that several layers share."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from pycnn.keras._errors import did_you_mean

__all__ = [
    "axis_of",
    "data_format_of",
    "padding_of",
    "pair",
    "positive_int",
    "refuse_constraint",
]


def pair(value: Any, name: str, *, allow_zero: bool = False) -> tuple[int, int]:
    """An int or a sequence of two as two ints.

    Raises
    ------
    ValueError
        If it is neither, or a value is not positive.
    """
    if isinstance(value, bool) or value is None:
        raise ValueError(f"The `{name}` argument must be a tuple of 2 integers, got {value!r}.")
    values = (value, value) if isinstance(value, int) else value
    try:
        numbers = [v.__index__() for v in values]
    except (TypeError, AttributeError):
        raise ValueError(
            f"The `{name}` argument must be a tuple of 2 integers, got {value!r}."
        ) from None
    if len(numbers) != 2:
        raise ValueError(f"The `{name}` argument must be a tuple of 2 integers, got {value!r}.")
    low = 0 if allow_zero else 1
    if min(numbers) < low:
        rule = "at least 0" if allow_zero else "greater than 0"
        raise ValueError(
            f"The `{name}` argument must be a tuple of 2 integers, each {rule}, got {value!r}."
        )
    if max(numbers) >= 2**31:
        raise ValueError(f"The `{name}` argument is too large: {value!r}.")
    return numbers[0], numbers[1]


def positive_int(value: Any, name: str, where: str) -> int:
    """A whole number above zero.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    number = _index(value)
    if number is None or number <= 0:
        hint = ""
        if isinstance(value, float) and math.isfinite(value) and value == int(value) > 0:
            hint = f" Did you mean {name}={int(value)}?"
        raise ValueError(
            f"{where} received an invalid value for `{name}`: expected a positive integer, "
            f"got {value!r}.{hint}"
        )
    return number


def axis_of(value: Any, where: str) -> int:
    """One axis as an int; a list of one, as old files hold, counts too.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    number = _index(value)
    if number is None:
        raise ValueError(f"{where}: `axis` must be an integer, got {value!r}.")
    return number


def _index(value: Any) -> int | None:
    """A whole number as an int; None for anything else, True and False included."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def padding_of(value: Any) -> str:
    """ "valid" or "same".

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if not isinstance(value, str) or value.lower() not in ("valid", "same"):
        hint = did_you_mean(value.lower(), ("valid", "same")) if isinstance(value, str) else ""
        raise ValueError(
            f'The `padding` argument must be "valid" or "same", got {value!r}.{hint} For other '
            "amounts put a ZeroPadding2D layer in front."
        )
    return value.lower()


def data_format_of(value: Any) -> str:
    """ "channels_last" or "channels_first"; the configured one for None.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if value is None:
        from pycnn.keras import backend

        value = backend.image_data_format()
    if not isinstance(value, str) or value.lower() not in ("channels_last", "channels_first"):
        hint = ""
        if isinstance(value, str):
            hint = did_you_mean(value, ("channels_last", "channels_first"))
        raise ValueError(
            f'The `data_format` argument must be "channels_last" or "channels_first", got '
            f"{value!r}.{hint}"
        )
    return value.lower()


def refuse_constraint(where: str, **constraints: Any) -> None:
    """Refuse any constraint on weights.

    Raises
    ------
    NotImplementedError
        If one is not None.
    """
    for name, value in constraints.items():
        if value is not None:
            raise NotImplementedError(
                f"{where}: {name}={value!r} is not supported here; constraints on weights are "
                "not available. A regularizer such as L2 is an alternative."
            )
