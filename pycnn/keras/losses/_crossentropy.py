"""Cross-entropies, as functions of values per sample.

Shapes: outputs ``[N, ..., C]``; one-hot targets the same, class numbers ``[N, ...]``.

An output that comes from softmax (or sigmoid) is replaced by what it was computed from, the
logits: log(softmax(x)) taken in one piece neither underflows nor rounds to log(0). Plain
probabilities are normalised, cut to [epsilon, 1 - epsilon] and put into the definition. Both as
Keras does on TensorFlow.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras import backend
from pycnn.keras._convert import as_floats, as_labels, as_tensor, clip, logits_of
from pycnn.keras.losses._checks import check_axis, check_smoothing, check_targets

__all__ = ["binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"]


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """-sum(t * log(p)) over the classes.

    Parameters
    ----------
    y_true : array_like
        One-hot (or any) distributions over the classes, ``[N, ..., C]``.
    y_pred : array_like
        Probabilities or logits, ``[N, ..., C]``.
    from_logits : bool
        Whether `y_pred` are logits.
    label_smoothing : float
        The share of each target's weight that is spread evenly over all classes.
    axis : int
        The axis of the classes; the last one.

    Returns
    -------
    Tensor
        ``[N, ...]``.

    Raises
    ------
    ShapeError
        If the shapes differ; the message tells what to do.
    """
    true, pred = as_floats(y_true, y_pred)
    check_axis("categorical_crossentropy", axis, pred.ndim)
    check_targets("categorical_crossentropy", true.shape, pred.shape)
    if pred.shape[-1] == 1:
        warnings.warn(
            "categorical_crossentropy: the output has one unit, so every probability is 1. Use "
            "binary_crossentropy for two classes.",
            SyntaxWarning,
            stacklevel=2,
        )
    smoothing = check_smoothing("categorical_crossentropy", label_smoothing)
    if smoothing:
        true = true * (1.0 - smoothing) + smoothing / pred.shape[-1]
    logits = _logits(pred, from_logits, "categorical_crossentropy", "softmax")
    if logits is not None:
        return _rowwise(logits, true)
    share = pred / ops.sum(pred, axis=-1, keepdims=True)
    eps = backend.epsilon()
    return -ops.sum(true * ops.log(clip(share, eps, 1.0 - eps)), axis=-1)  # type: ignore[no-any-return]


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Tensor:
    """-log(p[class]).

    Parameters
    ----------
    y_true : array_like
        Class numbers, ``[N, ...]`` or ``[N, ..., 1]``.
    y_pred : array_like
        Probabilities or logits, ``[N, ..., C]``.
    from_logits : bool
        Whether `y_pred` are logits.
    ignore_class : int, optional
        Not supported.
    axis : int
        The axis of the classes; the last one.

    Returns
    -------
    Tensor
        ``[N, ...]``.

    Raises
    ------
    ShapeError
        If the shapes do not fit; the message tells what to do.
    NotImplementedError
        If `ignore_class` is given.
    """
    if ignore_class is not None:
        raise NotImplementedError(
            "sparse_categorical_crossentropy: `ignore_class` is not supported; give those "
            "samples the weight 0 by `sample_weight`."
        )
    pred = as_tensor(y_pred)
    if pred.dtype.kind != "f":
        pred = as_tensor(pred, backend.floatx())
    labels = as_labels(y_true)
    check_axis("sparse_categorical_crossentropy", axis, pred.ndim)
    check_targets("sparse_categorical_crossentropy", labels.shape, pred.shape)
    if labels.ndim == pred.ndim:
        labels = ops.reshape(labels, shape=labels.shape[:-1])
    logits = _logits(pred, from_logits, "sparse_categorical_crossentropy", "softmax")
    if logits is None:
        eps = backend.epsilon()
        logits = ops.log(clip(pred, eps, 1.0 - eps))
    return _rowwise(logits, labels)


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """-(t * log(p) + (1 - t) * log(1 - p)), averaged over the last axis.

    Parameters
    ----------
    y_true : array_like
        Targets between 0 and 1, of the shape of `y_pred`.
    y_pred : array_like
        Probabilities or logits, ``[N, ..., C]``.
    from_logits : bool
        Whether `y_pred` are logits.
    label_smoothing : float
        The share of each target that is moved to 1/2.
    axis : int
        The axis to average over.

    Returns
    -------
    Tensor
        ``[N, ...]``.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    true, pred = as_floats(y_true, y_pred)
    check_targets("binary_crossentropy", true.shape, pred.shape)
    smoothing = check_smoothing("binary_crossentropy", label_smoothing)
    if smoothing:
        true = true * (1.0 - smoothing) + 0.5 * smoothing
    logits = _logits(pred, from_logits, "binary_crossentropy", "sigmoid")
    if logits is not None:
        values = ops.softplus(logits) - logits * true
    else:
        eps = backend.epsilon()
        p = clip(pred, eps, 1.0 - eps)
        values = -(true * ops.log(p) + (1.0 - true) * ops.log(1.0 - p))
    return ops.mean(values, axis=axis)  # type: ignore[no-any-return]


def _logits(pred: Tensor, from_logits: bool, loss: str, activation: str) -> Tensor | None:
    """The logits behind `pred`, or None if it holds probabilities only."""
    logits = logits_of(pred)
    if logits is None:
        return pred if from_logits else None
    if from_logits:
        warnings.warn(
            f"{loss} got from_logits=True, but the output comes from {activation}, so it is no "
            f"logits. Leave out from_logits=True, or the {activation} in the last layer. (The "
            f"loss is computed from the input of the {activation}.)",
            UserWarning,
            stacklevel=3,
        )
    return logits


def _rowwise(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross-entropy over the last axis, whatever the number of axes before it."""
    if logits.ndim == 2:
        return ops.softmax_cross_entropy(logits, labels)  # type: ignore[no-any-return]
    before = logits.shape[:-1]
    rows, classes = math.prod(before), logits.shape[-1]
    flat = ops.reshape(logits, shape=(rows, classes))
    dense = labels.ndim == logits.ndim
    targets = ops.reshape(labels, shape=(rows, classes) if dense else (rows,))
    values = ops.softmax_cross_entropy(flat, targets)
    return ops.reshape(values, shape=before)  # type: ignore[no-any-return]
