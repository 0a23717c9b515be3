"""Optimizers and schedules against Keras: the same gradients, then the weights and the state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from peers.sides import Build, array, floatx, keras, pycnn

pytestmark = pytest.mark.peers

# Keras gives rates from schedules, and some factors in float32, as float32: here those are exact.
OPTIMIZERS: dict[str, Build] = {
    "SGD": lambda k: k.optimizers.SGD(),
    "momentum": lambda k: k.optimizers.SGD(momentum=0.9),
    "nesterov": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "decay": lambda k: k.optimizers.SGD(learning_rate=0.1, weight_decay=0.05),
    "momentum decay clipnorm": lambda k: k.optimizers.SGD(
        momentum=0.5, weight_decay=0.05, clipnorm=0.5
    ),
    "clipvalue": lambda k: k.optimizers.SGD(clipvalue=0.2),
    "global_clipnorm": lambda k: k.optimizers.SGD(global_clipnorm=0.7),
    "Adam": lambda k: k.optimizers.Adam(),
    "Adam arguments": lambda k: k.optimizers.Adam(0.1, beta_1=0.8, beta_2=0.9, epsilon=1e-3),
    "Adam decay": lambda k: k.optimizers.Adam(weight_decay=0.1),
    "Adam clipnorm": lambda k: k.optimizers.Adam(clipnorm=0.25),
    "Adam clipvalue": lambda k: k.optimizers.Adam(clipvalue=0.125),
    "nesterov clipnorm": lambda k: k.optimizers.SGD(
        0.125, momentum=0.9, nesterov=True, clipnorm=0.5
    ),
    "AdamW": lambda k: k.optimizers.AdamW(),
    "AdamW global_clipnorm": lambda k: without_bias(k.optimizers.AdamW(global_clipnorm=0.5)),
    "AdamW without bias": lambda k: without_bias(k.optimizers.AdamW(0.01, weight_decay=0.125)),
    "SGD schedule": lambda k: k.optimizers.SGD(
        k.optimizers.schedules.ExponentialDecay(0.125, 1, 0.5), momentum=0.5
    ),
    "Adam schedule": lambda k: k.optimizers.Adam(
        k.optimizers.schedules.PiecewiseConstantDecay([0, 2], [0.125, 0.0625, 0.03125])
    ),
}


def without_bias(optimizer: Any) -> Any:
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def given(k: Any, gradient: np.ndarray) -> Any:
    """A gradient in the user's order: an array for ours (a Tensor has the engine's order)."""
    return gradient if k is pycnn else keras.ops.convert_to_tensor(gradient)


def variables(k: Any, start: list[np.ndarray]) -> list[Any]:
    """A kernel and a bias; ours in the engine's order, as a convolution makes it."""
    if k is pycnn:
        from pycnn.keras.variables import KERNEL_ORDER

        return [
            pycnn.Variable(start[0], name="kernel", order=KERNEL_ORDER),
            pycnn.Variable(start[1], name="bias"),
        ]
    return [keras.Variable(start[0], name="kernel"), keras.Variable(start[1], name="bias")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_and_state(name: str, dtype: str) -> None:
    r = np.random.RandomState(0)
    shapes = [(3, 3, 2, 4), (4,)]
    start = [r.normal(size=s).astype(dtype) for s in shapes]
    gradients = [[r.normal(size=s).astype(dtype) for s in shapes] for _ in range(4)]
    found = []
    with floatx(dtype):
        for k in (pycnn, keras):
            optimizer, weights = OPTIMIZERS[name](k), variables(k, start)
            for step in gradients:
                optimizer.apply([given(k, g) for g in step], weights)
            found.append((optimizer, weights))
    (mine, ours), (other, theirs) = found
    tolerance = {"float32": {"rtol": 1e-5, "atol": 1e-6}, "float64": {"rtol": 1e-7, "atol": 1e-12}}
    for a, b, first in zip(ours, theirs, start, strict=True):
        np.testing.assert_allclose(a.numpy(), array(b), **tolerance[dtype], err_msg=b.name)
        assert np.abs(a.numpy() - first).max() > 1e-4
    assert len(mine.variables) == len(other.variables)
    for a, b in zip(mine.variables, other.variables, strict=True):
        assert (a.name, a.path, str(a.dtype)) == (b.name, b.path, str(b.dtype))
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.numpy(), array(b), **tolerance[dtype], err_msg=b.path)
    assert int(mine.iterations) == int(other.iterations.numpy()) == 4
    np.testing.assert_allclose(float(mine.learning_rate), float(array(other.learning_rate)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_configuration_and_state_back(name: str) -> None:
    mine, other = OPTIMIZERS[name](pycnn), OPTIMIZERS[name](keras)
    assert pycnn.optimizers.serialize(mine) == keras.optimizers.serialize(other)
    again = pycnn.optimizers.deserialize(keras.optimizers.serialize(other))
    assert again.get_config() == mine.get_config()
    start = [np.ones((3, 3, 2, 4), np.float32), np.ones(4, np.float32)]
    weights = variables(pycnn, start)
    mine.apply([np.ones_like(s) for s in start], weights)
    store: dict[str, Any] = {}
    mine.save_own_variables(store)
    again.build(weights)
    again.load_own_variables(store)
    assert int(again.iterations) == 1
    for a, b in zip(mine.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_exclusion_in_configuration() -> None:
    """Weight decay leaves the bias out on both sides."""
    for k in (pycnn, keras):
        optimizer = OPTIMIZERS["AdamW without bias"](k)
        start = [np.ones((3, 3, 2, 4), np.float32), np.ones(4, np.float32)]
        weights = variables(k, start)
        optimizer.apply([given(k, np.zeros_like(s)) for s in start], weights)
        assert np.abs(array(weights[0]) - 1).max() > 1e-4
        np.testing.assert_array_equal(array(weights[1]), start[1])


SCHEDULES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "exponential": ("ExponentialDecay", (0.1, 10, 0.9), {}),
    "exponential stairs": ("ExponentialDecay", (0.1, 10, 0.9), {"staircase": True}),
    "inverse": ("InverseTimeDecay", (0.1, 7, 0.5), {}),
    "inverse stairs": ("InverseTimeDecay", (0.1, 7, 0.5), {"staircase": True}),
    "piecewise": ("PiecewiseConstantDecay", ([5, 12], [0.1, 0.01, 0.001]), {}),
    "polynomial": ("PolynomialDecay", (0.1, 20), {}),
    "polynomial cycle": ("PolynomialDecay", (0.1, 8, 0.01, 2.0), {"cycle": True}),
    "cosine": ("CosineDecay", (0.1, 20), {"alpha": 0.1}),
    "cosine warm": ("CosineDecay", (0.0, 20), {"warmup_target": 0.3, "warmup_steps": 6}),
    "restarts": ("CosineDecayRestarts", (0.1, 4), {}),
    "restarts even": ("CosineDecayRestarts", (0.1, 5), {"t_mul": 1.0, "m_mul": 0.8}),
    "restarts long": ("CosineDecayRestarts", (0.1, 5), {"t_mul": 1.5, "m_mul": 0.8, "alpha": 0.01}),
}


def test_every_schedule_and_optimizer_has_a_case() -> None:
    schedules = {
        n
        for n in pycnn.optimizers.schedules.__all__
        if isinstance(getattr(pycnn.optimizers.schedules, n), type)
    }
    assert schedules - {"LearningRateSchedule"} == {name for name, *_ in SCHEDULES.values()}
    classes = {
        n for n in pycnn.optimizers.__all__ if isinstance(getattr(pycnn.optimizers, n), type)
    }
    assert classes - {"Optimizer"} == {type(f(pycnn)).__name__ for f in OPTIMIZERS.values()}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    """The rate at 40 steps, to float32: Keras computes it in that type."""
    kind, arguments, more = SCHEDULES[name]
    mine, other = (
        getattr(k.optimizers.schedules, kind)(*arguments, **more) for k in (pycnn, keras)
    )
    ours = [float(mine(step)) for step in range(40)]
    theirs = [float(array(other(step))) for step in range(40)]
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7)
    assert len(set(theirs)) > 1
    serialize = [k.optimizers.schedules.serialize for k in (pycnn, keras)]
    assert serialize[0](mine) == serialize[1](other)
    again = pycnn.optimizers.schedules.deserialize(serialize[1](other))
    assert again.get_config() == mine.get_config()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "SGD", "Adam"])
def test_names(name: str) -> None:
    mine, other = (k.optimizers.get(name) for k in (pycnn, keras))
    assert mine.get_config() == other.get_config()


def test_learning_rate_is_settable() -> None:
    for k in (pycnn, keras):
        optimizer = k.optimizers.SGD(0.5)
        optimizer.learning_rate = 0.25
        assert float(array(optimizer.learning_rate)) == 0.25
        optimizer.learning_rate.assign(0.125)
        assert float(array(optimizer.learning_rate)) == 0.125
        scheduled = k.optimizers.SGD(k.optimizers.schedules.CosineDecay(0.1, 10))
        with pytest.raises(TypeError):
            scheduled.learning_rate = 0.1
