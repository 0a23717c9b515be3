"""Shares of right answers.

The functions give 0 or 1 for each sample, the classes their mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import _core, ops
from pycnn._core import ShapeError, Tensor
from pycnn.keras._config import check_number
from pycnn.keras._convert import as_floats, as_labels, as_tensor, cast
from pycnn.keras.backend import floatx
from pycnn.keras.losses.loss import same_rank
from pycnn.keras.metrics.reduction import NamedMean

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]


def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where both are equal."""
    pred = as_tensor(y_pred)
    true, pred = same_rank(as_tensor(y_true, pred.dtype.name), pred)
    return cast(ops.equal(true, pred), floatx())


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """1 where ``y_pred > threshold`` agrees with the target 0 or 1."""
    true, pred = same_rank(*as_floats(y_true, y_pred))
    positive = cast(ops.greater(pred, float(threshold)), true.dtype.name)
    return cast(ops.equal(true, positive), floatx())


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the greatest output is that of the one-hot target.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    true, pred = as_floats(y_true, y_pred)
    if true.shape != pred.shape:
        raise ShapeError(
            f"categorical_accuracy expects one-hot targets of shape {pred.shape}, got "
            f"{true.shape}; for class numbers use sparse_categorical_accuracy."
        )
    return _equal_classes(ops.argmax(true, axis=-1), pred)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the greatest output is that of the target's class number.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    """
    labels, pred = as_labels(y_true), as_tensor(y_pred)
    return _equal_classes(_flat_labels("sparse_categorical_accuracy", labels, pred), pred)


def _flat_labels(name: str, labels: Tensor, pred: Tensor) -> Tensor:
    if labels.ndim == pred.ndim and labels.shape[-1] == 1:
        labels = ops.reshape(labels, shape=labels.shape[:-1])
    if labels.shape != pred.shape[:-1]:
        raise ShapeError(
            f"{name} expects class numbers of shape {pred.shape[:-1]} for outputs of shape "
            f"{pred.shape}, got {labels.shape}."
        )
    return labels


def _equal_classes(classes: Tensor, pred: Tensor) -> Tensor:
    found = ops.argmax(pred, axis=-1)
    return cast(ops.equal(cast(classes, found.dtype.name), found), floatx())


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """1 where the one-hot target's class is among the `k` greatest outputs.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    true, pred = as_floats(y_true, y_pred)
    if true.shape != pred.shape:
        raise ShapeError(
            f"top_k_categorical_accuracy expects one-hot targets of shape {pred.shape}, got "
            f"{true.shape}; for class numbers use sparse_top_k_categorical_accuracy."
        )
    return _in_top_k(ops.argmax(true, axis=-1), pred, k)


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Tensor:
    """1 where the target's class number is among the `k` greatest outputs.

    With `from_sorted_ids`, `y_pred` holds class numbers, the best first, not outputs.
    """
    pred = as_tensor(y_pred)
    labels = as_labels(y_true)
    if not from_sorted_ids:
        labels = _flat_labels("sparse_top_k_categorical_accuracy", labels, pred)
        return _in_top_k(labels, pred, k)
    if labels.ndim == pred.ndim:
        labels = ops.reshape(labels, shape=labels.shape[:-1])
    first = ops.slice(pred, [0] * pred.ndim, shape=(*pred.shape[:-1], min(int(k), pred.shape[-1])))
    column = cast(ops.reshape(labels, shape=(*labels.shape, 1)), pred.dtype.name)
    return cast(ops.max(ops.equal(column, first), axis=-1), floatx())


def _in_top_k(labels: Tensor, pred: Tensor, k: int) -> Tensor:
    # The class is among the best k when fewer than k outputs exceed its own: ties count for it.
    classes = _core.tensor(np.arange(pred.shape[-1], dtype=np.int64))
    column = ops.reshape(cast(labels, "int64"), shape=(*labels.shape, 1))
    # Not a Python number: that would take the dtype of the comparison, which comes first.
    least = _core.tensor(np.array(float("-inf"), pred.dtype))
    own = ops.max(ops.where(ops.equal(column, classes), pred, least), axis=-1, keepdims=True)
    better = ops.sum(ops.greater(pred, own), axis=-1)
    return cast(ops.less(better, float(k)), floatx())


class Accuracy(NamedMean):
    """The share of outputs equal to their targets.

    In ``model.compile`` the name ``"accuracy"`` means the fitting one of the classes below.
    """

    _direction = "up"

    def __init__(self, name: str | None = "accuracy", dtype: Any = None) -> None:
        super().__init__(accuracy, name=name, dtype=dtype)


class BinaryAccuracy(NamedMean):
    """The share of outputs on the right side of `threshold`."""

    _direction = "up"

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        check_number("BinaryAccuracy", "threshold", threshold)
        super().__init__(binary_accuracy, name=name, dtype=dtype, threshold=threshold)
        self.threshold = threshold

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal metric."""
        return {**super().get_config(), "threshold": self.threshold}


class CategoricalAccuracy(NamedMean):
    """The share of samples whose greatest output is that of the one-hot target."""

    _direction = "up"

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(categorical_accuracy, name=name, dtype=dtype)


class SparseCategoricalAccuracy(NamedMean):
    """The share of samples whose greatest output is that of the target's class number."""

    _direction = "up"

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(sparse_categorical_accuracy, name=name, dtype=dtype)


def _check_k(owner: str, k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"{owner}: `k` must be an integer >= 1, got {k!r}.")
    return k


class TopKCategoricalAccuracy(NamedMean):
    """The share of samples whose one-hot target is among the `k` greatest outputs."""

    _direction = "up"

    def __init__(
        self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        self.k = _check_k("TopKCategoricalAccuracy", k)
        super().__init__(top_k_categorical_accuracy, name=name, dtype=dtype, k=k)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal metric."""
        return {**super().get_config(), "k": self.k}


class SparseTopKCategoricalAccuracy(NamedMean):
    """The share of samples whose target's class number is among the `k` greatest outputs."""

    _direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ) -> None:
        self.k = _check_k("SparseTopKCategoricalAccuracy", k)
        self.from_sorted_ids = from_sorted_ids
        super().__init__(
            sparse_top_k_categorical_accuracy,
            name=name,
            dtype=dtype,
            k=k,
            from_sorted_ids=from_sorted_ids,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal metric."""
        config = {**super().get_config(), "k": self.k}
        if self.from_sorted_ids:
            config["from_sorted_ids"] = True
        return config
