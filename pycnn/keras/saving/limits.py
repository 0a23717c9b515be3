"""How much memory the variables of a model under construction may take.

A configuration of a few hundred bytes can ask for a layer of terabytes. While a model is made
from a file, every variable is charged against what the file holds, before its memory is asked
for. Outside of loading nothing is limited.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from pycnn.keras.saving.safety import UnsafeFileError, readable

__all__ = ["allocation_limit", "charge"]


class _Budget:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit


_budget: ContextVar[_Budget | None] = ContextVar("pycnn_allocation_budget", default=None)


@contextmanager
def allocation_limit(limit: int) -> Iterator[None]:
    """Let all variables made inside the block take `limit` bytes together."""
    token = _budget.set(_Budget(limit))
    try:
        yield
    finally:
        _budget.reset(token)


def charge(shape: Sequence[int], dtype: str, name: str) -> None:
    """Count a variable that is about to be made.

    Parameters
    ----------
    shape : sequence of int
        Its shape.
    dtype : str
        Its dtype.
    name : str
        Its name, for the message.

    Raises
    ------
    UnsafeFileError
        If it does not fit into the limit of the file being loaded.
    """
    budget = _budget.get()
    if budget is None:
        return
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > budget.left:
        raise UnsafeFileError(
            f"the configuration asks for a variable {name!r} of shape {tuple(shape)} "
            f"({readable(size)}), far more than the weights in the file ({readable(budget.limit)} "
            f"would be accepted in all); refused."
        )
    budget.left -= size
