"""Nested structures: lists, tuples and dictionaries of values.

Dictionaries are walked in the order of their sorted keys, as Keras does, and keep their own
order when a structure is rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["flatten", "map_shapes", "map_structure", "pack_like", "same_structure"]


def _children(structure: Any) -> list[Any] | None:
    if isinstance(structure, dict):
        return [structure[key] for key in sorted(structure)]
    if isinstance(structure, (list, tuple)):
        return list(structure)
    return None


def flatten(structure: Any) -> list[Any]:
    """The leaves, in order."""
    children = _children(structure)
    if children is None:
        return [structure]
    leaves: list[Any] = []
    for child in children:
        leaves.extend(flatten(child))
    return leaves


def map_structure(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same structure with every leaf replaced by ``function(leaf)``."""
    if isinstance(structure, dict):
        return {key: map_structure(function, value) for key, value in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_structure(function, value) for value in structure))
    if isinstance(structure, tuple):
        return tuple(map_structure(function, value) for value in structure)
    if isinstance(structure, list):
        return [map_structure(function, value) for value in structure]
    return function(structure)


def pack_like(structure: Any, leaves: list[Any]) -> Any:
    """`leaves` arranged as `structure`."""
    return _pack(structure, iter(leaves))


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, dict):
        packed = {key: _pack(structure[key], leaves) for key in sorted(structure)}
        return {key: packed[key] for key in structure}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_pack(value, leaves) for value in structure))
    if isinstance(structure, tuple):
        return tuple(_pack(value, leaves) for value in structure)
    if isinstance(structure, list):
        return [_pack(value, leaves) for value in structure]
    return next(leaves)


def same_structure(a: Any, b: Any) -> bool:
    """Whether two structures nest alike; lists and tuples count as the same."""
    if isinstance(a, dict) or isinstance(b, dict):
        return (
            isinstance(a, dict)
            and isinstance(b, dict)
            and set(a) == set(b)
            and all(same_structure(a[key], b[key]) for key in a)
        )
    if isinstance(a, (list, tuple)) or isinstance(b, (list, tuple)):
        return (
            isinstance(a, (list, tuple))
            and isinstance(b, (list, tuple))
            and len(a) == len(b)
            and all(same_structure(x, y) for x, y in zip(a, b, strict=True))
        )
    return True


def _is_shape(structure: Any) -> bool:
    return isinstance(structure, (list, tuple)) and all(
        size is None or isinstance(size, int) for size in structure
    )


def map_shapes(function: Callable[[tuple[int | None, ...]], Any], shapes: Any) -> Any:
    """Apply `function` to every shape of a structure whose leaves are shapes."""
    if _is_shape(shapes):
        return function(tuple(shapes))
    if isinstance(shapes, dict):
        return {key: map_shapes(function, value) for key, value in shapes.items()}
    if isinstance(shapes, tuple):
        return tuple(map_shapes(function, value) for value in shapes)
    return [map_shapes(function, value) for value in shapes]
