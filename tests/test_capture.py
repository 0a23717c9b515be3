"""`capture` and `Plan`: what belongs to a capture stays there, and errors leave no trace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from harness import option
from pycnn import Tensor, capture, from_numpy, gradients, ops, tensor

pytestmark = pytest.mark.sanitize

ONES = np.ones(3, np.float32)


@pytest.fixture(autouse=True)
def _nothing_is_captured_afterwards() -> Iterator[None]:
    yield
    assert ops.relu(np.array([-1.0, 1.0])).tolist() == [0.0, 1.0]


def symbolic() -> Tensor:
    with capture() as tape:
        return ops.relu(tape.placeholder((3,)))


USES: dict[str, Callable[[Tensor], Any]] = {
    "an op": ops.relu,
    "an operator": lambda t: t + 1.0,
    "an index": lambda t: t[0],
    "numpy": lambda t: t.numpy(),
    "asarray": np.asarray,
    "item": lambda t: t.item(),
    "tolist": lambda t: t.tolist(),
    "bool": bool,
    "float": float,
    "memoryview": memoryview,
    "tensor": tensor,
    "backward": lambda t: t.backward(),
    "assign": lambda t: t.assign(ONES),
    "assign to another": lambda t: tensor(ONES).assign(t),
}


@pytest.mark.parametrize("use", USES)
def test_a_symbolic_tensor_outside_its_capture(use: str) -> None:
    with pytest.raises(RuntimeError, match="capture"):
        USES[use](symbolic())


def test_a_symbolic_tensor_in_another_capture() -> None:
    t = symbolic()
    with capture() as tape:
        with pytest.raises(RuntimeError, match="capture"):
            ops.relu(t)
        x = tape.placeholder((3,))
        plan = tape.compile([x + 1.0])
    assert plan.run(ONES)[0].tolist() == [2.0] * 3


def test_looking_inside_is_refused_and_outside_values_are_computed() -> None:
    pending = tensor([1.0, 2.0]) * 2.0
    with capture() as tape:
        x = tape.placeholder((2,))
        y = x + pending
        with pytest.raises(RuntimeError, match="no numbers"):
            y.numpy()
        assert pending.tolist() == [2.0, 4.0]
        plan = tape.compile([y])
    assert plan.run(np.zeros(2, np.float32))[0].tolist() == [2.0, 4.0]


def test_captures_do_not_nest() -> None:
    with capture() as tape:
        with pytest.raises(RuntimeError, match="nested"), capture():
            pass
        y = tape.placeholder((3,)) + 1.0
        plan = tape.compile([y])
    assert plan.run(ONES)[0].tolist() == [2.0] * 3


def test_a_capture_is_entered_once() -> None:
    tape = capture()
    with tape:
        pass
    with pytest.raises(RuntimeError, match="once"), tape:
        pass
    with pytest.raises(TypeError, match="no arguments"):
        capture(3)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_inside_leaves_no_trace(error: type[BaseException]) -> None:
    w = tensor([1.0, 2.0, 3.0])
    with pytest.raises(error), capture() as tape:
        ops.assign_(w, tape.placeholder((3,)))
        raise error("mine")
    assert w.tolist() == [1.0, 2.0, 3.0]


def test_an_op_that_is_refused_inside_leaves_the_rest() -> None:
    with capture() as tape:
        x = tape.placeholder((3,))
        with pytest.raises(ValueError, match="matmul"):
            ops.matmul(x, x)
        plan = tape.compile([x * 2.0])
    assert [step["op"] for step in plan.steps] == ["mul"]
    assert plan.run(ONES)[0].tolist() == [2.0] * 3


def test_exit_without_entry() -> None:
    capture().__exit__(None, None, None)
    with capture() as tape:
        capture().__exit__(None, None, None)
        plan = tape.compile([tape.placeholder((3,)) * 3.0])
    assert plan.run(ONES)[0].tolist() == [3.0] * 3


def test_a_capture_belongs_to_its_thread() -> None:
    found: list[Any] = []
    with capture() as tape:
        x = tape.placeholder((3,))

        def work() -> None:
            found.append(ops.relu(ONES).tolist())
            try:
                ops.relu(x)
            except RuntimeError as error:
                found.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        plan = tape.compile([x])
    assert found[0] == [1.0] * 3 and "capture" in found[1]
    assert plan.run(ONES)[0].tolist() == [1.0] * 3


def test_placeholders_made_later_and_inputs_handed_through() -> None:
    with capture() as tape:
        x = tape.placeholder((3,))
        first = tape.compile([x * 2.0])
        y = tape.placeholder((3,))
        second = tape.compile([x + y, y])
    assert first.run(ONES)[0].tolist() == [2.0] * 3
    total, through = second.run(ONES, 2 * ONES)
    assert total.tolist() == [3.0] * 3 and through.tolist() == [2.0] * 3


def test_results_are_their_own() -> None:
    """A run's outputs are not touched by the next run, nor by changes of the inputs."""
    with capture() as tape:
        x = tape.placeholder((3,))
        plan = tape.compile([x, x * 2.0])
    given = ONES.copy()
    first = plan.run(given)
    given[:] = 5.0
    second = plan.run(given)
    assert [t.tolist() for t in first] == [[1.0] * 3, [2.0] * 3]
    assert [t.tolist() for t in second] == [[5.0] * 3, [10.0] * 3]


def test_a_plan_reads_tensors_as_they_are_at_each_run() -> None:
    w = tensor([1.0, 2.0, 3.0])
    with capture() as tape:
        x = tape.placeholder((3,))
        plan = tape.compile([x * w])
    assert plan.run(ONES)[0].tolist() == [1.0, 2.0, 3.0]
    w.assign([10.0, 20.0, 30.0])
    assert plan.run(ONES)[0].tolist() == [10.0, 20.0, 30.0]


def test_effects_of_a_plan() -> None:
    w = tensor([1.0, 2.0, 3.0])
    with capture() as tape:
        x = tape.placeholder((3,))
        ops.assign_(w, w + x)
        plan = tape.compile([w])
        assert "in a capture" in repr(w)
    assert w.tolist() == [1.0, 2.0, 3.0]
    assert plan.run(ONES)[0].tolist() == [2.0, 3.0, 4.0]
    assert plan.run(w)[0].tolist() == [4.0, 6.0, 8.0]  # reads and writes the same memory
    assert w.tolist() == [4.0, 6.0, 8.0]


@pytest.mark.parametrize("fuse", [0, 1])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("given", ["tensor", "detached", "view", "part"])
def test_an_array_that_the_plan_overwrites_is_seen_as_it_came(
    given: str, count: int, fuse: int
) -> None:
    start = np.arange(4000, dtype=np.float32)
    first, second = tensor(start), tensor(np.ones(3000, np.float32))
    rate = np.array([1.0, 0.0, 0.0, 0.0])
    with option("fuse", fuse), capture() as tape:
        x = tape.placeholder((3000,))
        limit = tape.placeholder(())
        ops.sgd_(first, tensor(np.ones(4000, np.float32)), None, rate)
        # Clipping, and with it the read of x, may move into the step behind the write.
        ops.sgd_(second, ops.minimum(ops.maximum(x, -limit), limit), None, rate)
        plan = tape.compile([limit * 1.0])
    shared = {
        "tensor": lambda: from_numpy(first.numpy()[:3000]),
        "detached": lambda: from_numpy(first.detach().numpy()[:3000]),
        "view": lambda: first.numpy()[:3000],
        "part": lambda: first.numpy()[1000:],
    }[given]()
    seen = start[1000:] if given == "part" else start[:3000]
    if count == 1:
        plan.run(shared, np.float32(500))
    else:
        plan.run_many(count, shared, np.float32(500))
    np.testing.assert_array_equal(first.numpy(), start - count)
    np.testing.assert_array_equal(second.numpy(), 1 - count * np.minimum(seen, 500))


def test_tensors_on_one_memory_are_refused_where_it_is_written() -> None:
    array = np.arange(12, dtype=np.float32)
    one, other = from_numpy(array[1:]), from_numpy(array[:-1])
    with pytest.raises(ValueError, match=r"compile: .* shape \(11,\) .* shares memory"):
        with capture() as tape:
            ops.assign_(one, other)
            tape.compile([ops.sum(other)])
    np.testing.assert_array_equal(array, np.arange(12))
    with capture() as tape:  # what is only read may be shared
        plan = tape.compile([ops.sum(one * other)])
    assert plan.run()[0].item() == float(array[1:] @ array[:-1])


def test_gradients_inside() -> None:
    w = tensor([1.0, 2.0, 3.0], requires_grad=True)
    with capture() as tape:
        x = tape.placeholder((3,))
        (slope,) = gradients(ops.sum(w * w * x), [w])
        plan = tape.compile([slope])
    assert plan.run(ONES)[0].tolist() == [2.0, 4.0, 6.0]
    assert w.grad is None


def test_more_inputs_than_fit_on_the_stack() -> None:
    with capture() as tape:
        many = [tape.placeholder((2,)) for _ in range(300)]
        plan = tape.compile([ops.concat(*many), many[-1]])
    arrays = [np.full(2, i, np.float32) for i in range(300)]
    everything, last = plan.run(*arrays)
    np.testing.assert_array_equal(everything.numpy(), np.concatenate(arrays))
    assert last.tolist() == [299.0, 299.0]
