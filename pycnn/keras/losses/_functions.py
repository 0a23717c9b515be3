"""Losses of regression and of margins, as functions of values per sample.

Each averages (or sums) over the last axis: ``[N, ..., D]`` gives ``[N, ...]``. The formulas are
those of the documentation of ``keras.losses``.
"""

from __future__ import annotations

import math
from typing import Any

from pycnn import ops
from pycnn._core import ShapeError, Tensor
from pycnn.keras import backend
from pycnn.keras._config import check_number
from pycnn.keras._convert import as_floats, clip
from pycnn.keras.losses.loss import same_rank

__all__ = [
    "categorical_hinge",
    "cosine_similarity",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "squared_hinge",
    "unit_length",
]


def _pair(loss: str, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Both as floats of one rank; sizes of 1 are stretched, as in Keras."""
    true, pred = same_rank(*as_floats(y_true, y_pred))
    sizes = zip(reversed(true.shape), reversed(pred.shape), strict=False)
    if any(t != p and 1 not in (t, p) for t, p in sizes):
        hint = ""
        if true.ndim == pred.ndim and true.shape[:-1] == pred.shape[:-1]:
            hint = f" A last layer of {true.shape[-1]} units would fit."
        raise ShapeError(
            f"{loss} expects targets of the shape of the model's output, {pred.shape}, got "
            f"{true.shape}.{hint}"
        )
    return true, pred


def _mean(values: Tensor) -> Tensor:
    return ops.mean(values, axis=-1)  # type: ignore[no-any-return]


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean((t - y)**2)."""
    true, pred = _pair("mean_squared_error", y_true, y_pred)
    return _mean(ops.square(true - pred))


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean(|t - y|)."""
    true, pred = _pair("mean_absolute_error", y_true, y_pred)
    return _mean(ops.abs(true - pred))


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """100 * mean(|t - y| / max(|t|, epsilon))."""
    true, pred = _pair("mean_absolute_percentage_error", y_true, y_pred)
    return _mean(ops.abs((true - pred) / ops.maximum(ops.abs(true), backend.epsilon()))) * 100.0


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean((log(t + 1) - log(y + 1))**2), values below epsilon raised to it."""
    true, pred = _pair("mean_squared_logarithmic_error", y_true, y_pred)
    eps = backend.epsilon()
    difference = ops.log(ops.maximum(pred, eps) + 1.0) - ops.log(ops.maximum(true, eps) + 1.0)
    return _mean(ops.square(difference))


def unit_length(x: Tensor, axis: int) -> Tensor:
    """x / sqrt(sum(x**2)) along `axis`; a zero stays zero."""
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    result: Tensor = x / ops.sqrt(ops.maximum(squares, 1e-12))
    return result


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """-sum(t * y) of both scaled to length 1: -1 means the same direction."""
    true, pred = _pair("cosine_similarity", y_true, y_pred)
    product = unit_length(true, axis) * unit_length(pred, axis)
    return -ops.sum(product, axis=axis)  # type: ignore[no-any-return]


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """Half the square of the error up to `delta`, linear beyond (Huber, 1964)."""
    true, pred = _pair("huber", y_true, y_pred)
    delta = check_number("huber", "delta", delta)
    error = pred - true
    size = ops.abs(error)
    linear = size * delta - 0.5 * delta * delta
    return _mean(ops.where(ops.less_equal(size, delta), ops.square(error) * 0.5, linear))


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """mean(log(cosh(y - t)))."""
    true, pred = _pair("log_cosh", y_true, y_pred)
    error = pred - true
    return _mean(error + ops.softplus(error * -2.0) - math.log(2.0))


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """sum(t * log(t / y)), both cut to [epsilon, 1]."""
    true, pred = as_floats(y_true, y_pred)
    eps = backend.epsilon()
    true, pred = clip(true, eps, 1.0), clip(pred, eps, 1.0)
    return ops.sum(true * ops.log(true / pred), axis=-1)  # type: ignore[no-any-return]


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """mean(y - t * log(y + epsilon))."""
    true, pred = as_floats(y_true, y_pred)
    return _mean(pred - true * ops.log(pred + backend.epsilon()))


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean(max(1 - t * y, 0)); targets 0 and 1 are taken as -1 and 1."""
    true, pred = as_floats(y_true, y_pred)
    return _mean(ops.relu(1.0 - _signs(true) * pred))


def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean(max(1 - t * y, 0)**2); targets 0 and 1 are taken as -1 and 1."""
    true, pred = as_floats(y_true, y_pred)
    return _mean(ops.square(ops.relu(1.0 - _signs(true) * pred)))


def categorical_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """max(max((1 - t) * y) - sum(t * y) + 1, 0), for one-hot targets."""
    true, pred = as_floats(y_true, y_pred)
    right = ops.sum(true * pred, axis=-1)
    wrong = ops.max((1.0 - true) * pred, axis=-1)
    return ops.relu(wrong - right + 1.0)  # type: ignore[no-any-return]


def _signs(true: Tensor) -> Tensor:
    """Targets of 0 and 1 as -1 and 1; if any other number occurs, all as they are."""
    if true.size == 0:
        return true
    neither = ops.not_equal(true, 0.0) * ops.not_equal(true, 1.0)
    other = ops.max(neither)
    return ops.where(other, true, true * 2.0 - 1.0)  # type: ignore[no-any-return]
