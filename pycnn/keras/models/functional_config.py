"""Making a functional model from its configuration."""

from __future__ import annotations

from typing import Any

from pycnn.keras.keras_tensor import KerasTensor

__all__ = ["functional_from_config"]


class _NotYet(Exception):
    """A call needs the result of a call that has not been made yet."""


def _tensor(layers: dict[str, Any], history: Any, end: bool = False) -> KerasTensor:
    """The tensor that (layer name, number of the call, number of the output) stands for."""
    from pycnn.keras.models.functional import Functional

    name, index, position = history[0], int(history[1]), int(history[2])
    layer = layers.get(name)
    if layer is None:
        raise ValueError(f"The model's configuration refers to an unknown layer {name!r}.")
    if end and isinstance(layer, Functional):
        # For inputs and outputs Keras counts a node of the functional model's own.
        index -= 1
    if index < 0 or index >= len(layer._inbound_nodes):
        raise _NotYet
    tensors = layer._inbound_nodes[index].output_tensors
    if not 0 <= position < len(tensors):
        raise ValueError(
            f"The model's configuration asks for output {position} of layer {name!r}, which has "
            f"{len(tensors)}."
        )
    found: KerasTensor = tensors[position]
    return found


def _decode(layers: dict[str, Any], value: Any) -> Any:
    """Arguments of a call, symbolic tensors found again."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return _tensor(layers, value["config"]["keras_history"])
        if value.get("class_name") == "__tuple__":
            return tuple(_decode(layers, v) for v in value["items"])
        return {key: _decode(layers, v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_decode(layers, v) for v in value]
    return value


def _call(layers: dict[str, Any], layer: Any, call: Any) -> None:
    if isinstance(call, dict):
        args = _decode(layers, call.get("args", []))
        kwargs = _decode(layers, call.get("kwargs", {}))
    else:
        # Keras 2 wrote [[layer, node, tensor, kwargs], ...].
        tensors = [_tensor(layers, entry) for entry in call]
        args = [tensors[0] if len(tensors) == 1 else tensors]
        kwargs = dict(call[0][3]) if call and len(call[0]) > 3 else {}
    layer(*args, **{key: value for key, value in kwargs.items() if value is not None})


def _structure(layers: dict[str, Any], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _structure(layers, v) for key, v in value.items()}
    if len(value) == 3 and isinstance(value[0], str):
        return _tensor(layers, value, end=True)
    return [_structure(layers, v) for v in value]


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
    while any(calls for _, calls in waiting):
        progress = False
        for layer, calls in waiting:
            while calls:
                try:
                    _call(layers, layer, calls[0])
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
    return cls(
        inputs=_structure(layers, input_layers),
        outputs=_structure(layers, output_layers),
        name=name,
        trainable=trainable,
        **config,
    )
