"""Models given as a graph of layer calls: ``Model(inputs, outputs)``.

How a model runs, for those who record steps
--------------------------------------------
``model._run(inputs, training)`` runs the layers on core Tensors and returns core Tensors in
Keras's order (channels-last), in the structure of the model's outputs. It may be called on
numbers or, inside a ``_core.capture()``, on placeholders; nothing in it looks at a value.

* `inputs` is a Tensor, list or dictionary as the user gives it. Dtypes are converted to the
  inputs' own; a last axis of size one may be missing. A model that is not built yet is built.
* Outputs of a softmax or sigmoid carry `_keras_logits`, what the activation was given.
* With ``training=True`` batch normalisation records updates of its moving statistics by
  ``ops.assign_``; they are effects of the capture.
* Dropout asks ``pycnn.keras._maps.current_feed()`` for its seed. Put ``with seed_feed(feed):``
  around the call, `feed` being a ``SeedFeed(tape)``, and append ``*feed.arrays()`` to the arrays
  of each run, after those of the placeholders made before `_run`.
* ``model._regularization_losses()``, called after `_run` in the same capture, gives a list of
  scalar Tensors: activity penalties, `add_loss` and the weights' penalties.
* ``model._check_input_shapes(x)`` checks whole arrays (their first axis is the number of
  examples) and raises with the fix in code; it needs shapes only.
* ``model._seed_generators()`` lists all generators, each once.

Gradients are taken with respect to ``variable.tensor`` of `trainable_variables`.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import numpy as np

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._errors import shape_text
from pycnn.keras._maps import Maps
from pycnn.keras.keras_tensor import KerasTensor, Shape, dtype_name
from pycnn.keras.layers._tree import flatten, map_structure, pack_like, same_structure
from pycnn.keras.layers.base_layer import Layer, to_tensor
from pycnn.keras.layers.input_spec import InputSpec, check_inputs, shape_hint
from pycnn.keras.layers.node import Node
from pycnn.keras.models.functional_config import connect
from pycnn.keras.models.graph import Graph, clone_between, comes_from_input
from pycnn.keras.models.model import Model

__all__ = ["Functional"]


class Functional(Model):
    """A model given by symbolic inputs and outputs.

    Parameters
    ----------
    inputs, outputs : KerasTensor, or list, tuple or dictionary of them
        Where the data enters and what comes out.
    name : str, optional
        Made automatically when absent.
    trainable : bool, optional
        Whether the weights are trained.

    Raises
    ------
    ValueError
        If an input or output is no KerasTensor, or the outputs need other inputs too.

    Source: keras.Model.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        trainable = kwargs.pop("trainable", None)
        for word, structure in (("inputs", inputs), ("outputs", outputs)):
            for leaf in flatten(structure):
                if not isinstance(leaf, KerasTensor):
                    kind = type(leaf).__name__
                    hint = ""
                    if isinstance(leaf, Layer):
                        hint = f" Call the layer on a tensor: {kind}(...)(x)."
                    raise ValueError(
                        f"All `{word}` values must be KerasTensors (made by `Input` or by calling "
                        f"a layer on one). Received: {word}={structure!r}, including the invalid "
                        f"value {leaf!r} of type {kind}.{hint}"
                    )
        if isinstance(inputs, dict):
            for key, tensor in inputs.items():
                if isinstance(tensor, KerasTensor) and key != tensor.name:
                    warnings.warn(
                        f"The key {key!r} of `inputs` differs from the name {tensor.name!r} of its "
                        f"tensor; name it by `Input(..., name={key!r})`.",
                        stacklevel=2,
                    )
        if not all(comes_from_input(tensor) for tensor in flatten(inputs)):
            inputs, outputs = clone_between(inputs, outputs)
        self._start(name=name, **kwargs)
        self._convert_input_args = False
        self._set_graph(inputs, outputs)
        self.__dict__["_layers"] = [op for op in self._graph.operations if isinstance(op, Layer)]
        if trainable is False:  # True is the default, and would thaw frozen layers
            self.trainable = False
        self.output_names = [t._keras_history.operation.name for t in self._outputs]
        self._build_shapes_dict = {"input_shape": None}
        self.built = True

    # ---- the graph ----

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        self._inputs_struct = map_structure(lambda t: t, inputs)
        self._outputs_struct = map_structure(lambda t: t, outputs)
        self._inputs: tuple[KerasTensor, ...] = tuple(flatten(inputs))
        self._outputs: tuple[KerasTensor, ...] = tuple(flatten(outputs))
        self._graph = Graph(list(self._inputs), list(self._outputs))

    @property
    def _operations(self) -> list[Any]:
        return self._graph.operations

    @property
    def operations(self) -> list[Any]:
        """All layers, inputs first."""
        return list(self._graph.operations)

    @property
    def layers(self) -> list[Any]:
        """All layers, inputs first."""
        return [op for op in self._graph.operations if isinstance(op, Layer)]

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs, flat."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs, flat."""
        return list(self._outputs)

    @property
    def input(self) -> Any:
        """The symbolic inputs, as they were given."""
        return self._inputs_struct

    @property
    def output(self) -> Any:
        """The symbolic outputs, as they were given."""
        return self._outputs_struct

    @property
    def input_shape(self) -> Any:
        """Shape of the input, or a list of shapes."""
        shapes = [tensor.shape for tensor in self._inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        """Shape of the output, or a list of shapes."""
        shapes = [tensor.shape for tensor in self._outputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def input_spec(self) -> Any:
        """What each input accepts."""
        manual = self.__dict__.get("_input_spec")
        if manual is not None:
            return manual
        names: list[str] = [t._keras_history.operation.name for t in self._inputs]
        if isinstance(self._inputs_struct, dict):
            names = sorted(self._inputs_struct)
        return [
            InputSpec(
                shape=(None, *tensor.shape[1:]) if tensor.shape else (),
                allow_last_axis_squeeze=True,
                name=name,
            )
            for tensor, name in zip(self._inputs, names, strict=True)
        ]

    @input_spec.setter
    def input_spec(self, value: Any) -> None:
        self._input_spec = value

    # ---- running ----

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the layers on the inputs."""
        if mask is not None:
            raise NotImplementedError(f'Model "{self.name}": masks are not supported.')
        values = self._standardize(inputs)
        extra = {} if training is None else {"training": training}

        def call(layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            return layer._invoke(args, {**kwargs, **extra}, keep_maps=True)

        return self._pack_outputs(self._graph.run(values, call))

    def _pack_outputs(self, flat: list[Any]) -> Any:
        outputs = pack_like(self._outputs_struct, flat)
        if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
            return outputs[0]
        return outputs

    def _arrange(self, inputs: Any) -> list[Any]:
        """The user's inputs in the order of the model's, flat."""
        wanted = self._inputs_struct
        if isinstance(inputs, dict) and not isinstance(wanted, dict):
            names = [t.name for t in self._inputs]
            missing = [name for name in names if name not in inputs]
            if missing:
                raise ValueError(
                    f'Model "{self.name}" has the inputs {names}, got a dictionary with the keys '
                    f"{list(inputs)}: {missing} are missing."
                )
            return [inputs[name] for name in names]
        if isinstance(wanted, dict) and isinstance(inputs, dict):
            missing = [name for name in wanted if name not in inputs]
            if missing:
                raise ValueError(
                    f'Model "{self.name}" has the inputs {list(wanted)}, got a dictionary with '
                    f"the keys {list(inputs)}: {missing} are missing."
                )
            inputs = {name: inputs[name] for name in wanted}
        flat = flatten(inputs)
        if len(flat) != len(self._inputs):
            raise ValueError(
                f'Model "{self.name}" expects {len(self._inputs)} input(s) '
                f"{[t.name for t in self._inputs]}, got {len(flat)}."
            )
        if not same_structure(inputs, wanted) and len(flat) > 1:
            warnings.warn(
                f'Model "{self.name}": the inputs are nested differently from the model\'s; they '
                f"are taken in the order {[t.name for t in self._inputs]}.",
                stacklevel=2,
            )
        return flat

    def _standardize(self, inputs: Any) -> list[Any]:
        """Tensors or Maps of the inputs' dtypes and ranks, flat."""
        values: list[Any] = []
        for x, wanted in zip(self._arrange(inputs), self._inputs, strict=True):
            if isinstance(x, np.ndarray):
                x = to_tensor(x)
            elif not isinstance(x, (Tensor, Maps)):
                x = to_tensor(np.asarray(x))
            if dtype_name(x.dtype) != wanted.dtype:
                if isinstance(x, Maps):
                    x = Maps(ops.cast(x.tensor, dtype=wanted.dtype))
                else:
                    x = ops.cast(x, dtype=wanted.dtype)
            rank = len(wanted.shape)
            if not isinstance(x, Maps) and x.ndim != rank:
                shape = tuple(x.shape)
                if x.ndim == rank - 1 and wanted.shape[-1] == 1:
                    x = ops.reshape(x, shape=(*shape, 1))
                elif x.ndim == rank + 1 and shape[-1] == 1:
                    x = ops.reshape(x, shape=shape[:-1])
            values.append(x)
        return values

    def _check_inputs(self, first: Any) -> None:
        try:
            super()._check_inputs(first)
        except ValueError:
            if not self._accepts(first):
                raise

    def _accepts(self, inputs: Any) -> bool:
        """Whether the layers take inputs of other sizes than the model's `Input`.

        Convolutions and global pooling do: then a model made for one size of pictures runs on
        others too, as in Keras.
        """
        flat = flatten(inputs)
        if len(flat) != len(self._inputs) or self.__dict__.get("_input_spec") is not None:
            return False
        values = []
        for x, wanted in zip(flat, self._inputs, strict=True):
            shape = tuple(getattr(x, "shape", ()))
            # Other channels are a mistake, even where the layers could be run: pictures with the
            # channels first, for one.
            if len(shape) != len(wanted.shape) or shape[-1:] != wanted.shape[-1:]:
                return False
            values.append(KerasTensor((None, *shape[1:]), wanted.dtype, name=wanted.name))

        def call(layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            layer._check_inputs(layer._first_argument(args, kwargs))
            return layer._output_spec(args, kwargs)

        try:
            self._graph.run(values, call)
        except ValueError:
            return False
        return True

    def _check_input_shapes(self, inputs: Any) -> bool:
        """Check whole arrays against the model's inputs, by shape only.

        Returns
        -------
        bool
            Whether they have the model's own sizes; False if the layers take others too.

        Raises
        ------
        ValueError
            With the shape that came, the shape that is expected and the fix in code.
        """
        arrays = [
            _Shaped(tuple(x.shape) if hasattr(x, "shape") else np.shape(x), wanted.dtype)
            for x, wanted in zip(self._arrange(inputs), self._inputs, strict=True)
        ]
        for x, spec in zip(arrays, self.input_spec, strict=True):
            try:
                check_inputs(spec, x, self.name)
            except ValueError:
                if self._accepts(arrays):
                    return False
                raise ValueError(
                    f'Model "{self.name}", input "{spec.name}": expects data of shape '
                    f"{shape_text(spec.shape or (), 'N')}, got {shape_text(x.shape)}."
                    f"{shape_hint(x.shape, spec.shape)}"
                ) from None
        return True

    # ---- symbolic ----

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
        """The symbolic outputs for symbolic inputs."""
        values = self._arrange(inputs)
        if all(a.shape == b.shape for a, b in zip(values, self._inputs, strict=True)):
            # Nothing to infer: new tensors with the shapes that are known already.
            flat = [KerasTensor(t.shape, t.dtype) for t in self._outputs]
            return self._pack_outputs(flat)

        def call(layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            return layer._output_spec(args, kwargs)

        return self._pack_outputs(self._graph.run(values, call))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shapes of the outputs for shapes of the inputs."""
        shapes: list[Shape] = []
        if input_shape and all(s is None or isinstance(s, int) for s in input_shape):
            shapes = [tuple(input_shape)]
        else:
            children = input_shape
            if isinstance(input_shape, dict):
                children = [input_shape[k] for k in sorted(input_shape)]
            shapes = [tuple(shape) for shape in children]
        tensors = [
            KerasTensor(shape, t.dtype) for shape, t in zip(shapes, self._inputs, strict=True)
        ]
        spec = self.compute_output_spec(pack_like(self._inputs_struct, tensors))
        return map_structure(lambda t: t.shape, spec)

    def build(self, input_shape: Any = None) -> None:
        """Nothing to do: a functional model is built as it is made."""

    # ---- configuration ----

    def get_config(self) -> dict[str, Any]:
        """Layers, their calls, inputs and outputs, in Keras's format."""
        from pycnn.keras._registry import serialize_object

        if type(self) is not Functional and not _takes_graph(type(self)):
            return Model.get_config(self)
        layers = []
        calls, inputs, outputs = self._graph_state()
        for operation, own in zip(self._graph.operations, calls, strict=True):
            config = serialize_object(operation)
            config["name"] = operation.name
            config["inbound_nodes"] = own
            layers.append(config)
        return copy.deepcopy(
            {
                "name": self.name,
                "trainable": self.trainable,
                "layers": layers,
                "input_layers": inputs,
                "output_layers": outputs,
            }
        )

    def _graph_state(self) -> tuple[list[list[Any]], Any, Any]:
        """The calls of each layer, the inputs and the outputs, tensors by their layers' names."""
        numbers: dict[Node, int] = {}
        for operation in self._graph.operations:
            kept = [node for node in operation._inbound_nodes if node in self._graph.nodes]
            numbers.update({node: number for number, node in enumerate(kept)})

        def reference(tensor: KerasTensor) -> list[Any]:
            operation, index, position = tensor._keras_history
            return [operation.name, numbers[operation._inbound_nodes[index]], position]

        def end(tensor: KerasTensor) -> list[Any]:
            # For inputs and outputs, not for calls, Keras counts a functional model's own node.
            name, number, position = reference(tensor)
            inner = isinstance(tensor._keras_history.operation, Functional)
            return [name, number + inner, position]

        calls = [
            [
                _node_config(node, reference)
                for node in operation._inbound_nodes
                if node in self._graph.nodes and not node.is_input
            ]
            for operation in self._graph.operations
        ]
        ends = map_structure(end, self._inputs_struct), map_structure(end, self._outputs_struct)
        return calls, *ends

    # ---- copies and pickles ----

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_graph", "_inputs", "_outputs", "_inputs_struct", "_outputs_struct"):
            del state[name]
        state["_graph_state"] = (self._graph.operations, *self._graph_state())
        return state

    def _restore_graph(self, graph: Any) -> None:
        operations, calls, *ends = graph
        layers = {layer.name: layer for layer in operations}
        self._set_graph(*connect(layers, list(zip(operations, calls, strict=True)), *ends))


class _Shaped:
    """A shape and a dtype, for checks that need no more."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = dtype


def _takes_graph(cls: type) -> bool:
    """Whether a subclass's constructor takes inputs and outputs."""
    parameters = list(inspect.signature(cls).parameters.values())
    names = [p.name for p in parameters]
    kinds = {p.kind for p in parameters}
    open_ended = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
    return names[:3] == ["inputs", "outputs", "name"] or open_ended


def _node_config(node: Node, reference: Any) -> dict[str, Any]:
    def encode(leaf: Any) -> Any:
        if not isinstance(leaf, KerasTensor):
            return leaf
        return {
            "class_name": "__keras_tensor__",
            "config": {
                "shape": leaf.shape,
                "dtype": leaf.dtype,
                "keras_history": reference(leaf),
            },
        }

    args = map_structure(encode, node.args)
    return {"args": list(args), "kwargs": map_structure(encode, node.kwargs)}
