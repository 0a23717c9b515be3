"""Small layers that pass their input on: Identity and Rescaling."""

from __future__ import annotations

from typing import Any

from pycnn import ops
from pycnn.keras._maps import Maps
from pycnn.keras.layers.base_layer import Layer

__all__ = ["Identity", "Rescaling"]


class Identity(Layer):
    """Returns its input.

    Source: keras.layers.Identity.
    """

    _takes_maps = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """The input."""
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape


class Rescaling(Layer):
    """inputs * scale + offset, for instance ``Rescaling(1 / 255)`` on pixels.

    Parameters
    ----------
    scale, offset : float
        One number each.

    Source: keras.layers.Rescaling.
    """

    _takes_maps = True

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(scale, (list, tuple)) or isinstance(offset, (list, tuple)):
            raise NotImplementedError(
                f"Rescaling: one number each for scale and offset is supported, got "
                f"scale={scale!r}, offset={offset!r}."
            )
        self.scale = scale
        self.offset = offset
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Scale and shift."""
        x = self._floats(inputs.tensor if isinstance(inputs, Maps) else inputs)
        y = ops.add(ops.mul(x, float(self.scale)), float(self.offset))
        return Maps(y) if isinstance(inputs, Maps) else y

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}
