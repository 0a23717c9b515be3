"""Counts of right and wrong decisions, precision, recall and F-scores.

An output above a threshold counts as "positive". For thresholds t the counts are

    true positives  = sum(w where target is not 0 and output >  t)
    false positives = sum(w where target is 0     and output >  t)
    false negatives = sum(w where target is not 0 and output <= t)
    true negatives  = sum(w where target is 0     and output <= t)

over all elements of the targets, or those of column `class_id`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from pycnn import _core, ops
from pycnn._core import ShapeError, Tensor
from pycnn.keras._config import check_number
from pycnn.keras._convert import as_tensor, cast
from pycnn.keras.losses.loss import same_rank
from pycnn.keras.metrics.metric import Metric, number
from pycnn.keras.variables import Variable

__all__ = [
    "FalseNegatives",
    "FalsePositives",
    "Precision",
    "Recall",
    "TrueNegatives",
    "TruePositives",
]


def _thresholds(owner: str, thresholds: Any) -> list[float]:
    if thresholds is None:
        return [0.5]
    given = list(thresholds) if isinstance(thresholds, Sequence | np.ndarray) else [thresholds]
    if not given:
        raise ValueError(f"{owner}: `thresholds` must not be empty.")
    return [check_number(owner, "thresholds", t, 0.0, 1.0) for t in given]


def _column(x: Tensor, class_id: int) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"`class_id` needs outputs of shape (N, C), got {x.shape}.")
    if not -x.shape[-1] <= class_id < x.shape[-1]:
        raise ValueError(f"`class_id` {class_id} is outside the {x.shape[-1]} classes.")
    start = [0] * (x.ndim - 1) + [class_id % x.shape[-1]]
    return ops.slice(x, start, shape=(*x.shape[:-1], 1))  # type: ignore[no-any-return]


def _update_counts(
    counts: Mapping[str, Variable],
    thresholds: Sequence[float],
    y_true: Any,
    y_pred: Any,
    sample_weight: Any = None,
    class_id: int | None = None,
    dtype: str = "float32",
) -> None:
    true, pred = as_tensor(y_true, dtype), as_tensor(y_pred, dtype)
    pred, true = same_rank(pred, true)
    if true.shape != pred.shape:
        raise ShapeError(f"Targets of shape {true.shape} do not fit outputs of {pred.shape}.")
    if class_id is not None:
        true, pred = _column(true, class_id), _column(pred, class_id)
    positive = cast(ops.not_equal(true, 0.0), dtype)
    weight = _weights(sample_weight, pred, dtype)
    flat = (1, pred.size)
    levels = _core.tensor(np.asarray(thresholds, dtype).reshape(-1, 1))
    above = cast(ops.greater(ops.reshape(pred, shape=flat), levels), dtype)
    is_true = ops.reshape(positive, shape=flat)
    is_false = 1.0 - is_true
    if weight is not None:
        weight = ops.reshape(weight, shape=flat)
        is_true, is_false = is_true * weight, is_false * weight
    terms = {
        "true_positives": lambda: is_true * above,
        "false_positives": lambda: is_false * above,
        "false_negatives": lambda: is_true * (1.0 - above),
        "true_negatives": lambda: is_false * (1.0 - above),
    }
    for name, variable in counts.items():
        variable.assign_add(cast(ops.sum(terms[name](), axis=1), "float64"))


def _weights(sample_weight: Any, pred: Tensor, dtype: str) -> Tensor | None:
    if sample_weight is None:
        return None
    weight = as_tensor(sample_weight, dtype)
    if weight.ndim == 1 and pred.ndim > 1:
        weight = ops.reshape(weight, shape=(weight.shape[0],) + (1,) * (pred.ndim - 1))
    stretched: Tensor = weight * _core.tensor(np.ones(pred.shape, dtype))
    if stretched.shape != pred.shape:
        raise ShapeError(f"`sample_weight` of {weight.shape} does not fit outputs of {pred.shape}.")
    return stretched


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
    return share


class _Count(Metric):
    """One of the four counts, for each threshold."""

    _which: ClassVar[str]

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.thresholds = _thresholds(type(self).__name__, thresholds)
        self.accumulator = self._accumulator("accumulator", (len(self.thresholds),))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch of targets and outputs."""
        _update_counts(
            {self._which: self.accumulator},
            self.thresholds,
            y_true,
            y_pred,
            sample_weight,
            dtype=self.dtype,
        )

    def result(self) -> Any:
        """Return the count, one for each threshold if several were given."""
        counts = self.accumulator.numpy()
        return number(counts[0] if len(counts) == 1 else counts, self.dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal metric."""
        return {**super().get_config(), "thresholds": self.init_thresholds}


class TruePositives(_Count):
    """How many positive targets were found."""

    _which = "true_positives"


class FalsePositives(_Count):
    """How many negative targets were taken for positive."""

    _which = "false_positives"


class FalseNegatives(_Count):
    """How many positive targets were missed."""

    _which = "false_negatives"


class TrueNegatives(_Count):
    """How many negative targets were recognised."""

    _which = "true_negatives"


class _Share(Metric):
    """True positives over themselves and one kind of error."""

    _direction = "up"
    _error: ClassVar[str]

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        owner = type(self).__name__
        if top_k is not None:
            raise NotImplementedError(f"{owner}: top_k={top_k!r} is not supported.")
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.top_k = top_k
        self.class_id = class_id
        self.thresholds = _thresholds(owner, thresholds)
        self.true_positives = self._accumulator("true_positives", (len(self.thresholds),))
        self._errors = self._accumulator(self._error, (len(self.thresholds),))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch of targets and outputs."""
        _update_counts(
            {"true_positives": self.true_positives, self._error: self._errors},
            self.thresholds,
            y_true,
            y_pred,
            sample_weight,
            self.class_id,
            self.dtype,
        )

    def result(self) -> Any:
        """Return the share, one for each threshold if several were given."""
        found = self.true_positives.numpy()
        share = _ratio(found, found + self._errors.numpy())
        return number(share[0] if len(share) == 1 else share, self.dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal metric."""
        return {
            **super().get_config(),
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }


class Precision(_Share):
    """The share of positive decisions that are right.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        0.5 when absent.
    top_k : int, optional
        Not supported.
    class_id : int, optional
        Look at this class alone.
    name, dtype
        See `Metric`.
    """

    _error = "false_positives"

    @property
    def false_positives(self) -> Variable:
        """The count of negative targets taken for positive."""
        return self._errors


class Recall(_Share):
    """The share of positive targets that are found; arguments as `Precision`."""

    _error = "false_negatives"

    @property
    def false_negatives(self) -> Variable:
        """The count of positive targets missed."""
        return self._errors
