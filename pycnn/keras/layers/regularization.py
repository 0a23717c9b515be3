"""Dropout of elements and of whole maps.

The random numbers are a function of (seed, stream, call): seed and stream belong to the
layer's generator, `call` counts its draws. Where the triple comes from while a training step
is recorded is told in `pycnn.keras._maps`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import pycnn._core as _core
from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._maps import Maps, current_feed
from pycnn.keras.layers.arguments import data_format_of
from pycnn.keras.layers.base_layer import Layer
from pycnn.keras.layers.input_spec import InputSpec
from pycnn.keras.random import SeedGenerator

__all__ = ["Dropout", "SpatialDropout2D"]


def _checked_noise_shape(noise_shape: Any) -> tuple[int | None, ...] | None:
    if noise_shape is None:
        return None
    try:
        if isinstance(noise_shape, str):
            raise TypeError
        sizes = tuple(noise_shape)
    except TypeError:
        raise ValueError(
            "Invalid value received for argument `noise_shape`. Expected a tuple or list of "
            f"integers and None, got {noise_shape!r}."
        ) from None
    for size in sizes:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(
                "Invalid value received for argument `noise_shape`. Expected positive integers "
                f"or None, got {noise_shape!r}."
            )
    return sizes


class Dropout(Layer):
    """Sets elements to zero at random in training and scales the others by 1 / (1 - rate).

    Parameters
    ----------
    rate : float
        Share of elements to drop, 0 to 1.
    noise_shape : tuple, optional
        Shape of the pattern; where it is 1 and the input is not, the pattern is repeated.
        None in it means the input's size.
    seed : int, optional
        Start of the random numbers; `utils.set_random_seed` decides when absent.

    Raises
    ------
    ValueError
        If `rate` is outside 0..1 or `noise_shape` is malformed.

    Source: Srivastava et al., "Dropout", 2014; keras.layers.Dropout.
    """

    _takes_maps = True
    _spatial = False

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
            raise ValueError(
                f"Invalid value received for argument `rate` of {type(self).__name__}. Expected "
                f"a float value between 0 and 1. Received: rate={rate!r}"
            )
        self.rate = rate
        self.seed = seed
        self.noise_shape = _checked_noise_shape(noise_shape)
        if rate > 0:
            self.seed_generator = SeedGenerator(seed)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop in training; otherwise the input itself."""
        if not training or self.rate == 0:
            return inputs
        if self.noise_shape is not None:
            return self._patterned(inputs, self.noise_shape)
        if isinstance(inputs, Maps):
            return Maps(self._drop(self._floats(inputs.tensor)))
        return self._drop(self._floats(inputs))

    def _drop(self, x: Tensor) -> Any:
        if self.rate == 1:
            return ops.mul(x, 0.0)
        seed = current_feed().seed_tensor(self.seed_generator)
        return ops.dropout(x, seed, rate=float(self.rate), spatial=self._spatial)

    def _patterned(self, inputs: Any, noise_shape: tuple[int | None, ...]) -> Any:
        """Drop by a smaller pattern, repeated by broadcasting."""
        x = self._floats(inputs.channels_last() if isinstance(inputs, Maps) else inputs)
        if len(noise_shape) != x.ndim:
            raise ValueError(
                f'Layer "{self.name}": noise_shape={noise_shape} has {len(noise_shape)} axes, the '
                f"input of shape {tuple(x.shape)} has {x.ndim}."
            )
        sizes = tuple(s if n is None else n for n, s in zip(noise_shape, x.shape, strict=True))
        for size, full in zip(sizes, x.shape, strict=True):
            if size not in (1, full):
                raise ValueError(
                    f'Layer "{self.name}": noise_shape={noise_shape} cannot be repeated to the '
                    f"input's shape {tuple(x.shape)}: each size must be 1, None or the input's."
                )
        ones = _ones(sizes, self.compute_dtype)
        return ops.mul(x, self._drop(ones))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}
        return {**super().get_config(), **config}


class SpatialDropout2D(Dropout):
    """Drops whole feature maps instead of single elements.

    Parameters
    ----------
    rate : float
        Share of maps to drop, 0 to 1.
    data_format : str, optional
        "channels_last" (N, H, W, C) or "channels_first" (N, C, H, W).
    seed : int, optional
        Start of the random numbers; `utils.set_random_seed` decides when absent.

    Source: Tompson et al., "Efficient Object Localization Using Convolutional Networks",
    2014; keras.layers.SpatialDropout2D.
    """

    _takes_maps = True
    _spatial = True

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype)
        self.data_format = data_format_of(data_format)
        self._takes_maps = self.data_format == "channels_last"
        self.input_spec = InputSpec(ndim=4)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop maps in training; otherwise the input itself."""
        if not training or self.rate == 0:
            return inputs
        if self.data_format == "channels_first":
            return self._drop(self._floats(inputs))
        maps = Maps(self._drop(self._floats(Maps.of(inputs).tensor)))
        return maps if isinstance(inputs, Maps) else maps.channels_last()

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "rate": self.rate,
            "seed": self.seed,
            "name": self.name,
            "dtype": self.dtype,
            "data_format": self.data_format,
        }


def _ones(shape: tuple[int, ...], dtype: str) -> Tensor:
    return _core.tensor(np.ones(shape, dtype))
