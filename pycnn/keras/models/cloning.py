"""Copies of models with new weights, and models from JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pycnn.keras._registry import deserialize_object
from pycnn.keras.keras_tensor import KerasTensor
from pycnn.keras.layers._tree import flatten, pack_like
from pycnn.keras.layers.input_layer import Input, InputLayer
from pycnn.keras.models.functional import Functional
from pycnn.keras.models.sequential import Sequential

__all__ = ["clone_model", "model_from_json"]


def clone_model(
    model: Any,
    input_tensors: Any = None,
    clone_function: Callable[[Any], Any] | None = None,
    call_function: Callable[..., Any] | None = None,
    recursive: bool = False,
    **kwargs: Any,
) -> Any:
    """A model of the same layers with weights of its own, made anew.

    Parameters
    ----------
    model : Model
        A Sequential or functional model.
    input_tensors : optional
        Symbolic tensors to start from; new ones when absent.
    clone_function : callable, optional
        ``clone_function(layer)`` makes the copy of a layer; by default from its config.
    call_function : callable, optional
        ``call_function(layer, *args, **kwargs)`` calls a copy in a functional model.
    recursive : bool
        Whether `clone_function` is applied to the layers of models within.

    Raises
    ------
    ValueError
        If the model is given by code: make a second object of its class instead.
    """
    if kwargs:
        raise ValueError(f"Unexpected keyword argument(s): {tuple(kwargs)}")

    def copy(layer: Any) -> Any:
        if recursive and isinstance(layer, (Functional, Sequential)):
            return clone_model(layer, None, clone_function, call_function, True)
        if clone_function is not None:
            return clone_function(layer)
        return type(layer).from_config(layer.get_config())

    if isinstance(model, Sequential):
        if call_function is not None:
            raise ValueError("`call_function` is not supported with Sequential models.")
        if input_tensors is not None:
            first = flatten(input_tensors)[0]
        elif isinstance(model._layers[0] if model._layers else None, InputLayer):
            entry = model._layers[0]
            first = Input(batch_shape=entry.batch_shape, dtype=entry.dtype, name=entry.name)
        else:
            first = None
        layers = [copy(layer) for layer in model.layers]
        stack = layers if first is None else [first, *layers]
        return Sequential(stack, trainable=model.trainable, name=model.name)
    if not isinstance(model, Functional):
        raise ValueError(
            "Expected a Sequential or functional model, got a model given by code "
            f"({type(model).__name__}): make a second object of its class instead."
        )
    if input_tensors is None:
        inputs = [
            Input(batch_shape=t.shape, dtype=t.dtype, name=t._keras_history.operation.name)
            for t in model.inputs
        ]
    else:
        inputs = flatten(input_tensors)
        if not all(isinstance(t, KerasTensor) for t in inputs):
            raise ValueError("All entries of `input_tensors` must be KerasTensors.")
    copies: dict[int, Any] = {}

    def call(layer: Any, args: Any, call_kwargs: dict[str, Any]) -> Any:
        if id(layer) not in copies:
            copies[id(layer)] = copy(layer)
        if call_function is not None:
            return call_function(copies[id(layer)], *args, **call_kwargs)
        return copies[id(layer)](*args, **call_kwargs)

    outputs = model._graph.run(list(inputs), call)
    return Functional(
        pack_like(model._inputs_struct, list(inputs)),
        pack_like(model._outputs_struct, outputs),
        name=model.name,
        trainable=model.trainable,
    )


def model_from_json(json_string: str, custom_objects: Any = None) -> Any:
    """The model that `Model.to_json` wrote, with new weights and not compiled."""
    config = json.loads(json_string)
    if isinstance(config, dict):
        config.pop("compile_config", None)
    return deserialize_object(config, custom_objects)
