"""Plans: what tells them apart, what they may not change, and what was in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import programs
import pycnn._core as core
from harness import isa, option
from loops import NETWORKS, gradients_plan, hyper, numbers, same_bits, seed, train_step, zeros_like
from pycnn import ops

pytestmark = pytest.mark.sanitize


def plans_for(*calls: Callable[[], Any]) -> int:
    """How many plans these calls make."""
    core.clear_plans()
    before = core.plan_cache_info()["made"]
    for call in calls:
        result = call()
        for t in result if isinstance(result, tuple) else (result,):
            t.numpy()
        del result
    return int(core.plan_cache_info()["made"] - before)


CONVOLUTIONS = {"conv2d", "conv2d_dx", "conv2d_dw"}


def side_by_side(steps: list[dict[str, Any]]) -> set[str]:
    """The convolutions that ran on images side by side: in layout N16, directly or Winograd's."""
    found = {
        step["op"]: any(layout == "n16" for _, layout in (*step["inputs"], *step["outputs"]))
        for step in steps
        if step["op"] in CONVOLUTIONS
    }
    assert len(set(found.values())) == 1, found
    return {op for op, n16 in found.items() if n16}


RNG = np.random.default_rng(0)
MAPS = RNG.standard_normal((8, 3, 6, 6)).astype(np.float32)
SQUARE = RNG.standard_normal((4, 4)).astype(np.float32)
CUBE = RNG.standard_normal((3, 3, 3)).astype(np.float32)
KERNEL = RNG.standard_normal((3, 3, 3, 3)).astype(np.float32)


# ---- one plan for the same structure ----


def test_numbers_are_no_part_of_the_key() -> None:
    x = core.tensor(SQUARE)
    for scale, start in ((1.0, 0), (2.5, 1), (-3.0, 2)):
        want = (SQUARE * np.float32(scale))[start : start + 2]

        def call(scale: float = scale, start: int = start) -> Any:
            return (x * scale)[start : start + 2]

        np.testing.assert_array_equal(call().numpy(), want)
    assert plans_for(*(lambda k=k: (x * float(k))[k % 2 : k % 2 + 2] for k in range(4))) == 1


def test_seeds_and_rates_of_learning_are_no_part_of_the_key() -> None:
    w = core.tensor(SQUARE)

    def step(k: int) -> Any:
        ops.sgd_(w, np.ones_like(SQUARE), None, hyper(0.1 * k))
        return ops.dropout(w, seed(k, k), rate=0.5)

    assert plans_for(*(lambda k=k: step(k) for k in range(4))) == 1


def test_other_arrays_of_the_same_shape_share_a_plan() -> None:
    def call(k: int) -> Any:
        return ops.matmul(np.full((2, 3), float(k)), np.ones((3, 2)))

    assert plans_for(*(lambda k=k: call(k) for k in range(3))) == 1
    for k in range(3):
        np.testing.assert_array_equal(call(k).numpy(), np.full((2, 2), 3.0 * k))


# ---- different plans for what differs ----

DIFFERENT: dict[str, list[tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "axis": [
        (lambda: ops.sum(SQUARE, axis=0), lambda: SQUARE.sum(0)),
        (lambda: ops.sum(SQUARE, axis=1), lambda: SQUARE.sum(1)),
    ],
    "operation": [
        (lambda: ops.maximum(SQUARE, SQUARE.T.copy()), lambda: np.maximum(SQUARE, SQUARE.T)),
        (lambda: ops.minimum(SQUARE, SQUARE.T.copy()), lambda: np.minimum(SQUARE, SQUARE.T)),
    ],
    "perm": [
        (lambda: ops.transpose(CUBE, perm=(0, 2, 1)), lambda: CUBE.transpose(0, 2, 1)),
        (lambda: ops.transpose(CUBE, perm=(1, 0, 2)), lambda: CUBE.transpose(1, 0, 2)),
        (lambda: ops.transpose(CUBE, perm=(2, 1, 0)), lambda: CUBE.transpose(2, 1, 0)),
    ],
    "a number that is an attribute": [
        (lambda: ops.leaky_relu(-CUBE, slope=0.5), lambda: np.where(CUBE < 0, -CUBE, -CUBE / 2)),
        (lambda: ops.leaky_relu(-CUBE, slope=0.25), lambda: np.where(CUBE < 0, -CUBE, -CUBE / 4)),
    ],
    "side of the padding": [
        (
            lambda: ops.pad(SQUARE, pads=(1, 0, 0, 0)),
            lambda: np.pad(SQUARE, ((1, 0), (0, 0))),
        ),
        (
            lambda: ops.pad(SQUARE, pads=(0, 1, 0, 0)),
            lambda: np.pad(SQUARE, ((0, 1), (0, 0))),
        ),
    ],
    "a flag": [
        (lambda: ops.dense(SQUARE, SQUARE), lambda: SQUARE @ SQUARE),
        (lambda: ops.dense(SQUARE, SQUARE, transpose_w=True), lambda: SQUARE @ SQUARE.T),
    ],
    "an absent input": [
        (lambda: ops.dense(SQUARE, SQUARE, SQUARE[0]), lambda: SQUARE @ SQUARE + SQUARE[0]),
        (lambda: ops.dense(SQUARE, SQUARE), lambda: SQUARE @ SQUARE),
    ],
    "dtype": [
        (lambda: ops.neg(SQUARE), lambda: -SQUARE),
        (lambda: ops.neg(SQUARE.astype(np.float64)), lambda: -SQUARE.astype(np.float64)),
    ],
    "shape": [
        (lambda: ops.neg(SQUARE), lambda: -SQUARE),
        (lambda: ops.neg(SQUARE.reshape(2, 8)), lambda: -SQUARE.reshape(2, 8)),
        (lambda: ops.neg(SQUARE.reshape(16)), lambda: -SQUARE.reshape(16)),
    ],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_differs_has_a_plan_of_its_own(what: str) -> None:
    pairs = DIFFERENT[what]
    assert plans_for(*(call for call, _ in pairs)) == len(pairs)
    for call, want in pairs * 2:
        np.testing.assert_allclose(call().numpy(), want(), rtol=1e-5, atol=1e-5)


def test_which_inputs_are_the_same_belongs_to_the_key() -> None:
    a, b = core.tensor(np.full(3, 2.0)), core.tensor(np.full(3, 5.0))
    cases: list[tuple[Any, Any, float]] = [(a, a, 4), (a, b, 10), (b, a, 10), (b, b, 25)]
    for x, y, want in cases * 2:
        np.testing.assert_array_equal((x * y).numpy(), np.full(3, want))
    assert plans_for(*(lambda x=x, y=y: x * y for x, y, _ in cases)) == 2


def test_what_stays_visible_belongs_to_the_key() -> None:
    x = core.tensor(SQUARE)
    for _ in range(2):
        h = x * 2.0
        y = h + 1.0
        same_bits(y.numpy(), SQUARE * 2 + 1)
        same_bits(h.numpy(), SQUARE * 2)
        del h, y
        same_bits((x * 2.0 + 1.0).numpy(), SQUARE * 2 + 1)
    assert plans_for(lambda: x * 2.0 + 1.0, lambda: ops.add(*((x * 2.0), 1.0))) == 1


def test_aliases_belong_to_the_key() -> None:
    """An effect, then a read of the same memory through another tensor or of other memory."""
    for shared in (True, False, True):
        w = core.tensor(np.zeros(3))
        other = w.detach() if shared else core.tensor(np.zeros(3))
        ops.assign_(w, np.ones(3))
        np.testing.assert_array_equal((other * 2.0 + w).numpy(), np.full(3, 3.0 if shared else 1.0))


def test_options_belong_to_the_key() -> None:
    """Plans made with an option are not found without it, and are found again with it."""
    core.clear_plans()
    kernel = core.tensor(KERNEL)
    before = core.plan_cache_info()["made"]
    for _ in range(2):
        for name in ("fuse", "chain", "n16", None):
            with option(name, 0) if name else nullcontext():
                ops.relu(ops.max_pool2d(ops.conv2d(MAPS, kernel), kernel=(2, 2))).numpy()
    assert core.plan_cache_info()["made"] - before == 4


def test_the_cache_is_bounded() -> None:
    core.clear_plans()
    x = core.tensor(np.ones(4, np.float32))
    most, most_plans = 0, 0
    before = core.plan_cache_info()["made"]
    for n in range(130):
        y = x
        for _ in range(1500 + n):
            y = ops.relu(y)
        y.numpy()
        info = core.plan_cache_info()
        most, most_plans = max(most, info["bytes"]), max(most_plans, info["plans"])
    assert core.plan_cache_info()["made"] - before == 130
    assert 32 << 20 < most <= 64 << 20
    assert most_plans < 130
    core.clear_plans()
    info = core.plan_cache_info()
    assert info["plans"] == info["bytes"] == info["arena_bytes"] == info["free_bytes"] == 0


# ---- fusing and laying out change no results ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 5, 8, 19])
@pytest.mark.parametrize("name", NETWORKS)
def test_fusion_changes_no_bits(name: str, n: int, dtype: str) -> None:
    network = NETWORKS[name]
    results, fused = [], []
    for flag in (1, 0):
        with option("fuse", flag):
            plan, run = gradients_plan(network, network.parameters(dtype), n)
            results.append(run(*network.batch(n, dtype)))
            fused.append([s for s in plan.steps if s.get("activation", "none") != "none"])
    same_bits(results[0], results[1])
    assert not fused[1]


@pytest.mark.parametrize("n", [3, 16])
@pytest.mark.parametrize("kind", ["relu", "sigmoid", "tanh"])
def test_fusion_of_every_activation(kind: str, n: int) -> None:
    """In a forward pass, into convolution and dense; what reads the result is the same."""
    x = RNG.standard_normal((n, 3, 6, 6)).astype(np.float32)
    w, b = core.tensor(KERNEL), core.tensor(np.array([0.5, -1, 2], np.float32))
    activation = getattr(ops, kind)
    results, names = [], []
    for flag in (1, 0):
        with option("fuse", flag), core.capture() as tape:
            xs = tape.placeholder(x.shape)
            h = activation(ops.conv2d(xs, w, b))
            h, _, _ = ops.batch_norm(h, b, b)
            rows = ops.reshape(activation(h), shape=(n, -1))
            rows = activation(ops.dense(rows, np.ones((48, 5), np.float32)))
            plan = tape.compile([rows])
        results.append(plan.run(x)[0].numpy())
        names.append([s["op"] for s in plan.steps])
        inside = {s["op"] for s in plan.steps if s.get("activation") == kind}
        dense = "dense_maps" if n >= 8 else "dense"
        assert inside >= ({"conv2d", dense} if flag else set())
    same_bits(results[0], results[1])
    assert names[1].count(kind) == 3 and names[0].count(kind) <= 1


@pytest.mark.parametrize("name", core.config()["isa_available"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "window", [{"kernel": (2, 2)}, {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0, 0, 1)}]
)
def test_relu_gradient_in_that_of_average_pooling(
    window: dict[str, Any], dtype: str, name: str
) -> None:
    for n in (3, 8, 21):
        x = RNG.choice([-1.0, -0.0, 0.0, 0.5, 2.0, np.nan, np.inf], (n, 3, 7, 9)).astype(dtype)
        results = []
        for fuse in (1, 0):
            with isa(name), option("fuse", fuse), core.capture() as tape:
                t = core.tensor(x, requires_grad=True)
                y = ops.avg_pool2d(ops.relu(t * 1.0), **window)
                dy = np.random.default_rng(n).choice([-3.0, -0.0, 0.0, 2.0, np.inf], y.shape)
                plan = tape.compile(core.gradients(ops.sum(y * core.tensor(dy.astype(dtype))), [t]))
                results.append([plan.run()[0].numpy()])
            assert ("relu_grad" in {s["op"] for s in plan.steps}) == (not fuse)
        same_bits(results[0], results[1])


def test_a_map_that_stays_visible_is_right_though_its_activation_could_be_fused() -> None:
    x, w = MAPS, core.tensor(KERNEL)
    h = ops.conv2d(x, w)
    y = ops.relu(h)
    apart = y.numpy()
    same_bits(apart, np.maximum(h.numpy(), 0))
    same_bits(ops.relu(ops.conv2d(x, w)).numpy(), apart)


@pytest.mark.parametrize("n", range(8, 34, 5))
@pytest.mark.parametrize("name", NETWORKS)
def test_without_n16_the_results_are_close(name: str, n: int) -> None:
    network = NETWORKS[name]
    p = network.parameters()
    results = []
    for flag in (1, 0):
        with option("n16", flag):
            plan, run = gradients_plan(network, p, n)
            results.append(run(*network.batch(n)))
            assert side_by_side(plan.steps) == (CONVOLUTIONS if flag else set())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=2e-5 * max(1.0, np.abs(one).max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_imperative_plans_fuse_and_use_n16(name: str) -> None:
    core.clear_plans()
    network = NETWORKS[name]
    p = network.parameters()
    train_step(network, p, zeros_like(p), *network.batch(16), 0).item()
    core.synchronize()
    steps = [step for plan in core._cached_plans() for step in plan["steps"]]
    assert side_by_side(steps) == CONVOLUTIONS
    assert "sgd_" in {step["op"] for step in steps}


# ---- whole networks' gradients ----


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_whole_networks(name: str) -> None:
    """float64, every parameter tensor, against central differences of the plan's own loss."""
    network = NETWORKS[name]
    p = network.parameters("float64")
    plan, run = gradients_plan(network, p, 9)
    assert side_by_side(plan.steps) == CONVOLUTIONS
    x, labels = network.batch(9, "float64")
    with core.capture() as tape:
        loss = tape.compile([network.loss(p, core.tensor(x), core.tensor(labels), 0)])
    _, *found = run(x, labels)
    rng = np.random.default_rng(5)
    for tensor, gradient in zip(p.values(), found, strict=True):
        array = tensor.numpy()
        for _ in range(4):
            at = tuple(int(rng.integers(extent)) for extent in array.shape)
            center, step, losses = array[at], 1e-6, []
            for sign in (1, -1):
                array[at] = center + sign * step
                losses.append(loss.run()[0].item())
            array[at] = center
            slope = (losses[0] - losses[1]) / (2 * step)
            assert abs(slope - gradient[at]) <= 1e-8 + 1e-6 * abs(slope), (name, at)


# ---- random programs: memory, aliases, order ----

PROGRAMS = [
    (n, dtype, key) for n in (3, 9) for dtype in ("float32", "float64") for key in range(15)
]


@pytest.mark.parametrize(("n", "dtype", "key"), PROGRAMS)
def test_random_programs(n: int, dtype: str, key: int) -> None:
    """At once, as one plan, with fusion off, with little kept alive, and through a capture."""
    rng = np.random.default_rng((n, key))
    steps = programs.draw(rng, 30, effects=True)
    reference = programs.Machine(n, dtype, key)
    with option("n16", 0) if n < 8 else option("fuse", 1):
        reference.run(steps, look=True)
    want = reference.results()
    assert all(np.isfinite(array).all() for array in want)
    for keep in (False, True):
        for fuse in (1, 0):
            with option("fuse", fuse):
                machine = programs.Machine(n, dtype, key)
                machine.run(steps, keep=keep)
                close_or_same(machine.results(), want, dtype)
    close_or_same(programs.in_a_capture(n, dtype, key, steps), want, dtype)


def close_or_same(got: list[Any], want: list[Any], dtype: str) -> None:
    """Layouts, and with them sums, may differ between one plan and many; nothing else may."""
    tolerance = 1e-11 if dtype == "float64" else 2e-3
    for one, two in zip(got, want, strict=True):
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("n", "dtype", "key"), PROGRAMS)
def test_random_programs_same_plan_same_bits(n: int, dtype: str, key: int) -> None:
    """Fused or not, and run again from the cache: equal bits."""
    steps = programs.draw(np.random.default_rng((n, key, 1)), 25, effects=True)
    results = []
    for fuse in (1, 0, 1):
        with option("fuse", fuse):
            machine = programs.Machine(n, dtype, key)
            machine.run(steps)
            results.append(machine.results())
    same_bits(results[0], results[1])
    same_bits(results[0], results[2])


def test_programs_say_what_ran() -> None:
    """The random programs' plans hold layouts' changes, shared memory and effects."""
    core.clear_plans()
    for key in range(6):
        steps = programs.draw(np.random.default_rng((9, key)), 30, effects=True)
        machine = programs.Machine(9, "float32", key)
        machine.run(steps, keep=False)
        machine.results()
    ran = {(s["op"], s["impl"]) for plan in core._cached_plans() for s in plan["steps"]}
    assert side_by_side([s for plan in core._cached_plans() for s in plan["steps"]]) == {"conv2d"}
    assert {
        ("reorder", "to_n16"),
        ("reorder", "to_plain"),
        ("reshape", "alias"),
        ("assign_", "plain"),
        ("sgd_", "plain"),
    } <= ran


def test_parameters_after_training_do_not_depend_on_fusion() -> None:
    network, results = NETWORKS["lab1"], []
    for flag in (1, 0):
        with option("fuse", flag):
            p = network.parameters()
            v = zeros_like(p)
            for call in range(3):
                train_step(network, p, v, *network.batch(18, key=call), call)
            results.append(numbers(p))
    same_bits(results[0], results[1])


# ---- dense layers on maps ----


@pytest.mark.parametrize("last", [False, True])
def test_flattened_maps_go_into_dense_layers_as_they_are(last: bool) -> None:
    """The results do not depend on whether somebody looks at the rows."""
    n, rng = 19, np.random.default_rng(3)
    x = core.tensor(rng.standard_normal((n, 3, 6, 6)).astype(np.float32))
    kernel, w = core.tensor(KERNEL), core.tensor(rng.standard_normal((48, 21)).astype(np.float32))
    r = rng.standard_normal((n, 21)).astype(np.float32)
    results: list[list[np.ndarray]] = []
    for look in (False, True):
        with core.capture() as tape:
            kernel.requires_grad = w.requires_grad = True
            h = ops.conv2d(x, kernel)
            rows = ops.transpose(h, perm=(0, 2, 3, 1)) if last else h
            rows = ops.reshape(rows, shape=(n, -1))
            y = ops.tanh(ops.dense(rows, w))
            wanted = [kernel, w, h, *([rows] if look else [])]
            gradients = core.gradients(ops.sum(y * core.tensor(r)), wanted)
            plan = tape.compile([y, *gradients, *([rows] if look else [])])
        ran = {step["op"] for step in plan.steps}
        assert {"dense_maps", "dense_maps_dx", "dense_maps_dw"} <= ran
        assert not ran & {"dense", "matmul"}
        assert ("transpose" in ran) == (look and last)
        results.append([t.numpy() for t in plan.run()])
    same_bits(results[0], results[1][:4])
    dh, d_rows, rows_seen = results[1][3:]
    turned = dh.transpose(0, 2, 3, 1) if last else dh
    same_bits(d_rows, turned.reshape(n, -1))
    np.testing.assert_allclose(np.tanh(rows_seen @ w.numpy()), results[0][0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [7, 8, 9])
def test_dense_layers_on_maps_that_were_looked_at_before(n: int, dtype: str) -> None:
    """The maps are rows of the caller's then; small batches have products of their own."""
    rng, results = np.random.default_rng(n), []
    x = rng.standard_normal((n, 3, 11, 11)).astype(dtype)
    kernel = core.tensor(rng.standard_normal((8, 3, 3, 3)).astype(dtype), requires_grad=True)
    w = core.tensor(rng.standard_normal((648, 21)).astype(dtype), requires_grad=True)
    for look in (False, True):
        h = ops.conv2d(core.tensor(x), kernel)
        if look:
            core.synchronize()
        y = ops.dense(ops.reshape(h, shape=(n, -1)), w)
        del h
        loss = ops.sum(ops.square(y))
        results.append([t.numpy() for t in (y.detach(), *core.gradients(loss, [kernel, w]))])
    same_bits(*results)


def test_batches_of_two_sizes_through_one_dense_layer() -> None:
    """What the large batch's layer takes as maps says nothing about the small one's gradient."""
    rng = np.random.default_rng(5)
    results: list[np.ndarray] = []
    arrays = [rng.standard_normal((n, 2, 6, 5)).astype(np.float32) for n in (17, 4)]
    w = core.tensor(rng.standard_normal((60, 7)).astype(np.float32), requires_grad=True)
    for sizes in ((17, 4), (4,)):
        with core.capture() as tape:
            loss, maps = core.tensor(np.float32(0)), []
            for x in arrays[2 - len(sizes) :]:
                xs = core.tensor(x, requires_grad=True)
                maps.append(ops.max_pool2d(xs, kernel=(1, 1)))
                rows = ops.reshape(maps[-1], shape=(len(x), -1))
                loss = loss + ops.sum(ops.square(ops.dense(rows, w)))
            plan = tape.compile(core.gradients(loss, maps))
        ran = [step for step in plan.steps if step["op"] == "dense_maps_dx"]
        assert [step["impl"] for step in ran] == ["n16"] * (len(sizes) - 1)
        results.append(plan.run()[-1].numpy())
    same_bits(*results)


def test_dense_layers_on_maps_keep_padding_lanes_zero() -> None:
    """Infinite weights: zero times infinity is NaN, in lanes that nobody fills."""
    n = 9
    w = np.zeros((12, 4), np.float32)
    w[3, 2] = np.inf
    x = core.tensor(np.ones((n, 3, 2, 2), np.float32), requires_grad=True)
    with core.capture() as tape:
        y = ops.sum(ops.dense_maps(x, w))
        (dx,) = core.gradients(y, [x])
        plan = tape.compile([dx, ops.sum(ops.square(dx), axis=(0, 2, 3))])
    _, total = plan.run()
    np.testing.assert_array_equal(total.numpy(), [np.inf, 0, 0])
