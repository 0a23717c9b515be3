"""The last block of a batch may hold few images: there kernels compute the half that counts.

Forward passes and gradients to the input sum each image by itself, in one order: an image must have
the same bits in a block that is half empty, in one that is fuller, and in a full one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn._core as core
from harness import forced, isa, option, says_the_same_when_poisoned
from pycnn import ops

pytestmark = pytest.mark.sanitize

Array = np.ndarray
FULL = 32
BATCHES = (1, 4, 8, 9, 15, 17, 23, 24, 25)  # up to eight images in the last block, and more
ACTIVATIONS = {"none": lambda y: y, "relu": ops.relu, "sigmoid": ops.sigmoid, "tanh": ops.tanh}

# x, w, attributes: odd and even rows, edges, steps, two chunks of channels, single pixels.
CONVOLUTIONS: list[tuple[tuple[int, int, int], tuple[int, int, int], dict[str, Any]]] = [
    ((1, 9, 8), (13, 5, 5), {"padding": (2, 2, 2, 2)}),
    ((5, 6, 7), (6, 3, 3), {}),
    ((37, 5, 6), (7, 3, 3), {"padding": (1, 1, 1, 1)}),
    ((3, 8, 9), (5, 3, 2), {"stride": (2, 2), "padding": (1, 0, 0, 1)}),
    ((34, 4, 4), (11, 1, 1), {}),
    ((2, 3, 3), (1, 3, 3), {}),
]

# Maps and outputs: one tile and less, even and odd tiles, several chunks and parts.
DENSE = [((1, 1, 1), 1), ((3, 2, 3), 5), ((31, 5, 5), 23), ((5, 3, 1), 48), ((40, 5, 5), 128)]


def numbers(*shape: int, key: int = 0) -> Array:
    return np.random.default_rng((key, *shape)).standard_normal(shape)


def run(op: str, x: Array, w: Array, b: Array, activation: str, **attrs: Any) -> list[Array]:
    """y and dx, both in N16."""
    with forced(op, "n16"), forced(f"{op}_dx", "n16"), core.capture() as tape:
        tensors = [core.tensor(a, requires_grad=True) for a in (x, w, b)]
        y = ACTIVATIONS[activation](getattr(ops, op)(*tensors, **attrs))
        r = core.tensor(numbers(*y.shape[1:], key=1).astype(x.dtype))
        plan = tape.compile([y, *core.gradients(ops.sum(y * r), tensors[:1])])
        steps = {(step["op"], step["impl"]) for step in plan.steps}
        assert {(op, "n16"), (f"{op}_dx", "n16")} <= steps, steps
        return [t.numpy() for t in plan.run()]


def check(op: str, dtype: str, x: Array, w: Array, b: Array, **attrs: Any) -> None:
    w.flat[0] = np.inf  # times the zero of a lane without an image it would be NaN
    x, w, b = (a.astype(dtype) for a in (x, w, b))
    for activation in ACTIVATIONS:
        whole = run(op, x, w, b, activation, **attrs)
        for n in BATCHES:
            for got, want in zip(run(op, x[:n], w, b, activation, **attrs), whole, strict=True):
                np.testing.assert_array_equal(got, want[:n], f"{n} images, {activation}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", core.config()["isa_available"])
@pytest.mark.parametrize("maps, kernel, attrs", CONVOLUTIONS)
def test_convolution(
    maps: tuple[int, ...],
    kernel: tuple[int, int, int],
    attrs: dict[str, Any],
    name: str,
    dtype: str,
) -> None:
    oc, kh, kw = kernel
    with isa(name):
        check(
            "conv2d",
            dtype,
            numbers(FULL, *maps),
            numbers(oc, maps[0], kh, kw),
            numbers(oc),
            **attrs,
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", core.config()["isa_available"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("maps, outputs", DENSE)
def test_dense_maps(
    maps: tuple[int, int, int], outputs: int, last: bool, name: str, dtype: str
) -> None:
    w = numbers(int(np.prod(maps)), outputs)
    with isa(name):
        check("dense_maps", dtype, numbers(FULL, *maps), w, numbers(outputs), channels_last=last)


# What a lane without an image holds is seen by all that sum over lanes: normalisation, the
# gradients of weights.
NETWORK = """
import sys
sys.path.insert(0, sys.argv[1])
import test_half_blocks as t
for n in t.BATCHES:
    for dtype in ("float32", "float64"):
        for fuse in (1, 0):
            for a in t.network(n, dtype, fuse):
                assert t.np.isfinite(a).all(), (n, dtype, fuse)
                print(a.tobytes().hex())
assert t.core._guard_errors() == 0, t.core._guard_errors()
"""


def network(n: int, dtype: str, fuse: int) -> list[Array]:
    """A loss and all gradients of a network whose steps are in N16."""
    shapes = [(7, 1, 3, 3), (7,), (9, 7, 3, 3), (9,), (9,), (9,), (9 * 5 * 4, 11), (11,)]
    x = core.tensor(numbers(n, 1, 11, 9).astype(dtype))
    before = core._set_option("min_n16_batch", 1)
    with option("fuse", fuse), option("winograd", 0), core.capture() as tape:
        p = [core.tensor(numbers(*s).astype(dtype), requires_grad=True) for s in shapes]
        h = ops.relu(ops.conv2d(x, p[0], p[1], padding=(1, 1, 1, 1)))
        h = ops.conv2d(h, p[2], p[3], stride=(2, 2), padding=(1, 0, 1, 0))
        h = ops.batch_norm(h, p[4], p[5])[0]
        h = ops.sigmoid(ops.dense(ops.reshape(h, shape=(n, -1)), p[6], p[7]))
        loss = ops.sum(h * h)
        plan = tape.compile([loss, *core.gradients(loss, p)])
    core._set_option("min_n16_batch", before)
    return [t.numpy() for t in plan.run()]


@pytest.mark.parametrize("name", core.config()["isa_available"])
def test_poisoned_memory(name: str) -> None:
    """Memory that starts as NaN: the same numbers."""
    says_the_same_when_poisoned(NETWORK, PYCNN_ISA=name)
