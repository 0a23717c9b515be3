"""Numbers that live beside the engine: step counters, learning rates, seed states.

They change every step and take part in a plan only as run-time inputs, so a NumPy array on the
Python side serves better than a tensor. `HostVariable` gives it the face of a Keras variable
(`name`, `path`, `numpy()`, `assign()`), which is what saving and user code ask for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["HostVariable"]


class HostVariable:
    """A small variable held in NumPy.

    Parameters
    ----------
    value : array_like
        The first value; its shape stays.
    dtype : str
        Name of the NumPy dtype.
    name : str
        The variable's own name.
    owner : str
        The name of the object it belongs to, the first part of `path`.
    """

    trainable = False

    def __init__(self, value: Any, dtype: str, name: str, owner: str = "") -> None:
        self._array = np.array(value, dtype=dtype)
        self.name = name
        self.path = f"{owner}/{name}" if owner else name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, ``()`` for a number."""
        return self._array.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim

    @property
    def dtype(self) -> str:
        """The name of the dtype, as Keras's variables have it."""
        return self._array.dtype.name

    @property
    def value(self) -> np.ndarray:
        """A copy of the numbers."""
        return self.numpy()

    def numpy(self) -> np.ndarray:
        """A copy of the numbers."""
        return self._array.copy()

    def assign(self, value: Any) -> HostVariable:
        """Set the numbers; the shape must fit.

        Raises
        ------
        ValueError
            If `value` has another shape.
        """
        array = np.asarray(value)
        if array.shape != self._array.shape:
            raise ValueError(
                f"Variable {self.path!r} has shape {self._array.shape}, got a value of shape "
                f"{array.shape}."
            )
        self._array[...] = array
        return self

    def assign_add(self, value: Any) -> HostVariable:
        """Add to the numbers."""
        return self.assign(self._array + np.asarray(value))

    def assign_sub(self, value: Any) -> HostVariable:
        """Subtract from the numbers."""
        return self.assign(self._array - np.asarray(value))

    def item(self) -> float | int:
        """The number of a variable that holds one."""
        number: float | int = self._array.item()
        return number

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._array.copy()
        return array if dtype is None else array.astype(dtype)

    def __float__(self) -> float:
        return float(self._array)

    def __int__(self) -> int:
        return int(self._array)

    def __index__(self) -> int:
        if self._array.dtype.kind not in "iu":
            raise TypeError(f"Variable {self.path!r} is of {self.dtype}, not a whole number.")
        return int(self._array)

    def __bool__(self) -> bool:
        return bool(self._array)

    def __format__(self, spec: str) -> str:
        return format(self._array.item(), spec) if spec and not self.shape else repr(self)

    def __repr__(self) -> str:
        return (
            f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}, "
            f"value={self._array.tolist()}>"
        )

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> Any:
        return self._array == other

    def __ne__(self, other: object) -> Any:
        return self._array != other

    def __lt__(self, other: Any) -> Any:
        return np.less(self._array, other)

    def __le__(self, other: Any) -> Any:
        return np.less_equal(self._array, other)

    def __gt__(self, other: Any) -> Any:
        return np.greater(self._array, other)

    def __ge__(self, other: Any) -> Any:
        return np.greater_equal(self._array, other)

    def __add__(self, other: Any) -> Any:
        return np.add(self._array, other)

    def __sub__(self, other: Any) -> Any:
        return np.subtract(self._array, other)

    def __mul__(self, other: Any) -> Any:
        return np.multiply(self._array, other)

    def __truediv__(self, other: Any) -> Any:
        return np.true_divide(self._array, other)

    def __floordiv__(self, other: Any) -> Any:
        return np.floor_divide(self._array, other)

    def __mod__(self, other: Any) -> Any:
        return np.mod(self._array, other)

    def __pow__(self, other: Any) -> Any:
        return np.power(self._array, other)

    def __radd__(self, other: Any) -> Any:
        return np.add(other, self._array)

    def __rsub__(self, other: Any) -> Any:
        return np.subtract(other, self._array)

    def __rmul__(self, other: Any) -> Any:
        return np.multiply(other, self._array)

    def __rtruediv__(self, other: Any) -> Any:
        return np.true_divide(other, self._array)

    def __neg__(self) -> Any:
        return np.negative(self._array)
