"""The fully connected layer: y = activation(x W + b)."""

from __future__ import annotations

from typing import Any

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras import activations, initializers, regularizers
from pycnn.keras._errors import not_supported
from pycnn.keras.layers.activation import apply_activation
from pycnn.keras.layers.arguments import positive_int, refuse_constraint
from pycnn.keras.layers.base_layer import Layer
from pycnn.keras.layers.input_spec import InputSpec
from pycnn.keras.variables import Variable

__all__ = ["Dense"]


class Dense(Layer):
    """A fully connected layer, applied to the last axis.

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or callable, optional
        Function applied to the result; none when absent.
    use_bias : bool
        Whether a bias is added.
    kernel_initializer, bias_initializer : optional
        First values of the weights.
    kernel_regularizer, bias_regularizer, activity_regularizer : optional
        Penalties added to the model's loss.
    kernel_constraint, bias_constraint, lora_rank, lora_alpha, quantization_config
        Only None is supported.

    Shapes
    ------
    input [..., I], output [..., units]; kernel [I, units], bias [units].

    Raises
    ------
    ValueError
        If `units` is not a positive integer.
    NotImplementedError
        For a constraint, LoRA or quantization.

    Source: keras.layers.Dense.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        units = positive_int(units, "units", "Dense")
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        refuse_constraint(
            "Dense", kernel_constraint=kernel_constraint, bias_constraint=bias_constraint
        )
        for name, value in (("lora_rank", lora_rank), ("lora_alpha", lora_alpha)):
            if value is not None:
                raise not_supported("Dense", name, value, "low-rank adapters are not available")
        if quantization_config is not None:
            raise not_supported(
                "Dense", "quantization_config", quantization_config, "use float32 or float64"
            )
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = None
        self.bias_constraint = None
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Make kernel [I, units] and bias [units]."""
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                f'Layer "{self.name}": the last axis of the input must be known, got shape '
                f"{tuple(input_shape)}."
            )
        self._kernel = self._make_weight(
            (size, self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        self.bias: Variable | None = None
        if self.use_bias:
            self.bias = self._make_weight(
                (self.units,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                name="bias",
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: size})

    @property
    def kernel(self) -> Variable:
        """The weights [I, units]."""
        if not self.built:
            raise AttributeError("You must build the layer before accessing `kernel`.")
        return self._kernel

    def call(self, inputs: Tensor, training: bool | None = None) -> Any:
        """activation(inputs @ kernel + bias)."""
        x = self._floats(inputs)
        outer = tuple(x.shape[:-1])
        if len(outer) != 1:
            x = ops.reshape(x, shape=(-1, x.shape[-1]))
        y = ops.dense(x, self._kernel.tensor, None if self.bias is None else self.bias.tensor)
        if len(outer) != 1:
            y = ops.reshape(y, shape=(*outer, self.units))
        return apply_activation(self.activation, y)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape with `units` at the end."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": None,
            "bias_constraint": None,
            "quantization_config": None,
        }
        return {**super().get_config(), **config}
