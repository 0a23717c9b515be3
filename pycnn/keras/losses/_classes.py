"""Losses as objects: a function of values per sample together with its settings."""

from __future__ import annotations

from typing import Any, ClassVar

from pycnn.keras._config import check_number
from pycnn.keras.losses import _crossentropy, _functions
from pycnn.keras.losses._checks import check_axis, check_smoothing
from pycnn.keras.losses.loss import Loss, LossFunctionWrapper

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
]


class _Named(LossFunctionWrapper):
    """A loss whose function is that of its class, so that no file has to name it."""

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal loss."""
        return Loss.get_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """Make a loss from `get_config`'s dictionary."""
        return cls(**config)


class CategoricalCrossentropy(_Named):
    """-sum(t * log(p)) of one-hot targets and probabilities.

    Parameters
    ----------
    from_logits : bool
        Whether the output are logits. An output that comes from softmax is recognised.
    label_smoothing : float
        The share of each target's weight that is spread evenly over all classes.
    axis : int
        The axis of the classes; the last one.
    reduction, name, dtype
        See `Loss`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        check_smoothing("CategoricalCrossentropy", label_smoothing)
        super().__init__(
            _crossentropy.categorical_crossentropy,
            name=name,
            reduction=reduction,
            dtype=dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing
        self.axis = axis

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal loss."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
            "axis": self.axis,
        }

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each sample."""
        # Without the squeeze of other losses: (N, 1) against (N,) is a mistake to be told.
        return self.fn(y_true, y_pred, **self._fn_kwargs)


class SparseCategoricalCrossentropy(_Named):
    """-log(p[class]) of class numbers and probabilities.

    Parameters
    ----------
    from_logits : bool
        Whether the output are logits. An output that comes from softmax is recognised.
    ignore_class : int, optional
        Not supported.
    reduction : str or None
        See `Loss`.
    axis : int
        The axis of the classes; the last one.
    name, dtype
        See `Loss`.
    """

    _integer_targets: ClassVar[bool] = True

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        if ignore_class is not None:
            raise NotImplementedError(
                f"SparseCategoricalCrossentropy: ignore_class={ignore_class} is not supported; "
                "give those samples the weight 0 by `sample_weight`."
            )
        super().__init__(
            _crossentropy.sparse_categorical_crossentropy,
            name=name,
            reduction=reduction,
            dtype=dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )
        self.from_logits = from_logits
        self.ignore_class = ignore_class

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal loss."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
        }


class BinaryCrossentropy(_Named):
    """-(t * log(p) + (1 - t) * log(1 - p)), averaged over the last axis.

    Parameters
    ----------
    from_logits : bool
        Whether the output are logits. An output that comes from sigmoid is recognised.
    label_smoothing : float
        The share of each target that is moved to 1/2.
    axis : int
        The axis to average over.
    reduction, name, dtype
        See `Loss`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        check_smoothing("BinaryCrossentropy", label_smoothing)
        super().__init__(
            _crossentropy.binary_crossentropy,
            name=name,
            reduction=reduction,
            dtype=dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing
        self.axis = axis

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal loss."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
            "axis": self.axis,
        }


class CosineSimilarity(_Named):
    """-sum(t * y) of both scaled to length 1."""

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        check_axis("CosineSimilarity", axis, 0)
        super().__init__(
            _functions.cosine_similarity, name=name, reduction=reduction, dtype=dtype, axis=axis
        )


class Huber(_Named):
    """Half the square of the error up to `delta`, linear beyond."""

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: Any = None,
    ) -> None:
        check_number("Huber", "delta", delta, 0.0)
        super().__init__(_functions.huber, name=name, reduction=reduction, dtype=dtype, delta=delta)
        self.delta = delta

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal loss; Keras leaves `delta` out, but reads it."""
        config = super().get_config()
        return config if self.delta == 1.0 else {**config, "delta": self.delta}


class MeanSquaredError(_Named):
    """mean((t - y)**2)."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_squared_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(_functions.mean_squared_error, name=name, reduction=reduction, dtype=dtype)


class MeanAbsoluteError(_Named):
    """mean(|t - y|)."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_absolute_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            _functions.mean_absolute_error, name=name, reduction=reduction, dtype=dtype
        )


class MeanAbsolutePercentageError(_Named):
    """100 * mean(|t - y| / |t|)."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_absolute_percentage_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            _functions.mean_absolute_percentage_error, name=name, reduction=reduction, dtype=dtype
        )


class MeanSquaredLogarithmicError(_Named):
    """mean((log(t + 1) - log(y + 1))**2)."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_squared_logarithmic_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            _functions.mean_squared_logarithmic_error, name=name, reduction=reduction, dtype=dtype
        )


class LogCosh(_Named):
    """mean(log(cosh(y - t)))."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "log_cosh",
        dtype: Any = None,
    ) -> None:
        super().__init__(_functions.log_cosh, name=name, reduction=reduction, dtype=dtype)


class KLDivergence(_Named):
    """sum(t * log(t / y))."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "kl_divergence",
        dtype: Any = None,
    ) -> None:
        super().__init__(_functions.kl_divergence, name=name, reduction=reduction, dtype=dtype)


class Poisson(_Named):
    """mean(y - t * log(y))."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "poisson",
        dtype: Any = None,
    ) -> None:
        super().__init__(_functions.poisson, name=name, reduction=reduction, dtype=dtype)


class Hinge(_Named):
    """mean(max(1 - t * y, 0)), targets -1 and 1 (or 0 and 1)."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(_functions.hinge, name=name, reduction=reduction, dtype=dtype)


class SquaredHinge(_Named):
    """mean(max(1 - t * y, 0)**2), targets -1 and 1 (or 0 and 1)."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "squared_hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(_functions.squared_hinge, name=name, reduction=reduction, dtype=dtype)


class CategoricalHinge(_Named):
    """max(max((1 - t) * y) - sum(t * y) + 1, 0), one-hot targets."""

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_hinge",
        dtype: Any = None,
    ) -> None:
        super().__init__(_functions.categorical_hinge, name=name, reduction=reduction, dtype=dtype)
