"""Pooling of feature maps: over windows and over the whole map."""

from __future__ import annotations

from typing import Any

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras.layers.arguments import padding_of, pair
from pycnn.keras.layers.input_spec import InputSpec
from pycnn.keras.layers.maps_layer import MapsLayer, window_padding

__all__ = [
    "AveragePooling2D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "MaxPooling2D",
]


class _Pooling2D(MapsLayer):
    """Common part of the poolings over windows."""

    _takes_maps = True

    def __init__(
        self,
        pool_size: Any,
        strides: Any,
        padding: str,
        data_format: str | None,
        name: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.pool_size = pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, "strides")
        self.padding = padding_of(padding)
        self._set_data_format(data_format)
        self.input_spec = InputSpec(ndim=4)
        self._build_at_init()

    def _pool(self, x: Tensor, padding: tuple[int, int, int, int]) -> Any:
        raise NotImplementedError

    def call(self, inputs: Any) -> Any:
        """Pool every map."""
        x = self._core_in(inputs)
        h, w = x.shape[2:]
        self._window_sizes(h, w, self.pool_size, self.strides, self.padding, "window")
        top, bottom = window_padding(h, self.pool_size[0], self.strides[0], self.padding)
        left, right = window_padding(w, self.pool_size[1], self.strides[1], self.padding)
        return self._core_out(self._pool(x, (top, bottom, left, right)), inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the pooled maps.

        Raises
        ------
        ValueError
            If the map is smaller than the window.
        """
        n, c, h, w = self._split(input_shape)
        oh, ow = self._window_sizes(h, w, self.pool_size, self.strides, self.padding, "window", c)
        return self._join(n, c, oh, ow)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {
            "pool_size": self.pool_size,
            "padding": self.padding,
            "strides": self.strides,
            "data_format": self.data_format,
        }
        return {**super().get_config(), **config}


class MaxPooling2D(_Pooling2D):
    """The largest value of each window.

    Parameters
    ----------
    pool_size : int or tuple of two
        Height and width of the window.
    strides : int or tuple of two, optional
        Steps between windows; `pool_size` when absent.
    padding : str
        "valid": windows inside the map; "same": ceil(size / stride) windows, padding never
        wins.
    data_format : str, optional
        "channels_last" (N, H, W, C) or "channels_first" (N, C, H, W).

    Shapes
    ------
    input [N, H, W, C], output [N, OH, OW, C].

    Source: keras.layers.MaxPooling2D.
    """

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)

    def _pool(self, x: Tensor, padding: tuple[int, int, int, int]) -> Any:
        return ops.max_pool2d(x, kernel=self.pool_size, stride=self.strides, padding=padding)


class AveragePooling2D(_Pooling2D):
    """The mean of each window; padding is not counted.

    Parameters
    ----------
    pool_size : int or tuple of two
        Height and width of the window.
    strides : int or tuple of two, optional
        Steps between windows; `pool_size` when absent.
    padding : str
        "valid": windows inside the map; "same": ceil(size / stride) windows.
    data_format : str, optional
        "channels_last" (N, H, W, C) or "channels_first" (N, C, H, W).

    Shapes
    ------
    input [N, H, W, C], output [N, OH, OW, C].

    Source: keras.layers.AveragePooling2D.
    """

    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)

    def _pool(self, x: Tensor, padding: tuple[int, int, int, int]) -> Any:
        return ops.avg_pool2d(
            x,
            kernel=self.pool_size,
            stride=self.strides,
            padding=padding,
            count_include_pad=False,
        )


class _GlobalPooling2D(MapsLayer):
    """Common part of the poolings over whole maps."""

    _takes_maps = True

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_data_format(data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=4)
        self._build_at_init()

    def _reduce(self, x: Tensor) -> Any:
        raise NotImplementedError

    def call(self, inputs: Any) -> Any:
        """Reduce every map to one number."""
        y = self._reduce(self._core_in(inputs))
        return self._core_out(y, inputs) if self.keepdims else y

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(N, C), or with height and width 1 when `keepdims`."""
        n, c, _, _ = self._split(input_shape)
        return self._join(n, c, 1, 1) if self.keepdims else (n, c)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"data_format": self.data_format, "keepdims": self.keepdims}
        return {**super().get_config(), **config}


class GlobalAveragePooling2D(_GlobalPooling2D):
    """The mean of each map.

    Parameters
    ----------
    data_format : str, optional
        "channels_last" (N, H, W, C) or "channels_first" (N, C, H, W).
    keepdims : bool
        Whether height and width stay, with size 1.

    Shapes
    ------
    input [N, H, W, C], output [N, C].

    Source: keras.layers.GlobalAveragePooling2D.
    """

    def _reduce(self, x: Tensor) -> Any:
        return ops.mean(x, axis=(2, 3), keepdims=self.keepdims)


class GlobalMaxPooling2D(_GlobalPooling2D):
    """The largest value of each map.

    Parameters
    ----------
    data_format : str, optional
        "channels_last" (N, H, W, C) or "channels_first" (N, C, H, W).
    keepdims : bool
        Whether height and width stay, with size 1.

    Shapes
    ------
    input [N, H, W, C], output [N, C].

    Source: keras.layers.GlobalMaxPooling2D.
    """

    def _reduce(self, x: Tensor) -> Any:
        return ops.max(x, axis=(2, 3), keepdims=self.keepdims)
