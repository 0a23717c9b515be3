"""The graph behind a functional model: nodes between inputs and outputs, in order.

Depth is the longest way from a node to an output. Layers are listed from the deepest to the
outputs, at equal depth in the order in which a walk from the outputs meets them; this is the
order of `model.layers` and `model.weights` in Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn.keras.keras_tensor import KerasTensor
from pycnn.keras.layers._tree import flatten, map_structure, pack_like
from pycnn.keras.layers.input_layer import Input, InputLayer
from pycnn.keras.layers.node import Node

__all__ = ["Graph", "clone_between", "comes_from_input"]


def node_of(tensor: KerasTensor) -> Node:
    """The call that made a tensor."""
    operation, index, _ = tensor._keras_history
    node: Node = operation._inbound_nodes[index]
    return node


def comes_from_input(tensor: KerasTensor) -> bool:
    """Whether the tensor was made by `Input`."""
    return hasattr(tensor, "_keras_history") and node_of(tensor).is_input


def _sorted_nodes(
    inputs: list[KerasTensor], outputs: list[KerasTensor]
) -> tuple[list[Node], dict[int, int]]:
    """Nodes from the inputs to the outputs, and the order in which layers are met.

    The walk goes from the outputs towards the inputs without recursion: networks may be deeper
    than Python's stack.
    """
    given = {id(tensor) for tensor in inputs}
    finished: set[Node] = set()
    open_nodes: set[Node] = set()
    order: list[Node] = []
    met: dict[int, int] = {}
    for output in outputs:
        stack: list[tuple[Node, int]] = []

        def enter(tensor: KerasTensor, stack: list[tuple[Node, int]] = stack) -> None:
            if not hasattr(tensor, "_keras_history"):
                raise ValueError(
                    f"{tensor} was not made by `Input` or by calling a layer, so it cannot be a "
                    "part of a model."
                )
            node = node_of(tensor)
            if node in finished:
                return
            if node in open_nodes:
                raise ValueError(f"The layer '{node.operation.name}' is part of a cycle.")
            met.setdefault(id(node.operation), len(met))
            open_nodes.add(node)
            stack.append((node, 0))

        enter(output)
        while stack:
            node, position = stack[-1]
            behind_input = any(id(tensor) in given for tensor in node.output_tensors)
            if behind_input or position >= len(node.input_tensors):
                stack.pop()
                open_nodes.discard(node)
                if node not in finished:
                    finished.add(node)
                    order.append(node)
                continue
            stack[-1] = (node, position + 1)
            enter(node.input_tensors[position])
    return order, met


class Graph:
    """Nodes and layers between given inputs and outputs.

    Parameters
    ----------
    inputs, outputs : list of KerasTensor

    Attributes
    ----------
    operations : list of Layer
        All layers, inputs first.
    nodes_by_depth : dict
        Lists of nodes, the deepest first.

    Raises
    ------
    ValueError
        If an output does not depend on the inputs alone, or two layers share a name.
    """

    def __init__(self, inputs: list[KerasTensor], outputs: list[KerasTensor]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        order, met = _sorted_nodes(inputs, outputs)
        inside = set(order)
        depths: dict[Node, int] = {}
        operation_depths: dict[int, int] = {}
        operations: dict[int, Any] = {}
        for node in reversed(order):
            key = id(node.operation)
            # A shared layer stands where its deepest call stands.
            depth = max(depths.get(node, 0), operation_depths.get(key, 0))
            depths[node] = operation_depths[key] = depth
            operations[key] = node.operation
            for parent in node.parent_nodes:
                if parent in inside:
                    depths[parent] = max(depth + 1, depths.get(parent, 0))
        for tensor in inputs:
            node = node_of(tensor)
            key = id(node.operation)
            if key not in operations and node.is_input:
                # An input that no output needs is a part of the model all the same.
                depths[node] = operation_depths[key] = 0
                operations[key] = node.operation
                met[key] = -1
        self.nodes_by_depth: dict[int, list[Node]] = {}
        for depth in sorted(set(depths.values()), reverse=True):
            self.nodes_by_depth[depth] = [n for n, d in depths.items() if d == depth]
        keys = sorted(operations, key=lambda k: (-operation_depths[k], met[k]))
        self.operations = [operations[key] for key in keys]
        self.nodes = set(depths)
        self._plan = [n for nodes in self.nodes_by_depth.values() for n in nodes]
        self._check_connected()
        names = [operation.name for operation in self.operations]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f'The name "{name}" is used {names.count(name)} times in the model. All layer '
                    "names should be unique: pass `name=` to the layers."
                )

    def _check_connected(self) -> None:
        known = {id(tensor) for tensor in self.inputs}
        for node in self._plan:
            if any(id(tensor) in known for tensor in node.output_tensors):
                continue
            for tensor in node.input_tensors:
                if id(tensor) not in known:
                    raise ValueError(
                        f"Graph disconnected: cannot find a way from the inputs to {tensor} at "
                        f"layer '{node.operation.name}'. Is its `Input` missing among the "
                        "model's inputs?"
                    )
            if node.is_input:
                raise ValueError(
                    f"Graph disconnected: '{node.operation.name}' is an `Input` that the outputs "
                    "depend on, but it is not among the model's inputs."
                )
            known.update(id(tensor) for tensor in node.output_tensors)
        for tensor in self.outputs:
            if id(tensor) not in known:
                raise ValueError(f"Output {tensor} is not connected to the inputs.")

    def run(self, values: list[Any], call: Callable[[Any, Any, dict[str, Any]], Any]) -> list[Any]:
        """Values of the outputs for values of the inputs.

        Parameters
        ----------
        values : list
            One for each input.
        call : callable
            ``call(layer, args, kwargs)`` runs a layer.
        """
        found = {id(t): v for t, v in zip(self.inputs, values, strict=True)}
        for node in self._plan:
            if all(id(tensor) in found for tensor in node.output_tensors):
                continue
            args, kwargs = node.fill_in(lambda tensor: found[id(tensor)])
            results = flatten(call(node.operation, args, kwargs))
            for tensor, result in zip(node.output_tensors, results, strict=True):
                found[id(tensor)] = result
        return [found[id(tensor)] for tensor in self.outputs]


def clone_between(inputs: Any, outputs: Any) -> tuple[Any, Any]:
    """The same calls between new inputs and new outputs, for a model cut out of another.

    Needed when a model starts at a tensor in the middle: that tensor becomes an `Input`, and the
    layers get further nodes, without being called again.
    """
    copies: dict[int, KerasTensor] = {}

    def copy(leaf: Any) -> Any:
        if not isinstance(leaf, KerasTensor):
            return leaf
        if id(leaf) not in copies:
            copies[id(leaf)] = KerasTensor(leaf.shape, leaf.dtype, name=f"{leaf.name}_clone")
        return copies[id(leaf)]

    flat_inputs = flatten(inputs)
    new_inputs: list[KerasTensor] = []
    for tensor in flat_inputs:
        if comes_from_input(tensor):
            new_inputs.append(tensor)
        else:
            new_inputs.append(
                Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"{tensor.name}CLONE")
            )
        copies[id(tensor)] = new_inputs[-1]
    order, _ = _sorted_nodes(flat_inputs, flatten(outputs))
    for node in order:
        if any(id(tensor) in copies for tensor in node.output_tensors):
            continue
        if isinstance(node.operation, InputLayer):
            for tensor in node.output_tensors:
                copies[id(tensor)] = tensor
            continue
        args = map_structure(copy, node.args)
        kwargs = map_structure(copy, node.kwargs)
        Node(node.operation, args, kwargs, map_structure(copy, node.outputs_struct))
    return pack_like(inputs, new_inputs), map_structure(copy, outputs)
