"""Bugs of the engine that wrong or unusual calls found: each has a test here.

Those that would end the interpreter run in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
from harness import option
from loops import hyper
from pycnn import _core, capture, from_numpy, ops, tensor

ONES = np.ones(3, np.float32)


def run(code: str) -> str:
    """What the code prints; the process must end well."""
    head = "import numpy as np, pycnn\nfrom pycnn import capture, from_numpy, ops, tensor\n"
    root = str(Path(pycnn.__file__).parents[1])
    environment = {**os.environ, "PYCNN_POISON": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


CRASHES = {
    "a symbolic tensor of another capture as output": """
        with capture() as a:
            y = ops.relu(a.placeholder((3,)))
        for output in (y, [a.placeholder((3,)) for _ in range(30)][-1]):
            with capture() as b:
                b.placeholder((3,))
                try:
                    b.compile([output]).run(np.ones(3, np.float32))
                except RuntimeError:
                    print("refused")
        """,
    "a placeholder whose capture died": """
        for _ in range(50):
            old = capture()
            x = [old.placeholder((3,)) for _ in range(40)][-1]
            del old
            with capture() as new:
                new.placeholder((3,))
                try:
                    new.compile([ops.relu(x)]).run(np.ones(3, np.float32))
                except RuntimeError:
                    pass
        """,
    "a capture that dies while it records": """
        tape = capture()
        tape.__enter__()
        del tape
        try:
            ops.relu(np.ones(3))
        except RuntimeError:
            pass
        """,
    "detach of a symbolic tensor": """
        with capture() as tape:
            x = tape.placeholder((3,))
        try:
            kept = x.detach()
        except RuntimeError:
            print("refused")
        assert ops.relu(np.ones(3)).tolist() == [1.0] * 3
        """,
    "more outputs than values": """
        with capture() as tape:
            x = tape.placeholder((2, 3))
            y = x * 2.0
            plan = tape.compile([y, y, x, y, x, y, x, x, y])
        for _ in range(20):
            out = plan.run(np.ones((2, 3), np.float32))
        assert [t.numpy()[0, 0] for t in out] == [2, 2, 1, 2, 1, 2, 1, 1, 2]
        """,
    "a list that its own items empty": """
        class Empties:
            def __init__(self, owner):
                self.owner = owner

            def __index__(self):
                self.owner.clear()
                return 1

        for call in (
            lambda numbers: ops.reshape(np.ones(8), shape=numbers),
            lambda numbers: ops.pad(np.ones((2, 2)), pads=numbers),
            lambda numbers: capture().placeholder(numbers),
        ):
            numbers = []
            numbers += [Empties(numbers), *(object() for _ in range(6))]
            try:
                call(numbers)
            except (TypeError, ValueError, RuntimeError):
                print("refused")
        """,
    "memory that may only be read": """
        import os, tempfile
        name = os.path.join(tempfile.mkdtemp(), "x")
        np.zeros(3, np.float32).tofile(name)
        mapped = np.memmap(name, np.float32, "r", shape=(3,))
        ones = np.ones(3, np.float32)

        def put(t):
            t.numpy()[0] = 1.0

        for write in (
            lambda t: t.assign(ones),
            lambda t: ops.assign_(t, ones).numpy(),
            lambda t: ops.sgd_(t, ones, None, np.array([0.1, 0, 0, 0]))[0].numpy(),
            put,
        ):
            try:
                write(from_numpy(mapped))
            except (ValueError, TypeError, RuntimeError):
                print("refused")
        assert not np.fromfile(name, np.float32).any()
        """,
}


@pytest.mark.parametrize("what", CRASHES)
def test_no_crash(what: str) -> None:
    run(CRASHES[what])


def test_bytes_never_change() -> None:
    frozen = bytes(12)
    try:
        from_numpy(np.frombuffer(frozen, np.float32)).assign(ONES)
    except (ValueError, TypeError):
        pass
    assert frozen == bytes(12)


# ---- effects ----


def test_an_effect_happens_though_its_handle_died() -> None:
    array = np.zeros(3, np.float32)
    ops.assign_(from_numpy(array), ONES)
    _core.synchronize()
    assert array.tolist() == [1.0] * 3
    t = tensor(np.zeros(3, np.float32))
    shared = t.detach()
    ops.assign_(t, ONES)
    del t
    _core.synchronize()
    assert shared.tolist() == [1.0] * 3


def test_effects_of_a_plan_that_is_made_after_the_block() -> None:
    t = tensor([1.0, 2.0, 3.0])
    with capture() as tape:
        slope, hyper = tape.placeholder((3,)), tape.placeholder((4,), "float64")
        ops.sgd_(t, slope, None, hyper)
    tape.compile([]).run(ONES, np.array([0.5, 0, 0, 0]))
    assert t.tolist() == [0.5, 1.5, 2.5]


def test_a_write_is_seen_at_once_where_others_look() -> None:
    t = tensor(np.zeros(3, np.float32))
    array, shared = t.numpy(), t.detach()
    ops.assign_(t, ONES)
    assert shared.tolist() == [1.0] * 3
    ops.assign_(t, ONES * 2)
    assert array.tolist() == [2.0] * 3


def test_memory_handed_to_numpy_is_read_first() -> None:
    t, w = tensor([1.0, 2.0, 3.0]), tensor([1.0, 2.0, 3.0])
    y = ops.sum(t * w)
    w.numpy()[:] = 0.0
    assert y.item() == 14.0


# ---- gradients ----


def test_a_tensor_changed_after_it_was_used() -> None:
    for look in (False, True):
        t = tensor([1.0, 2.0], requires_grad=True)
        w = tensor([1.0, 2.0], requires_grad=True)
        loss = ops.sum(t * w)
        if look:
            loss.item()
        w.assign([0.0, 0.0])
        with pytest.raises(RuntimeError, match="in-place"):
            loss.backward()


def test_a_result_changed_that_its_gradient_needs() -> None:
    t = tensor([1.0, 2.0], requires_grad=True)
    y = ops.exp(t)
    y.detach().assign([0.0, 0.0])
    with pytest.raises(RuntimeError, match="in-place"):
        ops.sum(y).backward()


def test_numpy_on_the_left() -> None:
    t = tensor([1.0, 2.0], requires_grad=True)
    two = np.full(2, 2.0, np.float32)
    for y in (two * t, two + t, two - t, two / t, np.float32(2) * t, np.float64(2) * t):
        assert isinstance(y, pycnn.Tensor) and y.requires_grad and y.dtype == np.float32
    assert isinstance(two < t, pycnn.Tensor)
    assert isinstance(two[None] @ t.reshape(2, 1), pycnn.Tensor)
    array = np.ones(2, np.float32)
    ops.sum(array * t).backward()
    assert t.grad.tolist() == [1.0, 1.0]


def test_an_error_spares_those_beside_it() -> None:
    a = tensor([1.0, -2.0])
    y = ops.relu(a)
    ops.assign_(a, np.array([5.0, 6.0], np.float32))
    bad = ops.nll(np.zeros((2, 3), np.float32), np.array([0, 7]))
    with pytest.raises(ValueError, match="label 7 at row 1"):
        bad.numpy()
    assert y.tolist() == [1.0, 0.0]
    assert a.tolist() == [5.0, 6.0]


# ---- input ----


def test_uint64_beyond_int64() -> None:
    big = np.full(2, 2**64 - 1, np.uint64)
    for call in (lambda: tensor(big), lambda: tensor(big[0]), lambda: ops.cast(big, dtype="int32")):
        with pytest.raises((ValueError, OverflowError)):
            call()
    assert tensor(np.array([5], np.uint64)).tolist() == [5]


@pytest.mark.parametrize(
    "number", [np.complex64(1 + 1j), np.str_("3"), np.datetime64("2020"), np.void(b"abc")]
)
def test_scalars_that_are_no_real_numbers(number: Any) -> None:
    with pytest.raises(TypeError, match="relu: x"):
        ops.relu(number)
    with pytest.raises(TypeError, match="add: b"):
        tensor([1.0]) + number


def test_masked_values() -> None:
    array = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    for call in (tensor, ops.relu, from_numpy):
        with pytest.raises((ValueError, TypeError), match="mask"):
            call(array)


@pytest.mark.parametrize("slope", [float("nan"), float("inf")])
def test_slopes_are_numbers(slope: float) -> None:
    with pytest.raises(ValueError, match="leaky_relu: slope"):
        ops.leaky_relu(ONES, slope=slope)
    with pytest.raises(ValueError, match="elu: alpha"):
        ops.elu(ONES, alpha=slope)


def test_a_scalar_beside_whole_numbers() -> None:
    x = np.ones(2, np.float32)
    assert ops.add(x, np.float32(4)).tolist() == [5.0, 5.0]


def test_words() -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    w = np.ones((1, 1, 2, 2), np.float32)
    for call, words in (
        (lambda: ops.conv2d(x, w, stride=None), "conv2d: stride.*None"),
        (lambda: ops.conv2d(x, w, stride=2**70), "conv2d: stride"),
        (lambda: ops.conv2d(x, w, padding=None), "conv2d: padding.*None"),
        (lambda: ops.softmax(x, axis=2**65), "softmax: axis"),
        (lambda: ops.cast(x, dtype="nonsense"), "cast: dtype"),
        (lambda: tensor([1.0, 2.0]).assign(np.array([1j, 2.0])), "complex"),
    ):
        with pytest.raises((ValueError, TypeError, OverflowError), match=words):
            call()
    with pytest.raises(TypeError) as caught:
        ops.conv2d(x, w, strides=2)
    assert "OH =" not in str(caught.value) and "$module" not in str(caught.value)


# ---- convenience that training loops use ----


def test_rows_and_formats() -> None:
    t = tensor([[1.0, 2.0], [3.0, 4.0]])
    assert [row.tolist() for row in t] == [[1.0, 2.0], [3.0, 4.0]]
    a, b = tensor([1.0, 2.0])
    assert (a.item(), b.item()) == (1.0, 2.0)
    with pytest.raises(TypeError, match="0-d"):
        iter(tensor(1.0))
    assert f"{tensor(1.23456):.3f}" == "1.235"
    assert np.mean(t) == 2.5 and np.sum(t) == 10.0 and np.max(t) == 4.0
    with pytest.raises(NotImplementedError, match="bool"):
        t[True]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(6))  # not every other order shows
def test_a_norm_of_images_with_l2_keeps_its_order(seed: int, dtype: str) -> None:
    """Images that are trained have a copy in N16, in whose order their norm is summed."""
    rng = np.random.default_rng(seed)
    start, slope = (rng.standard_normal((16, 3, 24, 24)).astype(dtype) for _ in range(2))
    kernel = tensor(rng.standard_normal((4, 3, 3, 3)).astype(dtype))

    def run(fuse: int) -> list[np.ndarray]:
        images, grad = tensor(start), tensor(slope)
        with option("fuse", fuse), capture() as tape:
            rate = tape.placeholder((), dtype)
            y = ops.conv2d(images, kernel, None)
            total = ops.add(grad, ops.mul(images, rate))
            norm = ops.sqrt(ops.sum_squares(total))
            ops.sgd_(
                images, ops.div(ops.mul(total, rate), ops.maximum(norm, rate)), None, hyper(0.5)
            )
            plan = tape.compile([ops.sum(y), norm * 1.0])
        found = plan.run(np.asarray(0.01, dtype))
        return [*(t.numpy() for t in found), images.numpy()]

    for whole, fused in zip(run(0), run(1), strict=True):
        np.testing.assert_array_equal(whole, fused)
