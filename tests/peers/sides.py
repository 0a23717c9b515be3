"""Both sides of a comparison, and how their numbers are held against each other.

A network, a layer or an optimizer is made by one function of the library, called with ``keras``
and with ``pycnn``: the text of the program is the same, as for the user who changes an import.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="compares with the real Keras")
tensorflow = pytest.importorskip("tensorflow", reason="compares with Keras on TensorFlow")

import pycnn  # noqa: E402

__all__ = [
    "RTOL32",
    "SIDES",
    "Build",
    "allclose32",
    "array",
    "both",
    "fill",
    "floatx",
    "keras",
    "pycnn",
    "same_weights",
    "tensor",
    "tensorflow",
]

Build = Callable[[Any], Any]
SIDES = (keras, pycnn)
RTOL32 = {"rtol": 1e-4, "atol": 1e-5}


def array(value: Any) -> np.ndarray:
    """The numbers of a tensor or variable of either side."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def tensor(k: Any, values: Any) -> Any:
    """A tensor of one of the libraries."""
    return (k.tensor if k is pycnn else k.ops.convert_to_tensor)(values)


def allclose32(ours: Any, theirs: Any, what: str = "") -> None:
    """Equal shape and dtype; float32 numbers equal within the tolerance of all such tests."""
    a, b = array(ours), array(theirs)
    assert a.shape == b.shape, what
    assert a.dtype == b.dtype, what
    np.testing.assert_allclose(a, b, **RTOL32, err_msg=what)


@contextlib.contextmanager
def floatx(name: str) -> Iterator[None]:
    """Both sides make their layers in this type."""
    for library in SIDES:
        library.config.set_floatx(name)
    try:
        yield
    finally:
        for library in SIDES:
            library.config.set_floatx("float32")


def fill(model: Any, seed: int = 1) -> None:
    """Numbers for all weights: positive where there is one axis (a variance must be)."""
    r = np.random.RandomState(seed)
    values = []
    for weight in model.get_weights():
        if weight.ndim == 1:
            value = r.uniform(0.25, 1.0, weight.shape)
        else:
            scale = 1.5 / np.sqrt(np.prod(weight.shape[:-1]))
            value = r.normal(0.0, scale, weight.shape)
        values.append(value.astype(weight.dtype))
    model.set_weights(values)


def both(build: Build, seed: int | None = 1) -> tuple[Any, Any]:
    """The same model of both libraries, ours first, with the same weights."""
    models = [build(pycnn), build(keras)]
    if seed is not None:
        for model in models:
            fill(model, seed)
    return models[0], models[1]


def same_weights(ours: Any, theirs: Any, **tolerance: float) -> None:
    """Equal weights, in the same order, of the same names."""
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    for mine, other, weight in zip(
        ours.get_weights(), theirs.get_weights(), theirs.weights, strict=True
    ):
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, **tolerance, err_msg=weight.path)
