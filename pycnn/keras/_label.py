"""Labels: what the ops that are recorded now belong to, for profiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pycnn import _core

__all__ = ["label"]


@contextmanager
def label(text: str, phase: str = "forward") -> Iterator[None]:
    """Label the ops recorded inside the block with a layer's name, or another.

    Parameters
    ----------
    text : str
        What a profile tells.
    phase : str
        ``"forward"`` or ``"update"``; the ops of a gradient are ``"backward"`` by themselves.
    """
    _core._push_label(text, phase)
    try:
        yield
    finally:
        _core._pop_label()
