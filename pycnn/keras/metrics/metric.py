"""The base of all metrics: numbers gathered over many batches.

`update_state` records tensor operations that end in writing its variables, so the same code runs
at once when called by hand and becomes a part of the plan inside a training step.
"""

from __future__ import annotations

import copy
import functools
from typing import Any, ClassVar

import numpy as np

from pycnn._core import Tensor
from pycnn.keras._naming import given_name, name_scope
from pycnn.keras.backend import float_dtype
from pycnn.keras.variables import Variable

__all__ = ["Metric"]


class Metric:
    """Base of all metrics.

    A subclass makes its variables in ``__init__`` (`add_variable`) and defines
    ``update_state(y_true, y_pred, sample_weight=None)`` and ``result()``.

    Parameters
    ----------
    dtype : str, optional
        The float type of the result; `floatx()` when absent.
    name : str, optional
        Automatic when absent.
    """

    _keras_module: ClassVar[str] = "keras.metrics"
    _direction: str | None = None

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = given_name(name, type(self).__name__)
        self._dtype = float_dtype(type(self).__name__, dtype)
        self._variables: list[Variable] = []

    def __copy__(self) -> Any:
        """A copy that counts by itself, as Keras makes it."""
        return copy.deepcopy(self)

    @property
    def dtype(self) -> str:
        """The float type of the result."""
        return self._dtype

    @property
    def variables(self) -> list[Variable]:
        """The variables, those of metrics held as attributes included."""
        found = list(self._own_variables())
        for value in vars(self).values():
            if isinstance(value, Metric):
                found.extend(value.variables)
        return found

    def _own_variables(self) -> list[Variable]:
        try:
            return self._variables
        except AttributeError:
            raise RuntimeError(
                f"{type(self).__name__}.__init__ must call super().__init__() first."
            ) from None

    def add_variable(
        self,
        shape: Any,
        initializer: Any,
        dtype: Any = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        """Make a variable that this metric owns; `reset_state` sets it to zero.

        Parameters
        ----------
        shape : tuple of int
            Its shape.
        initializer : str or callable
            What it starts with.
        dtype : str, optional
            `floatx()` when absent.
        aggregation : str
            Without effect: there is one device.
        name : str, optional
            Its name.
        """
        own = self._own_variables()
        with name_scope(self.name.replace("/", ">"), self):
            variable = Variable(
                "zeros" if initializer is None else initializer,
                shape=tuple(shape),
                dtype=dtype,
                trainable=False,
                aggregation=aggregation,
                name=name,
            )
        own.append(variable)
        return variable

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Make a variable; `add_variable` under its older name."""
        return self.add_variable(shape=shape, initializer=initializer, dtype=dtype, name=name)

    def _accumulator(self, name: str, shape: tuple[int, ...] = ()) -> Variable:
        # float64: a count of samples beyond 2**24 and a mean over many batches stay exact.
        return self.add_variable(shape, "zeros", dtype="float64", name=name)

    def reset_state(self) -> None:
        """Start anew: set all variables to zero."""
        for variable in self.variables:
            tensor = variable.tensor
            tensor.assign(_zeros(tensor.shape, tensor.dtype))

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Take in a batch."""
        raise NotImplementedError(f"{type(self).__name__} must define update_state().")

    def result(self) -> Any:
        """Return the metric of all that was taken in since the last reset."""
        raise NotImplementedError(f"{type(self).__name__} must define result().")

    def plain_result(self) -> Any:
        """Return `result()` as a Python number, for logs; larger ones as an array, or a dict."""
        value = self.result()
        if isinstance(value, dict):
            return {name: _plain(part) for name, part in value.items()}
        return _plain(value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take in a batch and return the result so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def stateless_update_state(self, metric_variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Not supported."""
        raise NotImplementedError(
            "Metric.stateless_update_state is not supported; use update_state."
        )

    def stateless_result(self, metric_variables: Any) -> Any:
        """Not supported."""
        raise NotImplementedError("Metric.stateless_result is not supported; use result.")

    def stateless_reset_state(self) -> Any:
        """Not supported."""
        raise NotImplementedError("Metric.stateless_reset_state is not supported.")

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal metric."""
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """Make a metric from `get_config`'s dictionary."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


@functools.lru_cache(maxsize=64)
def _zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros to copy from: metrics are reset at every batch of `train_on_batch`."""
    zeros = np.zeros(shape, dtype)
    zeros.flags.writeable = False
    return zeros


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor) and not value.shape:
        return float(value.item())
    array = np.asarray(value)
    return array if array.ndim else float(array)


def number(value: Any, dtype: str) -> Tensor:
    """Return NumPy numbers as a tensor of a metric's dtype."""
    from pycnn import _core

    return _core.tensor(np.asarray(value, dtype=dtype))
