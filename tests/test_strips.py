"""Strips: planes larger than the first cache go through a chain a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn._core as core
from harness import isa, says_the_same_when_poisoned, threads
from loops import same_bits, seed
from pycnn import ops
from test_chains import BLOCKS, Block, block, chains, random_chain

pytestmark = pytest.mark.sanitize

Array = np.ndarray
SIZES = [(26, 26), (27, 22), (45, 9), (11, 57), (40, 40)]


def cut(plan: Any) -> dict[str, int]:
    """The strips of the steps that take them."""
    return {step["op"]: step["strips"] for step in plan.steps if "strips" in step}


def with_and_without(case: Block, make: Callable[..., Any]) -> Any:
    """The plan with chains, whose bits are those of the plan without, for any number of threads."""
    results = []
    for on in (False, True):
        with chains(on):
            plan = case.plan(make)
            assert on or not cut(plan)
            results.append(case.run(plan))
    same_bits(*results)
    with threads(8):
        same_bits(results[0], case.run(plan))
        same_bits(results[0], case.run(case.plan(make)))
    return plan


def test_which_steps_are_cut() -> None:
    """The first lab's first block: 26 rows of 26 pixels, six rows in a strip."""
    found = cut(Block(16, inputs=1, size=(26, 26)).plan())
    backward = ["mul", "dropout_mask", "max_pool2d_scatter", "batch_norm_grad"]
    assert found == dict.fromkeys(["batch_norm", "max_pool2d_index", *backward], 5)


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_in_strips(dtype: str, size: tuple[int, int], inputs: int) -> None:
    for n in (9, 32):
        case = Block(n, dtype, channels=3, inputs=inputs, size=size)
        found = cut(with_and_without(case, block))
        assert {"batch_norm", "max_pool2d_index"} <= set(found) and min(found.values()) > 1


@pytest.mark.parametrize("size", SIZES[:3])
@pytest.mark.parametrize("name", BLOCKS)
def test_other_blocks_in_strips(name: str, size: tuple[int, int]) -> None:
    make, _ = BLOCKS[name]
    plan = with_and_without(Block(17, channels=3, inputs=1, size=size), make)
    assert cut(plan) or name == "pooled first"


@pytest.mark.parametrize("name", core.config()["isa_available"])
def test_strips_on_every_instruction_set(name: str) -> None:
    case, results = Block(19, channels=5, size=(27, 22)), []
    for on in (True, False):
        with chains(on), isa(name):
            results.append(case.run(case.plan()))
    same_bits(*results)


def pooled(**window: Any) -> Callable[..., Any]:
    def make(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
        h, _, _ = ops.batch_norm(ops.tanh(ops.conv2d(x, w)), gamma, beta)
        h = ops.avg_pool2d(ops.max_pool2d(h, **window) * 0.5, kernel=(1, 1))
        return ops.sum(h, axis=(2, 3), keepdims=True)

    return make


@pytest.mark.parametrize(
    ("window", "is_cut"),
    [
        ({"kernel": (3, 3)}, True),
        ({"kernel": (2, 3)}, True),
        ({"kernel": (2, 2), "stride": (2, 1)}, True),
        ({"kernel": (3, 3), "stride": (2, 2)}, False),
        ({"kernel": (1, 2), "stride": (2, 2)}, False),
        ({"kernel": (3, 3), "padding": (0, 0, 1, 2)}, True),
        ({"kernel": (2, 2), "padding": (0, 1, 0, 0)}, False),
        ({"kernel": (2, 2), "padding": (1, 0, 0, 0)}, False),
        ({"kernel": (2, 2), "padding": 1}, False),
    ],
)
def test_windows_that_can_be_cut(window: dict[str, Any], is_cut: bool) -> None:
    """One below the other, not padded above or below. Else the steps around them are."""
    plan = with_and_without(Block(17, channels=2, size=(32, 31)), pooled(**window))
    assert ("max_pool2d_index" in cut(plan)) == is_cut


def rowless(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    h, _, _ = ops.batch_norm(ops.conv2d(x, w), gamma, beta)
    return ops.max_pool2d(ops.sigmoid(h), kernel=(2, 2))


def test_rows_longer_than_a_chunk() -> None:
    """Normalisation takes whole planes then; what follows it need not."""
    plan = with_and_without(Block(16, channels=2, size=(4, 180)), rowless)
    assert "batch_norm" not in cut(plan) and "max_pool2d_index" in cut(plan)


def test_a_map_of_few_rows_is_not_cut() -> None:
    assert not cut(with_and_without(Block(16, channels=2, size=(14, 16)), block))


def not_kept(x: Any, w: Any, gamma: Any, beta: Any) -> Any:
    """Dropout of the larger map stands between two runs of steps that take strips."""
    h = ops.dropout(ops.square(ops.tanh(ops.conv2d(x, w))), seed(4, 1), rate=0.5)
    return ops.avg_pool2d(ops.batch_norm(h, gamma, beta)[0] * 2.0, kernel=(2, 2))


def test_a_step_between_that_takes_whole_planes() -> None:
    found = cut(with_and_without(Block(24, channels=3, size=(27, 22)), not_kept))
    assert found and not {"dropout", "dropout_keep"} & set(found)


@pytest.mark.parametrize("key", range(24))
def test_random_chains_in_strips(key: int) -> None:
    size = SIZES[key % len(SIZES)]
    case = Block((8, 17, 33)[key % 3], channels=2, inputs=1 + key % 2, size=size)
    with_and_without(case, lambda *a: random_chain(np.random.default_rng(100 + key), *a))


def test_gradients_through_strips() -> None:
    """float64, against central differences of the plan's own loss."""
    case = Block(9, "float64", channels=2, inputs=1, size=(26, 20))
    plan = case.plan(BLOCKS["activated"][0])
    assert cut(plan)
    _, _, *found = case.run(plan)
    for tensor, gradient in zip(case.parameters, found, strict=True):
        array = tensor.detach().numpy()
        at, step, losses = tuple(extent - 1 for extent in array.shape), 1e-6, []
        center = array[at]
        for sign in (1, -1):
            array[at] = center + sign * step
            losses.append(case.run(plan)[0].item())
        array[at] = center
        slope = (losses[0] - losses[1]) / (2 * step)
        assert abs(slope - gradient[at]) <= 2e-8 + 2e-6 * abs(slope), at


POISONED = """
import sys
sys.path.insert(0, sys.argv[1])
import test_strips as t
from pycnn import _core as core
for n, size in ((9, (26, 26)), (32, (27, 22))):
    case = t.Block(n, channels=3, inputs=1 + n % 2, size=size)
    makes = [t.block, t.rowless, t.not_kept, *(make for make, _ in t.BLOCKS.values())]
    for make in makes:
        print([a.tobytes().hex()[:4000] for a in case.run(case.plan(make))])
assert core._guard_errors() == 0, core._guard_errors()
"""


def test_strips_in_poisoned_memory() -> None:
    """Scratch memory, workspaces and outputs start as NaN, with guards behind: equal numbers."""
    says_the_same_when_poisoned(POISONED)
