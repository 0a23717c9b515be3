"""Sums and means over all samples seen, and functions averaged that way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pycnn import _core, ops
from pycnn._core import Tensor
from pycnn.keras._config import serialize_object, serialize_value
from pycnn.keras._convert import as_tensor, cast
from pycnn.keras.losses.loss import same_rank
from pycnn.keras.metrics.metric import Metric, number

__all__ = ["Mean", "MeanMetricWrapper", "Sum"]


def _samplewise(
    values: Any, sample_weight: Any, reduce: Callable[..., Any], dtype: str
) -> tuple[Tensor, Tensor | None]:
    """One value, and one weight, for each sample; single numbers in float64."""
    found = as_tensor(values)
    found = cast(found, "float64" if found.ndim == 0 else dtype)
    weight: Tensor | None = None
    if sample_weight is not None:
        weight = as_tensor(sample_weight, found.dtype.name)
        found, weight = same_rank(found, weight)
        if found.ndim > weight.ndim:
            found = reduce(found, axis=_axes(weight.ndim, found.ndim))
        if weight.shape != found.shape:
            weight = _stretch(weight, found.shape)
        found = found * weight
        if weight.ndim > 1:
            weight = reduce(weight, axis=_axes(1, weight.ndim))
    if found.ndim > 1:
        found = reduce(found, axis=_axes(1, found.ndim))
    return found, weight


def _axes(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last))


def _stretch(weight: Tensor, shape: Sequence[int]) -> Tensor:
    zeros = _core.tensor(np.zeros(tuple(shape), weight.dtype))
    try:
        stretched: Tensor = ops.add(weight, zeros)
    except ValueError as error:
        raise ValueError(
            f"`sample_weight` of shape {weight.shape} does not fit values of shape "
            f"{tuple(shape)}: expected one weight per sample."
        ) from error
    if stretched.shape != tuple(shape):
        raise ValueError(
            f"`sample_weight` of shape {weight.shape} does not fit values of shape "
            f"{tuple(shape)}: expected one weight per sample."
        )
    return stretched


def _total(values: Tensor) -> Tensor:
    return cast(values if values.ndim == 0 else ops.sum(values), "float64")


class Sum(Metric):
    """The sum of all values, weighted."""

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self._accumulator("total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add values, times their weights if given."""
        found, _ = _samplewise(values, sample_weight, ops.sum, self.dtype)
        self.total.assign_add(_total(found))

    def result(self) -> Any:
        """Return the sum."""
        return number(self.total.numpy(), self.dtype)


class Mean(Metric):
    """The weighted mean of all values; 0 before the first."""

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self._accumulator("total")
        self.count = self._accumulator("count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Take in values, one weight each if given.

        Parameters
        ----------
        values : array_like
            A number, or an array whose first axis counts samples.
        sample_weight : array_like, optional
            Of a rank up to that of `values`.
        """
        found, weight = _samplewise(values, sample_weight, ops.mean, self.dtype)
        self.total.assign_add(_total(found))
        if weight is not None:
            self.count.assign_add(_total(weight))
        else:
            self.count.assign_add(float(found.shape[0] if found.ndim else 1))

    def _mean(self) -> float:
        count: float = self.count.tensor.item()
        total: float = self.total.tensor.item()
        return total / count if count else 0.0

    def result(self) -> Any:
        """Return the mean."""
        return number(self._mean(), self.dtype)

    def plain_result(self) -> Any:
        """Return the mean as a Python number: asked for at every batch, hence without a tensor."""
        if type(self).result is not Mean.result:
            return super().plain_result()
        mean = self._mean()
        return mean if self.dtype == "float64" else float(np.float32(mean))


class MeanMetricWrapper(Mean):
    """The mean of a function ``fn(y_true, y_pred, **kwargs)`` of values per sample.

    Parameters
    ----------
    fn : callable
        The function.
    name, dtype
        See `Metric`.
    **kwargs
        Further arguments of the function.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"MeanMetricWrapper: `fn` must be callable, got {fn!r}.")
        super().__init__(name=name, dtype=dtype)
        self._fn = fn
        self._fn_kwargs = kwargs

    # The base takes values; here they are computed first, hence the other arguments.
    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Take in a batch of targets and outputs."""
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal metric."""
        config = super().get_config()
        config["fn"] = serialize_object(self._fn)
        config.update(serialize_value(self._fn_kwargs))
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """Make a metric from `get_config`'s dictionary."""
        fn = config.get("fn")
        if isinstance(fn, str | dict):
            from pycnn.keras.metrics import function_for

            config = {**config, "fn": function_for(fn)}
        return cls(**config)


class NamedMean(MeanMetricWrapper):
    """A mean whose function is that of its class, so that no file has to name it."""

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal metric."""
        return Metric.get_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """Make a metric from `get_config`'s dictionary."""
        return cls(**config)
