"""Memory: nothing leaks, long loops stay flat, deep graphs die in peace, guards stay untouched."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn._core as core
from loops import NETWORKS, hyper, seed, train_step, zeros_like
from pycnn import ops

pytestmark = pytest.mark.sanitize

HERE = Path(__file__).resolve().parent
PACKAGE = Path(pycnn.__file__).resolve().parents[1]
MB = 1 << 20


def resident() -> int:
    """Bytes of this process in memory now; 0 where nobody tells, or a sanitizer keeps memory."""
    if "san.so" in os.environ.get("LD_PRELOAD", ""):
        return 0
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def held() -> dict[str, int]:
    gc.collect()
    info = core.plan_cache_info()
    return {key: info[key] for key in ("live_bytes", "pending")}


# ---- long loops ----


@pytest.mark.parametrize("look", ["at the end", "at each step"])
def test_evaluation_summed_over_10000_steps(look: str) -> None:
    """Under no_grad nothing is kept, also where nobody looks at the sum on the way."""
    w = core.tensor(np.full((16, 10), 0.25, np.float32), requires_grad=True)
    x = np.ones((8, 16), np.float32)
    labels = np.arange(8)
    total: Any = core.tensor(np.zeros((), np.float32))
    marks = []
    with core.no_grad():
        for step in range(10_000):
            rows = ops.log_softmax(ops.dense(x, w))
            total = total + ops.mean(ops.nll(rows, labels))
            if look == "at each step":
                total.item()
            if step in (4_999, 9_999):  # both halves force the same pieces: no new plan
                core.synchronize()
                info = core.plan_cache_info()
                marks.append((resident(), info["live_bytes"], info["free_bytes"], info["plans"]))
    np.testing.assert_allclose(total.item(), 10_000 * np.log(10), rtol=1e-3)
    first, last = marks
    assert last[0] - first[0] < 3 * MB
    assert last[1] <= first[1] + 4096
    assert last[2] <= first[2] + MB
    assert last[3] <= first[3] + 1


def test_a_network_evaluated_and_trained_for_long() -> None:
    network = NETWORKS["lab3"]
    p = network.parameters()
    v = zeros_like(p)
    x, labels = network.batch(8)
    marks = []
    for step in range(1500):
        train_step(network, p, v, x, labels, step)
        with core.no_grad():
            network.loss(p, x, labels, 0).item()
        if step in (300, 1499):
            info = core.plan_cache_info()
            made, live = info["made"], info["live_bytes"] + info["free_bytes"]
            marks.append((resident(), made, live, info["arena_bytes"]))
    first, last = marks
    assert last[0] - first[0] < 4 * MB
    assert last[1:] == first[1:]


def test_plans_and_captures_made_and_dropped() -> None:
    w = core.tensor(np.ones((8, 8)))
    marks = []
    for step in range(2000):
        with core.capture() as tape:
            x = tape.placeholder((4, 8), "float64")
            ops.assign_(w, w * 1.0)
            plan = tape.compile([ops.dense(x, w)])
        plan.run(np.ones((4, 8)))
        if step in (300, 1999):
            marks.append((resident(), held()["live_bytes"]))
        del plan, tape, x
    assert marks[1][0] - marks[0][0] < 2 * MB
    assert marks[1][1] == marks[0][1]


# ---- nothing leaks ----


def forward_and_backward() -> None:
    network = NETWORKS["lab2"]
    p = network.parameters()
    train_step(network, p, zeros_like(p), *network.batch(9), 0)


def recorded_and_dropped() -> None:
    network = NETWORKS["lab1"]
    network.loss(network.parameters(), *network.batch(9), 0)


def computed_and_dropped() -> None:
    network = NETWORKS["lab1"]
    network.loss(network.parameters(), *network.batch(9), 0).item()


def failing_calls() -> None:
    w = core.tensor(np.ones((3, 4)), requires_grad=True)
    for call in (
        lambda: ops.dense(np.ones((2, 5)), w),
        lambda: ops.conv2d(w, w),
        lambda: ops.concat(w, np.ones((3, 5)), axis=0),
        lambda: ops.reshape(w, shape=(5, -1)),
        lambda: ops.sum(w, axis=7),
        lambda: ops.assign_(w, np.zeros(2)),
        lambda: w[5],
        lambda: w[None, None, None, None, None, None, None, None, None, None],
        lambda: w.backward(),
        lambda: w.assign(np.zeros(5)),
        lambda: core.gradients(w, [w]),
        lambda: core.tensor(["a"]),
        lambda: core.from_numpy(np.zeros((3, 4)).T),
        lambda: ops.mean(ops.nll(w, np.array([0, 1, 9]))).backward(),
        lambda: ops.nll(w, np.array([0, 1, 9])).item(),
    ):
        with pytest.raises((ValueError, TypeError, IndexError, RuntimeError)):
            call()


def every_way_to_look() -> None:
    t = core.tensor(np.ones((4, 5)), requires_grad=True)
    h = t * 2.0
    np.asarray(h)
    h.numpy()
    h.tolist()
    repr(h)
    float(ops.sum(h))
    memoryview(h)
    h[1:3, ::2].numpy()
    h[None, ..., 0].detach().numpy()
    core.tensor(h)
    core.tensor(h, dtype="float32")
    np.array(h, dtype=np.float32)
    ops.sum(h * h.numpy()).backward()
    core.gradients(ops.sum(t * t), [t])


def shared_arrays() -> None:
    array = np.ones((10, 10))
    t = core.from_numpy(array)
    view = (t * 2.0).numpy()
    again = core.from_numpy(view)
    ops.assign_(again, t + 1.0)
    np.testing.assert_array_equal(view, np.full((10, 10), 2.0))


def effects_nobody_looks_at() -> None:
    w, m, v = (core.tensor(np.ones(100)) for _ in range(3))
    ops.sgd_(w, np.ones(100), v, hyper(0.1, 0.9))
    ops.adam_(w, np.ones(100), m, v, np.array([0.1, 0.9, 0.9, 1e-7, 0, 1]))
    ops.assign_(w, ops.dropout(w, seed(0, 0), rate=0.5))
    core.synchronize()


def capture_with_everything() -> None:
    network = NETWORKS["lab5"]
    p = network.parameters()
    x, labels = network.batch(8)
    with core.capture() as tape:
        xs = tape.placeholder(x.shape)
        loss = network.loss(p, xs, labels, 0)
        found = core.gradients(loss, list(p.values()))
        for tensor, gradient in zip(p.values(), found, strict=True):
            ops.sgd_(tensor, gradient, None, hyper(0.1))
        plan = tape.compile([loss, loss, xs, *found])
    plan.run(x)
    with pytest.raises(ValueError, match="must be float32 of shape"):
        plan.run(x[:3])
    with pytest.raises(TypeError, match="expected 1 arrays"):
        plan.run()


def abandoned_captures() -> None:
    w = core.tensor(np.ones(10), requires_grad=True)
    with pytest.raises(ZeroDivisionError), core.capture() as tape:
        ops.assign_(w, w * tape.placeholder((10,), "float64"))
        raise ZeroDivisionError
    np.testing.assert_array_equal(w.numpy(), np.ones(10))
    kept = core.capture()
    with kept:
        y = kept.placeholder((3,)) * 2.0
    del kept
    with pytest.raises(RuntimeError, match="capture"):
        y.numpy()


@pytest.mark.parametrize(
    "work",
    [
        forward_and_backward,
        recorded_and_dropped,
        computed_and_dropped,
        failing_calls,
        every_way_to_look,
        shared_arrays,
        effects_nobody_looks_at,
        capture_with_everything,
        abandoned_captures,
    ],
    ids=lambda work: work.__name__,
)
def test_nothing_leaks(work: Callable[[], None]) -> None:
    work()
    before, objects = held(), len(gc.get_objects())
    for _ in range(20):
        work()
    assert held() == before
    assert len(gc.get_objects()) < objects + 20


def test_arrays_are_let_go() -> None:
    array = np.ones((30, 30))
    count = sys.getrefcount(array)
    for _ in range(3):
        t = core.from_numpy(array)
        (t * 2.0 + array).numpy()
        core.tensor(array)
        ops.sum(array)
        with core.capture() as tape:
            plan = tape.compile([tape.placeholder((30, 30), "float64") + t])
        plan.run(array)
        with pytest.raises(ValueError, match="shape"):
            plan.run(array[:3])
        del t, plan, tape
    gc.collect()
    assert sys.getrefcount(array) == count


def test_a_tensor_outlives_its_array_and_an_array_its_tensor() -> None:
    class Array(np.ndarray):
        pass

    array = np.arange(12.0).view(Array)
    gone = weakref.ref(array)
    t = core.from_numpy(array)
    y = t * 2.0
    del array
    assert gone() is not None
    np.testing.assert_array_equal(t.numpy(), np.arange(12.0))
    view = y.numpy()
    del t, y
    gc.collect()
    assert gone() is None
    core.tensor(np.zeros(12)).numpy()
    np.testing.assert_array_equal(view, 2 * np.arange(12.0))


def test_gradients_of_a_tensor_that_is_gone() -> None:
    for look in (False, True):
        for off in (False, True):
            x = core.tensor(np.ones(50), requires_grad=True)
            view = x.numpy()
            loss = ops.sum(x * x)
            if look:
                loss.item()
            if off:
                x.requires_grad = False
            del x, view
            gc.collect()
            loss.backward()


# ---- deep graphs ----


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("look", [False, True])
def test_a_chain_of_100000(gradients: bool, look: bool) -> None:
    """Freed in a loop, not by recursion; pending or not."""
    before = held()
    x = core.tensor(np.ones(2, np.float32), requires_grad=gradients)
    y = x
    for _ in range(100_000):
        y = y + x
    if look:
        np.testing.assert_array_equal(y.numpy(), np.full(2, 100_001.0))
    del y, x
    assert held() == before


def test_backward_through_a_deep_chain() -> None:
    x = core.tensor(np.ones(2), requires_grad=True)
    y = x
    for _ in range(3_000):
        y = y * 1.0 + x
    ops.sum(y).backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), np.full(2, 3001.0))


def test_a_wide_graph() -> None:
    x = core.tensor(np.ones((2, 3)), requires_grad=True)
    parts = [x * float(k) for k in range(300)]
    y = ops.concat(*parts, axis=1)
    ops.sum(y).backward()
    assert x.grad is not None and y.shape == (2, 900)
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 300 * 299 / 2))


# ---- poison and guards ----

POISONED = """
import ctypes
import sys

sys.path += sys.argv[2:]
import numpy as np
import programs
from cases import CASES
from harness import as_tuple, captured, close, draw, expected
from loops import NETWORKS, numbers, train_step, zeros_like

import pycnn._core as core

for case in CASES[::9]:
    arrays = draw(case, "float32")
    result = captured(case, arrays)
    for got, want in zip(result.outputs, expected(case, arrays), strict=True):
        close(got, want, "float32", case.name)
    assert all(np.isfinite(g).all() for g in result.gradients), case.name

results = []
for name, network in NETWORKS.items():
    for n in (3, 17):
        p = network.parameters()
        v = zeros_like(p)
        for call in range(2):
            train_step(network, p, v, *network.batch(n), call)
        results += numbers(p).values()
for key in range(8):
    for n in (3, 9):
        steps = programs.draw(np.random.default_rng((n, key)), 30, effects=True)
        machine = programs.Machine(n, "float32", key)
        machine.run(steps, keep=False)
        results += machine.results()
        results += programs.in_a_capture(n, "float32", key, steps)
assert all(np.isfinite(array).all() for array in results)
core.clear_plans()
assert core._guard_errors() == 0, core._guard_errors()
if sys.argv[1] == "1":
    # The guards are there: a write just behind a tensor is noticed.
    t = core.tensor(np.zeros(24, np.float32))
    ctypes.memset(t.numpy().ctypes.data + 96, 0, 1)
    del t
    assert core._guard_errors() == 1
sys.stdout.buffer.write(b"".join(array.tobytes() for array in results))
"""


def test_guards_and_poisoned_memory() -> None:
    """Memory that starts as NaN, with guard bytes behind it: same results, guards untouched."""
    found = []
    for poison in ("0", "1"):
        environment = os.environ | {"PYCNN_POISON": poison}
        done = subprocess.run(
            [sys.executable, "-c", POISONED, poison, str(HERE), str(PACKAGE)],
            capture_output=True,
            env=environment,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode()
        found.append(done.stdout)
    assert found[0] == found[1] and len(found[0]) > 100_000
