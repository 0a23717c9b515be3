"""Weights as the Keras user sees them.

A `Variable` holds a core tensor in core order (a convolution's kernel as [O,I,KH,KW]) and
the permutation that leads to Keras's order ([KH,KW,I,O]). Everything a user or a file sees
(`numpy`, `assign`, `shape`) is in Keras's order; the engine and the optimizers work on
`tensor`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import pycnn._core as _core
from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._naming import auto_name, current_path
from pycnn.keras.keras_tensor import dtype_name, is_float, standardize_shape

__all__ = ["KERNEL_ORDER", "Variable"]

# Keras [KH,KW,I,O] -> core [O,I,KH,KW]
KERNEL_ORDER = (3, 2, 0, 1)


class Variable:
    """A named array that layers and optimizers own and update.

    Parameters
    ----------
    initializer : callable, array
        ``initializer(shape, dtype=...)`` makes the first value, in Keras's order; or the
        value itself.
    shape : tuple, optional
        Needed with a callable.
    dtype : optional
        float32 or float64 (default ``floatx()``), or an integer dtype.
    trainable : bool
        Whether an optimizer updates it.
    autocast, aggregation, synchronization, layout
        Accepted for compatibility; only one device and one precision exist here.
    name : str, optional
        Made automatically when absent.
    order : sequence of int, optional
        ``core = transpose(keras, order)``; identity when absent.

    Attributes
    ----------
    tensor : Tensor
        The numbers, in core order.
    regularizer : callable or None
        Penalty added to the model's loss.
    """

    def __init__(
        self,
        initializer: Any,
        shape: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        synchronization: str = "auto",
        name: str | None = None,
        layout: Any = None,
        *,
        order: Sequence[int] | None = None,
    ) -> None:
        if name is not None and (not isinstance(name, str) or "/" in name):
            raise ValueError(
                f"Argument `name` must be a string without the character `/`, got {name!r}."
            )
        self.name = name or auto_name(type(self).__name__)
        parent = current_path()
        self.path = f"{parent}/{self.name}" if parent else self.name
        self.aggregation = aggregation
        self.synchronization = synchronization
        self.autocast = autocast
        self.regularizer: Callable[[Any], Any] | None = None
        self.constraint: Any = None
        self.overwrite_with_gradient = False
        value = _initial_value(initializer, shape, dtype, self.path)
        self._shape: tuple[int, ...] = value.shape
        self._order = tuple(order) if order is not None else None
        if self._order is not None:
            self._to_keras = tuple(int(i) for i in np.argsort(self._order))
            value = value.transpose(self._order)
        self.tensor: Tensor = _core.tensor(np.ascontiguousarray(value).reshape(value.shape))
        self._trainable = False
        self.trainable = trainable

    @property
    def trainable(self) -> bool:
        """Whether an optimizer updates it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        self.tensor.requires_grad = self._trainable and is_float(self.tensor.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in Keras's order."""
        return self._shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    @property
    def dtype(self) -> str:
        """Name of the dtype."""
        return dtype_name(self.tensor.dtype)

    @property
    def value(self) -> Tensor:
        """The numbers as a Tensor in Keras's order; gradients flow back to `tensor`."""
        if self._order is None:
            return self.tensor
        value: Tensor = ops.transpose(self.tensor, perm=self._to_keras)
        return value

    def __pycnn_tensor__(self) -> Tensor:
        """What an op computes with when it is given this variable."""
        return self.value

    def numpy(self) -> np.ndarray:
        """A copy of the numbers, row-major in Keras's order."""
        value = self.tensor.numpy()
        if self._order is not None:
            value = value.transpose(self._to_keras)
        return np.array(value, order="C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        value = self.numpy()
        return value if dtype is None else value.astype(dtype, copy=False)

    def assign(self, value: Any) -> None:
        """Write new numbers, given in Keras's order, in place.

        Parameters
        ----------
        value : array or Tensor
            Of this variable's shape. Assigning a Tensor is recorded like any op, so that a
            layer can update its state inside a training step.

        Raises
        ------
        ValueError
            If the shape differs.
        """
        if isinstance(value, Variable):
            value = value.value
        shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
        if shape != self._shape:
            raise ValueError(
                f"Variable {self.path}: cannot assign a value of shape {shape} to a variable of "
                f"shape {self._shape}."
            )
        if isinstance(value, Tensor):
            if self._order is not None:
                value = ops.transpose(value, perm=self._order)
            if value.dtype != self.tensor.dtype:
                value = ops.cast(value, dtype=self.dtype)
            ops.assign_(self.tensor, value)
            return
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(
                f"Variable {self.path}: takes real numbers, got an array of dtype {array.dtype}."
            )
        array = array.astype(self.tensor.dtype, copy=False)
        if self._order is not None:
            array = array.transpose(self._order)
        self.tensor.assign(np.ascontiguousarray(array).reshape(array.shape))

    def assign_add(self, value: Any) -> None:
        """``assign(self + value)``."""
        self.assign(self.value + _plain(value))

    def assign_sub(self, value: Any) -> None:
        """``assign(self - value)``."""
        self.assign(self.value - _plain(value))

    def like(self, fill: float = 0.0, name: str | None = None) -> Variable:
        """A new variable of the same shape, dtype and order, filled with one number.

        Optimizers make their slots with it, so that a slot's file has Keras's order too.
        """
        start = np.full(self._shape, fill, self.tensor.dtype)
        return Variable(start, trainable=False, name=name, order=self._order)

    def __repr__(self) -> str:
        return (
            f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}, "
            f"value={self.numpy()}>"
        )

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of a variable without axes")
        return self._shape[0]

    def __float__(self) -> float:
        return float(self.numpy())

    def __int__(self) -> int:
        return int(self.numpy())

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __getitem__(self, index: Any) -> Tensor:
        return self.value[index]

    def __add__(self, other: Any) -> Any:
        return self.value + _plain(other)

    def __radd__(self, other: Any) -> Any:
        return _plain(other) + self.value

    def __sub__(self, other: Any) -> Any:
        return self.value - _plain(other)

    def __rsub__(self, other: Any) -> Any:
        return _plain(other) - self.value

    def __mul__(self, other: Any) -> Any:
        return self.value * _plain(other)

    def __rmul__(self, other: Any) -> Any:
        return _plain(other) * self.value

    def __truediv__(self, other: Any) -> Any:
        return self.value / _plain(other)

    def __rtruediv__(self, other: Any) -> Any:
        return _plain(other) / self.value

    def __pow__(self, other: Any) -> Any:
        return self.value ** _plain(other)

    def __matmul__(self, other: Any) -> Any:
        return self.value @ _plain(other)

    def __rmatmul__(self, other: Any) -> Any:
        return _plain(other) @ self.value

    def __neg__(self) -> Tensor:
        return -self.value


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Variable) else value


def _initial_value(initializer: Any, shape: Any, dtype: Any, path: str) -> np.ndarray:
    if isinstance(initializer, str):
        from pycnn.keras import initializers

        initializer = initializers.get(initializer)
    if callable(initializer):
        if shape is None:
            raise ValueError(
                f"Variable {path}: a callable initializer needs `shape`, e.g. shape=(3, 4)."
            )
        sizes = standardize_shape(shape)
        if None in sizes:
            raise ValueError(
                f"Variable {path}: the shape must be fully known, got {sizes}. Give the layer's "
                "input a complete shape (only the batch size may be None)."
            )
        name = dtype_name(dtype)
        from pycnn.keras.saving.limits import charge

        # While a file is loaded, its sizes are limited.
        charge([n for n in sizes if n is not None], name, path)
        value = np.asarray(initializer(sizes, dtype=name))
        if value.shape != sizes:
            raise ValueError(
                f"Variable {path}: the initializer {initializer!r} made an array of shape "
                f"{value.shape}, expected {sizes}."
            )
        return value.astype(name, copy=False)
    value = initializer.numpy() if hasattr(initializer, "numpy") else np.asarray(initializer)
    if dtype is None and value.dtype.kind == "f" and not hasattr(initializer, "dtype"):
        dtype = dtype_name(None)
    if dtype is not None:
        value = value.astype(dtype_name(dtype), copy=False)
    if shape is not None and value.shape != standardize_shape(shape):
        raise ValueError(
            f"Variable {path}: the value has shape {value.shape}, but shape={shape} was asked for."
        )
    return value
