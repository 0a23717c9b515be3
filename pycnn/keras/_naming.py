"""Automatic names: dense, dense_1, ...; conv2d, conv2d_1, ...

The scheme is Keras's (`keras.src.utils.naming` describes it): the class name in snake case,
then a counter for the second object onwards. `clear_session()` starts anew.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "auto_name",
    "current_path",
    "get_uid",
    "given_name",
    "name_scope",
    "reset_names",
    "snake_case",
    "unique_name",
]

_counts: dict[str, int] = {}
_lock = threading.Lock()


def snake_case(name: str) -> str:
    """``"MaxPooling2D"`` -> ``"max_pooling2d"``, ``"ReLU"`` -> ``"re_lu"``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def unique_name(name: str) -> str:
    """`name` the first time, then ``name_1``, ``name_2``, ..."""
    with _lock:
        count = _counts.get(name, 0)
        _counts[name] = count + 1
    return name if count == 0 else f"{name}_{count}"


def auto_name(class_name: str) -> str:
    """The next automatic name for an object of this class."""
    return unique_name(snake_case(class_name))


def given_name(name: object, class_name: str) -> str:
    """The name a user gave an object of this class, or its automatic one.

    Raises
    ------
    TypeError
        If it is no string.
    """
    if name is None or (isinstance(name, str) and not name):
        return auto_name(class_name)
    if not isinstance(name, str):
        raise TypeError(
            f"{class_name}: `name` must be a string, got {name!r} (of type {type(name).__name__})."
        )
    return name


def get_uid(prefix: str = "") -> int:
    """Count up the number kept for `prefix` and return it (1 the first time)."""
    with _lock:
        _counts[prefix] = _counts.get(prefix, 0) + 1
        return _counts[prefix]


def reset_names() -> None:
    """Forget all counters; part of `clear_session()`."""
    with _lock:
        _counts.clear()


class _Scopes(threading.local):
    """The open name scopes of a thread, as (name, owner)."""

    def __init__(self) -> None:
        self.stack: list[tuple[str, object]] = []


_scopes = _Scopes()


@contextmanager
def name_scope(name: str, owner: object = None) -> Iterator[None]:
    """Variables made inside the block get `name` as a part of their path.

    A scope that its owner has already opened is not opened a second time.
    """
    stack = _scopes.stack
    if owner is not None and stack and stack[-1][1] is owner:
        yield
        return
    stack.append((name, owner))
    try:
        yield
    finally:
        stack.pop()


def current_path() -> str:
    """The open scopes' names joined by slashes."""
    return "/".join(name for name, _ in _scopes.stack)
