"""`Sequential`: a stack of layers, each fed by the one before."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable
from typing import Any

from pycnn.keras.keras_tensor import KerasTensor, standardize_shape
from pycnn.keras.layers.base_layer import Layer
from pycnn.keras.layers.input_layer import InputLayer
from pycnn.keras.layers.input_spec import check_inputs
from pycnn.keras.models.functional import Functional
from pycnn.keras.models.model import Model

__all__ = ["Sequential"]


class Sequential(Model):
    """A stack of layers.

    Parameters
    ----------
    layers : list of Layer, optional
        The stack. With an `Input` first the weights are made at once, otherwise when the
        first data comes.
    trainable : bool
        Whether the weights are trained.
    name : str, optional
        Made automatically when absent.

    Source: keras.Sequential.
    """

    def __init__(
        self,
        layers: Iterable[Any] | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        if isinstance(trainable, Layer):
            raise ValueError(
                "Sequential takes one list of layers, got several layers: use Sequential([...])."
            )
        self._start(trainable=trainable, name=name)
        self._convert_input_args = False
        self._functional: Functional | None = None
        if isinstance(layers, Layer):
            raise ValueError(
                f"Sequential takes a list of layers, got one layer {layers!r}: use "
                "Sequential([...]), or `add` for each layer."
            )
        if layers:
            for layer in layers:
                self.add(layer, rebuild=False)
            self._maybe_rebuild()

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Put a layer on top of the stack.

        Raises
        ------
        ValueError
            If it is no layer, its name is taken, or it is a second input.
        """
        if not self._layers:
            shape = getattr(layer, "_input_shape_arg", None)
            if shape is not None:
                self.add(InputLayer(shape=shape, dtype=layer.compute_dtype))
        if isinstance(layer, KerasTensor):
            origin = layer._keras_history.operation
            if isinstance(origin, InputLayer):
                layer = origin
        if isinstance(layer, type) and issubclass(layer, Layer):
            raise ValueError(
                f"Only instances of layers can be added to a Sequential model, got the class "
                f"{layer.__name__}: write {layer.__name__}(...) with parentheses."
            )
        if not isinstance(layer, Layer):
            raise ValueError(
                "Only instances of `keras.Layer` can be added to a Sequential model. Received: "
                f"{layer!r} (of type {type(layer).__name__})."
            )
        layer._check_constructed()
        if any(layer.name == other.name and layer is not other for other in self._layers):
            raise ValueError(
                "All layers added to a Sequential model should have unique names. Name "
                f"'{layer.name}' is already the name of a layer in this model. Update the `name` "
                "argument to pass a unique name."
            )
        if self._layers and isinstance(layer, InputLayer):
            first = self._layers[0]
            if isinstance(first, InputLayer):
                raise ValueError(
                    f"Sequential model '{self.name}' has already been configured to use input "
                    f"shape {first.batch_shape}. You cannot add a different Input layer to it."
                )
            raise ValueError(f"Sequential model '{self.name}': an Input must be the first layer.")
        self._layers.append(layer)
        self.built = False
        self._functional = None
        if rebuild:
            try:
                self._maybe_rebuild()
            except Exception:
                # The stack stays usable without the layer that does not fit.
                self._layers.pop()
                self._maybe_rebuild()
                raise

    def pop(self, rebuild: bool = True) -> Any:
        """Take the last layer off the stack and return it.

        Raises
        ------
        ValueError
            If there is none.
        """
        if not self.layers:
            raise ValueError(f"Sequential model '{self.name}' has no layer to pop.")
        layer = self._layers.pop()
        self.built = False
        self._functional = None
        if rebuild:
            self._maybe_rebuild()
        return layer

    def _maybe_rebuild(self) -> None:
        self.built = False
        self._functional = None
        if len(self._layers) < 2:
            return
        first = self._layers[0]
        if isinstance(first, InputLayer):
            self.build(first.batch_shape)
        elif isinstance(first, (Functional, Sequential)):
            shape = getattr(first, "input_shape", None)
            if isinstance(shape, tuple):
                self.build(shape)

    def build(self, input_shape: Any = None) -> None:
        """Make the weights for inputs of this shape (with the batch first)."""
        if input_shape is None:
            return
        try:
            shape = standardize_shape(input_shape)
        except ValueError:
            # Several inputs: the layers are run one after the other and build themselves.
            return
        if not self._layers:
            raise ValueError(
                f"Sequential model {self.name} cannot be built because it has no layers. Call "
                "`model.add(layer)`."
            )
        first = self._layers[0]
        if isinstance(first, InputLayer) and first.batch_shape != shape:
            raise ValueError(
                f"Sequential model '{self.name}' has already been configured to use input "
                f"shape {first.batch_shape}. You cannot build it with input_shape {shape}."
            )
        if not isinstance(first, InputLayer):
            first = InputLayer(batch_shape=shape, dtype=first.compute_dtype)
            x = self._chain(first.output, self._layers)
            self._layers.insert(0, first)
        else:
            x = self._chain(first.output, self._layers[1:])
        self._functional = Functional(inputs=first.output, outputs=x)
        # Messages carry the name of the model that the user made.
        self._functional.name = self.name

    def _chain(self, x: Any, layers: list[Any]) -> Any:
        """Call the layers one after the other."""
        for layer in layers:
            needed = [
                p.name
                for p in inspect.signature(layer.call).parameters.values()
                if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            ]
            if len(needed) > 1:
                raise ValueError(
                    "Layers added to a Sequential model can only have a single required "
                    f"positional argument, the input tensor. {type(layer).__name__}.call has "
                    f"{needed}."
                )
            x = layer(x)
        return x

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the stack on the inputs."""
        if self._functional is not None:
            return self._functional.call(inputs, training=training, mask=mask)
        if not self._layers:
            raise ValueError(
                f"Sequential model '{self.name}' has no layers. Call `model.add(layer)`."
            )
        extra = {} if training is None else {"training": training}
        x = self._convert(inputs)
        for layer in self.layers:
            x = layer._invoke((x,), dict(extra), keep_maps=True)
        return x

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
        """The symbolic output for symbolic inputs."""
        if self._functional is not None:
            return self._functional.compute_output_spec(inputs)
        for layer in self.layers:
            inputs = layer._output_spec((inputs,), {})
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output for a shape of the input."""
        if self._functional is not None:
            return self._functional.compute_output_shape(input_shape)
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def _build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Looked at with the whole shape, while the number of examples is still known.
        self._check_first_layer(self._first_argument(args, kwargs))
        super()._build_for(args, kwargs)

    def _check_first_layer(self, inputs: Any) -> None:
        if self._layers and self._layers[0].input_spec is not None:
            check_inputs(self._layers[0].input_spec, inputs, self._layers[0].name)

    def _check_inputs(self, first: Any) -> None:
        if self._functional is not None:
            self._functional._check_inputs(first)

    def _check_input_shapes(self, inputs: Any) -> bool:
        if self._functional is not None:
            return self._functional._check_input_shapes(inputs)
        self._check_first_layer(inputs)
        return True

    @property
    def input_spec(self) -> Any:
        """What the input accepts, once it is known."""
        return None if self._functional is None else self._functional.input_spec

    @input_spec.setter
    def input_spec(self, value: Any) -> None:
        if self._functional is None:
            raise AttributeError(f"Sequential model '{self.name}' is not built yet.")
        self._functional.input_spec = value

    @property
    def layers(self) -> list[Any]:
        """The stack, without its input."""
        layers = self._layers
        if layers and isinstance(layers[0], InputLayer):
            return list(layers[1:])
        return list(layers)

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(
            "`Sequential.layers` attribute is reserved and should not be used. Use `add()` and "
            "`pop()` to change the layers in this model."
        )

    def _of_graph(self, attribute: str, words: str) -> Any:
        if self._functional is None:
            raise AttributeError(
                f"Sequential model '{self.name}' has no defined {words} yet: give it an `Input` "
                "as its first layer, or call it on data."
            )
        return getattr(self._functional, attribute)

    @property
    def input_shape(self) -> Any:
        """Shape of the input."""
        return self._of_graph("input_shape", "input shape")

    @property
    def output_shape(self) -> Any:
        """Shape of the output."""
        return self._of_graph("output_shape", "output shape")

    @property
    def inputs(self) -> Any:
        """The symbolic inputs."""
        return self._of_graph("inputs", "inputs")

    @property
    def outputs(self) -> Any:
        """The symbolic outputs."""
        return self._of_graph("outputs", "outputs")

    @property
    def input(self) -> Any:
        """The symbolic input."""
        return self._of_graph("input", "input")

    @property
    def output(self) -> Any:
        """The symbolic output."""
        return self._of_graph("output", "output")

    @property
    def output_names(self) -> list[str]:
        """Names of the layers that make the outputs."""
        names: list[str] = self._of_graph("output_names", "outputs")
        return names

    @property
    def input_dtype(self) -> str:
        """Name of the dtype that inputs are converted to."""
        if self._layers and isinstance(self._layers[0], InputLayer):
            return self._layers[0].dtype
        return self.compute_dtype

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_functional"] = None
        state["_graph_state"] = self._functional is not None
        return state

    def _restore_graph(self, graph: Any) -> None:
        if graph:
            self.build(self._layers[0].batch_shape)

    def get_config(self) -> dict[str, Any]:
        """The layers' configurations, in Keras's format."""
        from pycnn.keras._registry import serialize_object

        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype_policy.serialize(),
            "layers": copy.deepcopy([serialize_object(layer) for layer in self._layers]),
        }
        if self._functional is not None:
            config["build_input_shape"] = self._layers[0].batch_shape
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """A model from the result of `get_config`.

        Raises
        ------
        ValueError
            If the configuration lacks the name or the layers.
        """
        from pycnn.keras._registry import deserialize_object

        if "name" not in config or "layers" not in config:
            raise ValueError(
                "A Sequential model configuration must be a dictionary containing the 'name' and "
                f"'layers' keys. Received: config={config}"
            )
        model = cls(name=config["name"])
        for layer_config in config["layers"]:
            model.add(deserialize_object(layer_config, custom_objects), rebuild=False)
        if model._layers:
            model._maybe_rebuild()
        shape = config.get("build_input_shape")
        if model._functional is None and isinstance(shape, (list, tuple)):
            model.build(tuple(shape))
        if config.get("trainable") is False:
            model.trainable = False
        return model
