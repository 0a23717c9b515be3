"""The entry of a model: `Input` and the layer behind it."""

from __future__ import annotations

from typing import Any

from pycnn.keras._errors import did_you_mean
from pycnn.keras.keras_tensor import KerasTensor, Shape, dtype_name, standardize_shape
from pycnn.keras.layers.base_layer import Layer
from pycnn.keras.layers.node import Node

__all__ = ["Input", "InputLayer"]


class InputLayer(Layer):
    """Stands for the data that a model is given.

    Parameters
    ----------
    shape : tuple, optional
        Shape of one example, without the batch.
    batch_size : int, optional
        Fixed batch size.
    dtype : optional
        ``floatx()`` when absent.
    sparse, ragged : bool, optional
        Only False is supported.
    batch_shape : tuple, optional
        Shape with the batch, instead of `shape`.
    input_tensor : KerasTensor, optional
        A symbolic tensor to use instead of a new one.
    optional : bool
        Whether None may be passed for it; only False is supported.

    Source: keras.layers.InputLayer.
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Any = None,
        input_tensor: KerasTensor | None = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name)
        if "input_shape" in kwargs:
            shape = kwargs.pop("input_shape")
        if "batch_input_shape" in kwargs:
            batch_shape = kwargs.pop("batch_input_shape")
        if kwargs:
            known = ("shape", "batch_size", "dtype", "batch_shape", "name")
            hints = "".join(did_you_mean(key, known) for key in kwargs)
            raise ValueError(f"Unrecognized keyword arguments passed to Input: {kwargs}.{hints}")
        if sparse or ragged:
            raise NotImplementedError("Input: sparse and ragged inputs are not supported.")
        if optional:
            raise NotImplementedError("Input: optional=True is not supported.")
        if input_tensor is not None:
            if not isinstance(input_tensor, KerasTensor):
                raise ValueError(
                    "Argument `input_tensor` must be a KerasTensor, got "
                    f"{type(input_tensor).__name__}."
                )
            if shape is not None and tuple(shape) != input_tensor.shape[1:]:
                raise ValueError(
                    f"Input: shape={shape} does not fit the given tensor's shape "
                    f"{input_tensor.shape}."
                )
            batch_shape = input_tensor.shape
            dtype = input_tensor.dtype
        elif shape is not None and batch_shape is not None:
            raise ValueError("You cannot pass both `shape` and `batch_shape` at the same time.")
        elif batch_size is not None and batch_shape is not None:
            raise ValueError(
                "You cannot pass both `batch_size` and `batch_shape` at the same time."
            )
        elif shape is None and batch_shape is None:
            raise ValueError("You must pass a `shape` argument, e.g. Input(shape=(28, 28, 1)).")
        elif shape is not None:
            batch_shape = (batch_size, *standardize_shape(shape))
        self._batch_shape = standardize_shape(batch_shape)
        self._dtype = dtype_name(dtype)
        self.sparse = False
        self.ragged = False
        self.optional = optional
        if input_tensor is None:
            input_tensor = KerasTensor(self._batch_shape, self._dtype, name=name)
        Node(self, (), {}, input_tensor)
        self.built = True

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_output_name"] = self.output.name
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        name = state.pop("_output_name")
        super().__setstate__(state)
        Node(self, (), {}, KerasTensor(self._batch_shape, self._dtype, name=name))

    def call(self) -> None:
        """Nothing to compute."""

    @property
    def batch_shape(self) -> Shape:
        """The shape with the batch."""
        return self._batch_shape

    @property
    def dtype(self) -> str:
        """Name of the data's dtype."""
        return self._dtype

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": self.sparse,
            "ragged": self.ragged,
            "name": self.name,
            "optional": self.optional,
        }


def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Any = None,
    name: str | None = None,
    tensor: KerasTensor | None = None,
    optional: bool = False,
) -> KerasTensor:
    """A symbolic tensor that stands for a model's input.

    Parameters
    ----------
    shape : tuple
        Shape of one example, without the batch; None for a size that may vary.
    batch_size : int, optional
        Fixed batch size.
    dtype : optional
        ``floatx()`` when absent.
    batch_shape : tuple, optional
        Shape with the batch, instead of `shape`.
    name : str, optional
        Name of the input.
    tensor : KerasTensor, optional
        A symbolic tensor to use instead of a new one.
    sparse, ragged, optional
        Only False is supported.

    Returns
    -------
    KerasTensor

    Source: keras.Input.
    """
    layer = InputLayer(
        shape=shape,
        batch_size=batch_size,
        dtype=dtype,
        sparse=sparse,
        ragged=ragged,
        batch_shape=batch_shape,
        input_tensor=tensor,
        optional=optional,
        name=name,
    )
    result: KerasTensor = layer.output
    return result
