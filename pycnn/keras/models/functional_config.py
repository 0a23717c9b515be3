"""Making a functional model from its configuration."""

from __future__ import annotations

from typing import Any

from pycnn.keras.keras_tensor import KerasTensor

__all__ = ["connect", "functional_from_config"]


class _NotYet(Exception):
    """A call needs the result of a call that has not been made yet."""


class _Finder:
    """Makes calls and finds the symbolic tensors that they are given and return."""

    def __init__(self, layers: dict[str, Any], earlier: dict[str, int]) -> None:
        self.layers = layers
        self.earlier = earlier

    def tensor(self, history: Any, end: bool = False) -> KerasTensor:
        """The tensor that (layer name, number of the call, number of the output) stands for."""
        from pycnn.keras.models.functional import Functional

        name, index, position = history[0], int(history[1]), int(history[2])
        layer = self.layers.get(name)
        if layer is None:
            raise ValueError(f"The model's configuration refers to an unknown layer {name!r}.")
        if end and isinstance(layer, Functional):
            # For inputs and outputs Keras counts a node of the functional model's own.
            index -= 1
        at = index + self.earlier[name]
        if index < 0 or at >= len(layer._inbound_nodes):
            raise _NotYet
        tensors = layer._inbound_nodes[at].output_tensors
        if not 0 <= position < len(tensors):
            raise ValueError(
                f"The model's configuration asks for output {position} of layer {name!r}, which "
                f"has {len(tensors)}."
            )
        found: KerasTensor = tensors[position]
        return found

    def decode(self, value: Any) -> Any:
        """Arguments of a call, symbolic tensors found again."""
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                return self.tensor(value["config"]["keras_history"])
            if value.get("class_name") == "__tuple__":
                return tuple(self.decode(v) for v in value["items"])
            return {key: self.decode(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.decode(v) for v in value]
        return value

    def call(self, layer: Any, call: Any) -> None:
        """Make one call of a layer."""
        if isinstance(call, dict):
            args = self.decode(call.get("args", []))
            kwargs = self.decode(call.get("kwargs", {}))
        else:
            # Keras 2 wrote [[layer, node, tensor, kwargs], ...].
            tensors = [self.tensor(entry) for entry in call]
            args = [tensors[0] if len(tensors) == 1 else tensors]
            kwargs = dict(call[0][3]) if call and len(call[0]) > 3 else {}
        layer(*args, **{key: value for key, value in kwargs.items() if value is not None})

    def structure(self, value: Any) -> Any:
        """The tensors of a model's inputs or outputs."""
        if isinstance(value, dict):
            return {key: self.structure(v) for key, v in value.items()}
        if len(value) == 3 and isinstance(value[0], str):
            return self.tensor(value, end=True)
        return [self.structure(v) for v in value]


def functional_from_config(cls: Any, config: dict[str, Any], custom_objects: Any = None) -> Any:
    """A model from `Functional.get_config`'s dictionary.

    Raises
    ------
    ValueError
        If the configuration is malformed, refers to unknown layers or has a cycle.
    """
    from pycnn.keras._registry import deserialize_object

    config = dict(config)
    try:
        layer_configs = list(config.pop("layers"))
        input_layers, output_layers = config.pop("input_layers"), config.pop("output_layers")
    except KeyError as error:
        raise ValueError(f"The configuration of a functional model lacks {error}.") from None
    name, trainable = config.pop("name", None), config.pop("trainable", None)
    layers: dict[str, Any] = {}
    waiting: list[tuple[Any, list[Any]]] = []
    for layer_config in layer_configs:
        layer = deserialize_object(layer_config, custom_objects)
        layers[layer_config.get("name") or layer_config["config"]["name"]] = layer
        waiting.append((layer, list(layer_config.get("inbound_nodes", []))))
    inputs, outputs = connect(layers, waiting, input_layers, output_layers)
    return cls(inputs=inputs, outputs=outputs, name=name, trainable=trainable, **config)


def connect(
    layers: dict[str, Any],
    waiting: list[tuple[Any, list[Any]]],
    input_layers: Any,
    output_layers: Any,
) -> tuple[Any, Any]:
    """Call layers as they were called once; returns the inputs and outputs of the model.

    Parameters
    ----------
    layers : dict
        The layers by name.
    waiting : list
        Each layer with its calls, which are taken from the list.
    input_layers, output_layers
        Structures of (layer name, number of the call, number of the output).

    Raises
    ------
    ValueError
        If a call cannot be made.
    """
    # Calls that a layer has already, of another model that shares it, do not count.
    earlier = {
        name: sum(not node.is_input for node in layer._inbound_nodes)
        for name, layer in layers.items()
    }
    find = _Finder(layers, earlier)
    while any(calls for _, calls in waiting):
        progress = False
        for layer, calls in waiting:
            while calls:
                try:
                    find.call(layer, calls[0])
                except _NotYet:
                    break
                calls.pop(0)
                progress = True
        if not progress:
            stuck = [layer.name for layer, calls in waiting if calls]
            raise ValueError(
                "Invalid configuration of a functional model: the calls of these layers cannot be "
                f"made, because of a cycle or a missing call: {stuck}."
            )
    return find.structure(input_layers), find.structure(output_layers)
