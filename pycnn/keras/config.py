"""Global settings, under the names of ``keras.config``."""

from __future__ import annotations

from typing import Any

from pycnn.keras.backend import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)

__all__ = [
    "backend",
    "disable_interactive_logging",
    "enable_interactive_logging",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_interactive_logging_enabled",
    "set_backend",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
]

_interactive: dict[str, bool] = {"enabled": True}


def set_backend(backend: Any) -> None:
    """Accept ``"pycnn"``; there is no other engine.

    Raises
    ------
    NotImplementedError
        For any other name.
    """
    if backend != "pycnn":
        raise NotImplementedError(f"set_backend: only 'pycnn' exists here, got {backend!r}.")


def enable_interactive_logging() -> None:
    """Let fit, evaluate and predict draw progress bars with ``verbose="auto"``."""
    _interactive["enabled"] = True


def disable_interactive_logging() -> None:
    """Let fit, evaluate and predict print one line an epoch with ``verbose="auto"``."""
    _interactive["enabled"] = False


def is_interactive_logging_enabled() -> bool:
    """Whether ``verbose="auto"`` draws progress bars."""
    return _interactive["enabled"]
