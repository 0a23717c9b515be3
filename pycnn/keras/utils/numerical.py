"""Class numbers as one-hot rows, and vectors of length 1."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pycnn._core import Tensor

__all__ = ["normalize", "to_categorical"]


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Turn class numbers into one-hot rows.

    Parameters
    ----------
    x : array_like of int
        Class numbers from 0, of any shape; a last axis of size 1 is dropped.
    num_classes : int, optional
        The number of columns; the greatest class number plus one when absent.

    Returns
    -------
    ndarray
        float64, of the shape of `x` with an axis of size `num_classes` added. A Tensor gives a
        float32 Tensor.

    Raises
    ------
    ValueError
        If there is a number that is negative, not whole, or `num_classes` and above; the message
        tells which one and where.

    Examples
    --------
    >>> to_categorical([0, 2, 1], 3)
    array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 1., 0.]])
    """
    if x is None:
        raise ValueError("to_categorical: expected class numbers (0, 1, 2, ...), got None.")
    labels = _whole_numbers(np.asarray(x))
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels.reshape(labels.shape[:-1])
    if num_classes is not None and not _is_count(num_classes):
        raise ValueError(
            f"to_categorical: `num_classes` must be a positive integer, got {num_classes!r}."
        )
    classes = int(num_classes) if num_classes else 0
    if not classes:
        if labels.size == 0:
            raise ValueError("to_categorical: `x` is empty; give `num_classes`.")
        classes = int(labels.max()) + 1
    _check_range(labels, classes, given=bool(num_classes))
    _warn_if_one_hot(labels)
    flat = labels.reshape(-1)
    rows = np.zeros((flat.size, classes))
    rows[np.arange(flat.size), flat] = 1.0
    result = rows.reshape((*labels.shape, classes))
    if isinstance(x, Tensor):
        from pycnn import _core

        return _core.tensor(result.astype(np.float32))
    return result


def _is_count(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return False
    return bool(value >= 0 and value == np.floor(value))


def _whole_numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype.kind in "SUO":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "to_categorical: expected class numbers (0, 1, 2, ...), got values that are no "
                f"numbers, such as {array.reshape(-1)[0]!r}."
            ) from error
    if array.dtype.kind != "f":
        raise ValueError(f"to_categorical: expected class numbers, got dtype {array.dtype}.")
    bad = ~np.isfinite(array) | (array != np.floor(array))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"to_categorical: expected whole class numbers, got {array[place]} at {_at(place)}."
        )
    return array.astype(np.int64)


def _check_range(labels: np.ndarray, classes: int, given: bool) -> None:
    bad = (labels < 0) | (labels >= classes)
    if not bad.any():
        return
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    value = int(labels[place])
    if value < 0:
        hint = "Class numbers start at 0."
    elif int(labels.min()) >= 1 and int(labels.max()) == classes:
        hint = "The labels start at 1: subtract 1."
    else:
        hint = f"The greatest is {int(labels.max())}: use num_classes={int(labels.max()) + 1}."
    limits = f"0..{classes - 1}" + (f" (num_classes={classes})" if given else "")
    raise ValueError(
        f"to_categorical: class number {value} at {_at(place)} is outside {limits}. {hint}"
    )


def _warn_if_one_hot(labels: np.ndarray) -> None:
    if labels.ndim < 2 or labels.shape[-1] < 2 or labels.size == 0 or labels.max() > 1:
        return
    if (labels.sum(axis=-1) == 1).all():
        warnings.warn(
            f"to_categorical: the input of shape {labels.shape} looks already one-hot; the result "
            f"gets one axis more.",
            UserWarning,
            stacklevel=3,
        )


def _at(place: tuple[int, ...]) -> str:
    return f"row {place[0]}" if len(place) == 1 else f"position {place}"


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Divide vectors along an axis by their norm; zero vectors stay zero.

    Parameters
    ----------
    x : array_like
        The numbers.
    axis : int
        The axis along which the vectors lie.
    order : int
        Of the norm: 2 for the length, 1 for the sum of sizes.

    Returns
    -------
    ndarray
        Of the shape of `x`; a Tensor gives a Tensor.
    """
    array = np.asarray(x)
    along = -1 if axis is None else axis
    norm = np.linalg.norm(array, order, along, keepdims=True)
    result = array / np.where(norm == 0, 1, norm)
    if isinstance(x, Tensor):
        from pycnn import _core

        return _core.tensor(result.astype(array.dtype))
    return result
