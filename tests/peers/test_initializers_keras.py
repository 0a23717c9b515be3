"""Initializers against Keras: the random ones by their statistics, the others to the digit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from peers.sides import SIDES, array, keras, pycnn

pytestmark = pytest.mark.peers

RANDOM: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {})
    for name in (
        "GlorotUniform GlorotNormal HeUniform HeNormal LecunUniform LecunNormal RandomNormal "
        "RandomUniform TruncatedNormal Orthogonal VarianceScaling"
    ).split()
} | {
    "TruncatedNormal arguments": ("TruncatedNormal", {"mean": 0.5, "stddev": 0.25}),
    "RandomNormal arguments": ("RandomNormal", {"mean": -1.0, "stddev": 2.0}),
    "RandomUniform arguments": ("RandomUniform", {"minval": -3.0, "maxval": 1.0}),
    "Orthogonal gain": ("Orthogonal", {"gain": 2.0}),
    "VarianceScaling fan_avg": (
        "VarianceScaling",
        {"scale": 2.0, "mode": "fan_avg", "distribution": "uniform"},
    ),
    "VarianceScaling fan_out": (
        "VarianceScaling",
        {"scale": 0.5, "mode": "fan_out", "distribution": "untruncated_normal"},
    ),
}
SHAPES = [(3, 3, 32, 64), (5, 5, 1, 128), (300, 200), (5000,)]
FIXED: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "Zeros": ("Zeros", {}, (3, 4)),
    "Ones": ("Ones", {}, (3, 4)),
    "Constant": ("Constant", {"value": 2.0}, (3, 4)),
    "Identity": ("Identity", {"gain": 2.0}, (3, 4)),
}


def test_every_initializer_has_a_case() -> None:
    classes = {
        getattr(pycnn.initializers, n).__name__
        for n in pycnn.initializers.__all__
        if isinstance(getattr(pycnn.initializers, n), type)
    }
    names = {name for name, _ in RANDOM.values()} | {name for name, *_ in FIXED.values()}
    assert classes - {"Initializer", "RandomInitializer"} == names


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", RANDOM)
def test_statistics(case: str, shape: tuple[int, ...]) -> None:
    """Mean, spread, extremes and quantiles within what so many draws of each side allow."""
    name, arguments = RANDOM[case]
    if name == "Orthogonal" and len(shape) < 2:
        for k in SIDES:
            with pytest.raises(ValueError):
                getattr(k.initializers, name)(seed=3)(shape)
        return
    ours, theirs = (
        array(getattr(k.initializers, name)(seed=3, **arguments)(shape)) for k in (pycnn, keras)
    )
    assert ours.shape == theirs.shape == shape and ours.dtype == theirs.dtype == np.float32
    a, b = ours.astype("float64").ravel(), theirs.astype("float64").ravel()
    spread, noise = b.std(), math.sqrt(2.0 / a.size)
    assert abs(a.mean() - b.mean()) < 5 * spread * noise
    assert abs(a.std() / spread - 1) < 5 * noise
    bounded = "Normal" not in name or "Truncated" in name or "Random" not in name
    if bounded and name != "Orthogonal" and "untruncated_normal" not in arguments.values():
        assert abs(np.abs(a).max() / np.abs(b).max() - 1) < 0.03
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        difference = np.quantile(a, quantile) - np.quantile(b, quantile)
        assert abs(difference) < 12 * spread * noise, quantile


@pytest.mark.parametrize("case", RANDOM)
def test_seeds(case: str) -> None:
    """As in Keras a seeded initializer repeats itself; another seed gives other numbers."""
    name, arguments = RANDOM[case]
    for k in SIDES:
        make = getattr(k.initializers, name)
        initializer = make(seed=3, **arguments)
        first = array(initializer((20, 30)))
        np.testing.assert_array_equal(first, array(initializer((20, 30))))
        np.testing.assert_array_equal(first, array(make(seed=3, **arguments)((20, 30))))
        assert not np.array_equal(first, array(make(seed=4, **arguments)((20, 30))))
        fresh = [array(make(**arguments)((20, 30))) for _ in range(2)]
        assert not np.array_equal(*fresh)


@pytest.mark.parametrize("case", RANDOM)
def test_configuration(case: str) -> None:
    name, arguments = RANDOM[case]
    mine, other = (getattr(k.initializers, name)(seed=3, **arguments) for k in (pycnn, keras))
    assert pycnn.initializers.serialize(mine) == keras.initializers.serialize(other)
    again = pycnn.initializers.deserialize(keras.initializers.serialize(other))
    np.testing.assert_array_equal(array(again((6, 7))), array(mine((6, 7))))


@pytest.mark.parametrize("case", FIXED)
def test_fixed(case: str) -> None:
    name, arguments, shape = FIXED[case]
    mine, other = (getattr(k.initializers, name)(**arguments) for k in (pycnn, keras))
    np.testing.assert_array_equal(array(mine(shape)), array(other(shape)))
    configs = [mine.get_config(), other.get_config()]
    if name == "Identity":
        # Keras forgets the gain in this configuration; what is written here it reads.
        assert configs == [arguments, {}]
        assert keras.initializers.deserialize(pycnn.initializers.serialize(mine)).gain == 2.0
        return
    assert pycnn.initializers.serialize(mine) == keras.initializers.serialize(other)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 3, 2, 20)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    """Rows or columns are orthonormal, on both sides."""
    for k in SIDES:
        flat = array(k.initializers.Orthogonal(seed=1)(shape)).reshape(-1, shape[-1])
        product = flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T
        np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-5)


# Keras refuses "constant", for its constructor's value is missing.
NAMES = {n for n in pycnn.initializers.__all__ if n[0].islower()}
NAMES -= {"constant", "deserialize", "get", "serialize"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names(name: str) -> None:
    """Every lower case name gives the same class on both sides."""
    mine, other = (k.initializers.get(name) for k in (pycnn, keras))
    assert type(mine).__name__ == type(other).__name__
