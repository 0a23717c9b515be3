"""The common functions of ``keras.ops``, for losses, metrics and layers of one's own.

They translate Keras's names and arguments into the engine's operations; arrays have the axes that
the user sees (channels last). Three differences to Keras: comparisons give 0 and 1 as floats, not
booleans; arithmetic on whole numbers gives floats; and only what is listed here exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import _core
from pycnn import ops as _ops
from pycnn._core import Tensor
from pycnn.keras._convert import as_labels, as_tensor
from pycnn.keras._convert import cast as _cast
from pycnn.keras._convert import clip as _clip
from pycnn.keras.activations import (
    celu,
    elu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    swish,
    tanh,
    tanh_shrink,
    threshold,
)
from pycnn.keras.activations import gelu as _gelu
from pycnn.keras.backend import floatx, standardize_dtype

__all__ = [
    "abs",
    "absolute",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "array",
    "cast",
    "celu",
    "clip",
    "concatenate",
    "convert_to_numpy",
    "convert_to_tensor",
    "divide",
    "elu",
    "equal",
    "erf",
    "exp",
    "expand_dims",
    "floor",
    "full",
    "gelu",
    "glu",
    "greater",
    "greater_equal",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "is_tensor",
    "leaky_relu",
    "less",
    "less_equal",
    "log",
    "log_sigmoid",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "ndim",
    "negative",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "pad",
    "power",
    "relu",
    "relu6",
    "reshape",
    "selu",
    "shape",
    "sigmoid",
    "sign",
    "silu",
    "size",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sqrt",
    "square",
    "squareplus",
    "squeeze",
    "stack",
    "std",
    "stop_gradient",
    "subtract",
    "sum",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
    "transpose",
    "true_divide",
    "var",
    "where",
    "zeros",
    "zeros_like",
]

Axis = int | Sequence[int] | None


def _pair(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Two operands of one dtype; a Python number takes the other's."""
    numbers = (bool, int, float)
    if isinstance(x1, numbers):
        second = _floats(x2) if isinstance(x1, float) else as_tensor(x2)
        return x1, second
    if isinstance(x2, numbers):
        first = _floats(x1) if isinstance(x2, float) else as_tensor(x1)
        return first, x2
    a, b = as_tensor(x1), as_tensor(x2)
    if a.dtype == b.dtype:
        return a, b
    floats = [t.dtype.name for t in (a, b) if t.dtype.kind == "f"]
    name = np.result_type(*floats).name if floats else np.result_type(a.dtype, b.dtype).name
    return _cast(a, name), _cast(b, name)


def _float_pair(x1: Any, x2: Any) -> tuple[Any, Any]:
    """The same, whole numbers as floats: the engine's arithmetic knows no others."""
    a, b = _pair(x1, x2)
    return (
        _floats(a) if isinstance(a, Tensor) else a,
        _floats(b) if isinstance(b, Tensor) else b,
    )


def _floats(x: Any) -> Tensor:
    tensor = as_tensor(x)
    return tensor if tensor.dtype.kind == "f" else _cast(tensor, floatx())


# --- Conversion and creation ---


def convert_to_tensor(x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> Tensor:
    """Return `x` as a tensor, of `dtype` if given."""
    if sparse or ragged:
        raise NotImplementedError("convert_to_tensor: sparse and ragged tensors do not exist.")
    return as_tensor(x, None if dtype is None else standardize_dtype(dtype))


def array(x: Any, dtype: Any = None) -> Tensor:
    """Return `x` as a tensor, of `dtype` if given."""
    return convert_to_tensor(x, dtype)


def convert_to_numpy(x: Any) -> np.ndarray:
    """Return `x` as a NumPy array of its own."""
    return np.array(as_tensor(x).numpy())


def is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor."""
    return isinstance(x, Tensor)


def cast(x: Any, dtype: Any) -> Tensor:
    """Return `x` in another dtype; ``"bool"`` gives 0 and 1 as uint8."""
    name = standardize_dtype(dtype)
    if name == "bool":
        return _cast(not_equal(x, 0), "uint8")
    return _cast(as_tensor(x), name)


def zeros(shape: Sequence[int], dtype: Any = None) -> Tensor:
    """Zeros of a shape."""
    return _core.tensor(np.zeros(shape, standardize_dtype(dtype)))


def ones(shape: Sequence[int], dtype: Any = None) -> Tensor:
    """Ones of a shape."""
    return _core.tensor(np.ones(shape, standardize_dtype(dtype)))


def full(shape: Sequence[int], fill_value: Any, dtype: Any = None) -> Tensor:
    """One number of a shape."""
    return _core.tensor(np.full(shape, fill_value, standardize_dtype(dtype)))


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros of the shape of `x`."""
    tensor = as_tensor(x)
    return zeros(tensor.shape, dtype or tensor.dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones of the shape of `x`."""
    tensor = as_tensor(x)
    return ones(tensor.shape, dtype or tensor.dtype)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Tensor:
    """Numbers from `start` up to `stop` (not included), or from 0 up to `start`."""
    first, last = (0, start) if stop is None else (start, stop)
    values = np.arange(first, last, 1 if step is None else step)
    if dtype is not None:
        return _core.tensor(values.astype(standardize_dtype(dtype)))
    return _core.tensor(values.astype("int32" if values.dtype.kind == "i" else floatx()))


def one_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Tensor:
    """Rows with a one at the class numbers `x`."""
    if sparse or axis != -1:
        raise NotImplementedError("one_hot: only axis=-1 and dense results are supported.")
    labels = as_labels(x)
    classes = _core.tensor(np.arange(num_classes, dtype=labels.dtype))
    column = _ops.reshape(labels, shape=(*labels.shape, 1))
    return _cast(_ops.equal(column, classes), standardize_dtype(dtype))


# --- One number at a time ---


def abs(x: Any) -> Tensor:
    """The size of each number."""
    return _ops.abs(_floats(x))  # type: ignore[no-any-return]


def absolute(x: Any) -> Tensor:
    """The size of each number."""
    return abs(x)


def exp(x: Any) -> Tensor:
    """e to the power of each number."""
    return _ops.exp(_floats(x))  # type: ignore[no-any-return]


def log(x: Any) -> Tensor:
    """The natural logarithm."""
    return _ops.log(_floats(x))  # type: ignore[no-any-return]


def sqrt(x: Any) -> Tensor:
    """The square root."""
    return _ops.sqrt(_floats(x))  # type: ignore[no-any-return]


def square(x: Any) -> Tensor:
    """The square."""
    return _ops.square(_floats(x))  # type: ignore[no-any-return]


def negative(x: Any) -> Tensor:
    """The number with the other sign."""
    return _ops.neg(_floats(x))  # type: ignore[no-any-return]


def sign(x: Any) -> Tensor:
    """-1, 0 or 1."""
    return _ops.sign(_floats(x))  # type: ignore[no-any-return]


def floor(x: Any) -> Tensor:
    """The greatest whole number that is not above."""
    return _ops.floor(_floats(x))  # type: ignore[no-any-return]


def erf(x: Any) -> Tensor:
    """The error function."""
    return _ops.erf(_floats(x))  # type: ignore[no-any-return]


def relu(x: Any) -> Tensor:
    """max(x, 0)."""
    return _ops.relu(_floats(x))  # type: ignore[no-any-return]


def gelu(x: Any, approximate: bool = True) -> Any:
    """x times the normal distribution's cumulative function."""
    return _gelu(x, approximate=approximate)


def clip(x: Any, x_min: float, x_max: float) -> Tensor:
    """The number cut at both ends."""
    return _clip(_floats(x), x_min, x_max)


def stop_gradient(variable: Any) -> Tensor:
    """The same numbers, through which no gradient flows."""
    return as_tensor(variable).detach()


# --- Two numbers ---


def add(x1: Any, x2: Any) -> Tensor:
    """x1 + x2."""
    return _ops.add(*_float_pair(x1, x2))  # type: ignore[no-any-return]


def subtract(x1: Any, x2: Any) -> Tensor:
    """x1 - x2."""
    return _ops.sub(*_float_pair(x1, x2))  # type: ignore[no-any-return]


def multiply(x1: Any, x2: Any) -> Tensor:
    """x1 * x2."""
    return _ops.mul(*_float_pair(x1, x2))  # type: ignore[no-any-return]


def divide(x1: Any, x2: Any) -> Tensor:
    """x1 / x2."""
    return _ops.div(*_float_pair(x1, x2))  # type: ignore[no-any-return]


def true_divide(x1: Any, x2: Any) -> Tensor:
    """x1 / x2."""
    return divide(x1, x2)


def power(x1: Any, x2: Any) -> Tensor:
    """x1 to the power of x2."""
    return _ops.pow(*_float_pair(x1, x2))  # type: ignore[no-any-return]


def maximum(x1: Any, x2: Any) -> Tensor:
    """The greater one."""
    return _ops.maximum(*_float_pair(x1, x2))  # type: ignore[no-any-return]


def minimum(x1: Any, x2: Any) -> Tensor:
    """The smaller one."""
    return _ops.minimum(*_float_pair(x1, x2))  # type: ignore[no-any-return]


def equal(x1: Any, x2: Any) -> Tensor:
    """1 where x1 == x2, else 0."""
    return _ops.equal(*_pair(x1, x2))  # type: ignore[no-any-return]


def not_equal(x1: Any, x2: Any) -> Tensor:
    """1 where x1 != x2, else 0."""
    return _ops.not_equal(*_pair(x1, x2))  # type: ignore[no-any-return]


def greater(x1: Any, x2: Any) -> Tensor:
    """1 where x1 > x2, else 0."""
    return _ops.greater(*_pair(x1, x2))  # type: ignore[no-any-return]


def greater_equal(x1: Any, x2: Any) -> Tensor:
    """1 where x1 >= x2, else 0."""
    return _ops.greater_equal(*_pair(x1, x2))  # type: ignore[no-any-return]


def less(x1: Any, x2: Any) -> Tensor:
    """1 where x1 < x2, else 0."""
    return _ops.less(*_pair(x1, x2))  # type: ignore[no-any-return]


def less_equal(x1: Any, x2: Any) -> Tensor:
    """1 where x1 <= x2, else 0."""
    return _ops.less_equal(*_pair(x1, x2))  # type: ignore[no-any-return]


def logical_and(x1: Any, x2: Any) -> Tensor:
    """1 where both are not 0, else 0."""
    return multiply(not_equal(x1, 0), not_equal(x2, 0))


def logical_or(x1: Any, x2: Any) -> Tensor:
    """1 where one is not 0, else 0."""
    return maximum(not_equal(x1, 0), not_equal(x2, 0))


def logical_not(x: Any) -> Tensor:
    """1 where x is 0, else 0."""
    return equal(x, 0)


def where(condition: Any, x1: Any = None, x2: Any = None) -> Tensor:
    """x1 where the condition is not 0, else x2."""
    if x1 is None or x2 is None:
        raise NotImplementedError("where: give all three of condition, x1 and x2.")
    a, b = _float_pair(x1, x2)
    return _ops.where(as_tensor(condition), a, b)  # type: ignore[no-any-return]


def matmul(x1: Any, x2: Any) -> Tensor:
    """The matrix product."""
    return _ops.matmul(*_float_pair(x1, x2))  # type: ignore[no-any-return]


# --- Along axes ---


def _axes(axis: Axis) -> Any:
    return axis if axis is None or isinstance(axis, int) else tuple(axis)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum."""
    return _ops.sum(_floats(x), axis=_axes(axis), keepdims=keepdims)  # type: ignore[no-any-return]


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean."""
    return _ops.mean(_floats(x), axis=_axes(axis), keepdims=keepdims)  # type: ignore[no-any-return]


def var(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean of the squared distances from the mean."""
    tensor = _floats(x)
    centred = tensor - mean(tensor, axis, keepdims=True)
    return mean(_ops.square(centred), axis, keepdims)


def std(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The root of the variance."""
    return _ops.sqrt(var(x, axis, keepdims))  # type: ignore[no-any-return]


def max(x: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """The greatest number."""
    if initial is not None:
        raise NotImplementedError("max: `initial` is not supported.")
    return _ops.max(_floats(x), axis=_axes(axis), keepdims=keepdims)  # type: ignore[no-any-return]


def min(x: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """The smallest number."""
    if initial is not None:
        raise NotImplementedError("min: `initial` is not supported.")
    return -max(-_floats(x), axis, keepdims)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """1 where no number is 0, else 0."""
    return min(not_equal(x, 0), axis, keepdims)


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """1 where a number is not 0, else 0."""
    return max(not_equal(x, 0), axis, keepdims)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The place of the greatest number."""
    tensor = as_tensor(x)
    if axis is None:
        tensor, axis = _ops.reshape(tensor, shape=(-1,)), 0
    place = _ops.argmax(tensor, axis=axis)
    return expand_dims(place, axis) if keepdims else place


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The place of the smallest number."""
    return argmax(-_floats(x), axis, keepdims)


# --- Shapes ---


def shape(x: Any) -> tuple[int, ...]:
    """The shape."""
    return tuple(as_tensor(x).shape)


def ndim(x: Any) -> int:
    """The number of axes."""
    return as_tensor(x).ndim


def size(x: Any) -> int:
    """The number of elements."""
    return as_tensor(x).size


def reshape(x: Any, newshape: int | Sequence[int]) -> Tensor:
    """The same numbers in another shape; one size may be -1."""
    sizes = (newshape,) if isinstance(newshape, int) else tuple(newshape)
    return _ops.reshape(as_tensor(x), shape=sizes)  # type: ignore[no-any-return]


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; reversed when `axes` is absent."""
    tensor = as_tensor(x)
    perm = range(tensor.ndim)[::-1] if axes is None else [a % tensor.ndim for a in axes]
    return _ops.transpose(tensor, perm=tuple(perm))  # type: ignore[no-any-return]


def expand_dims(x: Any, axis: int | Sequence[int]) -> Tensor:
    """An axis of size 1 more."""
    tensor = as_tensor(x)
    return reshape(tensor, np.expand_dims(np.empty(tensor.shape, np.bool_), _axes(axis)).shape)


def squeeze(x: Any, axis: Axis = None) -> Tensor:
    """Without axes of size 1."""
    tensor = as_tensor(x)
    return reshape(tensor, np.squeeze(np.empty(tensor.shape, np.bool_), _axes(axis)).shape)


def concatenate(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors one after another along an axis."""
    tensors = [as_tensor(x) for x in xs]
    return _ops.concat(*tensors, axis=axis % tensors[0].ndim)  # type: ignore[no-any-return]


def stack(x: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors side by side along a new axis."""
    return concatenate([expand_dims(t, axis) for t in x], axis)


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Tensor:
    """Numbers added at the edges; `pad_width` as in NumPy."""
    if mode != "constant":
        raise NotImplementedError(f"pad: mode={mode!r} is not supported, only 'constant'.")
    tensor = as_tensor(x)
    widths = np.broadcast_to(np.asarray(pad_width, np.int64), (tensor.ndim, 2))
    pads = tuple(int(w) for w in widths.reshape(-1))
    value = 0.0 if constant_values is None else float(constant_values)
    return _ops.pad(tensor, pads=pads, value=value)  # type: ignore[no-any-return]
