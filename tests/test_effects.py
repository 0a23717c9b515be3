"""The optimiser steps and assign_ against their formulas, written out in float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn._core as core
from harness import isa, threads
from loops import hyper, same_bits
from pycnn import ShapeError, ops

pytestmark = pytest.mark.sanitize

Array = np.ndarray
SHAPES = [(1,), (7,), (33,), (5, 9), (16384 + 3,), (3, 2, 5, 5), (), (0, 4)]
ISA = core.config()["isa_available"]


# ---- the formulas ----


def sgd_keras(
    w: Array, g: Array, v: Array | None, h: Array, nesterov: bool, first: bool
) -> tuple[Array, Array | None]:
    rate, momentum, decay, _ = h
    w = w - w * decay * rate
    if v is None or momentum == 0:
        return w - rate * g, v
    v = momentum * v - rate * g
    return (w + momentum * v - rate * g if nesterov else w + v), v


def sgd_torch(
    w: Array, g: Array, v: Array | None, h: Array, nesterov: bool, first: bool
) -> tuple[Array, Array | None]:
    rate, momentum, decay, dampening = h
    g = g + decay * w
    if v is None or momentum == 0:
        return w - rate * g, v
    v = g if first else momentum * v + (1 - dampening) * g
    return w - rate * (g + momentum * v if nesterov else v), v


def adam_keras(w: Array, g: Array, m: Array, v: Array, h: Array) -> tuple[Array, Array, Array]:
    rate, beta1, beta2, eps, decay, t = h
    w = w - w * decay * rate
    m = m + (g - m) * (1 - beta1)
    v = v + (g * g - v) * (1 - beta2)
    alpha = rate * np.sqrt(1 - beta2**t) / (1 - beta1**t)
    return w - m * alpha / (np.sqrt(v) + eps), m, v


def adam_torch(w: Array, g: Array, m: Array, v: Array, h: Array) -> tuple[Array, Array, Array]:
    rate, beta1, beta2, eps, decay, t = h
    g = g + decay * w
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    bottom = np.sqrt(v) / np.sqrt(1 - beta2**t) + eps
    return w - rate / (1 - beta1**t) * m / bottom, m, v


SGD: dict[str, Callable[..., Any]] = {"keras": sgd_keras, "torch": sgd_torch}
ADAM: dict[str, Callable[..., Any]] = {"keras": adam_keras, "torch": adam_torch}


def draw(shape: tuple[int, ...], dtype: str, count: int) -> list[Array]:
    rng = np.random.default_rng((len(shape), int(np.prod(shape)), count))
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for _ in range(count)]


def close(got: Array, want: Array, dtype: str) -> None:
    tolerance = {"float64": 1e-14, "float32": 1e-6}[dtype]
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# ---- sgd_ ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(
    "numbers",
    [
        (0.1, 0, 0, 0),
        (0.1, 0.9, 0, 0),
        (0.5, 0.5, 0.01, 0),
        (0.05, 0.9, 0.1, 0.3),
        (0.1, 0, 0.2, 0),
    ],
)
@pytest.mark.parametrize("style", SGD)
def test_sgd(style: str, numbers: tuple[float, ...], nesterov: bool, dtype: str) -> None:
    """Several steps in a row, state carried on, for every shape; the state's own memory moves."""
    h = np.array(numbers, np.float64)
    for shape in SHAPES:
        w, v, *gradients = draw(shape, dtype, 5)
        v = np.zeros_like(v) if style == "torch" else v
        param, velocity = core.tensor(w), core.tensor(v)
        outside = param.numpy(), velocity.numpy()
        w, v = w.astype(np.float64), v.astype(np.float64)
        for k, g in enumerate(gradients):
            first = k == 0 and style == "torch"
            result = ops.sgd_(param, g, velocity, h, style=style, nesterov=nesterov, first=first)
            assert result[0] is param and result[1] is velocity
            w, v = SGD[style](w, g.astype(np.float64), v, h, nesterov, first)
        close(param.numpy(), w, dtype)
        close(velocity.numpy(), v, dtype)
        same_bits((param.numpy(), velocity.numpy()), outside)


@pytest.mark.parametrize("style", SGD)
def test_sgd_without_velocity(style: str) -> None:
    w, g = draw((13,), "float64", 2)
    param = core.tensor(w)
    h = np.array([0.25, 0, 0.125, 0])
    result = ops.sgd_(param, g, None, h, style=style)
    assert result[0] is param and result[1] is None
    close(param.numpy(), SGD[style](w, g, None, h, False, False)[0], "float64")
    ops.sgd_(param, g, None, np.array([0.25, 0.9, 0, 0]), style=style)
    with pytest.raises(ValueError, match="momentum 0.9 needs a velocity"):
        core.synchronize()
    ops.sgd_(param, g, None, np.array([0.0, 0, 0, 0]))
    close(param.numpy(), SGD[style](w, g, None, h, False, False)[0], "float64")


def test_hyper_is_read_at_each_run() -> None:
    w = core.tensor(np.zeros(3))
    rates = core.tensor(hyper(1.0))
    with core.capture() as tape:
        ops.sgd_(w, np.ones(3), None, rates)
        plan = tape.compile([])
    for rate in (1.0, 0.5, 0.25):
        rates.assign(hyper(rate))
        assert plan.run() == ()
    np.testing.assert_array_equal(w.numpy(), np.full(3, -1.75))


# ---- adam_ ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "numbers", [(0.001, 0.9, 0.999, 1e-7, 0), (0.1, 0.5, 0.75, 1e-3, 0.05), (0.01, 0, 0, 1e-2, 0)]
)
@pytest.mark.parametrize("style", ADAM)
def test_adam(style: str, numbers: tuple[float, ...], dtype: str) -> None:
    for shape in SHAPES:
        w, m, v, *gradients = draw(shape, dtype, 6)
        m, v = np.zeros_like(m), np.zeros_like(v)
        tensors = [core.tensor(a) for a in (w, m, v)]
        outside = [t.numpy() for t in tensors]
        state = [a.astype(np.float64) for a in (w, m, v)]
        for step, g in enumerate(gradients, 1):
            h = np.array([*numbers, step], np.float64)
            result = ops.adam_(tensors[0], g, tensors[1], tensors[2], h, style=style)
            assert all(one is two for one, two in zip(result, tensors, strict=True))
            state = list(ADAM[style](state[0], g.astype(np.float64), *state[1:], h))
        for tensor, array, want in zip(tensors, outside, state, strict=True):
            tolerance = {"float64": 1e-13, "float32": 2e-5}[dtype]
            np.testing.assert_allclose(tensor.numpy(), want, rtol=tolerance, atol=tolerance)
            same_bits(tensor.numpy(), array)


def test_adam_steps_are_counted_from_one() -> None:
    tensors = [core.tensor(np.ones(3)) for _ in range(3)]
    before = [np.array(t) for t in tensors]
    ops.adam_(
        tensors[0], np.ones(3), tensors[1], tensors[2], np.array([0.1, 0.9, 0.99, 1e-7, 0, 0])
    )
    with pytest.raises(ValueError, match="step must be 1 or more"):
        core.synchronize()
    same_bits([np.array(t) for t in tensors], before)


# ---- the slope: L2 regularisation ----


def step_of(kind: str, style: str, w: Any, g: Any, states: Any, slope: Any = None) -> None:
    if kind == "adam_":
        h = np.array([0.1, 0.5, 0.75, 1e-3, 0.05, 1])
        ops.adam_(w, g, *states, h, slope, style=style)
    else:
        momentum = 0.5 * (states[0] is not None)
        ops.sgd_(w, g, states[0], np.array([0.1, momentum, 0.05, 0]), slope, style=style)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["adam_", "sgd_", "sgd_ without velocity"])
@pytest.mark.parametrize("style", SGD)
def test_regularised_steps(style: str, kind: str, dtype: str, fused: bool) -> None:
    """Given as the slope, as a sum that the plan takes apart, and as numbers: the same bits."""
    for shape in [(1,), (13,), (300, 70), (0, 3)]:
        arrays = draw(shape, dtype, 4)
        slope = np.asarray(0.3, dtype)
        results = []
        for how in ("slope", "sum", "sum, turned round", "numbers"):
            w, m, v = (core.tensor(np.array(abs(a) if k else a)) for k, a in enumerate(arrays[:3]))
            states = (None,) if "without" in kind else (m, v)
            g: Any = arrays[3]
            if how == "numbers":
                g = g + np.asarray(arrays[0] * slope, dtype)
            before = core._set_option("fuse", int(fused))
            try:
                with core.capture() as tape:
                    one = tape.placeholder((), dtype)
                    if how == "sum":
                        g = ops.add(core.tensor(g), ops.mul(w, one))
                    elif how == "sum, turned round":
                        g = ops.add(ops.mul(one, w), core.tensor(g))
                    step_of(kind[:5].strip(), style, w, g, states, one if how == "slope" else None)
                    plan = tape.compile([])
            finally:
                core._set_option("fuse", before)
            done = {step["op"] for step in plan.steps}
            assert ({"add", "mul"} & done == set()) == (fused or "sum" not in how), (how, done)
            plan.run(slope)
            results.append([t.numpy() for t in (w, m, v)])
        for other in results[1:]:
            same_bits(results[0], other)


def test_sums_that_are_no_regularisation_stay() -> None:
    """The product is of another tensor, is read twice, has no single number, or comes too late."""
    w, other = (core.tensor(np.arange(1.0, 4.0) + k) for k in range(2))
    slope, g = core.tensor(np.asarray(0.5)), core.tensor(np.ones(3))
    h = np.array([1.0, 0, 0, 0])

    def run(make: Any) -> tuple[set[str], list[Array]]:
        with core.capture() as tape:
            make()
            plan = tape.compile([])
        plan.run()
        return {step["op"] for step in plan.steps}, [t.numpy().copy() for t in (w, slope)]

    ops_, (result, _) = run(lambda: ops.sgd_(w, g + other * slope, None, h))
    assert {"add", "mul"} <= ops_
    np.testing.assert_array_equal(result, [-1, -0.5, 0])

    def twice() -> None:
        product = w * slope
        ops.sgd_(w, g + product, None, h)
        ops.assign_(other, product)

    ops_, (result, _) = run(twice)
    assert "mul" in ops_
    np.testing.assert_array_equal(other.numpy(), [-0.5, -0.25, 0])
    np.testing.assert_array_equal(result, [-1.5, -1.25, -1])
    ops_, (result, _) = run(lambda: ops.sgd_(w, g + w * w, None, h))
    assert {"add", "mul"} <= ops_ or "square" in ops_

    def overwritten() -> None:
        total = g + w * slope
        ops.assign_(slope, np.asarray(100.0))
        ops.sgd_(w, total, None, h)

    before = w.numpy().copy()
    _, (result, now) = run(overwritten)
    assert now == 100
    np.testing.assert_array_equal(result, before - (1 + before * 0.5))


def test_wrong_slopes() -> None:
    w, h = core.tensor(np.ones(3)), np.array([1.0, 0, 0, 0])
    with pytest.raises(ShapeError, match=r"sgd_: slope must be one number, of shape \(\), got \(1"):
        ops.sgd_(w, np.ones(3), None, h, np.ones(1))
    with pytest.raises(TypeError, match="one dtype"):
        ops.sgd_(w, np.ones(3), None, h, core.tensor(np.ones((), np.float32)))


# ---- assign_ ----


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
def test_assign(dtype: str) -> None:
    for shape in (*SHAPES, (300, 200)):
        rng = np.random.default_rng(1)
        value = np.asarray(rng.integers(0, 2 if dtype == "bool" else 100, shape)).astype(dtype)
        target = core.tensor(np.zeros(shape, dtype))
        outside = target.numpy()
        assert ops.assign_(target, value) is target
        same_bits(target.numpy(), value)
        same_bits(outside, value)


def test_assign_of_itself_and_of_what_was_made_from_it() -> None:
    w = core.tensor(np.arange(6.0).reshape(2, 3))
    ops.assign_(w, w)
    ops.assign_(w, w.reshape(3, 2).transpose().reshape(2, 3) + w)
    want = np.arange(6.0)
    np.testing.assert_array_equal(w.numpy().ravel(), want.reshape(3, 2).T.ravel() + want)
    v = core.tensor(np.arange(6.0).reshape(2, 3))
    with core.capture() as tape:
        flat = v.reshape(6)
        ops.assign_(v, (flat * 2.0).reshape(2, 3))
        plan = tape.compile([flat * 1.0, v])
    flat_result, v_result = plan.run()
    np.testing.assert_array_equal(v_result.numpy().ravel(), want * 2)
    np.testing.assert_array_equal(flat_result.numpy(), want)


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros((2, 3)), np.zeros((1, 3))),
        (np.zeros(3), np.zeros(())),
        (np.zeros(3), np.zeros(3, np.float32)),
        (np.zeros(3, np.int64), np.zeros(3, np.int32)),
    ],
)
def test_assign_casts_and_broadcasts_nothing(target: Array, value: Array) -> None:
    with pytest.raises((ValueError, TypeError), match="assign_"):
        ops.assign_(core.tensor(target), value)


# ---- what all have in common ----


def every_effect(dtype: str, n: int) -> list[Array]:
    arrays = draw((n,), dtype, 6)
    w, u, m, v = (core.tensor(np.abs(a)) for a in arrays[:4])
    for k in (1, 2):
        for style in ("keras", "torch"):
            ops.sgd_(w, arrays[4], u, hyper(0.1, 0.9, 0.01), style=style, nesterov=True)
            h = np.array([0.01, 0.9, 0.99, 1e-7, 0.01, k])
            ops.adam_(w, arrays[5], m, v, h, style=style)
    return [np.array(t) for t in (w, u, m, v)]


@pytest.mark.tsan
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_effects_do_not_depend_on_threads_or_instruction_set(dtype: str) -> None:
    """Each product is rounded by itself, so all sets take the same step."""
    n = 5 * 16384 + 11
    want = every_effect(dtype, n)
    for count in (1, 2, 3, 8):
        with threads(count):
            core._workers_seen()
            for name in ISA:
                with isa(name):
                    same_bits(every_effect(dtype, n), want)
            if count > 1:
                assert core._workers_seen() > 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda w: ops.sgd_(w, np.zeros(4), None, hyper(0.1)), "grad must have the shape"),
        (lambda w: ops.sgd_(w, np.zeros(3, np.float32), None, hyper(0.1)), "one dtype"),
        (
            lambda w: ops.sgd_(w, np.zeros(3), None, np.zeros(4, np.float32)),
            "hyper must be float64",
        ),
        (lambda w: ops.sgd_(w, np.zeros(3), None, np.zeros(3)), "hyper"),
        (lambda w: ops.sgd_(np.zeros(3), np.zeros(3), None, hyper(0.1)), "must be a Tensor"),
        (lambda w: ops.sgd_(w, np.zeros(3), np.zeros(3), hyper(0.1)), "must be a Tensor"),
        (lambda w: ops.sgd_(w, np.zeros(3), None, hyper(0.1), style="jax"), "'keras', 'torch'"),
        (lambda w: ops.adam_(w, np.zeros(3), w, w, np.zeros(5)), "hyper"),
        (lambda w: ops.adam_(w, np.zeros(3), w, w, np.zeros(6), style="jax"), "'keras', 'torch'"),
        (lambda w: ops.assign_(w), "value is missing"),
    ],
)
def test_wrong_calls_leave_everything(call: Callable[[Any], Any], words: str) -> None:
    w = core.tensor(np.ones(3))
    with pytest.raises((ValueError, TypeError), match=words):
        call(w)
    np.testing.assert_array_equal(w.numpy(), np.ones(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    """A learning rate of NaN or infinity changes nothing."""
    from pycnn import ops, tensor

    p, g = tensor(np.ones(3)), np.ones(3)
    ops.sgd_(p, g, None, np.array([bad, 0, 0, 0]))
    with pytest.raises(ValueError, match="sgd_: hyper"):
        p.numpy()
    q, m, v = tensor(np.ones(3)), tensor(np.zeros(3)), tensor(np.zeros(3))
    ops.adam_(q, g, m, v, np.array([0.1, bad, 0.9, 1e-8, 0, 1]))
    with pytest.raises(ValueError, match="adam_: hyper"):
        m.numpy()
