"""What a forward op saves for its gradient in the same plan: the positions of max pooling's maxima,
the decisions of dropout.

The plan without fusion computes the same from the maps, or the same random numbers again, bit for
bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn._core as core
from harness import forced, isa, option, threads
from pycnn import ops

pytestmark = pytest.mark.sanitize

ISAS = core.config()["isa_available"]
WINDOWS: list[dict[str, Any]] = [
    {"kernel": (2, 2)},
    {"kernel": (3, 3), "stride": (2, 2)},
    {"kernel": (3, 2), "stride": (1, 1), "padding": (1, 1, 0, 1)},
    {"kernel": (2, 3), "stride": (3, 2), "padding": (1, 0, 2, 1)},
    {"kernel": (2, 2), "stride": (3, 3)},
]


def with_ties(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Few different numbers, zeros of both signs, infinities and NaN among them."""
    values = np.array([-2, -0.0, 0.0, 1, 1, 2, np.nan, np.inf, -np.inf])
    chances = np.array([20, 20, 20, 20, 10, 5, 2, 2, 1]) / 100
    return np.random.default_rng(shape[0]).choice(values, shape, p=chances).astype(dtype)


def pooled(
    x: np.ndarray, relu: bool, window: dict[str, Any]
) -> tuple[set[tuple[str, str]], list[np.ndarray]]:
    """Steps; y, and dx of a loss whose dy has both zeros in it."""
    with core.capture() as tape:
        t = core.tensor(x, requires_grad=True)
        h = t * 1.0
        y = ops.max_pool2d(ops.relu(h) if relu else h, **window)
        dy = np.random.default_rng(1).choice([-3.0, -0.0, 0.0, 2.0], y.shape).astype(x.dtype)
        loss = ops.sum(ops.where(core.tensor(dy > 5), y, y * core.tensor(dy)))
        plan = tape.compile([y, *core.gradients(loss, [t])])
    values = [a.numpy() for a in plan.run()]
    return {(step["op"], step["impl"]) for step in plan.steps}, values


def same(got: list[np.ndarray], want: list[np.ndarray]) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_positions_give_the_bits_of_the_maps(
    dtype: str, window: dict[str, Any], relu: bool, name: str
) -> None:
    for n in (1, 7, 8, 17, 33):
        x = with_ties((n, 3, 7, 9), dtype)
        with isa(name):
            steps, got = pooled(x, relu, window)
            assert {op for op, _ in steps} >= {"max_pool2d_index", "max_pool2d_scatter"}
            assert not {op for op, _ in steps} & {"max_pool2d", "max_pool2d_grad", "relu_grad"}
            with option("fuse", 0):
                steps, want = pooled(x, relu, window)
            assert {op for op, _ in steps} >= {"max_pool2d", "max_pool2d_grad"}
            same(got, want)
            for op in ("max_pool2d_index", "max_pool2d_scatter"):
                for impl in ("n16_2x2", "n16", "reference"):
                    with forced(op, impl):
                        steps, got = pooled(x, relu, window)
                    assert (op, impl) in steps or (impl == "n16_2x2" and window != WINDOWS[0])
                    same(got, want)


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_positions_by_any_number_of_threads(workers: int) -> None:
    x = with_ties((19, 5, 8, 8), "float32")
    results = []
    for window in WINDOWS[:2]:
        for impl in ("n16", "reference"):
            with forced("max_pool2d_index", impl), threads(1):
                _, want = pooled(x, True, window)
            with forced("max_pool2d_index", impl), threads(workers):
                _, got = pooled(x, True, window)
            same(got, want)
            results.append(got)
    same(results[0], results[1])


def test_every_batch() -> None:
    for n in range(34):
        x = with_ties((n, 2, 4, 6), "float32")
        _, got = pooled(x, True, WINDOWS[0])
        with option("fuse", 0):
            _, want = pooled(x, True, WINDOWS[0])
        same(got, want)


def test_windows_of_many_taps_keep_the_maps() -> None:
    for kernel, kept in (((127, 1), False), ((128, 1), True), ((16, 8), True)):
        x = with_ties((9, 1, 130, 9), "float32")
        steps, got = pooled(x, False, {"kernel": kernel, "stride": (1, 1)})
        assert ("max_pool2d_grad" in {op for op, _ in steps}) == kept
        with option("fuse", 0):
            _, want = pooled(x, False, {"kernel": kernel, "stride": (1, 1)})
        same(got, want)


def test_one_pooling_with_two_gradients() -> None:
    """Two losses over one pooled map, one of them through relu's gradient and one past it."""
    x = with_ties((9, 2, 6, 6), "float32")
    results = []
    for fuse in (1, 0):
        with option("fuse", fuse), core.capture() as tape:
            t = core.tensor(x, requires_grad=True)
            h = ops.relu(t * 1.0)
            y = ops.max_pool2d(h, kernel=(2, 2))
            one = core.gradients(ops.sum(y * 2.0), [t])
            two = core.gradients(ops.sum(y * 3.0), [h])
            three = core.gradients(ops.sum(y * 5.0), [t])
            plan = tape.compile([*one, *two, *three, h])
        results.append([a.numpy() for a in plan.run()])
        found = [step["op"] for step in plan.steps]
        assert found.count("max_pool2d_scatter") == (2 if fuse else 0)
    same(results[0], results[1])


def test_without_a_gradient_nothing_is_kept() -> None:
    with core.capture() as tape:
        y = ops.max_pool2d(tape.placeholder((16, 2, 4, 4)), kernel=(2, 2))
        plan = tape.compile([ops.dropout(y, np.array([1, 2, 3]), rate=0.5)])
    assert {step["op"] for step in plan.steps} >= {"max_pool2d", "dropout"}


# ---- dropout ----


def dropped(
    x: np.ndarray, rate: float = 0.3, **attrs: Any
) -> tuple[set[tuple[str, str]], list[np.ndarray]]:
    """Steps; y and dx of two dropouts with different numbers, one after the other."""
    with core.capture() as tape:
        t = core.tensor(x, requires_grad=True)
        h = ops.dropout(t * 1.0, np.array([5, 1, 2]), rate=rate, **attrs)
        y = ops.dropout(h, np.array([5, 1, 3]), rate=rate, **attrs)
        dy = np.random.default_rng(1).choice([-3.0, -0.0, 0.0, 2.0, np.inf, np.nan], y.shape)
        loss = ops.sum(y * core.tensor(dy.astype(x.dtype)))
        plan = tape.compile([h, y, *core.gradients(loss, [t])])
    values = [a.numpy() for a in plan.run()]
    return {(step["op"], step["impl"]) for step in plan.steps}, values


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kept_decisions_are_those_drawn_again(dtype: str, name: str) -> None:
    for n in (8, 16, 19, 33):
        for shape in ((3, 5, 7), (1, 1, 1), (2, 40, 31)):
            x = with_ties((n, *shape), dtype)
            with isa(name):
                steps, got = dropped(x)
                assert steps >= {("dropout_keep", "n16"), ("dropout_mask", "n16")}
                assert "dropout" not in {op for op, _ in steps}
                with option("fuse", 0):
                    steps, want = dropped(x)
                assert "dropout" in {op for op, _ in steps}
                same(got, want)
                for op in ("dropout_keep", "dropout_mask"):
                    with forced(op, "reference"):
                        steps, got = dropped(x)
                    assert (op, "reference") in steps
                    same(got, want)


@pytest.mark.parametrize("impl", ["n16", "reference"])
def test_decisions_by_any_number_of_threads(impl: str) -> None:
    x = with_ties((37, 3, 40, 31), "float32")
    results = []
    for workers in (1, 2, 3, 8):
        with forced("dropout_keep", impl), forced("dropout_mask", impl), threads(workers):
            results.append(dropped(x)[1])
    for other in results[1:]:
        same(results[0], other)


@pytest.mark.parametrize(
    ("shape", "attrs"),
    [
        ((7, 2, 3, 3), {}),  # no layout N16
        ((9, 20), {}),
        ((9, 2, 3, 3), {"spatial": True}),
        ((9, 2, 3, 3), {"rate": 0.0}),
        ((9, 2, 3, 3), {"rate": 1.0}),
        ((0, 2, 3, 3), {}),
    ],
    ids=str,
)
def test_dropout_that_draws_again(shape: tuple[int, ...], attrs: dict[str, Any]) -> None:
    x = with_ties(shape, "float32")
    steps, got = dropped(x, **attrs)
    assert "dropout_keep" not in {op for op, _ in steps}
    with option("fuse", 0):
        same(got, dropped(x, **attrs)[1])
