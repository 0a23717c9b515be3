"""A user's own classes and functions in saved configurations.

A file never names a module to import: it names classes, which are looked up among those of this
library, those registered here, and those passed as `custom_objects`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from pycnn.keras._registry import REGISTERED, register, registered_name

__all__ = [
    "CustomObjectScope",
    "custom_object_scope",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "register_keras_serializable",
]

_T = TypeVar("_T")


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[_T], _T]:
    """Let saved configurations name the decorated class or function.

    Parameters
    ----------
    package : str
        The first part of the registered name, ``package>name``.
    name : str, optional
        The second; the class's own name when absent.

    Raises
    ------
    ValueError
        If a class has no `get_config`, or the name is taken.

    Examples
    --------
    >>> @register_keras_serializable(package="mine")
    ... class Swish2(Layer):
    ...     ...
    """

    def decorate(target: _T) -> _T:
        register(target, package, name)
        return target

    return decorate


def get_custom_objects() -> dict[str, Any]:
    """Return the table of registered objects itself; what is added to it is found."""
    return REGISTERED


def get_registered_name(obj: Any) -> str:
    """Return the name that a class or function was registered under, else its own."""
    return registered_name(obj) or str(obj.__name__)


def get_registered_object(
    name: str,
    custom_objects: Mapping[str, Any] | None = None,
    module_objects: Mapping[str, Any] | None = None,
) -> Any:
    """Return the object registered under `name`, or None."""
    for table in (REGISTERED, custom_objects or {}, module_objects or {}):
        if name in table:
            return table[name]
    return None


class CustomObjectScope:
    """Names for configurations, valid inside a ``with`` block.

    Parameters
    ----------
    custom_objects : dict
        Names and classes or functions.
    """

    def __init__(self, custom_objects: Mapping[str, Any]) -> None:
        self.custom_objects = dict(custom_objects or {})
        self._before: dict[str, Any] = {}

    def __enter__(self) -> CustomObjectScope:
        self._before = dict(REGISTERED)
        REGISTERED.update(self.custom_objects)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        REGISTERED.clear()
        REGISTERED.update(self._before)


custom_object_scope = CustomObjectScope
