"""What is added to errors from a layer's constructor and from its call."""

from __future__ import annotations

import inspect
from typing import Any

from pycnn.keras._errors import accepted_arguments, unknown_arguments
from pycnn.keras.layers._tree import flatten

__all__ = ["explain_missing", "note_call", "note_step"]


def explain_missing(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Where a required argument is missing and an unknown one came, name the likely spelling.

    Python itself would tell the missing one only: Dense(output_dim=10) lacks `units`.
    """
    try:
        inspect.signature(cls.__init__).bind(None, *args, **kwargs)  # type: ignore[misc]
    except TypeError:
        known = accepted_arguments(cls)
        unknown = {key: value for key, value in kwargs.items() if key not in known}
        if unknown:
            raise ValueError(unknown_arguments(cls.__name__, unknown, known)) from None


def note_call(error: Exception, layer: Any, args: tuple[Any, ...]) -> None:
    """Note on an error from within `call` which layer it was: the innermost one."""
    if any("raised in the call of layer" in note for note in getattr(error, "__notes__", [])):
        return
    shapes = [str(tuple(leaf.shape)) for leaf in flatten(args) if hasattr(leaf, "shape")]
    error.add_note(
        f'This was raised in the call of layer "{layer.name}" ({type(layer).__name__}) on inputs '
        f"of shape {', '.join(shapes) or '()'}."
    )
    if isinstance(error, RuntimeError) and "belongs to a capture" in str(error):
        error.add_note(
            "Inside a model a layer's `call` is recorded, not computed: use pycnn.ops (where, "
            "sum, ...) instead of NumPy, float(), item() or an `if` on numbers."
        )


def note_step(error: Exception) -> None:
    """Note on an error from recording a step, where no layer's call has noted it."""
    if "belongs to a capture" in str(error) and not getattr(error, "__notes__", None):
        error.add_note(
            "A step of training is recorded, not computed: losses and metrics of your own use "
            "pycnn.keras.ops (mean, square, where, ...) instead of NumPy, float(), item() or an "
            "`if` on numbers."
        )
