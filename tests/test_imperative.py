"""Imperative code over tensors and ops: what is recorded looks as if computed at once."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn._core as core
from loops import (
    NETWORKS,
    hyper,
    lab2_logp,
    numbers,
    same_bits,
    seed,
    train_step,
    zeros_like,
)
from pycnn import ops

pytestmark = pytest.mark.sanitize

LAB2 = NETWORKS["lab2"]


def leaf(values: Any, dtype: str = "float64") -> pycnn.Tensor:
    return core.tensor(np.asarray(values, dtype), requires_grad=True)


def made() -> int:
    return int(core.plan_cache_info()["made"])


def runs_of(op: str) -> int:
    """How often an op ran in the cached plans (count after clear_plans, with profiling on)."""
    return sum(
        step["runs"] for plan in core._cached_plans() for step in plan["steps"] if step["op"] == op
    )


@pytest.fixture
def _counting() -> Any:
    core.clear_plans()
    before = core._set_option("profile", 1)
    yield
    core._set_option("profile", before)


# ---- the hand-written training loop ----


@pytest.mark.parametrize("look", [False, True], ids=["loss pending", "loss.item() first"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_loop_makes_no_plan_after_the_second_step(name: str, look: bool) -> None:
    network = NETWORKS[name]
    p = network.parameters()
    velocities = zeros_like(p)
    counts, losses = [], []
    for step in range(5):
        x, labels = network.batch(16, key=step % 2)
        loss = network.loss(p, x, labels, step)
        if look:
            loss.item()
        loss.backward()
        with core.no_grad():
            for key, tensor in p.items():
                ops.sgd_(tensor, tensor.grad, velocities[key], hyper(0.05, 0.5), style="torch")
                tensor.grad = None
        losses.append(loss.item())
        counts.append(made())
    assert counts[1] == counts[-1], counts
    assert all(np.isfinite(losses))


@pytest.mark.parametrize("name", NETWORKS)
def test_training_reduces_the_loss(name: str) -> None:
    network = NETWORKS[name]
    p = network.parameters()
    velocities = zeros_like(p)
    x, labels = network.batch(32)
    losses = [train_step(network, p, velocities, x, labels, 0).item() for _ in range(60)]
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_as_through_a_capture(name: str, dtype: str) -> None:
    """Step by step by hand, and the whole step as one captured plan."""
    network = NETWORKS[name]
    by_hand, captured = network.parameters(dtype), network.parameters(dtype)
    v1, v2 = zeros_like(by_hand), zeros_like(captured)
    x, labels = network.batch(13, dtype)
    with core.capture() as tape:
        xs = tape.placeholder(x.shape, dtype)
        ys = tape.placeholder(labels.shape, "int64")
        loss = network.loss(captured, xs, ys, 0)
        found = core.gradients(loss, list(captured.values()))
        for (key, tensor), gradient in zip(captured.items(), found, strict=True):
            ops.sgd_(tensor, gradient, v2[key], hyper(0.05, 0.5), style="torch")
        plan = tape.compile([loss])
    for step in range(3):
        x, labels = network.batch(13, dtype, key=step)
        one = train_step(network, by_hand, v1, x, labels, 0).numpy()
        (two,) = plan.run(x, labels)
        same_bits(one, two.numpy())
        same_bits(numbers(by_hand), numbers(captured))
        same_bits(numbers(v1), numbers(v2))


def test_random_draws_are_numbered_when_recorded() -> None:
    """Looking earlier or later, or in another order, draws the same numbers."""
    x = np.ones((9, 20), np.float32)
    first = [ops.dropout(x, seed(1, call), rate=0.5) for call in range(3)]
    late = [t.numpy() for t in reversed(first)][::-1]
    early = [ops.dropout(x, seed(1, call), rate=0.5).numpy() for call in range(3)]
    same_bits(late, early)
    assert not np.array_equal(late[0], late[1])


# ---- looking ----


@pytest.mark.usefixtures("_counting")
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_before_backward_computes_nothing_twice(name: str) -> None:
    network = NETWORKS[name]
    p = network.parameters()
    x, labels = network.batch(11)
    loss = network.loss(p, x, labels, 0)
    loss.item()
    forward = {op: runs_of(op) for op in ("conv2d", "dense", "max_pool2d", "batch_norm")}
    convolutions = sum(len(shape) == 4 for shape in network.shapes.values())
    assert forward["conv2d"] == convolutions and forward["dense"] > 0
    loss.backward()
    assert {op: runs_of(op) for op in forward} == forward
    looked = {key: t.grad.numpy() for key, t in p.items()}
    p = network.parameters()
    network.loss(p, x, labels, 0).backward()
    same_bits({key: t.grad.numpy() for key, t in p.items()}, looked)


@pytest.mark.usefixtures("_counting")
def test_looking_twice_computes_once() -> None:
    x, _ = LAB2.batch(8)
    with core.no_grad():
        logp = lab2_logp(LAB2.parameters(), x)
        logp.numpy()
        count = runs_of("conv2d")
        total = ops.sum(logp)
        total.item()
        logp.tolist()
        repr(logp)
    assert count == runs_of("conv2d") == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("backward", [(0, 1), (1, 0)])
def test_two_losses_alive(order: tuple[int, int], backward: tuple[int, int]) -> None:
    """Two runs of one plan, looked at and differentiated in either order."""
    batches = [LAB2.batch(12, key=k) for k in range(2)]
    alone = []
    for k, (x, labels) in enumerate(batches):
        p = LAB2.parameters()
        loss = LAB2.loss(p, x, labels, k)
        value = loss.numpy()
        loss.backward()
        alone.append((value, {key: t.grad.numpy() for key, t in p.items()}))
    p = LAB2.parameters()
    losses = [LAB2.loss(p, x, labels, k) for k, (x, labels) in enumerate(batches)]
    for k in order:
        same_bits(losses[k].numpy(), alone[k][0])
    for k in backward:
        for tensor in p.values():
            tensor.grad = None
        losses[k].backward()
        same_bits({key: t.grad.numpy() for key, t in p.items()}, alone[k][1])


def test_two_losses_pending_and_gradients_gathered() -> None:
    p = LAB2.parameters("float64")
    losses = [LAB2.loss(p, *LAB2.batch(9, "float64", key=k), k) for k in range(2)]
    (losses[0] + losses[1]).backward()
    together = {key: t.grad.numpy().copy() for key, t in p.items()}
    for tensor in p.values():
        tensor.grad = None
    for k in (1, 0):
        LAB2.loss(p, *LAB2.batch(9, "float64", key=k), k).backward()
    for key, tensor in p.items():
        np.testing.assert_allclose(tensor.grad.numpy(), together[key], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kept", ["handles", "arrays"])
def test_feature_maps_kept(kept: str) -> None:
    """Handles on maps in the middle change no bits, and hold the maps; nor do arrays on them."""
    x, labels = LAB2.batch(17)
    plain = LAB2.parameters()
    LAB2.loss(plain, x, labels, 0).backward()
    p = LAB2.parameters()
    maps = [ops.conv2d(x, p["w1"], p["b1"])]
    views: list[Any] = []

    def keep(t: pycnn.Tensor) -> pycnn.Tensor:
        maps.append(t)
        if kept == "arrays":
            views.append(t.numpy())
        return t

    keep(maps[0])
    h = keep(ops.relu(keep(ops.max_pool2d(maps[0], kernel=(2, 2)))))
    h = keep(ops.conv2d(h, p["w2"], p["b2"]))
    h = ops.dropout(h, seed(1, 0), rate=0.5, spatial=True)
    h = keep(ops.relu(ops.max_pool2d(h, kernel=(2, 2))))
    h = ops.relu(ops.dense(keep(h.reshape(17, -1)), p["w3"], p["b3"]))
    h = ops.dropout(h, seed(2, 0), rate=0.5)
    loss = ops.mean(ops.nll(ops.log_softmax(ops.dense(h, p["w4"], p["b4"])), labels))
    loss.backward()
    same_bits(
        numbers({k: t.grad for k, t in p.items()}), numbers({k: t.grad for k, t in plain.items()})
    )
    same_bits(maps[0].numpy(), ops.conv2d(x, plain["w1"], plain["b1"]).numpy())
    for one, array in zip(maps[1:], views, strict=False):
        same_bits(one.numpy(), array)
    assert maps[-1].shape == (17, 320)


def test_gradient_flows_through_a_tensor_that_numpy_sees() -> None:
    x = leaf([1.0, 2.0])
    h = x * 2.0
    view = h.numpy()
    ops.sum(h * h * x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), 12.0 * np.array([1.0, 4.0]))
    np.testing.assert_array_equal(view, [2.0, 4.0])


# ---- writes ----


def test_numpy_memory_changed_between_record_and_look() -> None:
    array = np.ones(5, np.float32)
    shared = core.from_numpy(array)
    y = shared * 2.0
    array[:] = 7
    np.testing.assert_array_equal(y.numpy(), np.full(5, 2.0))
    np.testing.assert_array_equal((shared * 2.0).numpy(), np.full(5, 14.0))
    array[:] = 9
    np.testing.assert_array_equal(shared.numpy(), array)
    assert shared.numpy().ctypes.data == array.ctypes.data


def test_plain_arrays_are_read_when_recorded() -> None:
    array = np.ones(5, np.float32)
    y = ops.exp(array)
    array[:] = 7
    np.testing.assert_allclose(y.numpy(), np.full(5, np.e), rtol=1e-6)


def test_an_array_handed_out_after_recording() -> None:
    x = core.tensor(np.ones(4))
    y = x * 3.0
    x.numpy()[:] = 50
    np.testing.assert_array_equal(y.numpy(), np.full(4, 3.0))
    z = x * 3.0
    memoryview(x)[0] = 0.0
    np.testing.assert_array_equal(z.numpy(), np.full(4, 150.0))
    w = ops.sum(x)
    np.asarray(x)[:] = 1.0
    assert w.item() == 150.0


def test_in_place_update_between_record_and_look() -> None:
    w = core.tensor(np.ones((3, 3)))
    before = ops.sum(w * w)
    ops.assign_(w, np.full((3, 3), 2.0))
    after = ops.sum(w * w)
    assert (before.item(), after.item()) == (9.0, 36.0)
    before = ops.sum(w)
    w.assign(np.zeros((3, 3)))
    assert (before.item(), ops.sum(w).item()) == (18.0, 0.0)


def test_effects_in_order() -> None:
    w = core.tensor(np.zeros(3))
    seen = []
    for k in range(1, 6):
        ops.assign_(w, w * 2.0 + float(k))
        seen.append(w * 1.0)
    np.testing.assert_array_equal([t.numpy()[0] for t in reversed(seen)], [57, 26, 11, 4, 1])


def test_effects_reach_memory_that_numpy_sees_at_once() -> None:
    w = core.tensor(np.zeros(3))
    array = w.numpy()
    ops.assign_(w, np.full(3, 4.0))
    np.testing.assert_array_equal(array, np.full(3, 4.0))
    own = np.ones(2, np.float32)
    shared = core.from_numpy(own)
    ops.sgd_(shared, np.ones(2, np.float32), None, hyper(0.5))
    np.testing.assert_array_equal(own, [0.5, 0.5])


def test_effects_reach_those_who_share_memory() -> None:
    w = core.tensor(np.zeros(3))
    shared = w.detach()
    ops.assign_(w, np.full(3, 4.0))
    np.testing.assert_array_equal((shared * 1.0).numpy(), np.full(3, 4.0))
    ops.assign_(w, np.full(3, 5.0))
    del w
    np.testing.assert_array_equal((shared * 1.0).numpy(), np.full(3, 5.0))
    w = core.tensor(np.zeros(3))
    array = w.numpy()
    del w
    np.testing.assert_array_equal(array, np.zeros(3))


def test_writing_over_a_pending_value_replaces_it() -> None:
    x = core.tensor(np.ones(3))
    h = x * 2.0
    y = h + 1.0
    ops.assign_(h, np.zeros(3))
    np.testing.assert_array_equal(y.numpy(), np.full(3, 3.0))
    np.testing.assert_array_equal(h.numpy(), np.zeros(3))
    h = x * 2.0
    ops.sgd_(h, np.ones(3), None, hyper(0.5))
    np.testing.assert_array_equal(h.numpy(), np.full(3, 1.5))


def test_a_discarded_result_still_moves_the_running_statistics() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 3, 4, 4))
    mean, var = core.tensor(np.zeros(3)), core.tensor(np.ones(3))

    def layer(training: bool) -> pycnn.Tensor:
        y, m, v = ops.batch_norm(x)
        if training:
            ops.assign_(mean, mean * 0.9 + m * 0.1)
            ops.assign_(var, var * 0.9 + v * 0.1)
        return y

    for _ in range(3):
        layer(True)
    factor = 1 - 0.9**3
    np.testing.assert_allclose(mean.numpy(), factor * x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var.numpy(), 1 - factor + factor * x.var((0, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("write", ["assign_", "assign", "sgd_"])
@pytest.mark.parametrize("look", [False, True])
def test_a_stale_tensor_is_told(write: str, look: bool) -> None:
    x = leaf([1.0, 2.0, 3.0])
    loss = ops.sum(x * x)
    if look:
        loss.item()
    if write == "assign_":
        ops.assign_(x, np.zeros(3))
    elif write == "assign":
        x.assign(np.zeros(3))
    else:
        ops.sgd_(x, np.ones(3), None, hyper(0.1))
    with pytest.raises(RuntimeError, match="changed by an in-place"):
        loss.backward()
    assert x.grad is None
    ops.sum(x * x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * x.numpy())


def test_a_stale_output_is_told() -> None:
    x = leaf([0.5, 0.25])
    h = ops.sigmoid(x)
    loss = ops.sum(h)
    h.numpy()
    with pytest.raises(RuntimeError, match="computed with gradients"):
        ops.assign_(h, np.zeros(2))
    with core.no_grad():
        ops.assign_(h, np.zeros(2))
    assert not h.requires_grad
    with pytest.raises(RuntimeError, match="changed by an in-place"):
        loss.backward()


def test_what_no_gradient_reads_may_be_written() -> None:
    x, c = leaf([1.0, 2.0]), core.tensor(np.ones(2))
    loss = ops.sum(x + c)
    ops.assign_(c, np.full(2, 9.0))
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(2))
    assert loss.item() == 5.0


# ---- gradients ----


def test_retain_graph() -> None:
    p = LAB2.parameters()
    loss = LAB2.loss(p, *LAB2.batch(9), 0)
    loss.backward(retain_graph=True)
    once = {key: t.grad.numpy().copy() for key, t in p.items()}
    loss.backward()
    for key, tensor in p.items():
        same_bits(tensor.grad.numpy(), once[key] + once[key])
    with pytest.raises(RuntimeError, match="retain_graph"):
        loss.backward()


def test_a_shared_trunk_needs_retain_graph() -> None:
    x = leaf([1.0, 2.0])
    h = x * x
    one, two = ops.sum(h * h), ops.sum(ops.exp(h))
    one.backward(retain_graph=True)
    two.backward()
    t = x.numpy()
    np.testing.assert_allclose(x.grad.numpy(), 4 * t**3 + 2 * t * np.exp(t * t))
    with pytest.raises(RuntimeError, match="retain_graph"):
        one.backward()


def test_gradients_of_leaves_and_of_what_lies_between() -> None:
    x, unused = leaf([1.0, 2.0]), leaf(np.ones((2, 3)))
    h = x * 3.0
    g = h * h
    found = core.gradients(ops.sum(g), [h, x, unused, g])
    for got, want in zip(
        found, ([6.0, 12.0], [18.0, 36.0], np.zeros((2, 3)), [1.0, 1.0]), strict=True
    ):
        np.testing.assert_array_equal(got.numpy(), want)
    assert x.grad is None and unused.grad is None


def test_gradients_add_up_over_snapshots() -> None:
    x = leaf([1.0, 2.0])
    first = x * 2.0
    view = x.numpy()
    loss = ops.sum(first * x)
    np.testing.assert_array_equal(core.gradients(loss, [x])[0].numpy(), 4 * view)


def test_gradients_outside_and_inside_a_capture() -> None:
    x = leaf([1.0, 2.0])
    with core.capture() as tape:
        loss = ops.sum(x * x)
        lazy = tape.compile(core.gradients(loss, [x]))
    with pytest.raises(RuntimeError, match="capture"):
        core.gradients(loss, [x])
    x.assign(np.array([5.0, 7.0]))
    np.testing.assert_array_equal(lazy.run()[0].numpy(), [10.0, 14.0])
    pending = ops.sum(x * x * x)
    with core.capture() as tape:
        plan = tape.compile(core.gradients(pending, [x]))
        ops.sum(x).detach()
    np.testing.assert_array_equal(plan.run()[0].numpy(), [75.0, 147.0])
    outside = ops.sum(x * x)
    with core.capture():
        outside.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [10.0, 14.0])


def test_a_stale_tensor_in_a_capture_is_told() -> None:
    w = leaf([1.0, 2.0])
    with core.capture() as tape:
        loss = ops.sum(w * w)
        ops.assign_(w, np.zeros(2))
        with pytest.raises(RuntimeError, match="changed by an in-place"):
            core.gradients(loss, [w])
        fresh = ops.sum(w * w + w)
        plan = tape.compile(core.gradients(fresh, [w]))
    np.testing.assert_array_equal(plan.run()[0].numpy(), [1.0, 1.0])
    np.testing.assert_array_equal(w.numpy(), [0.0, 0.0])


# ---- errors while running ----


def test_a_label_out_of_range_leaves_the_parameters_and_the_engine() -> None:
    p = LAB2.parameters()
    velocities = zeros_like(p)
    x, labels = LAB2.batch(10)
    train_step(LAB2, p, velocities, x, labels, 0)
    before = numbers(p), numbers(velocities)
    bad = labels.copy()
    bad[3] = 10
    for _ in range(3):
        with pytest.raises(ValueError, match="label 10 at row 3"):
            train_step(LAB2, p, velocities, x, bad, 1)
        assert all(tensor.grad is None for tensor in p.values())
    same_bits((numbers(p), numbers(velocities)), before)
    again = LAB2.parameters()
    v = zeros_like(again)
    for call in (0, 1):
        train_step(LAB2, p, velocities, x, labels, call) if call else None
        train_step(LAB2, again, v, x, labels, call)
    same_bits(numbers(p), numbers(again))


def test_an_error_is_told_to_everybody_who_looks() -> None:
    x = np.ones((2, 3))
    good = ops.exp(x)
    bad = ops.nll(x, np.array([0, 5]))
    later = bad + 1.0
    for t in (bad, later, bad):
        with pytest.raises(ValueError, match="label 5 at row 1"):
            t.numpy()
    np.testing.assert_allclose(good.numpy(), np.full((2, 3), np.e))
    with pytest.raises(ValueError, match="label 5"):
        (later * 2.0).numpy()


def test_backward_of_what_failed() -> None:
    w = leaf(np.ones((3, 4)))
    loss = ops.mean(ops.nll(ops.log_softmax(ops.dense(np.ones((2, 3)), w)), np.array([0, 4])))
    with pytest.raises(ValueError, match="label 4"):
        loss.item()
    with pytest.raises(ValueError, match="label 4"):
        loss.backward()
    assert w.grad is None


def test_a_failed_backward_leaves_gathered_gradients() -> None:
    w = leaf([1.0, 2.0])
    ops.sum(w * w).backward()
    before = w.grad
    rows = core.tensor(np.ones((2, 1))) * w
    with pytest.raises(ValueError, match="label 9"):
        ops.mean(ops.nll(rows, np.array([0, 9]))).backward()
    assert w.grad is before
    np.testing.assert_array_equal(w.grad.numpy(), [2.0, 4.0])
    ops.sum(w * w).backward()
    np.testing.assert_array_equal(w.grad.numpy(), [4.0, 8.0])


def test_effects_before_an_error_happened_and_those_after_it_did_not() -> None:
    a, b = core.tensor(np.zeros(2)), core.tensor(np.zeros(2))
    ops.assign_(a, np.ones(2))
    bad = ops.nll(np.ones((1, 2)), np.array([7]))
    ops.assign_(b, np.ones(2))
    with pytest.raises(ValueError, match="label 7"):
        core.synchronize()
    np.testing.assert_array_equal(a.numpy(), np.ones(2))
    np.testing.assert_array_equal(b.numpy(), np.zeros(2))
    del bad


def test_a_refused_call_records_nothing() -> None:
    pending = core.plan_cache_info()["pending"]
    w = core.tensor(np.zeros((2, 3)))
    for call in (
        lambda: ops.dense(np.ones((2, 5)), w),
        lambda: ops.assign_(w, np.zeros((3, 2))),
        lambda: ops.assign_(np.zeros(3), np.zeros(3)),
        lambda: ops.sgd_(w, np.zeros((2, 3)), None, np.zeros(3)),
        lambda: ops.sgd_(w, np.zeros((2, 3)), w, None),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    assert core.plan_cache_info()["pending"] == pending


@pytest.mark.skipif(
    "san.so" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers end the process here"
)
def test_an_op_too_large_for_memory_loses_nothing_else() -> None:
    w = core.tensor(np.ones((1 << 22, 1), np.float32))
    before = w * 2.0
    ops.assign_(w, w + 1.0)
    with pytest.raises(MemoryError):
        ops.relu(w * 1.0) * np.ones((1, 1 << 24), np.float32)
    assert before[0].item() == 2.0 and w[-1].item() == 2.0
