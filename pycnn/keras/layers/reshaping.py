"""Layers that only move numbers: Flatten, Reshape, Permute, ZeroPadding2D."""

from __future__ import annotations

import math
from typing import Any

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._errors import shape_text
from pycnn.keras.layers.arguments import data_format_of, pair
from pycnn.keras.layers.base_layer import Layer
from pycnn.keras.layers.input_spec import InputSpec
from pycnn.keras.layers.maps_layer import MapsLayer

__all__ = ["Flatten", "Permute", "Reshape", "ZeroPadding2D"]


class _Moving(Layer):
    """A layer whose output has the input's dtype, whatever that is."""

    def _output_dtype(self, dtypes: list[str]) -> str:
        if dtypes and "float" not in dtypes[0]:
            return dtypes[0]
        return self.compute_dtype


class Flatten(_Moving):
    """[N, ...] -> [N, product of the rest], channels varying fastest.

    Parameters
    ----------
    data_format : str, optional
        With "channels_first" the channels are moved to the end before.

    Source: keras.layers.Flatten.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format_of(data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Tensor) -> Any:
        """Flatten all axes but the first."""
        rank = inputs.ndim
        size = math.prod(inputs.shape[1:])
        if self.data_format == "channels_first" and rank > 2:
            inputs = ops.transpose(inputs, perm=(0, *range(2, rank), 1))
        return ops.reshape(inputs, shape=(inputs.shape[0], size))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(N, product of the rest)."""
        rest = input_shape[1:]
        size = None if None in rest else math.prod(rest)
        return (input_shape[0], size)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(_Moving):
    """Gives each example another shape of as many elements.

    Parameters
    ----------
    target_shape : tuple of int
        Without the batch; one size may be -1.

    Raises
    ------
    ValueError
        If the number of elements would change.

    Source: keras.layers.Reshape.
    """

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        try:
            sizes = tuple(s.__index__() for s in target_shape)
        except (TypeError, AttributeError):
            raise ValueError(
                f"Reshape: target_shape must be a tuple of integers, got {target_shape!r}."
            ) from None
        if sizes.count(-1) > 1 or any(s < -1 for s in sizes):
            raise ValueError(
                "Reshape: target_shape may hold one -1 and otherwise sizes of at least 0, got "
                f"{target_shape!r}."
            )
        self.target_shape = sizes
        self.built = True

    def _resolve(self, rest: tuple[int | None, ...]) -> tuple[int | None, ...]:
        target = self.target_shape
        if None in rest:
            return tuple(None if s == -1 else s for s in target)
        total = math.prod(s for s in rest if s is not None)
        known = math.prod(s for s in target if s != -1)
        fits = total == known if -1 not in target else known > 0 and total % known == 0
        if not fits:
            raise ValueError(
                f'Layer "{self.name}": the total size must be unchanged. An example of shape '
                f"{shape_text(rest)} has {total} elements, target_shape={target} has "
                f"{known}{' times a whole number' if -1 in target else ''}."
            )
        return tuple(total // known if s == -1 else s for s in target)

    def call(self, inputs: Tensor) -> Any:
        """Reshape every example."""
        return ops.reshape(inputs, shape=(inputs.shape[0], *self._resolve(inputs.shape[1:])))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(N, *target_shape), -1 resolved."""
        return (input_shape[0], *self._resolve(tuple(input_shape[1:])))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "target_shape": self.target_shape}


class Permute(_Moving):
    """Puts the axes of each example into another order.

    Parameters
    ----------
    dims : tuple of int
        The order, counted from 1; the batch is not among them.

    Source: keras.layers.Permute.
    """

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                "Invalid permutation argument `dims` for Permute Layer. The set of indices in "
                f"`dims` must be consecutive and start from 1. Received dims={dims}"
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Tensor) -> Any:
        """Transpose every example."""
        return ops.transpose(inputs, perm=(0, *self.dims))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The permuted shape."""
        return (input_shape[0], *(input_shape[i] for i in self.dims))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "dims": self.dims}


class ZeroPadding2D(MapsLayer):
    """Adds rows and columns of zeros around maps.

    Parameters
    ----------
    padding : int, (int, int) or ((int, int), (int, int))
        Everywhere; vertically and horizontally; or ((top, bottom), (left, right)).
    data_format : str, optional
        "channels_last" (N, H, W, C) or "channels_first" (N, C, H, W).

    Source: keras.layers.ZeroPadding2D.
    """

    _takes_maps = True

    def __init__(
        self, padding: Any = (1, 1), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_data_format(data_format)
        if isinstance(padding, int):
            padding = (padding, padding)
        try:
            sides = list(padding)
        except TypeError:
            sides = []
        if len(sides) != 2:
            raise ValueError(
                "`padding` should be an integer, two integers or two pairs of integers, got "
                f"{padding!r}."
            )
        self.padding = (
            pair(sides[0], "1st entry of padding", allow_zero=True),
            pair(sides[1], "2nd entry of padding", allow_zero=True),
        )
        self.input_spec = InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        """Pad every map."""
        (top, bottom), (left, right) = self.padding
        y = ops.pad(self._core_in(inputs), pads=(0, 0, 0, 0, top, bottom, left, right), value=0.0)
        return self._core_out(y, inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape with the padding added."""
        n, c, h, w = self._split(input_shape)
        return self._join(
            n,
            c,
            None if h is None else h + sum(self.padding[0]),
            None if w is None else w + sum(self.padding[1]),
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"padding": self.padding, "data_format": self.data_format}
        return {**super().get_config(), **config}
