"""Winograd's convolution: every pass, every edge, against sums in float64.

Two ways of being right are checked apart. In float64, with weights that make all fractions whole
(multiples of 59049 = 243 * 243: the transform of weights has parts of 243), every step is exact and
so must be the result. In float32 most points need more bits than there are; there sums
of small whole numbers must round to the right whole numbers, and sums of real numbers must lie
within the bound that all float32 kernels are held to.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import pycnn
import pycnn._core as core
from harness import isa, threads

pytestmark = pytest.mark.sanitize

Array = np.ndarray
ISAS = core.config()["isa_available"]
CONVOLUTIONS = {"conv2d", "conv2d_dx", "conv2d_dw"}
OFF, AUTO, ALWAYS = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Shape:
    """N, C, H, W; OC; padding (top, bottom, left, right); the kernel is k x k."""

    n: int
    c: int
    h: int
    w: int
    oc: int
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    k: int = 3

    def __str__(self) -> str:
        sides = "".join(map(str, self.padding))
        return f"{self.n}x{self.c}x{self.h}x{self.w}-{self.oc}-p{sides}-k{self.k}"


# Shapes whose gradient of the weights takes eight points, F(6x6, 3x3) and F(4x4, 5x5): long sums,
# and maps that few such tiles cover.
EIGHT = [
    Shape(24, 3, 8, 8, 5),  # whole tiles
    Shape(23, 20, 13, 13, 33),
    Shape(33, 20, 12, 7, 33, (0, 2, 1, 0)),  # uneven
    Shape(50, 5, 4, 6, 9, (2, 2, 0, 2)),  # mostly padding
    Shape(8, 2, 6, 41, 3, (1, 1, 1, 1)),  # a row of more tiles than are transformed together
    Shape(81, 3, 8, 8, 5, k=5),
    Shape(29, 6, 16, 16, 17, k=5),
    Shape(17, 7, 10, 12, 33, (2, 2, 2, 2), k=5),
    Shape(330, 5, 4, 4, 9, (2, 2, 2, 2), k=5),
    Shape(12, 2, 6, 47, 3, (1, 1, 1, 1), k=5),
]
SHAPES = [
    Shape(16, 3, 6, 6, 5),  # one whole tile
    Shape(8, 1, 3, 3, 1),  # one output
    Shape(17, 7, 13, 9, 13, (1, 1, 1, 1)),
    Shape(9, 20, 5, 11, 33, (0, 2, 1, 0)),  # uneven
    Shape(33, 2, 4, 3, 2, (1, 1, 1, 1)),
    Shape(12, 12, 2, 1, 6, (2, 2, 2, 2)),  # mostly padding
    Shape(10, 5, 16, 10, 24, (1, 0, 0, 1)),
    Shape(8, 4, 3, 9, 7, (3, 4, 0, 5)),  # padding wider than the kernel
    Shape(31, 33, 8, 8, 65, (1, 1, 1, 1)),
    Shape(8, 2, 3, 41, 3, (1, 1, 1, 1)),  # a row of more tiles than are transformed together
    Shape(16, 3, 6, 6, 5, k=5),
    Shape(8, 1, 5, 5, 1, k=5),
    Shape(17, 7, 13, 9, 13, (2, 2, 2, 2), k=5),
    Shape(9, 20, 7, 11, 33, (0, 2, 1, 0), k=5),
    Shape(33, 2, 4, 3, 2, (2, 2, 2, 2), k=5),
    Shape(12, 12, 2, 1, 6, (4, 4, 4, 4), k=5),
    Shape(10, 5, 16, 10, 24, (1, 0, 3, 2), k=5),
    Shape(8, 4, 3, 9, 7, (5, 6, 0, 7), k=5),
    Shape(31, 33, 8, 8, 65, (2, 2, 2, 2), k=5),
    Shape(8, 2, 5, 23, 3, (1, 1, 1, 1), k=5),
    *EIGHT,
    # All passes with eight points; the second's row has more tiles than are transformed together.
    Shape(19, 25, 11, 13, 65, k=5),
    Shape(8, 24, 8, 43, 64, k=5),
]
BATCHES = [
    Shape(n, 5, 7, 6, 9, (1, 1, 1, 1), k=k)
    for n in range(8, 34)
    for k in ((3, 5) if n % 4 else (5,))
]


@contextmanager
def winograd(use: int) -> Iterator[None]:
    before = core._set_option("winograd", use)
    try:
        yield
    finally:
        core._set_option("winograd", before)


@dataclasses.dataclass
class Passes:
    """Results of the three passes, and which implementation each took."""

    y: Array
    dx: Array
    dw: Array
    db: Array
    impls: dict[str, str]


@dataclasses.dataclass
class Problem:
    x: Array
    w: Array
    b: Array
    dy: Array
    shape: Shape

    def run(self) -> Passes:
        x, w, b = (core.tensor(a, requires_grad=True) for a in (self.x, self.w, self.b))
        with core.capture() as tape:
            y = pycnn.ops.conv2d(x, w, b, padding=self.shape.padding)
            loss = pycnn.ops.sum(y * core.tensor(self.dy))
            plan = tape.compile([y, *core.gradients(loss, [x, w, b])])
        y, dx, dw, db = (t.numpy().copy() for t in plan.run())
        impls = {s["op"]: s["impl"] for s in plan.steps if s["op"] in CONVOLUTIONS}
        return Passes(y, dx, dw, db, impls)

    def exact(self, magnitude: bool = False) -> dict[str, Array]:
        """The four results in float64; ``magnitude``: of absolute values."""
        change = np.abs if magnitude else np.asarray
        x, w, b, dy = (change(a.astype(np.float64)) for a in (self.x, self.w, self.b, self.dy))
        top, bottom, left, right = self.shape.padding
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        oh, ow = dy.shape[2:]
        y = np.zeros(dy.shape) + b[None, :, None, None]
        dpadded, dw = np.zeros(padded.shape), np.zeros(w.shape)
        for i in range(self.shape.k):
            for j in range(self.shape.k):
                window = padded[:, :, i : i + oh, j : j + ow]
                y += np.einsum("nchw,oc->nohw", window, w[:, :, i, j], optimize=True)
                dw[:, :, i, j] = np.einsum("nohw,nchw->oc", dy, window, optimize=True)
                dpadded[:, :, i : i + oh, j : j + ow] += np.einsum(
                    "nohw,oc->nchw", dy, w[:, :, i, j], optimize=True
                )
        h, v = self.shape.h, self.shape.w
        dx = dpadded[:, :, top : top + h, left : left + v]
        return {"y": y, "dx": dx, "dw": dw, "db": dy.sum(axis=(0, 2, 3))}


def problem(shape: Shape, dtype: str, kind: str) -> Problem:
    """``kind``: "whole" (small whole numbers), "normal", or "relu" (as between ReLU layers)."""
    rng = np.random.default_rng(len(str(shape)) + shape.n)
    top, bottom, left, right = shape.padding
    k = shape.k
    oh, ow = shape.h + top + bottom - k + 1, shape.w + left + right - k + 1

    def draw(*size: int) -> Array:
        if kind == "whole":
            return rng.integers(-3, 4, size).astype(dtype)
        return rng.standard_normal(size).astype(dtype)

    x, dy = draw(shape.n, shape.c, shape.h, shape.w), draw(shape.n, shape.oc, oh, ow)
    if kind == "relu":
        x, dy = np.maximum(x, 0), np.where(rng.random(dy.shape) < 0.5, dy, 0).astype(dtype)
    return Problem(x, draw(shape.oc, shape.c, k, k), draw(shape.oc), dy, shape)


def ran_everywhere(passes: Passes) -> None:
    assert passes.impls == dict.fromkeys(CONVOLUTIONS, "winograd")


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("shape", SHAPES + BATCHES, ids=str)
def test_whole_numbers_are_exact_in_float64(shape: Shape, name: str) -> None:
    """With six points, and eight. The fractions of seven (5x5, long sums) never are whole."""
    pixels = shape.n * (shape.h + sum(shape.padding[:2]) - shape.k + 1)
    pixels *= shape.w + sum(shape.padding[2:]) - shape.k + 1
    exact = {"y": shape.c < 10, "dx": shape.oc < 16, "db": True}
    exact["dw"] = pixels < 512 or shape in EIGHT
    for scaled, results in (("w", ("y", "dx")), ("dy", ("dw", "db"))):
        given = problem(shape, "float64", "whole")
        setattr(given, scaled, getattr(given, scaled) * 243 * 243)
        with isa(name), winograd(ALWAYS):
            passes = given.run()
        ran_everywhere(passes)
        want, size = given.exact(), given.exact(magnitude=True)
        for what in results:
            if shape.k == 3 or exact[what]:
                np.testing.assert_array_equal(getattr(passes, what), want[what], what)
            error = float(np.max(np.abs(getattr(passes, what) - want[what])))
            assert error <= 100 * 2.0**-53 * float(np.max(size[what])), what


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("shape", SHAPES + BATCHES, ids=str)
def test_whole_numbers_round_right_in_float32(shape: Shape, name: str) -> None:
    given = problem(shape, "float32", "whole")
    with isa(name), winograd(ALWAYS):
        passes = given.run()
    ran_everywhere(passes)
    for what, want in given.exact().items():
        got = getattr(passes, what)
        np.testing.assert_array_equal(np.rint(got), want, what)
        assert float(np.max(np.abs(got - want))) < 0.1, what
    np.testing.assert_array_equal(passes.db, given.exact()["db"])


# Shapes that take it of their own accord, the smallest among them. The first three have padded
# corners, where 16 channels are few for errors to average out: smaller tiles stand there.
CHOSEN = [
    Shape(100, 16, 14, 14, 32, (1, 1, 1, 1)),
    Shape(96, 16, 10, 16, 32, (1, 1, 1, 1)),
    Shape(64, 20, 13, 15, 40, (0, 1, 1, 1)),
    Shape(32, 64, 13, 13, 64),
    Shape(32, 48, 8, 8, 32, (1, 1, 1, 1)),
    Shape(33, 128, 4, 4, 96, (1, 1, 1, 1)),
    Shape(40, 24, 6, 6, 40),
    Shape(8, 48, 9, 9, 64, (0, 1, 1, 0)),
    Shape(64, 32, 14, 14, 64, k=5),
    Shape(100, 16, 14, 14, 32, (2, 2, 2, 2), k=5),
    Shape(96, 10, 12, 12, 20, k=5),
    Shape(128, 6, 14, 14, 16, k=5),
    # The shortest sums of the weights' gradient that eight points do.
    Shape(49, 64, 5, 5, 64, (1, 1, 1, 1)),
    Shape(81, 32, 8, 8, 64, k=5),
    # The fewest channels for eight points forward and to the input, without padding and with it.
    Shape(64, 24, 12, 12, 64, k=5),
    Shape(64, 96, 8, 8, 48, (2, 2, 2, 2), k=5),
]


@pytest.mark.parametrize("kind", ["normal", "relu"])
@pytest.mark.parametrize("shape", CHOSEN, ids=str)
def test_real_numbers_within_the_bound(shape: Shape, kind: str) -> None:
    """|error| <= min(K, 4 + 2 sqrt(K)) 2^-24 sum |a| |b|, as for every float32 kernel."""
    given = problem(shape, "float32", kind)
    with winograd(AUTO):
        passes = given.run()
    chosen = {op for op, impl in passes.impls.items() if impl == "winograd"}
    assert chosen == CONVOLUTIONS
    within_the_bound(given, passes)


@pytest.mark.parametrize(
    "shape", [Shape(115, 32, 3, 3, 64, (2,) * 4, k=5), Shape(20, 64, 3, 3, 64, (1,) * 4)], ids=str
)
def test_corners_of_small_maps_sum_directly(shape: Shape) -> None:
    """Weights at the kernel's corners meet few pixels where much is padding: short sums for dw."""
    given = problem(shape, "float32", "relu")
    with winograd(AUTO):
        passes = given.run()
    assert passes.impls["conv2d_dw"] == "n16"
    within_the_bound(given, passes)


def within_the_bound(given: Problem, passes: Passes) -> None:
    shape = given.shape
    want, size = given.exact(), given.exact(magnitude=True)
    pixels = shape.n * given.dy.shape[2] * given.dy.shape[3]
    taps = shape.k * shape.k
    terms = {"y": taps * shape.c + 1, "dx": taps * shape.oc, "dw": pixels, "db": pixels}
    for what, k in terms.items():
        bound = min(k, 4 + 2 * k**0.5) * 2.0**-24 * size[what]
        error = np.abs(getattr(passes, what) - want[what])
        worst = float(np.max(error / np.maximum(bound, 1e-30)))
        assert worst <= 1, f"{what}: {worst:.2f} of the bound"


@pytest.mark.parametrize(
    "shape", [SHAPES[3], SHAPES[8], SHAPES[12], SHAPES[-2], CHOSEN[3]], ids=str
)
def test_threads_change_no_bit(shape: Shape) -> None:
    given = problem(shape, "float32", "normal")
    with winograd(ALWAYS):
        results = []
        for n in (1, 2, 3, 8, 11):
            with threads(n):
                results.append(given.run())
    ran_everywhere(results[0])
    for other in results[1:]:
        for what in ("y", "dx", "dw", "db"):
            np.testing.assert_array_equal(getattr(other, what), getattr(results[0], what), what)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activation_in_the_epilogue(activation: str) -> None:
    """The same bits as the op by itself, and zeros in the lanes that pad the batch."""
    given = problem(SHAPES[2], "float32", "normal")
    found = []
    for fuse in (0, 1):
        before = core._set_option("fuse", fuse)
        try:
            with winograd(ALWAYS), core.capture() as tape:
                y = pycnn.ops.conv2d(given.x, given.w, given.b, padding=given.shape.padding)
                y = getattr(pycnn.ops, activation)(y)
                # Sums over the batch would see what stands in the padding lanes.
                plan = tape.compile([y, *pycnn.ops.batch_norm(y)])
            assert ("conv2d", "winograd") in {(s["op"], s["impl"]) for s in plan.steps}
            found.append([t.numpy().copy() for t in plan.run()])
        finally:
            core._set_option("fuse", before)
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(found[0][2], found[0][0].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


POISONED = """
import sys

sys.path[:0] = sys.argv[1:]
import numpy as np
from harness import isa
from test_winograd import ALWAYS, CONVOLUTIONS, ISAS, Shape, problem, winograd

import pycnn
import pycnn._core as core

for name in ISAS:
    shapes = [Shape(n, 5, 7, 6, 9, (1, 1, 1, 1), 3 if n % 2 else 5) for n in range(17, 32)]
    shapes += [Shape(n, 25, 9, 10, 65, k=5) for n in (17, 22)] + [Shape(19, 20, 13, 13, 33)]
    for shape in shapes:
        given = problem(shape, "float32", "normal")
        with isa(name), winograd(ALWAYS), core.capture() as tape:
            x, w, b = (core.tensor(a, requires_grad=True) for a in (given.x, given.w, given.b))
            y = pycnn.ops.sigmoid(pycnn.ops.conv2d(x, w, b, padding=given.shape.padding))
            loss = pycnn.ops.sum(y * core.tensor(given.dy))
            dx, dw, db = core.gradients(loss, [x, w, b])
            # Sums over the batch see what stands in the padding lanes.
            sums = [pycnn.ops.batch_norm(maps)[1] for maps in (y, dx)]
            plan = tape.compile([y, dx, dw, db, *sums])
            y, dx, dw, db, *sums = (t.numpy() for t in plan.run())
        ran = {s["op"]: s for s in plan.steps}
        assert {ran[op]["impl"] for op in CONVOLUTIONS} == {"winograd"}
        assert {s["inputs"][0][1] for s in plan.steps if s["op"] == "batch_norm"} == {"n16"}
        assert all(np.isfinite(a).all() for a in (y, dx, dw, db))
        for maps, mean in zip((y, dx), sums, strict=True):
            want = maps.mean((0, 2, 3), dtype="float64")
            np.testing.assert_allclose(mean, want, rtol=1e-4, atol=1e-5)
assert core._guard_errors() == 0
"""


def test_partial_blocks_in_poisoned_memory() -> None:
    """Lanes without images are never read, and stored as zeros, whatever lay there."""
    here, package = os.path.dirname(__file__), os.path.dirname(os.path.dirname(pycnn.__file__))
    done = subprocess.run(
        [sys.executable, "-c", POISONED, here, package],
        env={**os.environ, "PYCNN_POISON": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_not_a_number_stays_in_its_image() -> None:
    given = problem(SHAPES[2], "float32", "normal")
    clean = given.x.copy()
    given.x[3, 2, 4, 4] = np.nan
    given.x[5, 1, 0, 0] = np.inf
    others = [n for n in range(given.shape.n) if n not in (3, 5)]
    with winograd(ALWAYS):
        broken = given.run().y
        given.x = clean
        fine = given.run().y
    np.testing.assert_array_equal(broken[others], fine[others])
    assert np.isnan(broken[3, :, 3:6, 3:6]).all()
    assert not np.isfinite(broken[5, :, :2, :2]).any()


def test_when_it_is_chosen() -> None:
    wide = problem(CHOSEN[1], "float32", "normal")
    with winograd(AUTO):
        ran_everywhere(wide.run())
    with winograd(OFF):
        assert set(wide.run().impls.values()) == {"n16"}
    with winograd(AUTO):
        # Few channels: transforms cost more than they save. float64: what gradients are checked in.
        assert "winograd" not in problem(SHAPES[0], "float32", "normal").run().impls.values()
        assert set(problem(CHOSEN[1], "float64", "normal").run().impls.values()) == {"n16"}
        x, w = np.ones((16, 64, 9, 9), "float32"), np.ones((64, 64, 3, 3), "float32")
        for other in ({"stride": (2, 2)}, {"stride": (1, 2)}, {"padding": (2, 2, 2, 2)}):
            with core.capture() as tape:
                plan = tape.compile([pycnn.ops.conv2d(x, w, **other)])
            assert "winograd" not in {s["impl"] for s in plan.steps}


def test_the_environment_switches_it_off() -> None:
    code = (
        "import numpy as np, pycnn, pycnn._core as core\n"
        "x, w = np.ones((16, 64, 8, 8), 'float32'), np.ones((64, 64, 3, 3), 'float32')\n"
        "with core.capture() as tape:\n"
        "    plan = tape.compile([pycnn.ops.conv2d(x, w, padding=(1, 1, 1, 1))])\n"
        "print([s['impl'] for s in plan.steps if s['op'] == 'conv2d'])\n"
    )
    folder = os.path.dirname(os.path.dirname(pycnn.__file__))
    for value, impl in (("direct", "n16"), ("auto", "winograd"), ("", "winograd")):
        environment = {**os.environ, "PYCNN_CONV": value, "PYTHONPATH": folder}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.stdout.strip() == f"['{impl}']", done.stderr
    environment["PYCNN_CONV"] = "fast"
    done = subprocess.run(
        [sys.executable, "-c", "import pycnn"], env=environment, capture_output=True, text=True
    )
    assert done.returncode and "PYCNN_CONV=fast" in done.stderr
