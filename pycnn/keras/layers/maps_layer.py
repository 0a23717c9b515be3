"""Base of the layers that work on feature maps, and the arithmetic of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycnn._core import Tensor
from pycnn.keras._maps import Maps
from pycnn.keras.layers.arguments import data_format_of
from pycnn.keras.layers.base_layer import Layer

__all__ = ["MapsLayer", "window_output", "window_padding"]

Size = int | None


def window_output(size: Size, kernel: int, stride: int, padding: str) -> Size:
    """Number of positions of a window along an axis; below 1 when it does not fit.

    "valid": floor((size - kernel) / stride) + 1; "same": ceil(size / stride).
    """
    if size is None:
        return None
    if padding == "same":
        return -(-size // stride)
    return (size - kernel) // stride + 1


def window_padding(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros before and after an axis. "same" puts the odd one after, as Keras does."""
    if padding == "valid":
        return 0, 0
    positions = -(-size // stride)
    total = max((positions - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class MapsLayer(Layer):
    """A layer that takes images, in core order inside and in the user's outside."""

    _takes_maps = True

    def _set_data_format(self, data_format: Any) -> None:
        self.data_format = data_format_of(data_format)
        # With channels first the user's order is the core's: nothing to wrap.
        self._takes_maps = self.data_format == "channels_last"

    def _core_in(self, inputs: Tensor | Maps) -> Tensor:
        """The numbers as [N,C,H,W]."""
        if self.data_format == "channels_first":
            return inputs.channels_last() if isinstance(inputs, Maps) else inputs
        return Maps.of(inputs).tensor

    def _core_out(self, outputs: Tensor, inputs: Tensor | Maps) -> Any:
        """[N,C,H,W] as what `inputs` were: Maps for Maps, the user's order for Tensors."""
        if self.data_format == "channels_first":
            return outputs
        maps = Maps(outputs)
        return maps if isinstance(inputs, Maps) else maps.channels_last()

    def _split(self, shape: Sequence[Size]) -> tuple[Size, Size, Size, Size]:
        """(N, C, H, W) of a shape in the user's order."""
        if len(shape) != 4:
            raise ValueError(
                f'Input 0 of layer "{self.name}" is incompatible with the layer: expected 4 axes '
                f"(N, H, W, C), got shape {tuple(shape)}."
            )
        if self.data_format == "channels_first":
            n, c, h, w = shape
        else:
            n, h, w, c = shape
        return n, c, h, w

    def _join(self, n: Size, c: Size, h: Size, w: Size) -> tuple[Size, Size, Size, Size]:
        """A shape in the user's order."""
        return (n, c, h, w) if self.data_format == "channels_first" else (n, h, w, c)

    def _window_sizes(
        self,
        h: Size,
        w: Size,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: str,
        word: str,
        channels: Size = None,
    ) -> tuple[Size, Size]:
        """Height and width after a window has passed over the map.

        Raises
        ------
        ValueError
            If the map is smaller than the window.
        """
        height = window_output(h, kernel[0], stride[0], padding)
        width = window_output(w, kernel[1], stride[1], padding)
        if (height is not None and height < 1) or (width is not None and width < 1):
            hint = ""
            if (
                self.data_format == "channels_last"
                and h in (1, 3)
                and w == channels
                and w is not None
                and w > 3
            ):
                hint = (
                    f" The shape (N, {h}, {w}, {channels}) looks channels-first: build the model "
                    f"for ({w}, {channels}, {h}) and give it `np.moveaxis(x, 1, -1)`."
                )
            raise ValueError(
                f'Layer "{self.name}": the map has shrunk to {h}x{w} here, smaller than the '
                f'{word} {kernel[0]}x{kernel[1]} (padding="{padding}"), so nothing would be left '
                "(computed output size would be zero or negative). Use "
                f'padding="same", a smaller {word}, or fewer poolings or strides before this '
                f"layer.{hint}"
            )
        return height, width
