"""Batch normalisation."""

from __future__ import annotations

import math
from typing import Any

import pycnn._core as _core
from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras import initializers, regularizers
from pycnn.keras._errors import not_supported
from pycnn.keras._maps import Maps, maps_axis
from pycnn.keras.layers.arguments import axis_of, refuse_constraint
from pycnn.keras.layers.base_layer import Layer
from pycnn.keras.layers.input_spec import InputSpec
from pycnn.keras.variables import Variable

__all__ = ["BatchNormalization"]


class BatchNormalization(Layer):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, over all axes but one.

    In training the batch's own mean and (biased) variance are used and the moving ones
    follow: ``moving = moving * momentum + batch * (1 - momentum)``. Otherwise, and when the
    layer is not trainable, the moving ones are used.

    Parameters
    ----------
    axis : int
        The axis that keeps its statistics apart, usually the channels.
    momentum : float
        How much of the moving statistics stays at a step.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether there are a beta and a gamma.
    *_initializer, *_regularizer : optional
        First values of, and penalties on, the weights.
    beta_constraint, gamma_constraint
        Only None is supported.
    renorm, renorm_clipping, renorm_momentum
        Batch renormalisation is not supported.
    synchronized : bool
        Without effect: there is one device.

    Source: Ioffe and Szegedy, "Batch Normalization", 2015; keras.layers.BatchNormalization.
    """

    _takes_maps = True

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if renorm:
            raise not_supported(
                "BatchNormalization", "renorm", renorm, "batch renormalisation is not available"
            )
        refuse_constraint(
            "BatchNormalization",
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )
        self.axis = axis_of(axis, "BatchNormalization")
        self.momentum = _number(momentum, "momentum")
        self.epsilon = _number(epsilon, "epsilon")
        if self.epsilon < 0:
            raise ValueError(f"BatchNormalization: epsilon must not be negative, got {epsilon}.")
        self.center = center
        self.scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = None
        self.gamma_constraint = None
        self.renorm = renorm
        self.renorm_clipping = renorm_clipping
        self.renorm_momentum = renorm_momentum
        self.synchronized = synchronized
        self.supports_masking = True
        self.gamma: Variable | None = None
        self.beta: Variable | None = None

    def build(self, input_shape: Any) -> None:
        """Make gamma, beta and the moving mean and variance, each [C]."""
        self.compute_output_shape(input_shape)
        size = input_shape[self.axis]
        if size is None:
            raise ValueError(
                f'Layer "{self.name}": axis {self.axis} of the input must be known, got shape '
                f"{tuple(input_shape)}."
            )
        shape = (size,)
        if self.scale:
            self.gamma = self._make_weight(
                shape, self.gamma_initializer, regularizer=self.gamma_regularizer, name="gamma"
            )
        if self.center:
            self.beta = self._make_weight(
                shape, self.beta_initializer, regularizer=self.beta_regularizer, name="beta"
            )
        self.moving_mean = self._make_weight(
            shape, self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = self._make_weight(
            shape, self.moving_variance_initializer, trainable=False, name="moving_variance"
        )
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: size})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise; in training the moving statistics are updated."""
        if mask is not None:
            raise NotImplementedError(
                f'Layer "{self.name}": a mask is not supported in batch normalisation.'
            )
        maps = isinstance(inputs, Maps)
        x = self._floats(inputs.tensor if maps else inputs)
        axis = self.axis % x.ndim
        shape = x.shape
        if maps:
            axis = maps_axis(axis)
        elif axis == x.ndim - 1 and x.ndim != 2:
            # Channels-last numbers of any rank are a matrix of rows with C columns.
            x = ops.reshape(x, shape=(-1, shape[-1]))
            axis = 1
        gamma = None if self.gamma is None else self.gamma.tensor
        beta = None if self.beta is None else self.beta.tensor
        if training and self.trainable:
            y, mean, variance = ops.batch_norm(x, gamma, beta, axis=axis, eps=self.epsilon)
            self._follow(self.moving_mean, mean)
            self._follow(self.moving_variance, variance)
        else:
            y = ops.batch_norm_inference(
                x,
                self.moving_mean.tensor,
                self.moving_variance.tensor,
                gamma,
                beta,
                axis=axis,
                eps=self.epsilon,
            )
        if maps:
            return Maps(y)
        return y if y.ndim == len(shape) else ops.reshape(y, shape=shape)

    def _follow(self, moving: Variable, batch: Tensor) -> None:
        """moving = moving * momentum + batch * (1 - momentum), recorded as an effect."""
        with _core.no_grad():
            kept = ops.mul(moving.tensor, self.momentum)
            ops.assign_(moving.tensor, ops.add(kept, ops.mul(batch, 1.0 - self.momentum)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape.

        Raises
        ------
        ValueError
            If the axis does not exist.
        """
        if not -len(input_shape) <= self.axis < len(input_shape):
            raise ValueError(
                f'Layer "{self.name}": axis {self.axis} is out of bounds for an input of shape '
                f"{tuple(input_shape)}."
            )
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": None,
            "gamma_constraint": None,
            "synchronized": self.synchronized,
            "renorm": self.renorm,
            "renorm_clipping": self.renorm_clipping,
            "renorm_momentum": self.renorm_momentum,
        }
        return {**super().get_config(), **config}


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"BatchNormalization: {name} must be a finite number, got {value!r}.")
    return number
