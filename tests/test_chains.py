"""Chains: steps that run together on a plane at a time, and what they may not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import pycnn._core as core
from harness import isa, says_the_same_when_poisoned, threads
from loops import NETWORKS, gradients_plan, same_bits, seed
from pycnn import ops

pytestmark = pytest.mark.sanitize

Array = np.ndarray
BATCHES = [1, 7, 8, 9, 15, 16, 17, 31, 32, 33]


@contextmanager
def chains(on: bool) -> Iterator[None]:
    before = core._set_option("chain", int(on))
    try:
        yield
    finally:
        core._set_option("chain", before)


def chained(plan: Any) -> list[list[str]]:
    """The ops of each chain of a plan."""
    found: dict[int, list[str]] = {}
    for step in plan.steps:
        if "chain" in step:
            found.setdefault(step["chain"], []).append(step["op"])
    return list(found.values())


FORWARD = ["batch_norm", "max_pool2d_index", "dropout_keep"]
BACKWARD = ["dropout_mask", "max_pool2d_scatter", "batch_norm_grad"]
# A direct convolution stands before them. Where x has up to three channels, so does the gradient of
# its weights behind them; with one channel and 3x3 taps, it is made again in backward.
FORWARD_FIRST = ["conv2d", *FORWARD]
BACKWARD_FIRST = {
    1: ["conv2d", *BACKWARD, "conv2d_dw"],
    2: [*BACKWARD, "conv2d_dw"],
    3: [*BACKWARD, "conv2d_dw"],
}
BLOCK = {
    1: [FORWARD_FIRST, ["conv2d", "mul", *BACKWARD, "conv2d_dw"]],
    2: [FORWARD_FIRST, ["mul", *BACKWARD, "conv2d_dw"]],
    3: [FORWARD_FIRST, ["mul", *BACKWARD, "conv2d_dw"]],
}


def block(
    x: Any, w: Any, gamma: Any, beta: Any, pool: Any = ops.max_pool2d, rate: float = 0.25
) -> Any:
    """The first lab's block; the map is odd in height and even in width."""
    h = ops.relu(ops.conv2d(x, w))
    h, _, _ = ops.batch_norm(h, gamma, beta)
    return ops.dropout(pool(h, kernel=(2, 2)), seed(1, 2), rate=rate)


class Block:
    """Parameters and batches of a block: 2 channels of 9x10, or 1 or 3, to 5 of 7x8 (`size`)."""

    def __init__(
        self,
        n: int,
        dtype: str = "float32",
        channels: int = 5,
        inputs: int = 2,
        size: tuple[int, int] = (7, 8),
    ) -> None:
        rng = np.random.default_rng(n)
        height, width = size
        self.x = rng.standard_normal((n, inputs, height + 2, width + 2)).astype(dtype)
        self.r = rng.standard_normal((n, channels, height // 2, width // 2)).astype(dtype)
        arrays = [
            rng.standard_normal((channels, inputs, 3, 3)),
            rng.uniform(0.5, 1.5, channels),
            rng.standard_normal(channels),
        ]
        self.parameters = [core.tensor(a.astype(dtype), requires_grad=True) for a in arrays]

    def plan(self, make: Callable[..., Any] = block, **kinds: Any) -> Any:
        with core.capture() as tape:
            xs = tape.placeholder(self.x.shape, self.x.dtype.name)
            y = make(xs, *self.parameters, **kinds)
            loss = ops.sum(y * core.tensor(self.r))
            return tape.compile([loss, y, *core.gradients(loss, self.parameters)])

    def run(self, plan: Any) -> list[Array]:
        return [np.array(t) for t in plan.run(self.x)]


# ---- chains are formed ----


def test_the_first_labs_block_is_two_chains() -> None:
    network = NETWORKS["lab1"]
    plan, _ = gradients_plan(network, network.parameters(), 16)
    assert chained(plan) == [FORWARD_FIRST, FORWARD_FIRST, BACKWARD, BACKWARD_FIRST[1]]
    network = NETWORKS["lab3"]
    other, _ = gradients_plan(network, network.parameters(), 16)
    heads, tail = [["conv2d", "max_pool2d_index"]] * 2, ["max_pool2d_scatter", "conv2d_dw"]
    assert chained(other) == [*heads, tail]
    numbers = [step["chain"] for step in plan.steps if "chain" in step]
    assert all(plan.steps[k]["chain"] == k for k in numbers)
    with chains(False):
        plan, _ = gradients_plan(network, network.parameters(), 16)
        assert chained(plan) == []


def test_what_is_made_again_is_not_in_memory() -> None:
    """relu's result, a full-size map, which backward wants: made again of the convolution's."""
    rng, sizes = np.random.default_rng(0), []
    for on in (True, False):
        with chains(on), core.capture() as tape:
            xs = tape.placeholder((64, 1, 18, 18), "float64")
            w = core.tensor(rng.standard_normal((8, 1, 3, 3)), requires_grad=True)
            gamma = core.tensor(np.ones(8), requires_grad=True)
            loss = ops.sum_squares(activated(xs, w, gamma, gamma))
            plan = tape.compile([loss, *core.gradients(loss, [w, gamma])])
            sizes.append(plan.arena_bytes)
            assert not on or {"batch_norm_inference", "relu"} <= set(chained(plan)[-1])
    assert sizes[1] - sizes[0] > 0.6 * (64 * 8 * 16 * 16 * 8)


def test_a_chain_without_sums() -> None:
    rng = np.random.default_rng(1)
    x = core.tensor(rng.standard_normal((17, 2, 9, 10)).astype(np.float32))
    w = core.tensor(rng.standard_normal((3, 2, 3, 3)).astype(np.float32))
    stats = [core.tensor(a.astype(np.float32)) for a in (rng.random(3), rng.random(3) + 0.5)]
    results = []
    for on in (True, False):
        with chains(on), core.capture() as tape:
            h = ops.conv2d(x, w)
            h = ops.elu(ops.batch_norm_inference(h, *stats, stats[1]) * 2.0)
            h = ops.avg_pool2d(ops.sigmoid(h), kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))
            plan = tape.compile([h])
        results.append(plan.run()[0].numpy())
        wanted = [["conv2d", "batch_norm_inference", "mul", "elu", "sigmoid", "avg_pool2d"]]
        assert chained(plan) == (wanted if on else [])
    same_bits(*results)


def residual(x: Any, w: Any, b: Any) -> Any:
    """The sum may not be written over x: other tiles still want all of it."""
    h = x * 0.5
    return ops.max_pool2d(ops.conv2d(h, w, b, padding=(1, 1, 1, 1)) + h, kernel=(2, 2))


def dropped(x: Any, w: Any, b: Any) -> Any:
    h = ops.conv2d(x, w, b, stride=(2, 1), padding=(2, 0, 1, 1))
    return ops.dropout(ops.tanh(h), seed(0, 1), rate=0.4) * 2.0


def seen(x: Any, w: Any, b: Any) -> Any:
    """The mean reads all of what the convolution made."""
    h = ops.relu(ops.conv2d(x, w, b))
    return ops.avg_pool2d(h, kernel=(2, 2)) - ops.mean(h, axis=(2, 3), keepdims=True)


def two_layers(x: Any, w: Any, b: Any) -> Any:
    h = ops.max_pool2d(ops.sigmoid(ops.conv2d(x, w, b, padding=(1, 1, 1, 1))), kernel=(2, 2))
    return ops.avg_pool2d(ops.relu(ops.conv2d(h, w, b)), kernel=(1, 2))


HEADS: dict[str, tuple[Callable[..., Any], list[list[str]]]] = {
    "residual": (residual, [["conv2d", "add", "max_pool2d"]]),
    "dropped": (dropped, [["conv2d", "dropout", "mul"]]),
    "seen": (seen, [["conv2d", "avg_pool2d"]]),
    "two layers": (two_layers, [["conv2d", "max_pool2d"], ["conv2d", "avg_pool2d"]]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 5, 13])
@pytest.mark.parametrize("name", HEADS)
def test_convolution_at_the_head(name: str, channels: int, dtype: str) -> None:
    """Several tiles of channels and several blocks; other threads; every instruction set."""
    make, wanted = HEADS[name]
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((33, channels, 9, 8)).astype(dtype)
    w = core.tensor(rng.standard_normal((channels, channels, 3, 3)).astype(dtype))
    b = core.tensor(rng.standard_normal(channels).astype(dtype))
    for kind in core.config()["isa_available"]:
        results = []
        for on in (True, False):
            with chains(on), isa(kind), core.capture() as tape:
                xs = tape.placeholder(x.shape, dtype)
                plan = tape.compile([make(xs, w, b)])
                assert [c for c in chained(plan) if "conv2d" in c] == (wanted if on else [])
                results.append(plan.run(x)[0].numpy())
                with threads(3):
                    same_bits(results[-1], plan.run(x)[0].numpy())
        same_bits(*results)


@pytest.mark.parametrize("inputs", BLOCK)
def test_a_plan_is_refused_by_another_instruction_set(inputs: int) -> None:
    """Tiles are wider on some, and workspaces larger."""
    names = core.config()["isa_available"]
    case = Block(19, channels=13, inputs=inputs)
    for made in names:
        with isa(made):
            plan = case.plan()
            wanted = case.run(plan)
        for name in names:
            with isa(name):
                if name == made:
                    same_bits(wanted, case.run(plan))
                    continue
                with pytest.raises(RuntimeError, match=f"for the instruction set {made}, .*{name}"):
                    case.run(plan)


def test_a_map_too_large_to_keep_is_stored() -> None:
    """All blocks of three channels have to fit a megabyte and a half; the bits are the same."""
    rng, sizes = np.random.default_rng(0), {}
    for n, side in ((16, 34), (16, 98), (160, 34)):
        x = rng.standard_normal((n, 1, side, side)).astype(np.float32)
        w = core.tensor(rng.standard_normal((4, 1, 3, 3)).astype(np.float32), requires_grad=True)
        ones = core.tensor(np.ones(4, np.float32), requires_grad=True)
        results = []
        for on in (True, False):
            with chains(on), core.capture() as tape:
                xs = tape.placeholder(x.shape)
                h, _, _ = ops.batch_norm(ops.relu(ops.conv2d(xs, w)), ones, ones)
                loss = ops.sum_squares(ops.max_pool2d(h, kernel=(2, 2)))
                plan = tape.compile([loss, *core.gradients(loss, [w, ones])])
            if on:
                sizes[n, side] = [chain.count("conv2d") for chain in chained(plan)]
            results.append([np.array(t) for t in plan.run(x)])
        same_bits(*results)
    assert sizes == {(16, 34): [1, 1], (16, 98): [0, 0], (160, 34): [0, 0]}


# ---- and change no bits ----


@pytest.mark.parametrize("inputs", BLOCK)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", BATCHES)
def test_same_bits_with_and_without(n: int, dtype: str, inputs: int) -> None:
    case, results = Block(n, dtype, inputs=inputs), []
    for on in (True, False):
        with chains(on):
            plan = case.plan()
            assert chained(plan) == (BLOCK[inputs] if on and n >= 8 else [])
            results.append(case.run(plan))
    same_bits(*results)
    with threads(2):
        same_bits(results[0], case.run(case.plan()))


@pytest.mark.parametrize("inputs", BLOCK)
@pytest.mark.parametrize("name", core.config()["isa_available"])
def test_same_bits_on_every_instruction_set(name: str, inputs: int) -> None:
    case, results = Block(19, channels=13, inputs=inputs), []
    for on in (True, False):
        with chains(on), isa(name):
            results.append(case.run(case.plan()))
    same_bits(*results)


@pytest.mark.parametrize("inputs", BLOCK)
@pytest.mark.parametrize("channels", [5, 40])
@pytest.mark.parametrize("planned", [1, 2, 8])
def test_same_bits_for_any_number_of_threads(planned: int, channels: int, inputs: int) -> None:
    """Few channels: planes are shared out, phase after phase. Many: channels are. A plan made for
    few threads runs with more."""
    case = Block(33, channels=channels, inputs=inputs)
    with threads(planned):
        plan = case.plan()
    assert chained(plan) == BLOCK[inputs]
    want = None
    for count in (1, 2, 3, 8):
        with threads(count):
            core._workers_seen()
            results = [case.run(plan) for _ in range(2)]
            assert (core._workers_seen() > 1) == (count > 1)
        want = want or results[0]
        same_bits(results, [want, want])


def overlapping(x: Any, **window: Any) -> Any:
    return ops.max_pool2d(x, kernel=(3, 3), stride=(2, 2), padding=(0, 0, 0, 1))


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("pool", [ops.max_pool2d, ops.avg_pool2d, overlapping])
def test_other_pooling_and_rates(pool: Any, rate: float) -> None:
    case, results = Block(18), []
    for on in (True, False):
        with chains(on):
            plan = case.plan(pool=pool, rate=rate)
            assert len(chained(plan)) == (2 if on else 0)
            results.append(case.run(plan))
    same_bits(*results)


def activated(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    """relu after the normalisation: both are made again, one from the other."""
    h, _, _ = ops.batch_norm(ops.conv2d(x, w), gamma, beta)
    return ops.avg_pool2d(ops.relu(h), kernel=(2, 2))


def pooled_first(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    h, _, _ = ops.batch_norm(ops.max_pool2d(ops.conv2d(x, w), kernel=(2, 2)), gamma, beta)
    return ops.tanh(h)


def twice(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    """Two normalisations in one chain: three phases."""
    h, _, _ = ops.batch_norm(ops.conv2d(x, w), gamma, beta)
    h, _, _ = ops.batch_norm(ops.max_pool2d(ops.sigmoid(h), kernel=(2, 2)), beta, gamma)
    return h * 0.5


def two_readers(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    """One reader of the normalisation's result needs all of it."""
    h, _, _ = ops.batch_norm(ops.conv2d(x, w), gamma, beta)
    mean = ops.mean(h, axis=(2, 3), keepdims=True)
    return ops.max_pool2d(h, kernel=(2, 2)) + mean


def branches(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    h, _, _ = ops.batch_norm(ops.conv2d(x, w), gamma, beta)
    return ops.max_pool2d(h, kernel=(2, 2)) - ops.avg_pool2d(ops.relu(h), kernel=(2, 2))


def running(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    """Evaluation: nothing needs a whole channel, except gamma's gradient."""
    h = ops.batch_norm_inference(ops.relu(ops.conv2d(x, w)), beta, gamma * gamma, gamma, beta)
    return ops.max_pool2d(h, kernel=(2, 2))


def statistics_used(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    """The statistics are read by what follows: it cannot join."""
    h, mean, var = ops.batch_norm(ops.conv2d(x, w), gamma, beta)
    h = ops.max_pool2d(h, kernel=(2, 2))
    return h * ops.reshape(mean + var, shape=(-1, 1, 1))


BLOCKS: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "activated": (activated, {"batch_norm", "relu", "batch_norm_inference", "batch_norm_grad"}),
    "pooled first": (
        pooled_first,
        {"max_pool2d_index", "batch_norm", "tanh", "max_pool2d_scatter"},
    ),
    "twice": (twice, {"batch_norm", "sigmoid", "batch_norm_grad", "mul"}),
    "two readers": (two_readers, {"batch_norm", "max_pool2d_index"}),
    "branches": (
        branches,
        {"batch_norm", "max_pool2d_index", "avg_pool2d", "sub", "batch_norm_grad"},
    ),
    "running": (running, {"batch_norm_inference", "max_pool2d_index", "batch_norm_inference_grad"}),
    "statistics used": (statistics_used, {"batch_norm", "max_pool2d_index"}),
}


@pytest.mark.parametrize("inputs", BLOCK)
@pytest.mark.parametrize("n", [8, 17, 33])
@pytest.mark.parametrize("name", BLOCKS)
def test_other_blocks(name: str, n: int, inputs: int) -> None:
    make, inside = BLOCKS[name]
    case, results = Block(n, inputs=inputs), []
    for on in (True, False):
        with chains(on):
            plan = case.plan(make)
            assert not on or inside <= {op for chain in chained(plan) for op in chain}
            results.append(case.run(plan))
    same_bits(*results)
    with threads(8):
        same_bits(results[0], case.run(plan))
        same_bits(results[0], case.run(case.plan(make)))


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_through_chains(name: str) -> None:
    """float64, against central differences of the plan's own loss."""
    case = Block(9, "float64", inputs=1)
    plan = case.plan(BLOCKS[name][0])
    assert chained(plan)
    _, _, *found = case.run(plan)
    rng = np.random.default_rng(3)
    for tensor, gradient in zip(case.parameters, found, strict=True):
        array = tensor.detach().numpy()
        for _ in range(3):
            at = tuple(int(rng.integers(extent)) for extent in array.shape)
            center, step, losses = array[at], 1e-6, []
            for sign in (1, -1):
                array[at] = center + sign * step
                losses.append(case.run(plan)[0].item())
            array[at] = center
            slope = (losses[0] - losses[1]) / (2 * step)
            assert abs(slope - gradient[at]) <= 2e-8 + 2e-6 * abs(slope), (name, at)


# ---- what somebody sees ----


def test_every_map_that_is_looked_at_is_right() -> None:
    case, results = Block(17), []
    for on in (True, False):
        with chains(on), core.capture() as tape:
            xs = tape.placeholder(case.x.shape)
            w, gamma, beta = case.parameters
            h = ops.relu(ops.conv2d(xs, w))
            normal, mean, var = ops.batch_norm(h, gamma, beta)
            pooled = ops.max_pool2d(normal, kernel=(2, 2))
            y = ops.dropout(pooled, seed(1, 2), rate=0.5)
            plan = tape.compile([h, normal, mean, var, pooled, y])
            wanted = [["conv2d", "batch_norm", "max_pool2d", "dropout"]]
            assert chained(plan) == (wanted if on else [])
        results.append(case.run(plan))
    same_bits(*results)


@pytest.mark.parametrize("held", ["nothing", "the normalisation's result", "everything"])
def test_imperative_code_that_keeps_its_maps(held: str) -> None:
    """A map whose tensor is alive is stored, whatever its chain does; also before backward."""
    results = []
    for on in (True, False):
        case = Block(16)
        w, gamma, beta = case.parameters
        with chains(on):
            core.clear_plans()
            h = ops.relu(ops.conv2d(core.tensor(case.x), w))
            normal, mean, var = ops.batch_norm(h, gamma, beta)
            pooled = ops.max_pool2d(normal, kernel=(2, 2))
            y = ops.dropout(pooled, seed(1, 2), rate=0.5)
            loss = ops.sum(y * core.tensor(case.r))
            kept = {"n": [], "t": [normal], "e": [h, normal, mean, var, pooled, y]}[held[0]]
            del h, normal, mean, var, pooled, y
            loss.backward()
            values = [loss, *kept, *(p.grad for p in case.parameters)]
            results.append([np.array(t.detach()) for t in values])
            steps = [step for plan in core._cached_plans() for step in plan["steps"]]
            assert any("chain" in step for step in steps) == on
    same_bits(*results)


def test_effects_between_the_steps_of_a_chain() -> None:
    """gamma is overwritten between the normalisation and the reader of its result: what is made
    again must not see the new numbers."""
    case = Block(16)
    w, gamma, beta = (core.tensor(np.array(p.detach())) for p in case.parameters)
    before = [np.array(t) for t in (gamma, beta)]
    results = []
    for on in (True, False):
        ops.assign_(gamma, before[0])
        ops.assign_(beta, before[1])
        core.synchronize()
        with chains(on):
            h, mean, _ = ops.batch_norm(ops.conv2d(core.tensor(case.x), w), gamma, beta)
            pooled = ops.max_pool2d(h, kernel=(2, 2))
            ops.assign_(gamma, mean)
            ops.sgd_(beta, mean, None, np.array([0.5, 0, 0, 0]))
            other, _, _ = ops.batch_norm(h * 2.0, gamma, beta)
            y = ops.relu(other) + ops.avg_pool2d(h, kernel=(1, 1))
            del h, other, mean
            results.append([np.array(t) for t in (pooled, y, gamma, beta)])
    same_bits(*results)


def test_a_gradient_of_weights_from_one_map_twice() -> None:
    """The seed of backward is the convolution's own input: the step that ends a chain would need
    as a whole what the chain is making."""
    results = []
    for on in (True, False):
        w = core.tensor(np.ones((1, 1, 3, 3), np.float32), requires_grad=True)
        with chains(on):
            core.clear_plans()
            x = core.tensor(Block(33).x[:, :1])
            h = ops.relu(ops.max_pool2d(x, kernel=(2, 2)))
            ops.conv2d(h, w, padding=(1, 1, 1, 1)).backward(h)
            del h
            results.append([np.array(w.grad)])
            steps = [step for plan in core._cached_plans() for step in plan["steps"]]
        (last,) = [step for step in steps if step["op"] == "conv2d_dw"]
        assert last["impl"] == "n16_taps" and "chain" not in last
    same_bits(*results)


# ---- random chains ----

UNARY = ["relu", "tanh", "sigmoid", "elu", "square", "neg", "abs", "softplus"]


def random_chain(rng: np.random.Generator, x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    """Steps in N16 with planes, most of them on the newest map, some on older ones."""
    maps = [ops.conv2d(x, w)]
    for _ in range(int(rng.integers(3, 14))):
        h = maps[-1] if rng.random() < 0.7 else maps[int(rng.integers(len(maps)))]
        kind = int(rng.integers(7))
        if kind == 0:
            h, _, _ = ops.batch_norm(h, gamma, beta)
        elif kind == 1:
            h = ops.dropout(h, seed(3, len(maps)), rate=0.3)
        elif kind == 2:
            h = ops.max_pool2d(h, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))
        elif kind == 3:
            h = ops.avg_pool2d(h, kernel=(3, 1), stride=(1, 1), padding=(1, 1, 0, 0))
        elif kind == 4:
            h = ops.tanh(ops.add(h, maps[int(rng.integers(len(maps)))]))
        elif kind == 5:
            h = h * 0.75
        else:
            h = getattr(ops, UNARY[int(rng.integers(len(UNARY)))])(h)
        maps.append(ops.tanh(h) if kind in (0, 5, 6) else h)
    return ops.max_pool2d(maps[-1], kernel=(2, 2))


@pytest.mark.parametrize("key", range(40))
def test_random_chains(key: int) -> None:
    n = (8, 11, 16, 33)[key % 4]
    case = Block(n, ("float32", "float64")[key // 4 % 2], inputs=1 + key % 2)
    results, found = [], []
    for option in ("chain", "fuse", None):
        before = core._set_option(option, 0) if option else 0
        try:
            plan = case.plan(lambda *a: random_chain(np.random.default_rng(key), *a))
        finally:
            if option:
                core._set_option(option, before)
        found.append(chained(plan))
        results.append(case.run(plan))
    assert not found[0] and not found[1] and found[2]
    assert all(2 <= len(chain) <= 16 for chain in found[2])
    same_bits(results[0], results[1])
    same_bits(results[0], results[2])
    with threads(3):
        same_bits(results[0], case.run(plan))


POISONED = """
import sys
sys.path.insert(0, sys.argv[1])
import test_chains as t
from pycnn import _core as core
for n in (8, 17, 33, 34):
    case = t.Block(n, inputs=1 + n % 2)
    for make, _ in t.BLOCKS.values():
        case.run(case.plan(make))
    print([a.tobytes().hex()[:4000] for a in case.run(case.plan())])
for make, _ in t.HEADS.values():
    x, w = t.np.ones((19, 7, 9, 8)), t.core.tensor(t.np.ones((7, 7, 3, 3)))
    print(make(t.core.tensor(x), w, w.reshape(-1)[:7]).numpy().tobytes().hex()[:4000])
for key in range(12):
    case = t.Block(19, inputs=1 + key % 2)
    with t.threads(1):
        plan = case.plan(lambda *a: t.random_chain(t.np.random.default_rng(key), *a))
    with t.threads(1 + key % 3):
        print([a.tobytes().hex()[:4000] for a in case.run(plan)], len(t.chained(plan)))
assert core._guard_errors() == 0, core._guard_errors()
"""


def test_chains_in_poisoned_memory() -> None:
    """Scratch memory, workspaces and outputs start as NaN, with guards behind: equal numbers."""
    says_the_same_when_poisoned(POISONED)
