"""Dropout: every decision is a number of Philox, whoever asks, in whatever layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn._core as core
from harness import forced, isa, threads
from loops import same_bits
from pycnn import ops
from reference import philox

pytestmark = pytest.mark.sanitize

Array = np.ndarray
ISA = core.config()["isa_available"]


def test_philox_gives_the_published_numbers() -> None:
    """Known answers of Random123 (kat_vectors): the reference itself is right."""
    full = 0xFFFFFFFF
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([full] * 4, [full] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    counter = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    key = [0xA4093822, 0x299F31D0]
    assert philox(counter, key) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def draws(seed: tuple[int, int, int], images: int, positions: int) -> Array:
    """The numbers of some images: four positions share a counter."""
    key = seed[0] & (2**64 - 1)
    found = np.zeros((images, positions), np.uint64)
    for image in range(images):
        for group in range((positions + 3) // 4):
            counter = (group, image, seed[2] & 0xFFFFFFFF, seed[1] & 0xFFFFFFFF)
            four = philox(counter, (key & 0xFFFFFFFF, key >> 32))
            part = found[image, 4 * group : 4 * group + 4]
            part[:] = four[: len(part)]
    return found


def kept(shape: tuple[int, ...], seed: tuple[int, int, int], rate: float, spatial: bool) -> Array:
    """Which elements stay: those whose number is at least rate * 2^32."""
    drawn = shape[:2] if spatial else shape
    numbers = draws(seed, shape[0], int(np.prod(drawn[1:])))
    mask = (numbers >= round(rate * 2**32)).reshape(drawn)
    if spatial:
        mask = mask.reshape(drawn + (1,) * (len(shape) - 2))
    return np.asarray(np.broadcast_to(mask, shape))


def run(x: Any, seed: tuple[int, int, int], rate: float, spatial: bool = False) -> Array:
    return np.array(ops.dropout(x, np.array(seed, np.int64), rate=rate, spatial=spatial))


SEEDS = [(0, 0, 0), (1, 2, 3), (-5, 7, 2**31), (2**40 + 17, 3, 2**32 + 9), (2**63 - 1, -1, 1)]


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(3, 5), (9, 7), (2, 3, 5), (8, 3, 3, 2), (19, 2, 4, 3), (5, 6, 1, 1)]
)
def test_decisions_are_the_references(shape: tuple[int, ...], dtype: str, spatial: bool) -> None:
    x = np.random.default_rng(0).uniform(1, 2, shape).astype(dtype)
    for seed in SEEDS:
        for rate in (0.25, 0.5, 0.9):
            y = run(x, seed, rate, spatial)
            mask = kept(shape, seed, rate, spatial)
            same_bits(y != 0, mask)
            tolerance = 1e-6 if dtype == "float32" else 1e-14
            np.testing.assert_allclose(y, np.where(mask, x / (1 - rate), 0), rtol=tolerance)


# "rows" leaves whole channels to the others.
IMPLEMENTATIONS = [
    ("n16", False),
    ("n16", True),
    ("rows", False),
    ("reference", False),
    ("reference", True),
]


@pytest.mark.parametrize("name", ISA)
@pytest.mark.parametrize(("impl", "spatial"), IMPLEMENTATIONS)
def test_implementations(impl: str, spatial: bool, name: str) -> None:
    """Layouts and instruction sets decide alike, to the last bit, for every batch size."""
    for n in (1, 7, 8, 16, 17, 33):
        x = np.random.default_rng(n).standard_normal((n, 3, 5, 3)).astype(np.float32)
        with core.capture() as tape:
            plain = tape.compile([ops.dropout(x, np.array([3, 1, 4]), rate=0.3, spatial=spatial)])
        wanted = plain.run()[0].numpy()
        with isa(name), forced("dropout", impl), core.capture() as tape:
            y = ops.dropout(x, np.array([3, 1, 4]), rate=0.3, spatial=spatial)
            plan = tape.compile([y])
            assert ("dropout", impl) in {(s["op"], s["impl"]) for s in plan.steps}
            same_bits(plan.run()[0].numpy(), wanted)


@pytest.mark.tsan
@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("n", [5, 18])
def test_threads_change_nothing(n: int, spatial: bool) -> None:
    x = np.random.default_rng(0).standard_normal((n, 70, 8, 8)).astype(np.float32)
    want = run(x, (1, 2, 3), 0.5, spatial)
    for count in (1, 2, 3, 8):
        with threads(count):
            core._workers_seen()
            for _ in range(3):
                same_bits(run(x, (1, 2, 3), 0.5, spatial), want)
            if count > 1:
                assert core._workers_seen() > 1


def test_a_picture_is_treated_alike_in_every_batch() -> None:
    x = np.random.default_rng(0).standard_normal((33, 2, 3, 5)).astype(np.float32)
    for spatial in (False, True):
        whole = run(x, (5, 6, 7), 0.5, spatial)
        for n in range(1, 33):
            same_bits(run(x[:n], (5, 6, 7), 0.5, spatial), whole[:n])


def test_a_position_is_its_place_in_the_image_not_its_shape() -> None:
    x = np.random.default_rng(0).standard_normal((9, 2, 3, 5)).astype(np.float32)
    same_bits(run(x, (1, 1, 1), 0.4).reshape(9, 30), run(x.reshape(9, 30), (1, 1, 1), 0.4))


def test_seed_stream_and_call_all_matter() -> None:
    x = np.ones((8, 64), np.float32)
    masks = [
        run(x, seed, 0.5) != 0
        for seed in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1 + 2**32, 1, 1))
    ]
    for i, one in enumerate(masks):
        for two in masks[:i]:
            assert 0.4 < np.mean(one == two) < 0.6
    for image in range(1, 8):
        assert 0.2 < np.mean(masks[0][0] == masks[0][image]) < 0.8


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.75, 0.99])
def test_rates(rate: float) -> None:
    n = 400_000
    x = np.ones((20, n // 20), np.float32)
    y = run(x, (11, 0, 0), rate)
    deviation = np.sqrt(rate * (1 - rate) / n)
    assert abs(np.mean(y == 0) - rate) < 5 * deviation
    np.testing.assert_allclose(y[y != 0], np.float32(1 / (1 - rate)), rtol=1e-6)
    channels = run(np.ones((200, 100, 2, 1), np.float32), (11, 0, 0), rate, True)
    assert abs(np.mean(channels == 0) - rate) < 5 * np.sqrt(rate * (1 - rate) / 20000)


def test_the_ends_of_the_scale() -> None:
    x = np.array([[1.0, -2.0, np.nan, np.inf]] * 9, np.float32)
    same_bits(run(x, (1, 2, 3), 0.0), x)
    same_bits(run(x, (1, 2, 3), 1.0), np.zeros_like(x))
    images = np.broadcast_to(x.reshape(9, 4, 1, 1), (9, 4, 2, 2)).copy()
    same_bits(run(images, (1, 2, 3), 0.0, True), images)
    assert run(x[:0], (1, 2, 3), 0.5).shape == (0, 4)


def test_dropped_infinities_are_zero() -> None:
    x = np.full((16, 3, 4, 4), np.inf, np.float32)
    x[::2] = np.nan
    for spatial in (False, True):
        y = run(x, (1, 2, 3), 0.5, spatial)
        mask = kept(x.shape, (1, 2, 3), 0.5, spatial)
        same_bits(y[~mask], np.zeros((~mask).sum(), np.float32))
        assert not np.isfinite(y[mask]).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("shape", [(5, 6), (9, 3, 4, 4), (17, 2, 3, 3)])
def test_the_gradient_is_the_mask(shape: tuple[int, ...], spatial: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = core.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)
    dy = rng.standard_normal(shape).astype(dtype)
    y = ops.dropout(x, np.array([4, 5, 6]), rate=0.4, spatial=spatial)
    y.backward(dy)
    assert x.grad is not None
    mask = kept(shape, (4, 5, 6), 0.4, spatial)
    same_bits(x.grad.numpy() != 0, mask)
    same_bits(x.grad.numpy(), run(dy, (4, 5, 6), 0.4, spatial))
    same_bits(y.numpy() != 0, mask)


def test_the_seed_is_a_number_of_the_run() -> None:
    """One plan, a new draw for every seed it is given."""
    x = np.ones((8, 40), np.float32)
    with core.capture() as tape:
        seed = tape.placeholder((3,), "int64")
        plan = tape.compile([ops.dropout(x, seed, rate=0.5)])
    for call in range(4):
        (y,) = plan.run(np.array([1, 2, call]))
        same_bits(y.numpy(), run(x, (1, 2, call), 0.5))


@pytest.mark.parametrize("rate", [-0.1, 1.5, np.nan, np.inf])
def test_wrong_rates(rate: float) -> None:
    words = "dropout: rate must be a (finite number|number from 0 to 1)"
    with pytest.raises(ValueError, match=words):
        run(np.ones((2, 3)), (1, 2, 3), rate)


@pytest.mark.parametrize(
    ("x", "seed", "spatial"),
    [
        (np.ones((2, 3)), np.zeros(2, np.int64), False),
        (np.ones((2, 3)), np.zeros(3), False),
        (np.ones((2, 3), np.int64), np.zeros(3, np.int64), False),
        (np.ones(3), np.zeros(3, np.int64), True),
        (np.float64(3), np.zeros(3, np.int64), False),
    ],
)
def test_wrong_inputs(x: Any, seed: Array, spatial: bool) -> None:
    with pytest.raises((ValueError, TypeError), match="dropout"):
        ops.dropout(x, seed, rate=0.5, spatial=spatial)
