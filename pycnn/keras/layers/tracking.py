"""Finding the variables and layers that a layer owns.

Assigning a variable, a layer, a seed generator or a metric to an attribute makes the layer
its owner; so does putting one into a list or a dictionary that is an attribute, also later.
The order of first appearance is the order of `weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

__all__ = ["TrackedDict", "TrackedList", "tracked"]

Notice = Callable[[Any], None]


class TrackedList(list[Any]):
    """A list that tells its owner what is put into it."""

    def __init__(self, values: Iterable[Any], notice: Notice) -> None:
        self._notice = notice
        super().__init__(tracked(value, notice) for value in values)

    def append(self, value: Any) -> None:
        super().append(tracked(value, self._notice))

    def extend(self, values: Iterable[Any]) -> None:
        super().extend([tracked(value, self._notice) for value in values])

    def insert(self, index: SupportsIndex, value: Any) -> None:
        super().insert(index, tracked(value, self._notice))

    def __iadd__(self, values: Iterable[Any]) -> TrackedList:  # type: ignore[misc]
        self.extend(values)
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            value = [tracked(v, self._notice) for v in value]
        else:
            value = tracked(value, self._notice)
        super().__setitem__(index, value)

    def __reduce__(self) -> Any:
        return (list, (list(self),))


class TrackedDict(dict[Any, Any]):
    """A dictionary that tells its owner what is put into it."""

    def __init__(self, values: dict[Any, Any], notice: Notice) -> None:
        self._notice = notice
        super().__init__({key: tracked(value, notice) for key, value in values.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, tracked(value, self._notice))

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __reduce__(self) -> Any:
        return (dict, (dict(self),))


def tracked(value: Any, notice: Notice) -> Any:
    """`value`, its lists and dictionaries replaced by tracking ones, its leaves noticed."""
    kind = type(value)
    if kind is list:
        return TrackedList(value, notice)
    if kind is dict:
        return TrackedDict(value, notice)
    if isinstance(value, (tuple, list)):
        for item in value:
            tracked(item, notice)
        return value
    notice(value)
    return value
