"""Copies and pickles of tensors: the numbers, as NumPy holds them, and nothing of their history."""

from __future__ import annotations

import copyreg
from typing import Any

import numpy as np

from pycnn._core import Tensor, tensor

__all__: list[str] = []


def _remake(array: np.ndarray, requires_grad: bool) -> Tensor:
    return tensor(array, requires_grad=requires_grad)


def _reduce(value: Tensor) -> Any:
    # What was computed comes back as plain numbers: there is no way back to what it came from.
    return _remake, (np.array(value.detach().numpy()), value.requires_grad and value.is_leaf)


copyreg.pickle(Tensor, _reduce)
