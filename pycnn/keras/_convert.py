"""Values of any kind as core tensors.

Losses, metrics and activations are called with tensors (inside a training step), with maps
(between layers) and with whatever a user has at hand: arrays, lists, numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import _core, ops
from pycnn._core import Tensor
from pycnn.keras._maps import Maps

__all__ = ["as_floats", "as_labels", "as_tensor", "cast", "clip", "logits_of", "set_logits"]

_DTYPES = ("float32", "float64", "int64", "int32", "uint8")
_INTEGERS = ("int64", "int32")


def as_tensor(value: Any, dtype: str | None = None) -> Tensor:
    """Return `value` as a tensor, of `dtype` if one is given; a fitting tensor passes as it is.

    Maps come out as the user sees them, N,H,W,C.
    """
    if isinstance(value, Tensor):
        tensor = value
    elif isinstance(value, Maps):
        tensor = value.channels_last()
    else:
        inner = getattr(value, "value", None)
        if isinstance(inner, Tensor):  # a variable
            tensor = inner
        else:
            tensor = _from_numbers(value, dtype)
    return tensor if dtype is None else cast(tensor, dtype)


def _from_numbers(value: Any, dtype: str | None) -> Tensor:
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError("Expected numbers, got masked values: fill them first, as x.filled(0).")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Expected numbers, got {type(value).__name__} of dtype {array.dtype}.")
    if dtype is None:
        dtype = array.dtype.name
        if isinstance(value, float | list | tuple) and dtype == "float64":
            from pycnn.keras.backend import floatx

            dtype = floatx()
        if dtype not in _DTYPES:
            dtype = "float32" if array.dtype.kind == "f" else "int64"
    return _core.tensor(np.ascontiguousarray(array, dtype=dtype))


def cast(tensor: Tensor, dtype: str) -> Tensor:
    """Return `tensor` in `dtype`; the logits it was computed from are cast along."""
    if tensor.dtype.name == dtype:
        return tensor
    result: Tensor = ops.cast(tensor, dtype=dtype)
    logits = logits_of(tensor)
    if logits is not None:
        set_logits(result, ops.cast(logits, dtype=dtype))
    return result


def as_floats(y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Return both as tensors of the float type of `y_pred`."""
    from pycnn.keras.backend import floatx

    pred = as_tensor(y_pred)
    if pred.dtype.kind != "f":
        pred = cast(pred, floatx())
    return as_tensor(y_true, pred.dtype.name), pred


def as_labels(y_true: Any) -> Tensor:
    """Return class numbers as an integer tensor."""
    labels = as_tensor(y_true)
    return labels if labels.dtype.name in _INTEGERS else cast(labels, "int64")


def logits_of(tensor: Any) -> Tensor | None:
    """The values whose softmax or sigmoid `tensor` is, if it came from an activation."""
    logits: Tensor | None = getattr(tensor, "_keras_logits", None)
    return logits


def set_logits(tensor: Tensor, logits: Tensor) -> Tensor:
    """Remember what `tensor` is the softmax or sigmoid of; returns it."""
    tensor._keras_logits = logits
    return tensor


def clip(tensor: Tensor, low: float, high: float) -> Tensor:
    """Return the numbers cut at `low` and `high`."""
    result: Tensor = ops.minimum(ops.maximum(tensor, low), high)
    return result
