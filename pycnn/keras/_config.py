"""Configurations: Keras's dictionaries for objects, and checks of numbers given by the user.

A configuration has the form ``{"module": "keras.optimizers", "class_name": "Adam", "config":
{...}, "registered_name": None}``. Class names are looked up in fixed tables, never imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from pycnn.keras._errors import unknown_name

__all__ = [
    "check_fraction",
    "check_number",
    "deserialize_object",
    "get_object",
    "make_from_name",
    "serialize_object",
    "serialize_value",
]


def serialize_value(value: Any) -> Any:
    """Return `value` in a form that JSON can hold."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return value.item()
        return {
            "class_name": "__numpy__",
            "config": {"value": value.tolist(), "dtype": value.dtype.name},
        }
    if isinstance(value, list):
        return [serialize_value(v) for v in value]
    if isinstance(value, tuple):
        return tuple(serialize_value(v) for v in value)
    if isinstance(value, Mapping):
        return {str(k): serialize_value(v) for k, v in value.items()}
    return serialize_object(value)


def serialize_object(obj: Any) -> Any:
    """Return Keras's configuration of an object or function (None stays None)."""
    if obj is None:
        return None
    module = getattr(type(obj), "_keras_module", None)
    if module is None and not hasattr(obj, "get_config"):
        if not callable(obj) or not hasattr(obj, "__name__"):
            raise TypeError(f"Cannot serialize {obj!r}: it has no get_config() method.")
        return {
            "module": "builtins",
            "class_name": "function",
            "config": _registered(obj) or obj.__name__,
            "registered_name": "function",
        }
    config = obj.get_config()
    if not isinstance(config, dict):
        raise TypeError(
            f"{type(obj).__name__}.get_config() must return a dict, got {type(config).__name__}."
        )
    custom = module is None or "_keras_module" not in _own_namespace(type(obj))
    registered = _registered(type(obj)) if custom else None
    return {
        "module": type(obj).__module__ if custom else module,
        "class_name": type(obj).__name__,
        "config": {k: serialize_value(v) for k, v in config.items()},
        "registered_name": (registered or type(obj).__name__) if custom else None,
    }


def _registered(cls: Any) -> str | None:
    from pycnn.keras._registry import registered_name

    return registered_name(cls)


def _own_namespace(cls: type) -> Collection[str]:
    # A user's subclass inherits `_keras_module` but is not a class of Keras.
    if cls.__module__.startswith("pycnn."):
        return ("_keras_module",)
    return vars(cls)


def make_from_name(
    kind: str,
    name: str,
    table: Mapping[str, Any],
    absent: Collection[str] = (),
) -> Any:
    """Return ``table[name]``, or raise the error that names the nearest names."""
    found = table.get(name)
    if found is not None:
        return found
    # One spelling of each is enough in a list of names.
    names = [n for n in table if n.islower()] or list(table)
    plain = name.lower().replace("_", "")
    if plain in {other.lower().replace("_", "") for other in absent}:
        have = ", ".join(repr(n) for n in names)
        raise NotImplementedError(
            f"The {kind} {name!r} of Keras is not available in pycnn; these are: {have}."
        )
    raise unknown_name(kind, name, names)


def get_object(
    kind: str,
    identifier: Any,
    table: Mapping[str, Any],
    absent: Collection[str],
    deserialize: Callable[[Any], Any],
) -> Any:
    """Return what a name, configuration, class, function or instance stands for; None for None.

    A class is called without arguments.

    Raises
    ------
    ValueError
        If the name is unknown (the nearest ones are told) or the value is none of these.
    """
    if identifier is None:
        return None
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    found = identifier
    if isinstance(identifier, str):
        found = make_from_name(kind, identifier, table, absent)
    elif not callable(identifier):
        raise unknown_name(kind, identifier, table)
    return found() if isinstance(found, type) else found


def deserialize_object(
    kind: str,
    config: Any,
    table: Mapping[str, Any],
    custom_objects: Mapping[str, Any] | None = None,
    absent: Collection[str] = (),
) -> Any:
    """Make the object that a configuration describes, by `table` and `custom_objects` alone.

    Raises
    ------
    ValueError
        If the configuration has another form, or its class is unknown.
    """
    if config is None:
        return None
    from pycnn.keras._registry import REGISTERED

    custom = {**REGISTERED, **(custom_objects or {})}
    if isinstance(config, str):
        return custom.get(config) or make_from_name(kind, config, table, absent)
    if not isinstance(config, Mapping) or "class_name" not in config:
        raise ValueError(
            f"The configuration of a {kind} must be a dict with the keys 'class_name' and "
            f"'config', got {config!r}."
        )
    name = str(config["class_name"])
    inner = config.get("config", {})
    if name == "function":
        if not isinstance(inner, str):
            raise ValueError(f"The configuration of a {kind} names no function: {config!r}.")
        return custom.get(inner) or make_from_name(kind, inner, table, absent)
    registered = config.get("registered_name")
    made: Any = None
    if isinstance(registered, str):
        made = custom.get(registered)
    made = made or custom.get(name) or make_from_name(kind, name, table, absent)
    if not isinstance(made, type):
        raise ValueError(f"{name!r} is not a class of {kind}.")
    if inner is None:
        inner = {}
    if not isinstance(inner, Mapping):
        raise ValueError(f"The 'config' of the {kind} {name!r} must be a dict, got {inner!r}.")
    factory: Callable[[dict[str, Any]], Any] | None = getattr(made, "from_config", None)
    try:
        return factory(dict(inner)) if factory is not None else made(**inner)
    except TypeError as error:
        raise ValueError(
            f"The configuration of the {kind} {name!r} does not fit its class: {error}"
        ) from error


def check_number(
    owner: str,
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    low_open: bool = False,
) -> float:
    """Return `value` as a finite float between `low` and `high`, or raise naming the argument.

    Raises
    ------
    TypeError
        If `value` is no number.
    ValueError
        If it is NaN, infinite or out of bounds.
    """
    if isinstance(value, bool | np.bool_ | str | bytes | complex) or value is None:
        raise TypeError(f"{owner}: `{name}` must be a number, got {value!r}.")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{owner}: `{name}` must be a number, got {value!r}.") from error
    except OverflowError:  # a Python int beyond all floats
        number = math.inf
    bounds = _bounds_text(low, high, low_open)
    if not math.isfinite(number):
        raise ValueError(f"{owner}: `{name}` must be a finite number{bounds}, got {value!r}.")
    too_low = low is not None and (number <= low if low_open else number < low)
    if too_low or (high is not None and number > high):
        raise ValueError(f"{owner}: `{name}` must be a number{bounds}, got {value!r}.")
    return number


def check_fraction(owner: str, name: str, value: Any) -> float:
    """Return `value` as a float in [0, 1], or raise naming the argument."""
    return check_number(owner, name, value, 0.0, 1.0)


def _bounds_text(low: float | None, high: float | None, low_open: bool) -> str:
    if low is not None and high is not None:
        return f" in {'(' if low_open else '['}{low:g}, {high:g}]"
    if low is not None:
        return f" {'>' if low_open else '>='} {low:g}"
    if high is not None:
        return f" <= {high:g}"
    return ""
