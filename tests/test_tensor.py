"""`pycnn.Tensor` in imperative use: against NumPy, and PyTorch's rules of gradients."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import ShapeError, Tensor, _core, capture, from_numpy, no_grad, ops, tensor

pytestmark = pytest.mark.sanitize

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4))
B = RNG.uniform(0.5, 2.0, (3, 4))
C = RNG.standard_normal(4)


def leaf(values: Any) -> Tensor:
    return tensor(values, requires_grad=True)


# ---- operators ----

BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.lt,
    operator.le,
    operator.eq,
    operator.ne,
    operator.gt,
    operator.ge,
]
OPERANDS = {
    "equal shapes": (A, B),
    "a row": (A, C),
    "a column": (A, B[:, :1]),
    "0-d": (A, np.array(2.0)),
    "two directions": (A[:, :1], C),
    "empty": (A[:0], C),
    "equal numbers": (A, A.copy()),
}


@pytest.mark.parametrize("kind", OPERANDS)
@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_operator(op: Callable[..., Any], kind: str) -> None:
    a, b = OPERANDS[kind]
    want = op(a, b)
    for x, y in ((tensor(a), tensor(b)), (tensor(a), b)):
        got = op(x, y)
        assert isinstance(got, Tensor)
        assert got.shape == want.shape
        np.testing.assert_allclose(got.numpy(), want.astype(float), rtol=1e-15)


@pytest.mark.parametrize("number", [2, 2.5, True, np.float32(1.5), np.float64(1.5), np.int64(3)])
@pytest.mark.parametrize("op", BINARY[:4], ids=lambda op: op.__name__)
def test_operator_with_a_number(op: Callable[..., Any], number: Any) -> None:
    for dtype in ("float32", "float64"):
        b = B.astype(dtype)
        got = op(tensor(b), number)
        assert got.dtype == dtype  # the tensor's, whatever the number
        np.testing.assert_allclose(got.numpy(), op(b, float(number)), rtol=1e-6)
        if isinstance(number, (int, float)) and not isinstance(number, np.generic):
            turned = op(number, tensor(b))
            assert turned.dtype == dtype
            np.testing.assert_allclose(turned.numpy(), op(float(number), b), rtol=1e-6)


def test_powers_and_signs() -> None:
    b = tensor(B)
    for exponent in (2, 2.0, 3, 0.5, -1, 0):
        np.testing.assert_allclose((b**exponent).numpy(), B ** float(exponent), rtol=1e-14)
    np.testing.assert_allclose((2.0**b).numpy(), 2.0**B, rtol=1e-14)
    np.testing.assert_allclose((b**b).numpy(), B**B, rtol=1e-14)
    np.testing.assert_array_equal((-tensor(A)).numpy(), -A)
    np.testing.assert_array_equal(abs(tensor(A)).numpy(), abs(A))
    with pytest.raises(TypeError):
        pow(b, 2, 3)


def test_matrix_product() -> None:
    for a, b in ((A, A.T), (A[None], A.T[None]), (A, B.T)):
        np.testing.assert_allclose((tensor(a) @ tensor(b)).numpy(), a @ b, rtol=1e-13)
        np.testing.assert_allclose((tensor(a) @ b).numpy(), a @ b, rtol=1e-13)


def test_operands_that_do_not_fit() -> None:
    t = tensor(A)
    for other in (None, object(), {}, lambda: 0):
        with pytest.raises(TypeError, match="unsupported operand"):
            t + other
    with pytest.raises(TypeError, match="add: b"):
        t + "text"
    with pytest.raises(TypeError, match="one dtype"):
        t + tensor(A.astype(np.float32))
    with pytest.raises(ShapeError, match=r"\(3, 4\) and \(3,\)"):
        t + C[:3]
    assert (t == None) is False and (t != None) is True  # noqa: E711


def test_an_object_that_knows_better_gets_its_turn() -> None:
    class Knows:
        def __radd__(self, other: Any) -> str:
            return "mine"

    assert tensor(A) + Knows() == "mine"


# ---- indexing and shape ----

KEYS = [
    0,
    -1,
    (1, 2),
    (-1, -4),
    np.int64(2),
    slice(None),
    slice(1, 3),
    slice(-100, 100, 3),
    slice(5, 9),
    (slice(None), slice(1, None, 2)),
    (slice(None), 3),
    (Ellipsis, 0),
    (0, Ellipsis),
    None,
    (None, 0),
    (slice(None), None, slice(2)),
    (),
    Ellipsis,
    slice(0, 2**70),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_index(key: Any) -> None:
    want = A[key]
    got = tensor(A)[key]
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (3, IndexError, "index 3 is out of bounds for axis 0 with size 3"),
        ((0, -5), IndexError, "index -5 is out of bounds for axis 1"),
        ((0, 0, 0), IndexError, "too many indices"),
        (2**70, IndexError, "index"),
        (slice(None, None, 0), ValueError, "zero"),
        (slice(None, None, -1), NotImplementedError, "negative step"),
        (slice("a"), TypeError, "slice"),
        ([0, 1], NotImplementedError, "gather"),
        (np.array([0, 1]), NotImplementedError, "gather"),
        ("a", NotImplementedError, "str"),
        (1.5, NotImplementedError, "float"),
    ],
    ids=lambda item: repr(item)[:20],
)
def test_wrong_index(key: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        tensor(A)[key]


def test_a_part_passes_its_gradient_back() -> None:
    t = leaf(A)
    (ops.sum(t[1:, ::2]) + t[0, 3]).backward()
    want = np.zeros_like(A)
    want[1:, ::2] = 1.0
    want[0, 3] = 1.0
    np.testing.assert_array_equal(t.grad.numpy(), want)


def test_items_cannot_be_set() -> None:
    with pytest.raises(TypeError, match="item assignment"):
        tensor(A)[0] = 1.0


def test_shapes() -> None:
    t = tensor(A)
    assert (t.shape, t.ndim, t.size, len(t)) == ((3, 4), 2, 12, 3)
    assert t.dtype == np.float64
    for got, want in (
        (t.reshape(4, 3), A.reshape(4, 3)),
        (t.reshape((2, -1)), A.reshape(2, -1)),
        (t.reshape(-1), A.reshape(-1)),
        (t.transpose(), A.T),
        (t.transpose(1, 0), A.T),
        (t.T, A.T),
        (t.sum(), A.sum()),
        (t.sum(0), A.sum(0)),
        (t.mean(1, keepdims=True), A.mean(1, keepdims=True)),
        (t.max(axis=1), A.max(1)),
        (t.argmax(1), A.argmax(1)),
        (t.astype("float32"), A.astype("float32")),
    ):
        assert got.shape == np.shape(want)
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-14)
    with pytest.raises(TypeError, match="0-d"):
        len(tensor(1.0))


# ---- single numbers ----


@pytest.mark.parametrize("values", [2.5, [2.5], [[2.5]], np.float32(2.5), np.array(2.5)])
def test_one_number(values: Any) -> None:
    t = tensor(values)
    assert float(t) == 2.5 and int(t) == 2 and bool(t) is True
    assert t.item() == 2.5 and isinstance(t.item(), float)


def test_one_whole_number() -> None:
    t = tensor(3)
    assert isinstance(t.item(), int) and t.item() == int(t) == 3 and float(t) == 3.0
    assert bool(tensor(0.0)) is False
    assert tensor([1, 2]).tolist() == [1, 2]


@pytest.mark.parametrize("values", [[1.0, 2.0], [], np.zeros((0, 3))])
@pytest.mark.parametrize("convert", [float, int, bool, Tensor.item], ids=lambda f: f.__name__)
def test_not_one_number(convert: Callable[..., Any], values: Any) -> None:
    with pytest.raises(ValueError, match="size 1"):
        convert(tensor(values))


# ---- memory shared with others ----


def test_buffer() -> None:
    t = tensor(A)
    view = memoryview(t)
    assert view.shape == (3, 4) and view.format == "d" and not view.readonly
    view[0, 0] = 7.0
    assert t.numpy()[0, 0] == 7.0
    del t
    gc.collect()
    others = [tensor(np.zeros_like(A)) for _ in range(50)]  # would reuse freed memory
    assert view[0, 0] == 7.0 and len(others) == 50
    assert bytes(tensor([1.0])) == np.float32(1).tobytes()
    assert memoryview(tensor(np.zeros((0, 3)))).shape == (0, 3)


def test_numpy_shares_memory() -> None:
    t = tensor(A)
    array = t.numpy()
    assert np.shares_memory(array, t.numpy())
    array[0, 0] = 5.0
    assert t[0, 0].item() == 5.0
    del t
    gc.collect()
    assert array[0, 0] == 5.0


def test_array_protocol() -> None:
    t = tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(t), t.numpy())
    assert not np.shares_memory(np.array(t), t.numpy())
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert t.__array__(copy=False).dtype == np.float32
    assert not np.shares_memory(t.__array__(copy=True), t.numpy())
    assert t.__array__(">f4").dtype == np.dtype(">f4")
    with pytest.raises(ValueError, match="copy"):
        t.__array__(dtype=float, copy=False)
    with pytest.raises(TypeError):
        t.__array__(dtype="nonsense")
    np.testing.assert_array_equal(np.stack([t, t]), [[1, 2], [1, 2]])


def test_from_numpy_shares_and_snapshots() -> None:
    array = np.array([1.0, 2.0])
    t = from_numpy(array)
    assert np.shares_memory(array, t.numpy())
    y = t * 2.0  # recorded, not computed
    array[:] = 10.0
    assert y.tolist() == [2.0, 4.0]  # as it was when recorded
    assert (t * 2.0).tolist() == [20.0, 20.0]
    t.assign([3.0, 4.0])
    assert array.tolist() == [3.0, 4.0]


def test_from_numpy_keeps_the_array_alive() -> None:
    t = from_numpy(np.arange(1000.0))
    gc.collect()
    others = [np.zeros(1000) for _ in range(50)]
    assert t.numpy()[999] == 999.0 and len(others) == 50


def test_tensor_copies() -> None:
    array = np.array([1.0, 2.0])
    t = tensor(array)
    array[:] = 0.0
    assert t.tolist() == [1.0, 2.0]
    u = tensor(t)
    u.assign([0.0, 0.0])
    assert t.tolist() == [1.0, 2.0]
    assert tensor([1.0]).dtype == np.float32 and tensor(np.ones(1)).dtype == np.float64
    assert tensor([1]).dtype == np.int64 and tensor([1], dtype="uint8").dtype == np.uint8


def test_assign_takes_itself_and_casts() -> None:
    t = tensor(A)
    t.assign(t)
    t.assign(t.numpy()[::-1])  # overlapping
    np.testing.assert_array_equal(t.numpy(), A[::-1])
    t.assign(np.ones((3, 4), np.float16))
    assert t.sum().item() == 12.0


# ---- gradients ----


def test_gradients_gather() -> None:
    t = leaf([1.0, 2.0])
    for n in (1, 2, 3):
        ops.sum(t * t).backward()
        assert t.grad.tolist() == [2.0 * n, 4.0 * n]
    t.grad = None
    assert t.grad is None
    ops.sum(t * 3.0).backward()
    assert t.grad.tolist() == [3.0, 3.0]


def test_a_gradient_that_was_taken_stays_as_it_was() -> None:
    t = leaf([1.0, 2.0])
    ops.sum(t * t).backward()
    first = t.grad.numpy().copy()
    ops.sum(t * t).backward()
    np.testing.assert_array_equal(t.grad.numpy(), 2 * first)


def test_a_value_used_twice() -> None:
    t = leaf(A)
    y = ops.exp(t)
    ops.sum(y * y + y).backward()
    np.testing.assert_allclose(t.grad.numpy(), 2 * np.exp(A) ** 2 + np.exp(A), rtol=1e-12)


def test_backward_twice() -> None:
    t = leaf([1.0, 2.0])
    loss = ops.sum(ops.exp(t))
    loss.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        loss.backward()
    loss = ops.sum(t * t)
    t.grad = None
    loss.backward(retain_graph=True)
    loss.backward()
    assert t.grad.tolist() == [4.0, 8.0]


def test_backward_of_more_than_one_number() -> None:
    t = leaf([1.0, 2.0])
    y = t * 2.0
    with pytest.raises(RuntimeError, match=r"scalar.*shape \(2,\)"):
        y.backward()
    y.backward(np.array([1.0, 10.0], np.float32))
    assert t.grad.tolist() == [2.0, 20.0]


@pytest.mark.parametrize(
    ("gradient", "error"),
    [
        (np.ones(3, np.float32), ShapeError),
        (np.ones((2, 1), np.float32), ShapeError),
        (np.ones(2), ShapeError),
        (1.0, ShapeError),
        (np.array([1j, 2]), TypeError),
        ("a", TypeError),
        (object(), TypeError),
    ],
)
def test_wrong_gradient(gradient: Any, error: type[Exception]) -> None:
    t = leaf([1.0, 2.0])
    y = t * 2.0
    with pytest.raises(error, match="gradient"):
        y.backward(gradient)
    assert t.grad is None


def test_backward_without_anything_to_learn() -> None:
    for t in (tensor([1.0, 2.0]).sum(), tensor(1.0), tensor(1)):
        with pytest.raises(RuntimeError, match="does not require a gradient"):
            t.backward()
    alone = leaf(2.0)
    alone.backward()
    assert alone.grad.item() == 1.0


def test_requires_grad() -> None:
    t = tensor([1.0])
    assert not t.requires_grad and t.is_leaf
    t.requires_grad = True
    y = t * 2.0
    assert y.requires_grad and not y.is_leaf
    with pytest.raises(RuntimeError, match="leaves"):
        y.requires_grad = False
    with pytest.raises(RuntimeError, match="int64"):
        tensor([1]).requires_grad = True
    assert not (tensor([1.0]) * 2.0).requires_grad
    assert not ops.argmax(t).requires_grad


def test_wrong_grad() -> None:
    t = leaf([1.0, 2.0])
    for value, error in (
        (np.ones(2), TypeError),
        ("x", TypeError),
        (tensor([1.0]), ShapeError),
        (tensor([1, 2]), ShapeError),
    ):
        with pytest.raises(error, match="grad"):
            t.grad = value
    t.grad = tensor([5.0, 5.0])
    ops.sum(t).backward()
    assert t.grad.tolist() == [6.0, 6.0]


def test_detach() -> None:
    t = leaf([1.0, 2.0])
    y = t * 2.0
    d = y.detach()
    assert not d.requires_grad and d.is_leaf and np.shares_memory(d.numpy(), y.numpy())
    ops.sum(y * d).backward()
    assert t.grad.tolist() == [4.0, 8.0]


def test_no_grad() -> None:
    t = leaf([1.0, 2.0])
    with no_grad():
        assert not pycnn.is_grad_enabled()
        y = ops.sum(t * t)
        with no_grad():
            pass
        assert not pycnn.is_grad_enabled()
    assert pycnn.is_grad_enabled()
    assert not y.requires_grad and y.item() == 5.0
    with pytest.raises(KeyError), no_grad():
        raise KeyError("mine")
    assert pycnn.is_grad_enabled()
    mode = no_grad()
    for _ in range(64):
        mode.__enter__()
    with pytest.raises(RuntimeError, match="64"):
        mode.__enter__()
    for _ in range(70):  # more often than entered
        mode.__exit__(None, None, None)
    assert pycnn.is_grad_enabled()


def test_an_effect_on_a_tensor_that_a_gradient_needs_is_told() -> None:
    t, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    loss = ops.sum(t * w)
    ops.assign_(w, np.zeros(2, np.float32))
    with pytest.raises(RuntimeError, match="in-place"):
        loss.backward()
    assert t.grad is None and loss.item() == 11.0


def test_a_write_waits_for_those_who_read() -> None:
    w = tensor([1.0, 2.0])
    y = w * 10.0
    ops.assign_(w, np.zeros(2, np.float32))
    assert y.tolist() == [10.0, 20.0] and w.tolist() == [0.0, 0.0]


def test_long_chains() -> None:
    t = leaf([1.0])
    y = t
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert t.grad.tolist() == [1.0]
    for _ in range(100_000):  # dropped, never computed
        y = y * 1.5
    del y


# ---- lifetime ----


def test_weak_references_and_cycles() -> None:
    t = leaf([1.0])
    watch = weakref.ref(t)
    del t
    assert watch() is None
    t = leaf([1.0])
    t.grad = t  # a cycle
    watch = weakref.ref(t)
    del t
    gc.collect()
    assert watch() is None


def test_a_leaf_may_die_before_backward() -> None:
    t, u = leaf([1.0]), leaf([2.0])
    loss = ops.sum(t * u)
    del t
    gc.collect()
    loss.backward()
    assert u.grad.tolist() == [1.0]


def test_plans_and_placeholders_are_neither_copied_nor_pickled() -> None:
    """Tensors with numbers are, see test_copies.py."""
    with _core.capture() as tape:
        x = tape.placeholder((2,))
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(RuntimeError, match="no numbers"):
                make(x)
        plan = tape.compile([ops.square(x)])
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="pickle"):
            make(plan)


def test_types_are_closed() -> None:
    for made in (Tensor, _core.Plan):
        with pytest.raises(TypeError):
            made()
        with pytest.raises(TypeError, match="not an acceptable base"):
            type("Mine", (made,), {})
    t = tensor([1.0])
    for name in ("shape", "dtype", "numpy", "mine"):
        with pytest.raises(AttributeError):
            setattr(t, name, 1)


def test_hash_is_identity() -> None:
    t, u = tensor([1.0]), tensor([1.0])
    assert len({t, u, t}) == 2


def test_repr() -> None:
    assert repr(tensor([1.5])) == "tensor([1.5], dtype=float32)"
    assert "requires_grad=True" in repr(leaf([1.0]))
    with capture() as tape:
        assert "in a capture" in repr(tape.placeholder((2,)))
