"""Symbolic tensors of the functional API: a shape, a dtype and where the value comes from.

A `KerasTensor` holds no numbers. Calling a layer on one checks the shapes, builds the layer
and returns another; the calls are remembered as `Node` objects, from which `Model(inputs,
outputs)` recovers the graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from pycnn.keras._naming import auto_name

__all__ = ["KerasHistory", "KerasTensor", "dtype_name", "is_float", "standardize_shape"]

Shape = tuple[int | None, ...]

_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
    "uint64", "uint32", "uint16", "uint8", "bool", "string",
)  # fmt: skip


def dtype_name(dtype: Any) -> str:
    """The Keras name of a dtype given as a string, a NumPy dtype or a Python type."""
    if dtype is None:
        from pycnn.keras import backend

        return str(backend.floatx())
    if isinstance(dtype, str):
        name = {"float": "float32", "int": "int64"}.get(dtype, dtype)
    elif dtype is float:
        name = "float32"
    elif dtype is int:
        name = "int64"
    else:
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = str(dtype)
    if name not in _DTYPES:
        raise ValueError(f"Invalid dtype: {dtype!r}. Expected one of: {', '.join(_DTYPES)}.")
    return name


def is_float(dtype: Any) -> bool:
    """Whether a dtype holds floating point numbers."""
    return "float" in str(dtype)


def standardize_shape(shape: Any) -> Shape:
    """A shape as a tuple of positive integers and None, checked.

    Raises
    ------
    ValueError
        If `shape` is not iterable or holds anything but non-negative integers and None.
    """
    if shape is None:
        raise ValueError("Undefined shapes are not supported: got None.")
    if isinstance(shape, str) or not hasattr(shape, "__iter__"):
        hint = f" Did you mean ({shape},)?" if isinstance(shape, int) else ""
        raise ValueError(f"Cannot convert {shape!r} to a shape: expected a tuple.{hint}")
    sizes: list[int | None] = []
    for size in shape:
        if size is None:
            sizes.append(None)
            continue
        try:
            number = size.__index__()
        except AttributeError:
            raise ValueError(
                f"Cannot convert {tuple(shape)!r} to a shape: found {size!r} (of type "
                f"{type(size).__name__}), expected an integer or None."
            ) from None
        if number < 0:
            raise ValueError(
                f"Cannot convert {tuple(shape)!r} to a shape: found {size}; sizes cannot be "
                "negative (write None for a size that is not known)."
            )
        sizes.append(number)
    return tuple(sizes)


class KerasHistory(NamedTuple):
    """Which call made a KerasTensor: the layer, the number of its call, which output."""

    operation: Any
    node_index: int
    tensor_index: int


class KerasTensor:
    """A value of the functional API, known by shape and dtype only.

    Parameters
    ----------
    shape : tuple
        Sizes; None for a size that is not known (usually the batch).
    dtype : str
        Name of the dtype.
    sparse, ragged : bool
        Only False is supported.
    record_history : bool
        Kept for compatibility; calls are always recorded.
    name : str, optional
        Made automatically when absent: keras_tensor, keras_tensor_1, ...
    """

    _keras_history: KerasHistory

    def __init__(
        self,
        shape: Iterable[int | None],
        dtype: Any = "float32",
        sparse: bool = False,
        ragged: bool = False,
        record_history: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise TypeError(f"Unexpected keyword arguments: {', '.join(kwargs)}")
        if sparse or ragged:
            raise NotImplementedError("KerasTensor: sparse and ragged tensors are not supported.")
        self._shape = standardize_shape(shape)
        self._dtype = dtype_name(dtype)
        self.name = name or auto_name(type(self).__name__)
        self.record_history = record_history

    @property
    def shape(self) -> Shape:
        """Sizes, None where not known."""
        return self._shape

    @property
    def dtype(self) -> str:
        """Name of the dtype."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def sparse(self) -> bool:
        """Always False."""
        return False

    @property
    def ragged(self) -> bool:
        """Always False."""
        return False

    def __repr__(self) -> str:
        return (
            f"<KerasTensor shape={self.shape}, dtype={self.dtype}, sparse={self.sparse}, "
            f"ragged={self.ragged}, name={self.name}>"
        )

    def _no_numbers(self, what: str) -> NoReturn:
        raise ValueError(
            f"A KerasTensor is symbolic: it stands for a value of shape {self.shape} and has no "
            f"numbers, so {what} is not possible. Build a `Model(inputs, outputs)` and call "
            "that on data, or do the computation inside a layer's `call`."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._no_numbers("turning it into a NumPy array")

    def __iter__(self) -> NoReturn:
        self._no_numbers("iterating over it")

    def __bool__(self) -> NoReturn:
        self._no_numbers("using it as a condition")

    def __float__(self) -> NoReturn:
        self._no_numbers("converting it to a float")

    def __int__(self) -> NoReturn:
        self._no_numbers("converting it to an int")

    def _merge(self, class_name: str, other: Any, reverse: bool = False) -> KerasTensor:
        from pycnn.keras.layers import merging

        if not isinstance(other, KerasTensor):
            self._no_numbers(f"arithmetic with {type(other).__name__} outside a layer")
        layer = getattr(merging, class_name)()
        result: KerasTensor = layer([other, self] if reverse else [self, other])
        return result

    def __add__(self, other: Any) -> KerasTensor:
        return self._merge("Add", other)

    def __sub__(self, other: Any) -> KerasTensor:
        return self._merge("Subtract", other)

    def __mul__(self, other: Any) -> KerasTensor:
        return self._merge("Multiply", other)

    def __truediv__(self, other: Any) -> NoReturn:
        self._no_numbers("division outside a layer")
