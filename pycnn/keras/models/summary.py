"""`model.summary()`: layers, output shapes and numbers of parameters, as Keras prints them."""

from __future__ import annotations

import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pycnn.keras.layers._tree import flatten, map_shapes, map_structure
from pycnn.keras.models.functional import Functional
from pycnn.keras.models.table import draw_table

__all__ = ["memory_text", "print_summary", "summary_text"]


def memory_text(size: float) -> str:
    """A number of bytes such as "809.29 KB"."""
    units = ["B", "KB", "MB", "GB", "TB", "PB"]
    for unit in units[:-1]:
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} {units[-1]}"


def _count(variables: Iterable[Any]) -> tuple[int, int]:
    """Number of elements and of bytes, each variable once."""
    unique = {id(v): v for v in variables}.values()
    elements = sum(math.prod(v.shape) for v in unique)
    size = sum(math.prod(v.shape) * np.dtype(str(v.dtype)).itemsize for v in unique)
    return elements, size


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join(str(size) for size in shape)})"


def _output_shape(layer: Any) -> str:
    if layer._inbound_nodes:
        # The last call tells, as in Keras.
        shapes = map_structure(
            lambda t: _shape_text(t.shape), layer._inbound_nodes[-1].outputs_struct
        )
    elif layer._build_shapes_dict:
        try:
            shape = getattr(layer, "output_shape", None)
            if shape is None:
                shape = layer.compute_output_shape(*layer._build_shapes_dict.values())
            shapes = map_shapes(_shape_text, shape)
        except (NotImplementedError, AttributeError, TypeError, ValueError):
            return "?"
    else:
        return "?"
    flat = flatten(shapes)
    return flat[0] if len(flat) == 1 else str(shapes).replace("'", "")


def _is_stack(model: Any) -> bool:
    """Whether every layer has one input, the layer before it."""
    if not isinstance(model, Functional):
        return True
    nodes = []
    for group in model._graph.nodes_by_depth.values():
        if len(group) > 1 or len(group[0].input_tensors) > 1:
            return False
        nodes.extend(group)
    return all(sum(node in nodes for node in layer._inbound_nodes) <= 1 for layer in model.layers)


def _connections(layer: Any, relevant: set[Any]) -> str:
    words = []
    for node in layer._inbound_nodes:
        if node not in relevant:
            continue
        for tensor in node.input_tensors:
            operation, index, position = tensor._keras_history
            words.append(f"{operation.name}[{index}][{position}]")
    return ", ".join(words) or "-"


def _layer_range(layers: list[Any], layer_range: Any) -> list[Any]:
    """The layers from the first that matches one name to the last that matches the other.

    Raises
    ------
    ValueError
        If the range is no pair of names, or a name matches no layer.
    """
    if layer_range is None:
        return layers
    if not isinstance(layer_range, (list, tuple)) or len(layer_range) != 2:
        raise ValueError(
            f"layer_range must be a list or tuple of length 2. Received: {layer_range!r}."
        )
    if not all(isinstance(name, str) for name in layer_range):
        raise ValueError(f"layer_range should contain string type only. Received: {layer_range}.")

    def matching(name: str) -> list[int]:
        found = [
            i for i, layer in enumerate(layers) if layer.name == name or re.match(name, layer.name)
        ]
        if not found:
            raise ValueError(
                "Passed layer_names do not match the layer names in the model. Received: "
                f"{layer_range}; the layers are {[layer.name for layer in layers]}."
            )
        return found

    first, last = min(matching(layer_range[0])), max(matching(layer_range[1]))
    if first > last:
        first, last = min(matching(layer_range[1])), max(matching(layer_range[0]))
    return layers[first : last + 1]


def summary_text(
    model: Any,
    line_length: int | None = None,
    positions: list[float] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Any = None,
) -> str:
    """The text of a model's summary, without a newline at the end.

    Raises
    ------
    ValueError
        If the width does not suffice for the columns, `positions` are not one a column, or
        `layer_range` names no layers.
    """
    stack = _is_stack(model)
    relevant: set[Any] = set()
    if stack:
        width, parts = 88, positions or [0.45, 0.80, 1.0]
        header, align = ["Layer (type)", "Output Shape", "Param #"], ["left", "left", "right"]
    else:
        width, parts = 108, positions or [0.3, 0.56, 0.74, 1.0]
        header = ["Layer (type)", "Output Shape", "Param #", "Connected to"]
        align = ["left", "left", "right", "left"]
        relevant = model._graph.nodes
    if len(parts) != len(header):
        raise ValueError(
            f"positions: expected {len(header)} numbers, one for each column, got {parts}"
        )
    if show_trainable:
        width += 12
        parts = [part * 0.90 for part in parts] + [1.0]
        header, align = [*header, "Trainable"], [*align, "center"]
    width = line_length or min(width, shutil.get_terminal_size().columns - 4)
    columns: list[int] = []
    for part in parts:
        columns.append(int(part * width) - sum(columns))
        if columns[-1] < 4:
            raise ValueError("Insufficient console width to print summary.")

    def fields(layer: Any, prefix: str) -> list[str]:
        if layer.built:
            parameters = f"{layer.count_params():,}"
        else:
            parameters = "0 (unbuilt)"
        row = [
            f"{prefix}{layer.name} ({type(layer).__name__})",
            _output_shape(layer),
            parameters,
        ]
        if not stack:
            row.append(_connections(layer, relevant))
        if show_trainable:
            row.append("-" if not layer.weights else "Y" if layer.trainable else "N")
        return row

    def rows_of(layer: Any, level: int = 0) -> list[list[str]]:
        rows = [fields(layer, "   " * level + "└ " if level else "")]
        if expand_nested and getattr(layer, "layers", None):
            for inner in layer.layers:
                rows.extend(rows_of(inner, level + 1))
        return rows

    rows = [row for layer in _layer_range(model.layers, layer_range) for row in rows_of(layer)]
    lines = [f'Model: "{model.name}"', *draw_table(header, rows, align, columns, width)]
    return "\n".join(lines + _totals(model))


def _totals(model: Any) -> list[str]:
    trained, trained_size = _count(model.trainable_weights)
    fixed, fixed_size = _count(model.non_trainable_weights)
    optimizer = getattr(model, "optimizer", None)
    kept, kept_size = 0, 0
    with_optimizer = bool(
        getattr(model, "compiled", False) and optimizer is not None and optimizer.built
    )
    if with_optimizer:
        kept, kept_size = _count(optimizer.variables)  # type: ignore[union-attr]
    total, total_size = trained + fixed + kept, trained_size + fixed_size + kept_size
    lines = [
        f" Total params: {total:,} ({memory_text(total_size)})",
        f" Trainable params: {trained:,} ({memory_text(trained_size)})",
        f" Non-trainable params: {fixed:,} ({memory_text(fixed_size)})",
    ]
    if with_optimizer:
        lines.append(f" Optimizer params: {kept:,} ({memory_text(kept_size)})")
    return lines


def print_summary(
    model: Any,
    line_length: int | None = None,
    positions: list[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Any = None,
) -> None:
    """Print a model's summary, or hand it to `print_fn` as one text.

    Raises
    ------
    TypeError
        If `line_length` is no whole number or `print_fn` cannot be called.
    """
    if line_length is not None and not isinstance(line_length, int):
        raise TypeError(f"summary: line_length must be a whole number, got {line_length!r}.")
    if print_fn is not None and not callable(print_fn):
        raise TypeError(f"summary: print_fn must be a function of one text, got {print_fn!r}.")
    text = summary_text(model, line_length, positions, expand_nested, show_trainable, layer_range)
    if print_fn is not None:
        print_fn(text + "\n")
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        # A terminal without box characters gets plain ones.
        text = text.translate(_PLAIN)
    print(text)


_PLAIN = str.maketrans("┏┳┓┡╇┩├┼┤└┴┘━─┃│…", "+++++++++" + "+++" + "=-||~")
