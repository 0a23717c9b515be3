"""Activation functions.

Each takes whatever stands for numbers: a tensor, maps between two layers, a NumPy array, or a
symbolic tensor of the functional API. `softmax` and `sigmoid` leave behind what they were
computed from, so that a cross-entropy after them can work on the logits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._config import deserialize_object, make_from_name, serialize_object
from pycnn.keras._convert import as_tensor, clip, set_logits
from pycnn.keras._errors import unknown_name
from pycnn.keras._maps import Maps, maps_axis
from pycnn.keras.keras_tensor import KerasTensor

__all__ = [
    "celu",
    "deserialize",
    "elu",
    "exponential",
    "gelu",
    "get",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "serialize",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]

_F = TypeVar("_F", bound=Callable[..., Any])

# Klambauer et al., "Self-Normalizing Neural Networks", 2017.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _activation(function: _F) -> _F:
    """Let a function of a tensor take maps, arrays and symbolic tensors as well."""
    along_axis = "axis" in function.__code__.co_varnames

    @functools.wraps(function)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, Tensor):
            return function(x, *args, **kwargs)
        if isinstance(x, Maps):
            if along_axis:
                axis = kwargs.pop("axis", args[0] if args else -1)
                if not -4 <= axis < 4:
                    raise ValueError(f"{function.__name__}: `axis` {axis} of a 4-D value.")
                return Maps(function(x.tensor, axis=maps_axis(axis)))
            return Maps(function(x.tensor, *args, **kwargs))
        if isinstance(x, KerasTensor):
            return _symbolic(call, x, args, kwargs)
        return function(as_tensor(x), *args, **kwargs)

    return cast(_F, call)


def _symbolic(
    function: Callable[..., Any], x: KerasTensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    from pycnn.keras.layers import Activation

    if args or kwargs:
        raise NotImplementedError(
            f"activations.{function.__name__} on a symbolic tensor takes no further arguments; "
            "use the layer of that name."
        )
    return Activation(function)(x)


@_activation
def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Any:
    """max(x, 0), with options.

    ``max_value`` where x is at least that, ``x`` where it is at least `threshold`, otherwise
    ``negative_slope * (x - threshold)``.
    """
    if negative_slope == 0.0 and max_value is None and threshold == 0.0:
        return ops.relu(x)
    if max_value is None and threshold == 0.0:
        return ops.leaky_relu(x, slope=float(negative_slope))
    positive = ops.where(ops.greater(x, threshold), x, 0.0) if threshold else ops.relu(x)
    if max_value is not None:
        positive = clip(positive, 0.0, float(max_value))
    if negative_slope == 0.0:
        return positive
    return positive - ops.relu(threshold - x) * negative_slope


@_activation
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """x where positive, otherwise ``negative_slope * x``."""
    return ops.leaky_relu(x, slope=float(negative_slope))


@_activation
def relu6(x: Any) -> Any:
    """min(max(x, 0), 6)."""
    return ops.minimum(ops.relu(x), 6.0)


@_activation
def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) over its sum along `axis`."""
    return set_logits(ops.softmax(x, axis=axis), x)


@_activation
def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of softmax, without its underflow."""
    return ops.log_softmax(x, axis=axis)


@_activation
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, otherwise ``alpha * (exp(x) - 1)`` (Clevert et al., 2015)."""
    return ops.elu(x, alpha=float(alpha))


@_activation
def selu(x: Any) -> Any:
    """elu scaled so that activations keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    return ops.elu(x, alpha=_SELU_ALPHA) * _SELU_SCALE


@_activation
def celu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, otherwise ``alpha * (exp(x / alpha) - 1)`` (Barron, 2017)."""
    return ops.elu(x / alpha, alpha=1.0) * alpha


@_activation
def softplus(x: Any) -> Any:
    """log(exp(x) + 1)."""
    return ops.softplus(x)


@_activation
def softsign(x: Any) -> Any:
    """x / (|x| + 1)."""
    return x / (ops.abs(x) + 1.0)


@_activation
def squareplus(x: Any, b: float = 4) -> Any:
    """(x + sqrt(x**2 + b)) / 2."""
    return (x + ops.sqrt(ops.square(x) + float(b))) * 0.5


@_activation
def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    """x moved towards zero by `threshold`, zero within it."""
    return ops.sign(x) * ops.relu(ops.abs(x) - threshold)


@_activation
def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """x where its size exceeds `threshold`, otherwise zero."""
    return ops.where(ops.greater(ops.abs(x), threshold), x, 0.0)


@_activation
def sparse_plus(x: Any) -> Any:
    """0 below -1, x above 1, (x + 1)**2 / 4 between."""
    middle = ops.square(x + 1.0) * 0.25
    return ops.where(ops.less_equal(x, -1.0), 0.0, ops.where(ops.less(x, 1.0), middle, x))


@_activation
def silu(x: Any) -> Any:
    """x * sigmoid(x), also called swish (Ramachandran et al., 2017)."""
    return x * ops.sigmoid(x)


@_activation
def gelu(x: Any, approximate: bool = False) -> Any:
    """x times the normal distribution's cumulative function (Hendrycks and Gimpel, 2016)."""
    if approximate:
        inner = (x + x * x * x * 0.044715) * math.sqrt(2.0 / math.pi)
        return x * (ops.tanh(inner) + 1.0) * 0.5
    return x * (ops.erf(x * math.sqrt(0.5)) + 1.0) * 0.5


@_activation
def glu(x: Any, axis: int = -1) -> Any:
    """The first half along `axis` times the sigmoid of the second (Dauphin et al., 2016).

    Raises
    ------
    ValueError
        If the axis has an odd size.
    """
    axis = axis % x.ndim
    size = x.shape[axis]
    if size % 2:
        raise ValueError(f"glu: axis {axis} must have an even size, got shape {x.shape}.")
    half = tuple(n // 2 if i == axis else n for i, n in enumerate(x.shape))
    zero = [0] * x.ndim
    middle = [size // 2 if i == axis else 0 for i in range(x.ndim)]
    first = ops.slice(x, zero, shape=half)
    return first * ops.sigmoid(ops.slice(x, middle, shape=half))


@_activation
def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return ops.tanh(x)


@_activation
def tanh_shrink(x: Any) -> Any:
    """x - tanh(x)."""
    return x - ops.tanh(x)


@_activation
def hard_tanh(x: Any) -> Any:
    """x cut at -1 and 1."""
    return clip(x, -1.0, 1.0)


@_activation
def threshold(x: Any, threshold: float, default_value: float) -> Any:
    """x where it exceeds `threshold`, otherwise `default_value`."""
    return ops.where(ops.greater(x, threshold), x, float(default_value))


@_activation
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return set_logits(ops.sigmoid(x), x)


@_activation
def exponential(x: Any) -> Any:
    """exp(x)."""
    return ops.exp(x)


@_activation
def hard_sigmoid(x: Any) -> Any:
    """x / 6 + 1 / 2, cut at 0 and 1."""
    return clip(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)


@_activation
def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x)), without its underflow."""
    return -ops.softplus(-x)


@_activation
def sparse_sigmoid(x: Any) -> Any:
    """(x + 1) / 2, cut at 0 and 1."""
    return clip((x + 1.0) * 0.5, 0.0, 1.0)


@_activation
def hard_silu(x: Any) -> Any:
    """x * hard_sigmoid(x), also called hard swish (Howard et al., 2019)."""
    return x * (clip(x + 3.0, 0.0, 6.0) * (1.0 / 6.0))


@_activation
def mish(x: Any) -> Any:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    return x * ops.tanh(ops.softplus(x))


def linear(x: Any) -> Any:
    """x itself."""
    return x


swish = silu
hard_swish = hard_silu

_TABLE: dict[str, Any] = {
    name: globals()[name] for name in __all__ if name not in ("deserialize", "get", "serialize")
}
_ABSENT = ("sparsemax",)


def serialize(activation: Any) -> Any:
    """Return the name of an activation, or the configuration of a layer used as one.

    Raises
    ------
    ValueError
        If it is a function that is none of those here: its name would not load again.
    """
    name = getattr(activation, "__name__", None)
    if name is not None and _TABLE.get(name) is activation:
        return name
    if hasattr(activation, "get_config"):
        return serialize_object(activation)
    if name is None or name == "<lambda>":
        raise ValueError(
            f"The activation {activation!r} cannot be saved: only named functions and layers can."
        )
    return serialize_object(activation)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Return the activation that a name or configuration describes."""
    return deserialize_object("activation", config, _TABLE, custom_objects, _ABSENT)


def get(identifier: Any) -> Any:
    """Return an activation function for a name, a function or a layer; None gives `linear`.

    Raises
    ------
    ValueError
        If the name is unknown (the nearest ones are told) or the value is none of these.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, str):
        return make_from_name("activation", identifier, _TABLE, _ABSENT)
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    if callable(identifier):
        return identifier
    raise unknown_name("activation", identifier, _TABLE)
