"""The base of all losses: from values per sample to one number.

``loss(y_true, y_pred, sample_weight)`` computes ``call(y_true, y_pred)``, one value per sample (or
per position of a sample), multiplies by the weights and reduces:

========================= ==========================================
reduction                 result
========================= ==========================================
sum_over_batch_size, mean sum / number of values
sum                       sum
mean_with_sample_weight   sum / sum of the weights
none, None                the values
========================= ==========================================

The source is the documentation of ``keras.losses.Loss``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._config import serialize_object, serialize_value
from pycnn.keras._convert import as_tensor, cast
from pycnn.keras._naming import given_name
from pycnn.keras.backend import float_dtype

__all__ = [
    "Loss",
    "LossFunctionWrapper",
    "divide_no_nan",
    "reduce_weighted_values",
    "same_rank",
    "standardize_reduction",
]

_REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


def standardize_reduction(reduction: Any) -> str | None:
    """Return `reduction` if it is one of Keras's names.

    Raises
    ------
    ValueError
        If it is not.
    """
    if reduction not in _REDUCTIONS:
        raise ValueError(f"Loss: `reduction` must be one of {_REDUCTIONS}, got {reduction!r}.")
    name: str | None = reduction
    return name


def same_rank(x1: Tensor, x2: Tensor, expand_rank_1: bool = True) -> tuple[Tensor, Tensor]:
    """Make ranks that differ by one equal, by dropping or adding a last axis of size 1."""
    if x1.ndim == x2.ndim + 1 and x1.shape[-1] == 1:
        if x2.ndim == 1 and expand_rank_1:
            return x1, ops.reshape(x2, shape=(*x2.shape, 1))
        return ops.reshape(x1, shape=x1.shape[:-1]), x2
    if x2.ndim == x1.ndim + 1 and x2.shape[-1] == 1:
        if x1.ndim == 1 and expand_rank_1:
            return ops.reshape(x1, shape=(*x1.shape, 1)), x2
        return x1, ops.reshape(x2, shape=x2.shape[:-1])
    return x1, x2


def divide_no_nan(x: Tensor, y: Tensor) -> Tensor:
    """x / y, and 0 where y is 0."""
    zero = ops.equal(y, 0.0)
    result: Tensor = ops.where(zero, 0.0, x / ops.where(zero, 1.0, y))
    return result


def reduce_weighted_values(
    values: Any,
    sample_weight: Any = None,
    reduction: Any = "sum_over_batch_size",
    dtype: str | None = None,
) -> Tensor:
    """Weigh and reduce values per sample, as the table of this module says.

    Raises
    ------
    ValueError
        If the weights do not fit the values.
    """
    reduction = standardize_reduction(reduction)
    loss = as_tensor(values, dtype)
    weight: Tensor | None = None
    if sample_weight is not None:
        weight = as_tensor(sample_weight, loss.dtype.name)
        loss, weight = same_rank(loss, weight)
        _check_weight(loss, weight)
        loss = loss * weight
    if reduction in (None, "none") or loss.shape in ((), (0,)):
        return loss
    if reduction == "sum":
        return ops.sum(loss)  # type: ignore[no-any-return]
    if reduction == "mean_with_sample_weight" and weight is not None:
        return divide_no_nan(ops.sum(loss), ops.sum(weight))
    return ops.mean(loss)  # type: ignore[no-any-return]


def _argument(owner: str, name: str, value: Any, dtype: str | None = None) -> Tensor:
    """`value` as a tensor; an error names the loss and the argument."""
    try:
        return as_tensor(value, dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{owner}: {name}: {error}") from error


def _check_weight(values: Tensor, weight: Tensor) -> None:
    if values.ndim == 0:
        return
    fits = weight.ndim <= values.ndim and all(
        w in (1, v) for w, v in zip(reversed(weight.shape), reversed(values.shape), strict=False)
    )
    if not fits:
        raise ValueError(
            f"`sample_weight` of shape {weight.shape} does not fit the losses of shape "
            f"{values.shape}: expected one weight per sample."
        )


class Loss:
    """Base of all losses; a subclass defines ``call(y_true, y_pred)``.

    Parameters
    ----------
    name : str, optional
        Automatic when absent.
    reduction : str or None
        See the table of this module.
    dtype : str, optional
        The float type to compute in; `floatx()` when absent.

    Raises
    ------
    ValueError
        If `reduction` is unknown.
    """

    _keras_module: ClassVar[str] = "keras.losses"
    # A loss over class numbers keeps them whole numbers.
    _integer_targets: ClassVar[bool] = False

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        self.name = given_name(name, type(self).__name__)
        self.reduction = standardize_reduction(reduction)
        self._dtype = float_dtype(type(self).__name__, dtype)

    @property
    def dtype(self) -> str:
        """The float type of the loss."""
        return self._dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Return the reduced loss.

        Parameters
        ----------
        y_true : array_like
            The targets.
        y_pred : array_like
            The model's output.
        sample_weight : array_like, optional
            One weight per sample, or of the values' shape.
        """
        owner = type(self).__name__
        pred = _argument(owner, "y_pred", y_pred, self._dtype)
        true = _argument(owner, "y_true", y_true)
        if not self._integer_targets:
            true = cast(true, self._dtype)
        values = _argument(owner, "the loss of each sample", self.call(true, pred))
        return reduce_weighted_values(values, sample_weight, self.reduction, self._dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample."""
        raise NotImplementedError(f"{type(self).__name__} must define call(self, y_true, y_pred).")

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal loss."""
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """Make a loss from `get_config`'s dictionary."""
        return cls(**config)


class LossFunctionWrapper(Loss):
    """A function ``fn(y_true, y_pred, **kwargs)`` of values per sample, as a loss.

    Parameters
    ----------
    fn : callable
        The function.
    reduction, name, dtype
        See `Loss`.
    **kwargs
        Further arguments of the function.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"{type(self).__name__}: `fn` must be callable, got {fn!r}.")
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fn = fn
        self._fn_kwargs = kwargs

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample."""
        if not self._integer_targets:
            y_true, y_pred = same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal loss."""
        config = super().get_config()
        config["fn"] = serialize_object(self.fn)
        config.update(serialize_value(self._fn_kwargs))
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """Make a loss from `get_config`'s dictionary."""
        fn = config.get("fn")
        if isinstance(fn, str | dict):
            from pycnn.keras.losses import deserialize

            config = {**config, "fn": deserialize(fn)}
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self.fn}, kwargs={self._fn_kwargs})>"
