"""What stands between the user's array and the first layer on images, as one step of the plan.

The plan without fusion gathers, converts, moves, scales and pads one after the other: the same
numbers, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn._core as core
from harness import forced, isa, option, says_the_same_when_poisoned, threads
from loops import same_bits
from pycnn import ops
from pycnn.keras import layers

pytestmark = pytest.mark.sanitize

ISAS = core.config()["isa_available"]
DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")
# (first, second) operation with a number; None: none.
OPERATIONS: list[tuple[tuple[str, float], ...]] = [
    (),
    (("mul", 1 / 255),),
    (("mul", 1 / 255), ("add", 0.0)),
    (("mul", 2 / 255), ("add", -1.0)),
    (("sub", 127.5), ("div", 63.0)),
    (("mul", 1e38), ("add", np.inf)),
    (("add", np.nan),),
    (("div", 0.0), ("mul", 0.0)),
]
SHAPE, KERNEL = (6, 7), (2, 3)


def rows(n: int, c: int, dtype: str, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Rows in H, W, C order; floats with infinities, NaN, both zeros and denormals among them."""
    rng = np.random.default_rng((n, c))
    size = (n, *shape, c)
    if dtype.startswith("float"):
        values = rng.standard_normal(size) * 100
        odd = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-39, 3e38])
        return np.where(rng.random(size) < 0.1, rng.choice(odd, size), values).astype(dtype)
    if dtype == "bool":
        return rng.random(size) < 0.5
    if dtype == "uint8":
        return rng.integers(0, 256, size).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, size, dtype=dtype)


def as_maps(x: Any, c: int) -> Any:
    n, h, w, _ = x.shape
    return ops.reshape(x, shape=(n, c, h, w)) if c == 1 else ops.transpose(x, perm=(0, 3, 1, 2))


def loaded(
    data: np.ndarray,
    index: np.ndarray | None,
    real: str = "float32",
    operations: tuple[tuple[str, float], ...] = (),
    pads: tuple[int, int, int, int] | None = None,
    late: bool = False,
    seen: bool = False,
) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Steps; the maps as pooling of one pixel passes them on (`seen`: themselves), and a sum."""
    c = data.shape[-1]
    with core.capture() as tape:
        t = tape.placeholder(data.shape, data.dtype.name)
        arrays = [data]
        if index is not None:
            i = tape.placeholder(index.shape, "int64")
            arrays.append(index)
            x = ops.gather(t, i, dtype=real)
        else:
            x = ops.cast(t, dtype=real) if data.dtype.name != real else t
        if not late:
            x = as_maps(x, c)
        for name, number in operations:
            x = getattr(ops, name)(x, number)
        if late:
            x = as_maps(x, c)
        if pads is not None:
            x = ops.pad(x, pads=(0, 0, 0, 0, *pads))
        outputs = [x] if seen else [ops.max_pool2d(x, kernel=(1, 1))]
        outputs.append(ops.max_pool2d(x, kernel=(2, 2), stride=(1, 1)))
        plan = tape.compile(outputs)
    return plan.steps, [np.array(a) for a in plan.run(*arrays)]


def names(steps: list[dict[str, Any]]) -> list[str]:
    return [step["op"] for step in steps]


def check(*args: Any, impl: str, **kwargs: Any) -> None:
    """Fused: one step in front of pooling, with this implementation; not fused: the same bits."""
    steps, got = loaded(*args, **kwargs)
    assert names(steps)[0] == "load_images", names(steps)
    assert steps[0]["impl"] == impl
    rest = {(step["op"], step["impl"]) for step in steps[1:] if step["op"] != "max_pool2d"}
    assert rest <= {("reorder", "to_plain")}, names(steps)  # for whom looks at the results
    with option("fuse", 0):
        steps, want = loaded(*args, **kwargs)
    assert "load_images" not in names(steps)
    same_bits(got, want)


def impl_of(batch: int) -> str:
    return "n16" if batch >= 8 else "plain"


# ---- the numbers ----


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(dtype: str, real: str, name: str) -> None:
    with isa(name):
        for c, batch in ((1, 5), (1, 18), (3, 7), (3, 33), (4, 16), (5, 9)):
            data = rows(21, c, dtype)
            index = np.random.default_rng(batch).integers(0, 21, batch)
            for operations in OPERATIONS:
                check(data, index, real, operations, impl=impl_of(batch))
                check(data, index, real, operations, (2, 1, 0, 3), impl=impl_of(batch))


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_every_batch(dtype: str, name: str) -> None:
    with isa(name):
        for batch in range(1, 41):
            for c in (1, 3):
                data = rows(batch, c, dtype, (3, 5))
                index = np.random.default_rng(batch).permutation(batch)
                check(data, index, "float32", OPERATIONS[3], (1, 1, 1, 1), impl=impl_of(batch))
                check(data, index, impl=impl_of(batch))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("batch", [3, 8, 21])
@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_that_are_there(dtype: str, batch: int, late: bool) -> None:
    """No index: the array is the batch. Movement alone is no work of its own, and comes first."""
    for c in (1, 3):
        if late and dtype == "float64":
            continue
        data = rows(batch, c, dtype)
        for operations in OPERATIONS[1:]:
            check(data, None, "float64", operations, late=late, impl=impl_of(batch))
        check(data, None, "float64", (), (2, 2, 2, 2), late=late, impl=impl_of(batch))
        steps, _ = loaded(data, None, "float64", late=late)
        assert ("load_images" in names(steps)) == (dtype != "float64")


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 1), (13, 11), (32, 32), (30, 41)])
@pytest.mark.parametrize("c", [1, 2, 3, 7, 16])
def test_every_size(c: int, shape: tuple[int, int]) -> None:
    for batch in (2, 12, 19):
        for dtype in ("float32", "uint8"):
            data = rows(batch, c, dtype, shape)
            index = np.arange(batch)[::-1].copy()
            if c > 1 or dtype == "uint8":
                check(data, index, "float32", (), (1, 1, 1, 1), impl=impl_of(batch))
            check(data, index, "float32", OPERATIONS[2], (3, 0, 1, 2), impl=impl_of(batch))


def test_rows_in_another_shape() -> None:
    """Rows may be flat, or channels-first already; the maps are those of the last reshape."""
    flat = rows(20, 1, "uint8", (6, 8)).reshape(20, 48)
    index = np.array([3, 3, 19, 0, 7, 8, 9, 1, 2])
    for shape in ((9, 6, 8, 1), (9, 3, 4, 4), (9, 48, 1, 1)):
        results = []
        for fuse in (1, 0):
            with option("fuse", fuse), core.capture() as tape:
                t = tape.placeholder(flat.shape, "uint8")
                i = tape.placeholder(index.shape, "int64")
                x = ops.reshape(ops.gather(t, i, dtype="float32"), shape=shape)
                x = ops.add(ops.mul(x, 0.5), 3.0)
                x = ops.pad(x, pads=(0, 0, 0, 0, 1, 0, 2, 1))
                plan = tape.compile([ops.max_pool2d(x, kernel=(2, 1))])
            assert ("load_images" in names(plan.steps)) == bool(fuse)
            results.append(np.array(plan.run(flat, index)[0]))
        same_bits(results[0], results[1])


@pytest.mark.parametrize("impl", ["n16", "plain"])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_any_number_of_threads(workers: int, impl: str) -> None:
    for dtype in ("float32", "uint8"):
        data = rows(60, 3, dtype, (24, 25))
        index = np.random.default_rng(2).integers(0, 60, 37)
        with option("fuse", 0), threads(1):
            _, want = loaded(data, index, "float32", OPERATIONS[3], (2, 2, 2, 2))
        with forced("load_images", impl), threads(workers):
            core._workers_seen()
            steps, got = loaded(data, index, "float32", OPERATIONS[3], (2, 2, 2, 2))
            assert core._workers_seen() == workers
        assert steps[0]["op"] == "load_images" and steps[0]["impl"] == impl
        same_bits(got, want)


def test_lanes_without_an_image_and_padding_are_zeros() -> None:
    """Also where a number is added to what is there: the sums over all lanes tell."""
    for batch in range(8, 24):
        data = np.full((batch, 4, 5, 1), 7, np.uint8)
        with core.capture() as tape:
            t = tape.placeholder(data.shape, "uint8")
            i = tape.placeholder((batch,), "int64")
            x = ops.reshape(ops.gather(t, i, dtype="float32"), shape=(batch, 1, 4, 5))
            x = ops.pad(ops.add(x, np.inf), pads=(0, 0, 0, 0, 1, 1, 1, 1))
            w = core.tensor(np.ones((1, 1, 3, 3), np.float32), requires_grad=True)
            y = ops.conv2d(x, w)
            plan = tape.compile(
                [ops.max_pool2d(x, kernel=(1, 1)), *core.gradients(ops.sum(y), [w])]
            )
        assert plan.steps[0]["impl"] == "n16"
        maps, dw = (np.array(a) for a in plan.run(data, np.arange(batch)))
        assert np.isinf(maps[:, :, 1:-1, 1:-1]).all()
        maps[:, :, 1:-1, 1:-1] = 0
        assert maps.tobytes() == bytes(maps.nbytes)
        assert np.isinf(dw).all(), dw  # no lane gave 0 * Inf


# ---- what is left as it is ----


def test_another_reader_keeps_the_steps() -> None:
    data, index = rows(20, 1, "uint8"), np.arange(11)
    for who in ("gather", "move", "mul"):
        results = []
        for fuse in (1, 0):
            with option("fuse", fuse), core.capture() as tape:
                t = tape.placeholder(data.shape, "uint8")
                i = tape.placeholder(index.shape, "int64")
                values = {"gather": ops.gather(t, i, dtype="float32")}
                values["move"] = ops.reshape(values["gather"], shape=(11, 1, *SHAPE))
                values["mul"] = ops.mul(values["move"], 0.25)
                last = ops.max_pool2d(ops.add(values["mul"], 1.0), kernel=(2, 2))
                plan = tape.compile([last, ops.sum(values[who])])
            results.append([np.array(a) for a in plan.run(data, index)])
            # What somebody else reads is made, with all that is before it.
            loads = [s for s in plan.steps if s["op"] == "load_images"]
            assert len(loads) == (fuse and who != "gather")
            for step in loads:
                assert step["attrs"].get("first", "none") == ("mul" if who == "mul" else "none")
                assert step["attrs"].get("second", "none") == "none"
        same_bits(results[0], results[1])


def test_what_is_looked_at_is_plain() -> None:
    data, index = rows(20, 3, "uint8"), np.arange(17)
    steps, got = loaded(data, index, "float32", OPERATIONS[3], (1, 1, 1, 1), seen=True)
    assert steps[0]["op"] == "load_images" and steps[0]["impl"] == "plain"
    with option("fuse", 0):
        _, want = loaded(data, index, "float32", OPERATIONS[3], (1, 1, 1, 1), seen=True)
    same_bits(got, want)


def test_other_steps_are_left() -> None:
    """Other orders of axes, numbers that differ by channel, other padding, more operations."""
    data, index = rows(20, 3, "float32"), np.arange(9)
    channels = core.tensor(np.array([1, 2, 3], np.float32).reshape(3, 1, 1))

    def both(build: Any, left: set[str]) -> None:
        results = []
        for fuse in (1, 0):
            with option("fuse", fuse), core.capture() as tape:
                t = tape.placeholder(data.shape, "float32")
                i = tape.placeholder(index.shape, "int64")
                y = build(ops.gather(t, i))
                plan = tape.compile([ops.max_pool2d(y, kernel=(2, 2))])
            results.append(np.array(plan.run(data, index)[0]))
            assert left <= set(names(plan.steps)), names(plan.steps)
        same_bits(results[0], results[1])

    to_core = {"perm": (0, 3, 1, 2)}
    both(lambda x: ops.transpose(x, perm=(0, 3, 2, 1)), {"gather", "transpose"})
    both(lambda x: ops.transpose(x, perm=(3, 0, 1, 2)), {"gather", "transpose"})
    both(lambda x: ops.mul(ops.transpose(x, **to_core), channels), {"mul"})
    both(lambda x: ops.mul(0.5, ops.transpose(x, **to_core)), {"mul"})
    both(lambda x: ops.mul(ops.mul(ops.mul(x, 3.0), 0.3), 0.7), {"mul"})
    both(lambda x: ops.pad(ops.transpose(x, **to_core), pads=(0,) * 7 + (1,), value=-0.0), {"pad"})
    both(lambda x: ops.pad(ops.transpose(x, **to_core), pads=(0,) * 7 + (1,), value=2.0), {"pad"})
    both(lambda x: ops.pad(ops.transpose(x, **to_core), pads=(0, 0, 1, 0, 0, 0, 0, 0)), {"pad"})
    both(lambda x: ops.mul(ops.pad(x, pads=(0,) * 7 + (1,)), 2.0), {"mul"})
    both(lambda x: ops.cast(ops.mul(x, 3.0), dtype="float64"), {"cast"})
    both(lambda x: ops.relu(ops.transpose(x, **to_core)), {"relu"})


def test_one_conversion_is_taken() -> None:
    """From int64 to float64 by way of float32 rounds twice."""
    data = rows(20, 1, "int64")
    results = []
    for fuse in (1, 0):
        with option("fuse", fuse), core.capture() as tape:
            t = tape.placeholder(data.shape, "int64")
            x = ops.gather(t, np.arange(12), dtype="float32")
            x = ops.reshape(ops.cast(x, dtype="float64"), shape=(12, 1, *SHAPE))
            plan = tape.compile([ops.max_pool2d(x, kernel=(2, 2))])
        results.append(np.array(plan.run(data)[0]))
        assert "cast" in names(plan.steps)
    same_bits(results[0], results[1])


def test_a_number_that_changes_in_between() -> None:
    """The load stands where the first step stood: numbers written after it are not taken."""
    data = rows(20, 1, "uint8")
    results = []
    for fuse in (1, 0):
        scale = core.tensor(np.array(2.0, np.float32))
        with option("fuse", fuse):
            x = ops.gather(data, np.arange(9), dtype="float32")
            x = ops.reshape(x, shape=(9, 1, *SHAPE))
            ops.assign_(scale, np.array(3.0, np.float32))
            y = ops.max_pool2d(ops.mul(x, scale), kernel=(1, 1))
            del x
            results.append(y.numpy())
    same_bits(results[0], results[1])
    same_bits(results[0], data[:9].astype(np.float32).reshape(9, 1, *SHAPE) * np.float32(3))


def test_data_that_is_overwritten_behind() -> None:
    results = []
    for fuse in (1, 0):
        data = core.tensor(rows(9, 3, "float32"))
        with option("fuse", fuse):
            x = ops.transpose(ops.gather(data, np.arange(9)), perm=(0, 3, 1, 2))
            ops.assign_(data, np.zeros(data.shape, np.float32))
            y = ops.max_pool2d(ops.mul(x, 0.5), kernel=(2, 2))
            del x
            results.append([y.numpy(), data.numpy()])
    same_bits(results[0], results[1])
    assert not results[0][1].any()


# ---- errors, sizes without numbers ----


@pytest.mark.parametrize("batch", [3, 17])
@pytest.mark.parametrize("wrong", [-1, 20, 2**40])
def test_indices_out_of_range(wrong: int, batch: int) -> None:
    index = np.arange(batch)
    index[batch - 1] = wrong
    data = rows(20, 1, "uint8")
    message = rf"gather: index\[{batch - 1}\] is {wrong}, but data has 20 rows \(0 to 19\)"
    for fuse in (1, 0):
        with option("fuse", fuse), pytest.raises(IndexError, match=message):
            loaded(data, index, "float32", OPERATIONS[3], (1, 1, 1, 1))


def test_what_comes_before_a_wrong_index_is_done_and_no_more() -> None:
    """Also where an effect stands between the steps that became one."""
    for fuse in (1, 0):
        before, behind = (core.tensor(np.zeros(2, np.float32)) for _ in range(2))
        ones = np.ones(2, np.float32)
        with option("fuse", fuse):
            ops.assign_(before, ones)
            x = ops.gather(rows(20, 1, "uint8"), np.array([0] * 8 + [20]), dtype="float32")
            x = ops.reshape(x, shape=(9, 1, *SHAPE))
            ops.assign_(behind, ones)
            y = ops.max_pool2d(ops.mul(x, 2.0), kernel=(2, 2))
            del x
            with pytest.raises(IndexError, match=r"index\[8\] is 20"):
                y.numpy()
        assert before.numpy().tolist() == [1, 1]
        assert behind.numpy().tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(0, 4, 5, 1), (6, 0, 5, 1), (6, 4, 5, 0)])
def test_nothing_to_load(shape: tuple[int, ...]) -> None:
    n, h, w, c = shape
    data = np.zeros(shape, np.uint8)
    index = np.zeros(0 if n == 0 else 9, np.int64)
    for fuse in (1, 0):
        with option("fuse", fuse), core.capture() as tape:
            t = tape.placeholder(shape, "uint8")
            i = tape.placeholder(index.shape, "int64")
            x = ops.gather(t, i, dtype="float32")
            x = ops.add(ops.reshape(x, shape=(len(index), c, h, w)), 1.0)
            x = ops.pad(x, pads=(0, 0, 0, 0, 1, 1, 1, 1))
            plan = tape.compile([x])
        y = np.array(plan.run(data, index)[0])
        assert y.shape == (len(index), c, h + 2, w + 2)
        assert not y[:, :, 0].any()
    with pytest.raises(IndexError):
        plan.run(np.zeros(shape, np.uint8), np.full(index.shape, 99)) if n else loaded(
            np.zeros((0, 4, 5, 1), np.uint8), np.zeros(3, np.int64), "float32", OPERATIONS[1]
        )


# ---- through the vocabulary ----


def network(c: int, first: list[Any]) -> Any:
    pycnn.keras.utils.set_random_seed(3)
    model = pycnn.Sequential(
        [
            layers.Input((10, 9, c)),
            *first,
            layers.Conv2D(5, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


FIRST: dict[str, tuple[str, Any]] = {
    "as it is": ("float32", list),
    "rescaled bytes": ("uint8", lambda: [layers.Rescaling(1 / 255)]),
    "bytes around zero": ("uint8", lambda: [layers.Rescaling(2 / 255, -1.0)]),
    "padded": ("float32", lambda: [layers.ZeroPadding2D(2)]),
    "rescaled and padded": ("uint8", lambda: [layers.Rescaling(1 / 255), layers.ZeroPadding2D(1)]),
}


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("what", FIRST)
def test_training_is_the_same(what: str, c: int) -> None:
    """fit, evaluate, predict and their relatives, with last batches of other sizes."""
    dtype, first = FIRST[what]
    rng = np.random.default_rng(c)
    x = rng.integers(0, 256, (61, 10, 9, c)).astype(dtype)
    if dtype == "float32":
        x /= 255
    y = rng.integers(0, 4, 61)
    results = []
    for fuse in (1, 0):
        with option("fuse", fuse):
            model = network(c, first())
            with pycnn.profile() as p:
                history = model.fit(x, y, batch_size=16, epochs=2, verbose=0)
            loads = [row.op for row in p.rows if row.op.startswith("load_images")]
            assert bool(loads) == bool(fuse)
            if fuse:
                assert all(row.layer == "(batch)" for row in p.rows if row.op in loads)
            seen = [model.predict(x, batch_size=20, verbose=0)]
            seen += [model.predict_on_batch(x[:9]), model.predict_on_batch(x[:2])]
            seen += [model.evaluate(x, y, batch_size=25, verbose=0)]
            seen += [model.train_on_batch(x[:12], y[:12]), *model.get_weights()]
        results.append([history.history["loss"], *map(np.asarray, seen)])
    same_bits(results[0], results[1])


def test_a_profile_names_what_was_taken_over() -> None:
    x = np.zeros((32, 10, 9, 1), np.uint8)
    model = network(1, FIRST["rescaled and padded"][1]())
    with pycnn.profile() as p:
        model.fit(x, np.zeros(32, np.int64), batch_size=16, verbose=0)
    (row,) = [row for row in p.rows if "load_images" in row.op]
    assert row.op == "load_images+mul+add+pad" and row.calls == 2


# ---- memory ----

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import test_load_images as t
for batch in (1, 5, 8, 13, 16, 35):
    for c in (1, 3):
        for dtype in ("float32", "uint8"):
            data = t.np.abs(t.np.nan_to_num(t.rows(40, c, dtype)))
            for pads in (None, (2, 1, 0, 3)):
                for operations in t.OPERATIONS[:5]:
                    index = t.np.arange(batch)
                    for real in ("float32", "float64"):
                        _, got = t.loaded(data, index, real, operations, pads)
                        for a in got:
                            print(a.tobytes().hex()[:4000])
assert t.core._guard_errors() == 0, t.core._guard_errors()
"""


@pytest.mark.parametrize("name", ISAS)
def test_poisoned_memory(name: str) -> None:
    """Memory that starts as NaN, guards behind it: the same numbers, no guard touched."""
    says_the_same_when_poisoned(PROGRAM, PYCNN_ISA=name)
