"""Two-dimensional convolution."""

from __future__ import annotations

from typing import Any

from pycnn import ops
from pycnn.keras import activations, initializers, regularizers
from pycnn.keras._errors import not_supported
from pycnn.keras._maps import Maps, channels_last
from pycnn.keras.layers.activation import apply_activation
from pycnn.keras.layers.arguments import padding_of, pair, positive_int, refuse_constraint
from pycnn.keras.layers.input_spec import InputSpec
from pycnn.keras.layers.maps_layer import MapsLayer, window_padding
from pycnn.keras.variables import KERNEL_ORDER, Variable

__all__ = ["Conv2D"]


class Conv2D(MapsLayer):
    """Convolution (cross-correlation) of maps with learnt kernels.

    Parameters
    ----------
    filters : int
        Number of output maps.
    kernel_size, strides : int or tuple of two
        Height and width of the kernel; steps between positions.
    padding : str
        "valid": none; "same": zeros so that the output has ceil(size / stride) positions,
        the odd one at the bottom and right.
    data_format : str, optional
        "channels_last" (N, H, W, C) or "channels_first" (N, C, H, W).
    dilation_rate, groups
        Only 1 is supported.
    activation : str or callable, optional
        Function applied to the result; none when absent.
    use_bias : bool
        Whether a bias is added to each map.
    kernel_initializer, bias_initializer : optional
        First values of the weights.
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
        Penalties added to the model's loss.
    kernel_constraint, bias_constraint
        Only None is supported.

    Shapes
    ------
    input [N, H, W, C], output [N, OH, OW, filters]; kernel [KH, KW, C, filters],
    bias [filters].

    Raises
    ------
    ValueError
        For sizes that are not positive, and when the map is smaller than the kernel.
    NotImplementedError
        For dilation, groups and constraints.

    Source: keras.layers.Conv2D.
    """

    _takes_maps = True

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive_int(filters, "filters", "Conv2D")
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.strides = pair(strides, "strides")
        self.padding = padding_of(padding)
        self._set_data_format(data_format)
        self.dilation_rate = pair(dilation_rate, "dilation_rate")
        self.groups = positive_int(groups, "groups", "Conv2D")
        if self.dilation_rate != (1, 1):
            raise not_supported("Conv2D", "dilation_rate", dilation_rate, "only 1 is available")
        if self.groups != 1:
            raise not_supported("Conv2D", "groups", groups, "only 1 is available")
        refuse_constraint(
            "Conv2D", kernel_constraint=kernel_constraint, bias_constraint=bias_constraint
        )
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = None
        self.bias_constraint = None
        self.input_spec = InputSpec(min_ndim=4, max_ndim=4)

    def build(self, input_shape: Any) -> None:
        """Make kernel [KH, KW, C, filters] and bias [filters]."""
        _, channels, _, _ = self._split(input_shape)
        axis = 1 if self.data_format == "channels_first" else -1
        if channels is None:
            raise ValueError(
                f'Layer "{self.name}": the number of channels (axis {axis}) must be known, got '
                f"shape {tuple(input_shape)}."
            )
        self.compute_output_shape(input_shape)
        self._kernel = self._make_weight(
            (*self.kernel_size, channels, self.filters),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
            order=KERNEL_ORDER,
        )
        self.bias: Variable | None = None
        if self.use_bias:
            self.bias = self._make_weight(
                (self.filters,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                name="bias",
            )
        self.input_spec = InputSpec(min_ndim=4, max_ndim=4, axes={axis: channels})

    @property
    def kernel(self) -> Variable:
        """The weights [KH, KW, C, filters]."""
        if not self.built:
            raise AttributeError("You must build the layer before accessing `kernel`.")
        return self._kernel

    def call(self, inputs: Any) -> Any:
        """activation(convolution(inputs, kernel) + bias)."""
        x = self._floats(self._core_in(inputs))
        h, w = x.shape[2:]
        self._window_sizes(h, w, self.kernel_size, self.strides, self.padding, "kernel")
        top, bottom = window_padding(h, self.kernel_size[0], self.strides[0], self.padding)
        left, right = window_padding(w, self.kernel_size[1], self.strides[1], self.padding)
        y = ops.conv2d(
            x,
            self._kernel.tensor,
            None if self.bias is None else self.bias.tensor,
            stride=self.strides,
            padding=(top, bottom, left, right),
        )
        if self.data_format == "channels_first":
            # A softmax over the last axis is over the width here, as in Keras.
            return apply_activation(self.activation, y)
        maps = apply_activation(self.activation, Maps(y))
        return maps if isinstance(inputs, Maps) else channels_last(maps)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output maps.

        Raises
        ------
        ValueError
            If the map is smaller than the kernel.
        """
        n, c, h, w = self._split(input_shape)
        oh, ow = self._window_sizes(h, w, self.kernel_size, self.strides, self.padding, "kernel", c)
        return self._join(n, self.filters, oh, ow)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": None,
            "bias_constraint": None,
        }
        return {**super().get_config(), **config}
