"""Errors of regression and margins, as metrics."""

from __future__ import annotations

from typing import Any

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._convert import as_tensor
from pycnn.keras.losses import _functions
from pycnn.keras.losses._checks import check_axis
from pycnn.keras.losses.loss import same_rank
from pycnn.keras.metrics.metric import number
from pycnn.keras.metrics.reduction import Mean, NamedMean

__all__ = [
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "LogCoshError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "RootMeanSquaredError",
    "SquaredHinge",
]


class MeanSquaredError(NamedMean):
    """The mean of (t - y)**2."""

    _direction = "down"

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(_functions.mean_squared_error, name=name, dtype=dtype)


class MeanAbsoluteError(NamedMean):
    """The mean of |t - y|."""

    _direction = "down"

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(_functions.mean_absolute_error, name=name, dtype=dtype)


class MeanAbsolutePercentageError(NamedMean):
    """The mean of 100 * |t - y| / |t|."""

    _direction = "down"

    def __init__(
        self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None
    ) -> None:
        super().__init__(_functions.mean_absolute_percentage_error, name=name, dtype=dtype)


class MeanSquaredLogarithmicError(NamedMean):
    """The mean of (log(t + 1) - log(y + 1))**2."""

    _direction = "down"

    def __init__(
        self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None
    ) -> None:
        super().__init__(_functions.mean_squared_logarithmic_error, name=name, dtype=dtype)


class LogCoshError(NamedMean):
    """The mean of log(cosh(y - t))."""

    _direction = "down"

    def __init__(self, name: str | None = "logcosh", dtype: Any = None) -> None:
        super().__init__(_functions.log_cosh, name=name, dtype=dtype)


class Hinge(NamedMean):
    """The mean of max(1 - t * y, 0)."""

    _direction = "down"

    def __init__(self, name: str | None = "hinge", dtype: Any = None) -> None:
        super().__init__(_functions.hinge, name=name, dtype=dtype)


class SquaredHinge(NamedMean):
    """The mean of max(1 - t * y, 0)**2."""

    _direction = "down"

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None) -> None:
        super().__init__(_functions.squared_hinge, name=name, dtype=dtype)


class CategoricalHinge(NamedMean):
    """The mean of max(max((1 - t) * y) - sum(t * y) + 1, 0)."""

    _direction = "down"

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None) -> None:
        super().__init__(_functions.categorical_hinge, name=name, dtype=dtype)


class RootMeanSquaredError(Mean):
    """The root of the mean of (t - y)**2."""

    _direction = "down"

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype=dtype)

    # The base takes values; here they are computed first, hence the other arguments.
    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Take in a batch of targets and outputs."""
        true, pred = same_rank(as_tensor(y_true, self.dtype), as_tensor(y_pred, self.dtype))
        super().update_state(ops.square(pred - true), sample_weight=sample_weight)

    def result(self) -> Any:
        """Return the root of the mean."""
        return number(self._mean() ** 0.5, self.dtype)


def _similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    # As a metric the sign is the other way round than as a loss.
    return -_functions.cosine_similarity(y_true, y_pred, axis)


class CosineSimilarity(NamedMean):
    """The mean of sum(t * y), both scaled to length 1: 1 means the same direction."""

    _direction = "up"

    def __init__(
        self, name: str | None = "cosine_similarity", dtype: Any = None, axis: int = -1
    ) -> None:
        check_axis("CosineSimilarity", axis, 0)
        super().__init__(_similarity, name, dtype=dtype, axis=axis)
