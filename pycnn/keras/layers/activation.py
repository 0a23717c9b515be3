"""Layers that apply a function to every element, and softmax.

A softmax or sigmoid leaves the values it was given on its result (`_keras_logits`), so that a
cross-entropy right after it is computed from logits, as Keras does.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras import activations
from pycnn.keras._config import check_number
from pycnn.keras._maps import Maps, maps_axis
from pycnn.keras.layers.arguments import axis_of
from pycnn.keras.layers.base_layer import Layer

__all__ = ["ELU", "Activation", "LeakyReLU", "ReLU", "Softmax", "apply_activation"]

# Functions of pycnn.keras.activations that look along an axis.
_ALONG_AXIS = frozenset({"softmax", "log_softmax", "sparsemax", "glu"})


def apply_activation(function: Callable[..., Any] | None, value: Any) -> Any:
    """An activation function on a Tensor or on Maps, logits kept.

    Parameters
    ----------
    function : callable or None
        One of `pycnn.keras.activations`, or the user's, which gets channels-last Tensors.
    value : Tensor or Maps
        What came out of the layer.
    """
    if function is None or function is activations.linear:
        return value
    result: Any
    if isinstance(value, Maps):
        known = getattr(function, "__module__", "") == activations.__name__
        name = getattr(function, "__name__", "")
        if known and name in ("softmax", "log_softmax"):
            result = Maps(function(value.tensor, axis=1))
        elif known and name not in _ALONG_AXIS:
            result = Maps(function(value.tensor))
        else:
            result = function(value.channels_last())
            if isinstance(result, Tensor) and result.ndim == 4:
                result = Maps.of(result)
    else:
        result = function(value)
    if function in (activations.softmax, activations.sigmoid):
        _keep_logits(result, value)
    return result


def _keep_logits(result: Any, value: Any) -> None:
    tensor = result.tensor if isinstance(result, Maps) else result
    tensor._keras_logits = value.tensor if isinstance(value, Maps) else value


class _Elementwise(Layer):
    """A layer without weights whose output has the input's shape."""

    _takes_maps = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape


class Activation(_Elementwise):
    """Applies an activation function.

    Parameters
    ----------
    activation : str or callable
        A name such as "relu", or a function of a Tensor.

    Source: keras.layers.Activation.
    """

    _takes_maps = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.activation = activations.get(activation)
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Apply the function."""
        return apply_activation(self.activation, inputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"activation": activations.serialize(self.activation)}
        return {**super().get_config(), **config}


def _not_negative(value: Any, name: str, where: str) -> None:
    if value is None or not _is_finite(value) or value < 0:
        raise ValueError(
            f"{name} of a {where} layer cannot be None or a negative value and must be finite. "
            f"Received: {name}={value!r}"
        )


def _is_finite(value: Any) -> bool:
    try:
        return not isinstance(value, str) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


class ReLU(_Elementwise):
    """max(x, 0), with a slope below the threshold and a ceiling on request.

    Parameters
    ----------
    max_value : float, optional
        Ceiling; none when absent.
    negative_slope : float
        Slope below `threshold`.
    threshold : float
        Where the positive part begins.

    Source: keras.layers.ReLU.
    """

    _takes_maps = True

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if "alpha" in kwargs:
            negative_slope = kwargs.pop("alpha")
            warnings.warn("Argument `alpha` is deprecated; use `negative_slope`.", stacklevel=2)
        super().__init__(**kwargs)
        if max_value is not None:
            _not_negative(max_value, "max_value", "ReLU")
        _not_negative(negative_slope, "negative_slope", "ReLU")
        _not_negative(threshold, "threshold", "ReLU")
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Apply the rectifier."""

        def function(x: Tensor) -> Any:
            return activations.relu(
                x,
                negative_slope=self.negative_slope,
                max_value=self.max_value,
                threshold=self.threshold,
            )

        if isinstance(inputs, Maps):
            return Maps(function(inputs.tensor))
        return function(inputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
            "threshold": self.threshold,
        }
        return {**super().get_config(), **config}


class LeakyReLU(_Elementwise):
    """x above zero, ``negative_slope * x`` below.

    Source: keras.layers.LeakyReLU.
    """

    _takes_maps = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        if "alpha" in kwargs:
            negative_slope = kwargs.pop("alpha")
            warnings.warn("Argument `alpha` is deprecated; use `negative_slope`.", stacklevel=2)
        super().__init__(**kwargs)
        _not_negative(negative_slope, "negative_slope", "LeakyReLU")
        self.negative_slope = negative_slope
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Apply the rectifier."""
        if isinstance(inputs, Maps):
            return Maps(ops.leaky_relu(inputs.tensor, slope=float(self.negative_slope)))
        return ops.leaky_relu(inputs, slope=float(self.negative_slope))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "negative_slope": self.negative_slope}


class ELU(_Elementwise):
    """x above zero, ``alpha * (exp(x) - 1)`` below.

    Source: keras.layers.ELU.
    """

    _takes_maps = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_number("ELU", "alpha", alpha)
        self.alpha = alpha
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Apply the function."""
        if isinstance(inputs, Maps):
            return Maps(ops.elu(inputs.tensor, alpha=float(self.alpha)))
        return ops.elu(inputs, alpha=float(self.alpha))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha}


class Softmax(_Elementwise):
    """exp(x) / sum(exp(x)) along an axis.

    Parameters
    ----------
    axis : int or list of int
        The axis or axes that sum to one.

    Source: keras.layers.Softmax.
    """

    _takes_maps = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        several = isinstance(axis, (list, tuple)) and len(axis) > 0
        self.axis = [axis_of(a, "Softmax") for a in axis] if several else axis_of(axis, "Softmax")
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Apply softmax; where `mask` is 0 the result is (nearly) 0."""
        x = inputs.tensor if isinstance(inputs, Maps) else inputs
        axes = [self.axis] if isinstance(self.axis, int) else list(self.axis)
        for axis in axes:
            if not -x.ndim <= axis < x.ndim:
                raise ValueError(
                    f'Layer "{self.name}": axis {axis} does not exist in an input of shape '
                    f"{tuple(inputs.shape)}."
                )
        axes = [axis % x.ndim for axis in axes]
        if isinstance(inputs, Maps):
            axes = [maps_axis(axis) for axis in axes]
        if mask is not None:
            floats = ops.cast(mask, dtype=self.compute_dtype)
            x = ops.add(x, ops.mul(ops.sub(1.0, floats), -1e9))
        if len(axes) == 1:
            result = ops.softmax(x, axis=axes[0])
        else:
            over = tuple(axes)
            powers = ops.exp(ops.sub(x, ops.max(x, axis=over, keepdims=True)))
            result = ops.div(powers, ops.sum(powers, axis=over, keepdims=True))
        result._keras_logits = x
        return Maps(result) if isinstance(inputs, Maps) else result

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "axis": self.axis}
