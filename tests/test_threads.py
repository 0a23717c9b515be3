"""Threads: the engine's own, which change no bits, and the user's, which may do what they like."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import programs
import pycnn._core as core
from harness import threads
from loops import NETWORKS, gradients_plan, hyper, numbers, same_bits, train_step, zeros_like
from pycnn import ops

pytestmark = [pytest.mark.sanitize, pytest.mark.tsan]


@pytest.fixture
def _restless() -> Iterator[None]:
    """The interpreter changes threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Runs functions in threads of their own, started together; their results in order."""
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(k: int) -> None:
        try:
            start.wait(20)
            results[k] = works[k]()
        except BaseException as error:
            errors.append(error)

    crew = [threading.Thread(target=run, args=(k,)) for k in range(len(works))]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results


# ---- the engine's threads ----


@pytest.mark.parametrize("n", [8, 9, 12, 15, 16, 17, 20, 23, 24, 31, 32, 33])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_for_any_number_of_threads(name: str, n: int) -> None:
    """Convolution, pooling, batch normalisation and dense layers, forward and backward."""
    network = NETWORKS[name]
    plan, run = gradients_plan(network, network.parameters(), n)
    ran = {step["op"] for step in plan.steps}
    assert {"conv2d", "conv2d_dx", "conv2d_dw", "dense"} <= ran
    assert ("dense_maps" in ran) == (n > 8)  # few rows have a product of their own
    assert {"dense_maps_dx", "dense_maps_dw"} <= ran
    x, labels = network.batch(n)
    want = None
    for count in (1, 2, 3, 8):
        with threads(count):
            core._workers_seen()
            results = [run(x, labels) for _ in range(2)]
            if count > 1:
                assert core._workers_seen() > 1
            want = want or results[0]
            for result in results:
                same_bits(result, want)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_same_bits_for_small_batches(n: int) -> None:
    network = NETWORKS["lab2"]
    _, run = gradients_plan(network, network.parameters(), n)
    want = None
    for count in (1, 2, 3, 8):
        with threads(count):
            result = run(*network.batch(n))
            want = want or result
            same_bits(result, want)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_parameters_after_training(name: str) -> None:
    network = NETWORKS[name]
    want = None
    for count in (1, 2, 3, 8):
        with threads(count):
            core._workers_seen()
            p = network.parameters()
            v = zeros_like(p)
            for call in range(3):
                train_step(network, p, v, *network.batch(19, key=call), call)
            want = want or numbers(p)
            same_bits(numbers(p), want)
            assert count == 1 or core._workers_seen() > 1


# ---- the user's threads ----


@pytest.mark.usefixtures("_restless")
def test_two_threads_predict_with_one_model() -> None:
    network = NETWORKS["lab2"]
    p = network.parameters()
    batches = [network.batch(n, key=n) for n in (5, 16, 16, 33)]

    def predict(k: int) -> list[np.ndarray]:
        with core.no_grad():
            return [network.loss(p, *batches[k], 0).numpy() for _ in range(25)]

    want = [predict(k)[0] for k in range(4)]
    for k, results in enumerate(at_once(*(lambda k=k: predict(k) for k in range(4)))):
        for got in results:
            same_bits(got, want[k])


@pytest.mark.usefixtures("_restless")
def test_two_threads_differentiate_one_model() -> None:
    network = NETWORKS["lab3"]
    p = network.parameters()
    batches = [network.batch(n, key=n) for n in (9, 16, 9)]

    def gradients(k: int) -> list[list[np.ndarray]]:
        found = []
        for _ in range(15):
            loss = network.loss(p, *batches[k], 0)
            if k == 1:
                loss.item()
            found.append([t.numpy() for t in core.gradients(loss, list(p.values()))])
        return found

    want = [gradients(k)[0] for k in range(3)]
    for k, results in enumerate(at_once(*(lambda k=k: gradients(k) for k in range(3)))):
        for got in results:
            same_bits(got, want[k])


@pytest.mark.usefixtures("_restless")
def test_two_threads_gather_gradients_in_one_model() -> None:
    """Whole numbers: the order of additions does not matter."""
    w = core.tensor(np.ones((20, 20)), requires_grad=True)
    x = np.ones((4, 20))

    def add() -> None:
        for _ in range(40):
            ops.sum(ops.dense(x, w)).backward()

    at_once(*[add] * 4)
    assert w.grad is not None
    np.testing.assert_array_equal(w.grad.numpy(), np.full((20, 20), 4.0 * 160))


@pytest.mark.usefixtures("_restless")
def test_threads_train_models_of_their_own() -> None:
    network = NETWORKS["lab1"]

    def train(key: int) -> dict[str, np.ndarray]:
        p = network.parameters(key=key)
        v = zeros_like(p)
        for call in range(8):
            train_step(network, p, v, *network.batch(11, key=key), call)
        return numbers(p)

    want = [train(key) for key in range(3)]
    same_bits(at_once(*(lambda key=key: train(key) for key in range(3))), want)


@pytest.mark.usefixtures("_restless")
def test_threads_train_one_model_without_a_lock() -> None:
    """Nobody promises numbers here; there is no crash, and every step is a whole one."""
    w = core.tensor(np.zeros((30, 30)), requires_grad=True)
    v = core.tensor(np.zeros((30, 30)))

    def train() -> None:
        for _ in range(60):
            (g,) = core.gradients(ops.sum(w), [w])
            with core.no_grad():
                ops.sgd_(w, g, v, hyper(0.5))

    at_once(*[train] * 4)
    np.testing.assert_array_equal(w.numpy(), np.full((30, 30), -120.0))


@pytest.mark.usefixtures("_restless")
def test_effects_of_many_threads_all_happen() -> None:
    total = core.tensor(np.zeros(3))
    lock = threading.Lock()

    def count() -> None:
        for k in range(100):
            with lock:  # reading, adding and writing are three things
                ops.assign_(total, total + 1.0)
            if k % 7 == 0:
                total.numpy()

    at_once(*[count] * 4)
    np.testing.assert_array_equal(total.numpy(), np.full(3, 400.0))


@pytest.mark.usefixtures("_restless")
def test_looking_at_what_another_thread_has_pending() -> None:
    network = NETWORKS["lab3"]
    p = network.parameters()
    batch = network.batch(9)
    want = network.loss(p, *batch, 0).numpy()
    shelf: list[Any] = []
    done = threading.Event()

    def record() -> list[Any]:
        losses = []
        for _ in range(40):
            losses.append(network.loss(p, *batch, 0))
            shelf.append(losses[-1])
            if len(losses) % 5 == 0:
                losses[-1].item()
        done.set()
        return losses

    def look() -> None:
        seen = 0
        while not (done.is_set() and seen == len(shelf)):
            while seen < len(shelf):
                same_bits(shelf[seen].numpy(), want)
                seen += 1

    losses, *_ = at_once(record, look, look)
    same_bits([loss.numpy() for loss in losses], [want] * 40)


def test_a_graph_recorded_by_several_threads() -> None:
    """Forward in other threads, pending or computed, and backward here."""
    x = core.tensor(np.array([1.0, 2.0]), requires_grad=True)
    h = x
    for _ in range(30):
        h = h * 1.0
    parts = at_once(
        lambda: ops.sum(h * h), lambda: ops.sum(h * 3.0), lambda: ops.sum(ops.exp(h) * h)
    )
    parts[1].item()
    (parts[0] + parts[1] * parts[2]).backward()
    t = np.array([1.0, 2.0])
    f, g = 9.0, (np.exp(t) * t).sum()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 2 * t + 3 * g + f * np.exp(t) * (1 + t), rtol=1e-13)


def test_a_write_waits_for_readers_in_other_threads() -> None:
    w = core.tensor(np.ones(4))
    (y,) = at_once(lambda: w * 3.0)
    ops.assign_(w, np.zeros(4))
    np.testing.assert_array_equal(y.numpy(), np.full(4, 3.0))
    (y,) = at_once(lambda: w + 3.0)
    w.assign(np.ones(4))
    np.testing.assert_array_equal(y.numpy(), np.full(4, 3.0))
    (y,) = at_once(lambda: w + 3.0)
    w.numpy()[:] = 9
    np.testing.assert_array_equal(y.numpy(), np.full(4, 4.0))


def test_effects_left_pending_by_a_thread_that_ended() -> None:
    w = core.tensor(np.ones(4))
    shared = w.detach()
    with core.capture() as tape:
        plan = tape.compile([w * 1.0])
    for k in range(2, 5):
        at_once(lambda k=k: ops.assign_(w, np.full(4, float(k))))
        if k == 2:
            np.testing.assert_array_equal(plan.run()[0].numpy(), np.full(4, 2.0))
        elif k == 3:
            np.testing.assert_array_equal(w.numpy(), np.full(4, 3.0))
    with core.capture() as tape:
        other = tape.compile([shared + 0.0])
    np.testing.assert_array_equal(other.run()[0].numpy(), np.full(4, 4.0))


def test_a_plan_overwrites_what_another_thread_has_yet_to_read() -> None:
    w = core.tensor(np.ones(4))
    with core.capture() as tape:
        ops.assign_(w, w + 1.0)
        plan = tape.compile([])
    (y,) = at_once(lambda: w * 10.0)
    plan.run()
    np.testing.assert_array_equal(y.numpy(), np.full(4, 10.0))
    np.testing.assert_array_equal(w.numpy(), np.full(4, 2.0))


def test_errors_stay_with_the_thread_that_made_them() -> None:
    w = core.tensor(np.ones((2, 3)))
    (bad,) = at_once(lambda: ops.nll(w, np.array([0, 5])))
    ops.assign_(w, np.zeros((2, 3)))
    np.testing.assert_array_equal(w.numpy(), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="label 5"):
        bad.numpy()


def test_modes_belong_to_a_thread() -> None:
    with core.no_grad():
        assert at_once(core.is_grad_enabled) == [True]
        assert not core.is_grad_enabled()
    core.set_grad_enabled(True)


@pytest.mark.usefixtures("_restless")
def test_captures_in_two_threads() -> None:
    """Effects rebind tensors while a capture is open: the captures take turns."""
    w = core.tensor(np.zeros(5))

    def make() -> core.Plan:
        with core.capture() as tape:
            x = tape.placeholder((5,), "float64")
            for _ in range(10):
                ops.assign_(w, w + x)
            return tape.compile([w])

    plans = [plan for _ in range(10) for plan in at_once(make, make, make)]
    for plan in plans:
        plan.run(np.ones(5))
    np.testing.assert_array_equal(w.numpy(), np.full(5, 10.0 * len(plans)))


@pytest.mark.usefixtures("_restless")
def test_one_plan_run_by_several_threads() -> None:
    w = core.tensor(np.full((6, 6), 0.5))
    with core.capture() as tape:
        x = tape.placeholder((3, 6), "float64")
        plan = tape.compile([ops.exp(ops.dense(x, w)), ops.dense(x, w)])
    rows = [np.full((3, 6), float(k)) for k in range(4)]

    def run(k: int) -> None:
        for _ in range(50):
            y, z = plan.run(core.tensor(rows[k]) * 1.0)
            np.testing.assert_array_equal(z.numpy(), np.full((3, 6), 3.0 * k))
            np.testing.assert_allclose(y.numpy(), np.exp(3.0 * k))

    at_once(*(lambda k=k: run(k) for k in range(4)))


@pytest.mark.usefixtures("_restless")
def test_settings_change_while_others_compute() -> None:
    network = NETWORKS["lab3"]
    p = network.parameters()
    want = network.loss(p, *network.batch(16), 0).numpy()
    stop = threading.Event()

    def compute() -> None:
        try:
            for _ in range(60):
                same_bits(network.loss(p, *network.batch(16), 0).numpy(), want)
        finally:
            stop.set()

    def disturb() -> None:
        before = core.get_num_threads()
        k = 0
        while not stop.is_set():
            core.set_num_threads(1 + k % 4)
            core.clear_plans()
            core.plan_cache_info()
            k += 1
        core.set_num_threads(before)

    core._set_parallel_threshold(0)
    try:
        at_once(compute, disturb)
    finally:
        core._set_parallel_threshold(-1)


def test_many_short_lived_threads() -> None:
    w = core.tensor(np.ones(64))
    before = core.plan_cache_info()["live_bytes"]

    def work() -> None:
        y = w * 2.0
        core.capture()
        del y
        ops.exp(w).numpy()

    for _ in range(100):
        at_once(work, work)
    assert core.plan_cache_info()["live_bytes"] <= before


@pytest.mark.usefixtures("_restless")
@pytest.mark.parametrize("key", range(4))
def test_random_programs_in_threads(key: int) -> None:
    """Each with states of its own, all at once, looking at odd moments: as if alone."""
    steps = programs.draw(np.random.default_rng(key), 40, effects=True)

    def run(k: int) -> list[np.ndarray]:
        machine = programs.Machine(9, "float32", 7)
        for part in (steps[:13], steps[13:30], steps[30:]):
            machine.run(part, keep=k % 2 == 0)
            core.synchronize()
        return machine.results()

    want = run(0)
    for got in at_once(*(lambda k=k: run(k) for k in range(4))):
        for one, two in zip(got, want, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("_restless")
def test_random_programs_on_shared_states() -> None:
    """Effects of several threads on the same memory, in no order: no crash, and whole numbers."""
    machines = [programs.Machine(9, "float32", 7) for _ in range(4)]
    for machine in machines[1:]:
        machine.states = machines[0].states

    def run(k: int) -> None:
        for part in range(6):
            rng = np.random.default_rng((k, part))
            machines[k].run(programs.draw(rng, 12, effects=True), keep=False)
            machines[k].results()

    at_once(*(lambda k=k: run(k) for k in range(4)))
    for state in machines[0].states:
        assert np.isfinite(state.numpy()).all()
