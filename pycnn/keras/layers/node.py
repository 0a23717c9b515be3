"""One call of a layer on symbolic tensors: its arguments and its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn.keras.keras_tensor import KerasHistory, KerasTensor
from pycnn.keras.layers._tree import flatten, map_structure

__all__ = ["Node", "has_symbolic"]


def has_symbolic(*structures: Any) -> bool:
    """Whether any leaf is a KerasTensor."""
    return any(isinstance(leaf, KerasTensor) for leaf in flatten(structures))


class Node:
    """A call of `operation`, remembered for the functional API.

    Attributes
    ----------
    input_tensors : list of KerasTensor
        All symbolic tensors among the arguments.
    output_tensors : list of KerasTensor
        What the call returned, flat.
    """

    def __init__(
        self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
    ) -> None:
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.outputs_struct = outputs
        self.input_tensors: list[KerasTensor] = [
            leaf for leaf in flatten((args, kwargs)) if isinstance(leaf, KerasTensor)
        ]
        self.output_tensors: list[KerasTensor] = flatten(outputs)
        index = len(operation._inbound_nodes)
        operation._inbound_nodes.append(self)
        for position, tensor in enumerate(self.output_tensors):
            tensor._keras_history = KerasHistory(operation, index, position)
        for parent in self.parent_nodes:
            parent.operation._outbound_nodes.append(self)

    @property
    def outputs(self) -> list[KerasTensor]:
        """The same as `output_tensors`."""
        return self.output_tensors

    @property
    def is_input(self) -> bool:
        """Whether the node stands for data rather than for a computation."""
        return not self.input_tensors

    @property
    def parent_nodes(self) -> list[Node]:
        """The nodes that made the inputs, without repetition."""
        parents: list[Node] = []
        for tensor in self.input_tensors:
            operation, index, _ = tensor._keras_history
            parent = operation._inbound_nodes[index]
            if parent not in parents:
                parents.append(parent)
        return parents

    def fill_in(self, lookup: Callable[[KerasTensor], Any]) -> tuple[Any, dict[str, Any]]:
        """The call's arguments with every symbolic tensor replaced by a value."""

        def swap(leaf: Any) -> Any:
            return lookup(leaf) if isinstance(leaf, KerasTensor) else leaf

        return map_structure(swap, self.args), map_structure(swap, self.kwargs)

    def __repr__(self) -> str:
        return f"<Node of {self.operation!r}>"
