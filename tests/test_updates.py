"""Optimiser's steps that clip and regularise as they go, and those of all parameters as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn._core as core
from harness import isa, option, says_the_same_when_poisoned, threads
from loops import hyper, same_bits
from pycnn import ShapeError, ops
from pycnn.keras import layers, optimizers, regularizers

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


# ---- the steps of all parameters as one ----


def groups(plan: Any, op: str) -> list[int]:
    """How many steps of this op run together; those alone are 1."""
    found: dict[Any, int] = {}
    for k, one in enumerate(plan.steps):
        if one["op"] == op:
            number = one.get("chain", -1 - k)
            found[number] = found.get(number, 0) + 1
    return list(found.values())


MANY = [(5, 3, 3, 3), (5,), (0, 4), (700, 130), (130,), (), (41, 500), (16384,), (1,), (2048, 3)]


def step_all(
    kind: str, dtype: str, shapes: Sequence[tuple[int, ...]], clip: str = "none"
) -> tuple[Any, list[Array]]:
    """The plan of a step of all, and what it made."""
    tensors = []
    with core.capture() as tape:
        a, b = (core.tensor(np.asarray(n, dtype)) for n in (0.5, 2.0))
        for key, shape in enumerate(shapes):
            arrays = draw(shape, dtype, 4, key)
            w, m, v = (core.tensor(np.array(abs(x) if k else x)) for k, x in enumerate(arrays[:3]))
            numbers = {"none": (), "factor": (None, a), "norm": (None, a, b), "value": (None, a, b)}
            step(kind, "keras", w, core.tensor(arrays[3]), (m, v), *numbers[clip], clip=clip)
            tensors += [w, m, v]
        plan = tape.compile([])
    plan.run()
    return plan, [t.numpy() for t in tensors]


@pytest.mark.tsan
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_together_the_bits_are_the_same(kind: str, dtype: str) -> None:
    for clip in ("none", "norm"):
        with option("chain", 0):
            plan, want = step_all(kind, dtype, MANY, clip)
        op = kind.split()[0]
        assert groups(plan, op) == [1] * len(MANY)
        for count in (1, 2, 3, 8):
            with threads(count):
                core._workers_seen()
                for name in ISA:
                    with isa(name):
                        plan, got = step_all(kind, dtype, MANY, clip)
                    assert groups(plan, op) == [len(MANY)]
                    same_bits(got, want)
                if count > 1:
                    assert core._workers_seen() > 1


def test_no_more_run_together_than_fit() -> None:
    shapes = [(7,)] * 150
    plan, got = step_all("sgd_", "float32", shapes)
    assert groups(plan, "sgd_") == [64, 64, 22]
    with option("chain", 0):
        same_bits(got, step_all("sgd_", "float32", shapes)[1])
    plan, _ = step_all("sgd_", "float32", [(3,)])
    assert groups(plan, "sgd_") == [1] and "chain" not in plan.steps[0]


def test_steps_that_depend_on_each_other_do_not_run_together() -> None:
    h = hyper(0.5)

    def run(make: Callable[[Any, Any], None]) -> tuple[list[int], list[Array]]:
        w, u = core.tensor(np.ones(3)), core.tensor(np.full(3, 2.0))
        with core.capture() as tape:
            make(w, u)
            plan = tape.compile([])
        plan.run()
        return groups(plan, "sgd_"), [w.numpy(), u.numpy()]

    def same_parameter(w: Any, u: Any) -> None:
        ops.sgd_(w, np.ones(3), None, h)
        ops.sgd_(w, np.ones(3), None, h)

    assert run(same_parameter)[0] == [1, 1]
    np.testing.assert_array_equal(run(same_parameter)[1][0], np.zeros(3))

    def reads_what_was_written(w: Any, u: Any) -> None:
        ops.sgd_(w, np.ones(3), None, h)
        ops.sgd_(u, w, None, h)

    assert run(reads_what_was_written)[0] == [1, 1]
    np.testing.assert_array_equal(run(reads_what_was_written)[1][1], np.full(3, 1.75))

    def writes_what_was_read(w: Any, u: Any) -> None:
        ops.sgd_(w, u, None, h)
        ops.sgd_(u, np.ones(3), None, h)

    found, (w, u) = run(writes_what_was_read)
    assert found == [1, 1]
    np.testing.assert_array_equal(w, np.zeros(3))
    np.testing.assert_array_equal(u, np.full(3, 1.5))

    def something_between(w: Any, u: Any) -> None:
        ops.sgd_(w, np.ones(3), None, h)
        ops.assign_(u, u + 1.0)
        ops.sgd_(u, np.ones(3), None, h)

    found, (w, u) = run(something_between)
    assert found == [1, 1]
    np.testing.assert_array_equal(u, np.full(3, 2.5))

    def shared(w: Any, u: Any) -> None:
        g = core.tensor(np.ones(3))
        ops.sgd_(w, g, None, h)
        ops.sgd_(u, g, None, h)

    assert run(shared)[0] == [2]


@pytest.mark.parametrize("bad", range(4))
@pytest.mark.parametrize("together", [True, False])
def test_where_a_step_fails_those_before_it_are_done(together: bool, bad: int) -> None:
    """As if they had run one by one, in a recorded plan and in imperative code."""
    rates = [hyper(np.nan if k == bad else 0.5) for k in range(4)]
    with option("chain", int(together)):
        for imperative in (False, True):
            tensors = [core.tensor(np.full(3000, 1.0)) for _ in range(4)]
            later = core.tensor(np.zeros(2))
            if imperative:
                for t, rate in zip(tensors, rates, strict=True):
                    ops.sgd_(t, np.ones(3000), None, rate)
                ops.assign_(later, np.ones(2))
                with pytest.raises(ValueError, match=r"sgd_: hyper\[0\] must be a finite number"):
                    core.synchronize()
            else:
                with core.capture() as tape:
                    numbers = [tape.placeholder((4,), "float64") for _ in range(4)]
                    for t, rate in zip(tensors, numbers, strict=True):
                        ops.sgd_(t, np.ones(3000), None, rate)
                    ops.assign_(later, np.ones(2))
                    plan = tape.compile([])
                assert groups(plan, "sgd_") == ([4] if together else [1] * 4)
                with pytest.raises(ValueError, match=r"sgd_: hyper\[0\] must be a finite number"):
                    plan.run(*rates)
            memory = [np.array(t.detach()) if k < bad else None for k, t in enumerate(tensors)]
            for k in range(bad):
                np.testing.assert_array_equal(memory[k], np.full(3000, 0.5))
            if not imperative:
                for k in range(bad, 4):
                    np.testing.assert_array_equal(tensors[k].numpy(), np.ones(3000))
                np.testing.assert_array_equal(later.numpy(), np.zeros(2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_of_all_run_together(dtype: str) -> None:
    """They move up to the first of them; sums keep their order."""
    arrays = [draw(shape, dtype, 1, k)[0] for k, shape in enumerate(MANY)]
    results = []
    for chain in (0, 1):
        for count in (1, 2, 3, 8):
            with option("chain", chain), threads(count):
                with core.capture() as tape:
                    xs = [tape.placeholder(a.shape, dtype) for a in arrays]
                    total = ops.sum_squares(xs[0])
                    for x in xs[1:]:
                        total = total + ops.sum_squares(x * 2.0 if x.shape == (1,) else x)
                    plan = tape.compile([total, ops.sqrt(total)])
                results.append([t.numpy() for t in plan.run(*arrays)])
                # One that reads what is made behind the first cannot move up: it starts anew.
                assert sorted(groups(plan, "sum_squares")) == (
                    [2, len(MANY) - 2] if chain else [1] * len(MANY)
                )
    for other in results[1:]:
        same_bits(results[0], other)
    wide = [a.astype(np.float64) * (2 if a.shape == (1,) else 1) for a in arrays]
    want = sum(float((a * a).sum()) for a in wide)
    np.testing.assert_allclose(results[0][0], want, rtol=1e-6 if dtype == "float32" else 1e-14)


# ---- the norm of what is clipped, its slope included ----


@pytest.mark.parametrize("name", ISA)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", ["norm", "factor"])
def test_norms_of_regularised_gradients(clip: str, dtype: str, name: str) -> None:
    """Read as gradient, parameter and slope, or from a sum that is written: the same bits."""
    for shape in [(1,), (13,), (64,), (4096 + 5,), (300, 70), (11, 7, 3, 3), (200, 500), (0, 3)]:
        for slope in (0.3, -np.inf, np.nan):
            start, grad, *_ = draw(shape, dtype, 2)
            results = []
            for fuse in (1, 0):
                w, g = core.tensor(np.array(start)), core.tensor(grad)
                with isa(name), option("fuse", fuse), core.capture() as tape:
                    one, limit = (tape.placeholder((), dtype) for _ in range(2))
                    total = ops.add(g, ops.mul(w, one))
                    norm = ops.maximum(ops.sqrt(ops.sum_squares(total)), limit)
                    a, b = (limit, norm) if clip == "norm" else (ops.div(limit, norm), None)
                    step(
                        "sgd_", "keras", w, clipped(total, clip, a, b), (core.tensor(0 * start), 0)
                    )
                    plan = tape.compile([norm])
                    (found,) = plan.run(np.asarray(slope, dtype), np.asarray(0.5, dtype))
                done = {one["op"] for one in plan.steps}
                assert ("sum_sloped_squares" in done) == ("add" not in done) == bool(fuse), done
                results.append([found.numpy(), w.numpy()])
            same_bits(results[0], results[1])
            if np.isfinite(slope):
                wide = grad.astype(np.float64) + slope * start.astype(np.float64)
                want = max(0.5, float(np.sqrt((wide * wide).sum())))
                np.testing.assert_allclose(results[0][0], want, rtol=1e-5)


def test_sums_that_have_to_be_written() -> None:
    """Looked at, read by a third, or maps of images, whose squares may be summed side by side."""
    h, slope = hyper(0.5), core.tensor(np.asarray(0.25))
    for how in ("clean", "seen", "third", "maps", "after"):
        shape = (16, 3, 6, 6) if how == "maps" else (40,)
        results = []
        for fuse in (1, 0):
            w, other = core.tensor(draw(shape, "float64", 1)[0]), core.tensor(np.zeros(shape))
            with option("fuse", fuse), core.capture() as tape:
                g: Any = core.tensor(draw(shape, "float64", 1, 1)[0])
                if how == "maps":
                    g = ops.max_pool2d(g, kernel=3, stride=1, padding=1)
                total = ops.add(g, ops.mul(w, slope))
                norm = ops.sum_squares(total) if how != "after" else ops.sum_squares(g)
                ops.sgd_(w, ops.mul(total, ops.div(1.0, norm)), None, h)
                if how == "third":
                    ops.assign_(other, total)
                if how == "after":
                    norm = ops.sum_squares(total)
                plan = tape.compile([norm, total] if how == "seen" else [norm])
            done = {one["op"] for one in plan.steps}
            assert ("sum_sloped_squares" in done) == (how == "clean" and bool(fuse)), how
            results.append([plan.run()[0].numpy(), w.numpy(), other.numpy()])
        same_bits(results[0], results[1])


def test_norms_with_and_without_slope_run_together() -> None:
    results = []
    for chain in (1, 0):
        tensors = [core.tensor(a) for k in range(6) for a in draw((90, k + 1), "float32", 1, k)]
        with option("chain", chain), core.capture() as tape:
            gs = [tape.placeholder(t.shape) for t in tensors]
            pairs = enumerate(zip(gs, tensors, strict=True))
            totals = [g + t * 0.5 if k % 2 else g for k, (g, t) in pairs]
            norms = [ops.sqrt(ops.sum_squares(t)) for t in totals]
            for t, total, norm in zip(tensors, totals, norms, strict=True):
                ops.sgd_(t, ops.div(ops.mul(total, 0.5), norm), None, hyper(0.1))
            plan = tape.compile([])
        steps = [s.get("chain") for s in plan.steps if s["op"].startswith("sum_")]
        assert {s["op"] for s in plan.steps} >= {"sum_squares", "sum_sloped_squares"}
        assert len(set(steps)) == 1 and (steps[0] is None) == (not chain)
        plan.run(*(np.ones(t.shape, np.float32) for t in tensors))
        results.append([t.numpy() for t in tensors])
    same_bits(results[0], results[1])


# ---- through the optimizers ----

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": lambda **clip: optimizers.SGD(0.1, **clip),
    "momentum": lambda **clip: optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01, **clip),
    "nesterov": lambda **clip: optimizers.SGD(
        optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.5, nesterov=True, **clip
    ),
    "adam": lambda **clip: optimizers.Adam(0.01, **clip),
    "adamw": lambda **clip: without_bias(optimizers.AdamW(0.01, weight_decay=0.1, **clip)),
}
CLIPPING: list[dict[str, float]] = [
    {},
    {"clipnorm": 0.05},
    {"clipvalue": 0.01},
    {"global_clipnorm": 0.1},
]


def without_bias(optimizer: Any) -> Any:
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def trained(
    optimizer: Callable[..., Any],
    clip: dict[str, float],
    penalty: Any = None,
    dtype: str = "float32",
) -> tuple[list[Array], list[Any]]:
    """The weights and state after a few steps of a small network, and its plans."""
    core.clear_plans()
    before = pycnn.keras.config.floatx()
    pycnn.keras.config.set_floatx(dtype)
    try:
        pycnn.utils.set_random_seed(3)
        model = pycnn.Sequential(
            [
                layers.Input((9, 9, 2)),
                layers.Conv2D(6, 3, activation="relu", kernel_regularizer=penalty),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(20, activation="tanh", kernel_regularizer=penalty),
                layers.Dense(3, bias_regularizer=penalty),
            ]
        )
        model.compile(optimizer(**clip), "mse")
        rng = np.random.default_rng(2)
        x, y = rng.standard_normal((40, 9, 9, 2)), rng.standard_normal((40, 3))
        with pycnn.profile() as p:
            model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        state = [np.array(v) for v in (*model.variables, *model.optimizer.variables)]
        return state, p.rows
    finally:
        pycnn.keras.config.set_floatx(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("penalty", [None, regularizers.L2(0.01), regularizers.L1L2(0.02, 0.01)])
@pytest.mark.parametrize("clip", CLIPPING, ids=lambda c: next(iter(c), "none"))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_with_and_without(
    name: str, clip: dict[str, float], penalty: Any, dtype: str
) -> None:
    """Fused, grouped or neither: the same bits."""
    want, rows = trained(OPTIMIZERS[name], clip, penalty, dtype)
    op = "adam_" if "adam" in name else "sgd_"
    updates = [row.op for row in rows if row.phase == "update" and row.op.startswith(op)]
    assert len(updates) == 1, updates
    assert updates[0] == f"{op}{'+clip' if clip else ''} x6"
    if clip:
        separate = {row.op for row in rows if row.phase == "update"} & {"div", "minimum"}
        assert separate <= ({"div", "minimum"} if "global_clipnorm" in clip else set())
    if penalty is not None and not penalty.get_config().get("l1"):
        norms = [row.op for row in rows if "sum_sloped_squares" in row.op]
        assert len(norms) == (0 if not clip or "clipvalue" in clip else 1), norms
    for which in ("fuse", "chain"):
        with option(which, 0):
            got, rows = trained(OPTIMIZERS[name], clip, penalty, dtype)
            assert not any(" x6" in row.op for row in rows)
            same_bits(got, want)


def test_training_with_any_number_of_threads() -> None:
    for clip in CLIPPING:
        want, _ = trained(OPTIMIZERS["adamw"], clip, regularizers.L2(0.01))
        for count in (1, 2, 3, 8):
            with threads(count):
                same_bits(trained(OPTIMIZERS["adamw"], clip, regularizers.L2(0.01))[0], want)


def test_the_arena_does_not_grow() -> None:
    """All gradients live until the optimiser's steps in any case."""
    sizes = []
    for chain in (0, 1):
        tensors = [core.tensor(np.ones((64, 64), np.float32), requires_grad=True) for _ in range(5)]
        with option("chain", chain), core.capture() as tape:
            y = tape.placeholder((8, 64))
            for t in tensors:
                y = ops.tanh(ops.matmul(y, t))
            for t, g in zip(tensors, core.gradients(ops.sum(y), tensors), strict=True):
                ops.sgd_(t, g, None, hyper(0.1))
            plan = tape.compile([])
        assert groups(plan, "sgd_") == ([5] if chain else [1] * 5)
        sizes.append(plan.arena_bytes)
    assert sizes[0] == sizes[1]


POISONED = """
import sys; sys.path.insert(0, sys.argv[1])
import numpy as np
import pycnn._core as core
from test_updates import CLIPPING, OPTIMIZERS, regularizers, trained
for name in OPTIMIZERS:
    for clip in CLIPPING:
        state, _ = trained(OPTIMIZERS[name], clip, regularizers.L2(0.01))
        print(name, [a.tobytes().hex() for a in state])
assert core._guard_errors() == 0
"""


def test_steps_in_poisoned_memory() -> None:
    says_the_same_when_poisoned(POISONED)
