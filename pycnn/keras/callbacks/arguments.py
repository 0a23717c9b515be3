"""Checks of what the user hands to callbacks; all name the callback and the argument."""

from __future__ import annotations

import math
import os
import string
from typing import Any

import numpy as np

from pycnn.keras._config import check_number

__all__ = ["epoch_count", "level", "path_text", "placeholders", "save_frequency"]


def level(owner: str, name: str, value: Any) -> float:
    """Return a number to compare with; it may be infinite, but not NaN.

    Raises
    ------
    TypeError, ValueError
        If it is no number.
    """
    if isinstance(value, (float, np.floating)) and math.isinf(value):
        return float(value)
    return check_number(owner, name, value)


def epoch_count(owner: str, name: str, value: Any) -> Any:
    """Return a number of epochs as it is: at least 0, infinite for "never".

    Raises
    ------
    TypeError, ValueError
        If it is no number, negative or NaN.
    """
    if not (isinstance(value, (float, np.floating)) and value == math.inf):
        check_number(owner, name, value, 0.0)
    return value


def save_frequency(owner: str, value: Any, or_false: bool = False) -> str | int | bool:
    """Return when to save: ``"epoch"``, a number of batches, or False where that is allowed.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if (isinstance(value, str) and value == "epoch") or (or_false and value is False):
        return value
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"{owner}: save_freq must be 'epoch'{', False' if or_false else ''} or a number of "
            f"batches of at least 1, got {value!r}"
        )
    return int(value)


def path_text(owner: str, name: str, value: Any, example: str) -> str:
    """Return a path as text.

    Raises
    ------
    TypeError
        If it is neither text nor a path.
    ValueError
        If it is empty.
    """
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise TypeError(
            f"{owner}: {name} must be a path such as {example!r}, got {value!r} of type "
            f"{type(value).__name__}"
        ) from None
    if not path:
        raise ValueError(f"{owner}: {name} is empty; give a path such as {example!r}")
    return path


def placeholders(owner: str, name: str, text: str) -> list[str]:
    """Return the names in the braces of a format string.

    Raises
    ------
    ValueError
        If braces do not match or hold no name.
    """
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as error:
        raise ValueError(f"{owner}: {name}={text!r} is no format string: {error}") from None
    names = [field.split(".")[0].split("[")[0] for field in fields]
    for one in names:
        if not one or one.isdigit():
            raise ValueError(
                f"{owner}: {name}={text!r} has braces without a name; write for instance "
                "'{epoch:02d}', or '{{' for a brace"
            )
    return names
