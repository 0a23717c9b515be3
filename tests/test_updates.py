"""Optimiser's steps that clip and regularise as they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import pycnn._core as core
from harness import isa, option
from loops import hyper, same_bits
from pycnn import ShapeError, ops

pytestmark = pytest.mark.sanitize

Array = np.ndarray
ISA = core.config()["isa_available"]
DTYPES = ["float32", "float64"]
CLIPS = ["factor", "norm", "value"]
KINDS = ["adam_", "sgd_", "sgd_ nesterov", "sgd_ without velocity"]
SHAPES = [(1,), (13,), (300, 70), (16, 3, 5, 5), (0, 3), ()]


def draw(shape: tuple[int, ...], dtype: str, count: int, key: int = 0) -> list[Array]:
    rng = np.random.default_rng((key, len(shape), int(np.prod(shape)), count))
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for _ in range(count)]


def step(
    kind: str, style: str, w: Any, g: Any, states: Sequence[Any], *more: Any, **how: Any
) -> None:
    """One step; `more` is what may stand behind `hyper`."""
    if kind == "adam_":
        ops.adam_(
            w, g, *states, np.array([0.1, 0.5, 0.75, 1e-3, 0.05, 2]), *more, style=style, **how
        )
        return
    velocity = None if "without" in kind else states[0]
    numbers = hyper(0.1, 0.0 if velocity is None else 0.5, 0.05)
    ops.sgd_(w, g, velocity, numbers, *more, style=style, nesterov="nesterov" in kind, **how)


def clipped(g: Any, clip: str, a: Any, b: Any) -> Any:
    """What the optimizers record."""
    if clip == "norm":
        return ops.div(ops.mul(g, a), b)
    return ops.minimum(ops.maximum(g, a), b) if clip == "value" else ops.mul(g, a)


ELEMENTWISE = {"add", "mul", "div", "maximum", "minimum"}


# ---- clipping inside of a step ----


@pytest.mark.parametrize("name", ISA)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("style", ["keras", "torch"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clip", CLIPS)
def test_clipped_steps(clip: str, kind: str, style: str, dtype: str, name: str) -> None:
    """By the op itself, by a plan that puts it there, by separate steps: the same bits."""
    for shape in SHAPES:
        arrays = draw(shape, dtype, 4)
        special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, 3e38], dtype)
        arrays[3].reshape(-1)[: special.size] = special[: arrays[3].size]
        low, high = np.asarray(-0.5, dtype), np.asarray(0.7, dtype)
        for sloped in (False, True):
            slope = np.asarray(0.3, dtype)
            results = []
            for how in ("op", "fused", "separate"):
                w, m, v = (
                    core.tensor(np.array(abs(a) if k else a)) for k, a in enumerate(arrays[:3])
                )
                with isa(name), option("fuse", int(how == "fused")), core.capture() as tape:
                    a, b, s = (tape.placeholder((), dtype) for _ in range(3))
                    g: Any = core.tensor(arrays[3])
                    if how == "op":
                        more = (s if sloped else None, a, None if clip == "factor" else b)
                        step(kind, style, w, g, (m, v), *more, clip=clip)
                    else:
                        g = ops.add(g, ops.mul(w, s)) if sloped else g
                        step(kind, style, w, clipped(g, clip, a, b), (m, v))
                    plan = tape.compile([])
                    plan.run(low, high, slope)
                found = {one["op"] for one in plan.steps}
                # A parameter of one number cannot be told from its slope.
                stays = how == "separate" or (how == "fused" and sloped and shape == ())
                assert bool(ELEMENTWISE & found) == stays, (how, found)
                (last,) = [one for one in plan.steps if one["op"] == kind.split()[0]]
                assert last["attrs"]["clip"] == ("none" if how == "separate" else clip)
                results.append([t.numpy() for t in (w, m, v)])
            for other in results[1:]:
                same_bits(results[0], other)


def test_a_clipped_gradient_against_numpy() -> None:
    w, g = np.array([1.0, 2.0, 3.0]), np.array([-4.0, 0.5, 6.0])
    one, two = core.tensor(np.asarray(-1.0)), core.tensor(np.asarray(2.0))
    for clip, want in (("factor", -g), ("norm", -g / 2), ("value", np.clip(g, -1, 2))):
        t = core.tensor(np.array(w))
        b = None if clip == "factor" else two
        ops.sgd_(t, g, None, hyper(0.5), None, one, b, clip=clip)
        np.testing.assert_array_equal(t.numpy(), w - 0.5 * want)


def test_clipping_that_has_to_stay() -> None:
    """Read twice, with numbers for each element, behind a slope, or of numbers that change."""
    w, other = (core.tensor(np.arange(1.0, 4.0) + k) for k in range(2))
    g, half = core.tensor(np.array([1.0, -2.0, 3.0])), core.tensor(np.asarray(0.5))
    h = hyper(1.0)

    def run(make: Callable[[], None]) -> tuple[set[str], Array]:
        before = w.numpy().copy()
        with core.capture() as tape:
            make()
            plan = tape.compile([])
        plan.run()
        return {one["op"] for one in plan.steps}, before - w.numpy()

    def twice() -> None:
        product = g * half
        ops.sgd_(w, product, None, h)
        ops.assign_(other, product)

    found, moved = run(twice)
    assert "mul" in found
    np.testing.assert_array_equal(moved, [0.5, -1, 1.5])
    np.testing.assert_array_equal(other.numpy(), [0.5, -1, 1.5])

    factors = core.tensor(np.array([1.0, 2.0, 0.5]))
    found, moved = run(lambda: ops.sgd_(w, g * factors, None, h))
    assert "mul" in found
    np.testing.assert_array_equal(moved, [1, -4, 1.5])

    # The op's slope comes before its clipping.
    ops.assign_(w, np.array([1.0, 2.0, 4.0]))
    found, moved = run(lambda: ops.sgd_(w, ops.minimum(ops.maximum(g, -1.0), half), None, h, half))
    assert {"minimum", "maximum"} <= found
    np.testing.assert_array_equal(moved, [1.0, 0.0, 2.5])

    # A sum of a clipped gradient and a slope: only the slope is taken over.
    ops.assign_(w, np.array([1.0, 2.0, 4.0]))
    found, moved = run(
        lambda: ops.sgd_(w, ops.minimum(ops.maximum(g, -1.0), half) + w * half, None, h)
    )
    assert {"minimum", "maximum"} <= found and not {"add", "mul"} & found
    np.testing.assert_array_equal(moved, [1.0, 0.0, 2.5])

    def overwritten() -> None:
        product = g * half
        ops.assign_(half, np.asarray(100.0))
        ops.sgd_(w, product, None, h)

    _, moved = run(overwritten)
    np.testing.assert_array_equal(moved, [0.5, -1, 1.5])

    def gradient_overwritten() -> None:
        product = ops.minimum(ops.maximum(g, -1.0), 2.0)
        ops.assign_(g, np.full(3, 100.0))
        ops.sgd_(w, product, None, h)

    _, moved = run(gradient_overwritten)
    np.testing.assert_array_equal(moved, [1, -1, 2])


@pytest.mark.parametrize(
    ("numbers", "clip", "error", "words"),
    [
        ((None, 1.0), "none", ValueError, "clip='none' takes no numbers: clip_a must be None"),
        ((None, None), "factor", ValueError, "takes one number, clip_a: clip_a is missing"),
        ((None, 1.0, 2.0), "factor", ValueError, "clip_b must be None"),
        ((None, 1.0), "norm", ValueError, "two numbers, clip_a and clip_b: clip_b is missing"),
        ((None, None, 1.0), "value", ValueError, "clip_a is missing"),
        (
            (None, np.ones(1)),
            "factor",
            ShapeError,
            r"clip_a must be one number, of shape \(\), got",
        ),
        ((None, 1.0, np.ones(3)), "value", ShapeError, "clip_b must be one number"),
        ((None, np.float32(1)), "factor", TypeError, "one dtype"),
        ((None, 1.0), "length", ValueError, "'none', 'factor', 'norm', 'value'"),
    ],
)
@pytest.mark.parametrize("kind", ["sgd_", "adam_"])
def test_wrong_clipping(
    kind: str, numbers: tuple[Any, ...], clip: str, error: type[Exception], words: str
) -> None:
    w, m, v = (core.tensor(np.ones(3)) for _ in range(3))
    more = [None if a is None else core.tensor(np.asarray(a)) for a in numbers]
    with pytest.raises(error, match=words):
        step(kind, "keras", w, np.ones(3), (m, v), *more, clip=clip)
    np.testing.assert_array_equal(w.numpy(), np.ones(3))
