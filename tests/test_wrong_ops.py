"""Wrong calls of the core: refused with the right error, naming the op and the argument.

After every refused call the engine works as before. Odd arrays are in test_odd_arrays.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import ShapeError, _core, capture, gradients, ops, tensor

pytestmark = pytest.mark.sanitize

NAN, INF = float("nan"), float("inf")
HUGE = 2**62

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
W = np.ones((4, 3, 3, 3), np.float32)
B = np.ones(4, np.float32)
M = np.arange(20, dtype=np.float32).reshape(4, 5)
LOGP = np.log(np.full((4, 5), 0.2, np.float32))
SEED = np.array([1, 2, 3])
H4 = np.array([0.1, 0.0, 0.0, 0.0])
ONES = np.ones(3, np.float32)


def p() -> pycnn.Tensor:
    return tensor([1.0, 2.0, 3.0])


@pytest.fixture(autouse=True)
def _works_afterwards() -> Iterator[None]:
    yield
    _core.synchronize()
    assert pycnn.is_grad_enabled()
    np.testing.assert_array_equal(ops.relu(np.array([-1.0, 2.0])).numpy(), [0.0, 2.0])
    t = tensor([3.0], requires_grad=True)
    ops.sum(t * t).backward()
    assert t.grad.tolist() == [6.0]


# (what is wrong, the call, the error, words of its message)
Wrong = tuple[str, Callable[[], Any], type[Exception], list[str]]

CONV: list[Wrong] = [
    ("stride 0", lambda: ops.conv2d(X, W, B, stride=0), ValueError, ["conv2d", "stride", "(0, 0)"]),
    ("stride -1", lambda: ops.conv2d(X, W, stride=(1, -1)), ValueError, ["stride", "(1, -1)"]),
    ("3 strides", lambda: ops.conv2d(X, W, stride=(1, 1, 1)), ValueError, ["stride", "3 ints"]),
    ("stride 1.5", lambda: ops.conv2d(X, W, stride=(1.5, 1)), TypeError, ["stride", "1.5"]),
    ("stride text", lambda: ops.conv2d(X, W, stride="ab"), TypeError, ["stride", "'ab'"]),
    ("stride huge", lambda: ops.conv2d(X, W, stride=HUGE), ValueError, ["stride", str(HUGE)]),
    ("padding -1", lambda: ops.conv2d(X, W, padding=-1), ValueError, ["padding", "-1"]),
    ("2 paddings", lambda: ops.conv2d(X, W, padding=(1, 1)), ValueError, ["padding", "four"]),
    ("padding huge", lambda: ops.conv2d(X, W, padding=HUGE), ValueError, ["padding", str(HUGE)]),
    ("padding same", lambda: ops.conv2d(X, W, padding="same"), TypeError, ["padding"]),
    (
        "result huge",
        lambda: ops.conv2d(X[:1, :1], W[:1, :1], padding=2**31 - 1),
        MemoryError,
        ["conv2d", "too large"],
    ),
    (
        "channels",
        lambda: ops.conv2d(X, np.ones((4, 5, 3, 3), np.float32)),
        ShapeError,
        ["3 channels", "expects 5", "(2, 3, 8, 8)", "(4, 5, 3, 3)"],
    ),
    (
        "kernel too large",
        lambda: ops.conv2d(X, np.ones((4, 3, 9, 3), np.float32)),
        ShapeError,
        ["kernel 9x3", "padded input 8x8"],
    ),
    (
        "kernel of 0",
        lambda: ops.conv2d(X, np.ones((4, 3, 0, 3), np.float32)),
        ShapeError,
        ["kernel 0x3"],
    ),
    ("empty maps", lambda: ops.conv2d(X[:, :, :0], W), ShapeError, ["empty", "0x8"]),
    ("w of 3 axes", lambda: ops.conv2d(X, W[0]), ShapeError, ["w", "4 dim", "(3, 3, 3)"]),
    ("x of 3 axes", lambda: ops.conv2d(X[0], W), ShapeError, ["x", "4 dim", "(3, 8, 8)"]),
    ("b too short", lambda: ops.conv2d(X, W, ONES), ShapeError, ["b", "(4,)", "(3,)"]),
    ("b a number", lambda: ops.conv2d(X, W, 1.0), ShapeError, ["b", "(4,)", "()"]),
    (
        "two dtypes",
        lambda: ops.conv2d(X, W.astype(float)),
        TypeError,
        ["x and w", "float32", "float64"],
    ),
    ("ints", lambda: ops.conv2d(X.astype(int), W.astype(int)), TypeError, ["x", "int64"]),
    ("no w", lambda: ops.conv2d(X), TypeError, ["conv2d", "w is missing"]),
    ("nothing", lambda: ops.conv2d(), TypeError, ["conv2d", "x is missing"]),
    ("4 inputs", lambda: ops.conv2d(X, W, B, B), TypeError, ["at most 3", "got 4"]),
    ("strides=", lambda: ops.conv2d(X, W, strides=2), TypeError, ["unexpected", "'strides'"]),
    ("x twice", lambda: ops.conv2d(X, W, x=X), TypeError, ["two values", "'x'"]),
    (
        "activation",
        lambda: ops.conv2d(X, W, activation="rleu"),
        ValueError,
        ["activation", "'relu'", "'rleu'"],
    ),
    ("no choice", lambda: ops.conv2d(X, W, activation=None), ValueError, ["activation", "None"]),
    ("no text", lambda: ops.conv2d(X, W, activation="\ud800"), ValueError, ["activation"]),
]

POOL: list[Wrong] = [
    case
    for op in (ops.max_pool2d, ops.avg_pool2d)
    for case in (
        ("kernel 0", lambda op=op: op(X, kernel=0), ValueError, ["kernel", "(0, 0)"]),
        ("kernel -1", lambda op=op: op(X, kernel=(2, -1)), ValueError, ["kernel", "(2, -1)"]),
        ("3 kernels", lambda op=op: op(X, kernel=(2, 2, 2)), ValueError, ["kernel", "3"]),
        ("no kernel", lambda op=op: op(X), TypeError, ["kernel is missing"]),
        ("too large", lambda op=op: op(X, kernel=9), ShapeError, ["9x9", "8x8"]),
        ("stride 0", lambda op=op: op(X, kernel=2, stride=0), ValueError, ["stride", "(0, 0)"]),
        ("padding -1", lambda op=op: op(X, kernel=2, padding=-1), ValueError, ["padding", "-1"]),
        ("padding 2", lambda op=op: op(X, kernel=2, padding=2), ValueError, ["padding", "2x2"]),
        ("3 axes", lambda op=op: op(X[0], kernel=2), ShapeError, ["4 dim", "(3, 8, 8)"]),
        ("ints", lambda op=op: op(X.astype(int), kernel=2), TypeError, ["x", "int64"]),
        ("positional", lambda op=op: op(X, (2, 2)), TypeError, ["at most 1", "keywords"]),
    )
]

DENSE: list[Wrong] = [
    ("width", lambda: ops.dense(M, M[:, :3]), ShapeError, ["5 features", "expects 4", "(4, 3)"]),
    ("4 axes", lambda: ops.dense(X, M), ShapeError, ["x", "2 dim", "(2, 3, 8, 8)"]),
    ("bias", lambda: ops.dense(M, M[:, :3].T @ M * 0, B), ShapeError, ["dense", "4"]),
    ("two dtypes", lambda: ops.dense(M, M.T.astype(float)), TypeError, ["float32", "float64"]),
    ("matmul", lambda: ops.matmul(M, M), ShapeError, ["5 of a", "4 of b"]),
    ("matmul 1-d", lambda: ops.matmul(M, M[0]), ShapeError, ["2 dim", "(5,)"]),
    ("matmul 0-d", lambda: ops.matmul(1.0, M), ShapeError, ["2 dim", "()"]),
    (
        "matmul batches",
        lambda: ops.matmul(np.ones((2, 4, 5)), np.ones((3, 5, 4))),
        ShapeError,
        ["leading", "(2, 4, 5)", "(3, 5, 4)"],
    ),
]

NORM: list[Wrong] = [
    ("eps -1", lambda: ops.batch_norm(X, eps=-1.0), ValueError, ["eps", "-1"]),
    ("eps NaN", lambda: ops.batch_norm(X, eps=NAN), ValueError, ["eps", "nan"]),
    ("eps inf", lambda: ops.batch_norm(X, eps=INF), ValueError, ["eps", "inf"]),
    ("eps text", lambda: ops.batch_norm(X, eps="a"), TypeError, ["eps", "'a'"]),
    ("axis 4", lambda: ops.batch_norm(X, axis=4), ValueError, ["axis 4", "4 dimensions"]),
    ("axis -5", lambda: ops.batch_norm(X, axis=-5), ValueError, ["axis -5"]),
    ("axis 1.5", lambda: ops.batch_norm(X, axis=1.5), TypeError, ["axis", "1.5"]),
    ("gamma", lambda: ops.batch_norm(X, B), ShapeError, ["gamma", "(3,)", "(4,)"]),
    ("1-d", lambda: ops.batch_norm(ONES), ShapeError, ["x", "2 to 5", "(3,)"]),
    ("no var", lambda: ops.batch_norm_inference(X, ONES), TypeError, ["var is missing"]),
    ("var", lambda: ops.batch_norm_inference(X, ONES, B), ShapeError, ["var", "(3,)", "(4,)"]),
    (
        "mean's dtype",
        lambda: ops.batch_norm_inference(X, np.ones(3), np.ones(3)),
        TypeError,
        ["mean", "float64"],
    ),
    ("rate -0.1", lambda: ops.dropout(X, SEED, rate=-0.1), ValueError, ["rate", "-0.1"]),
    ("rate 1.5", lambda: ops.dropout(X, SEED, rate=1.5), ValueError, ["rate", "1.5"]),
    ("rate NaN", lambda: ops.dropout(X, SEED, rate=NAN), ValueError, ["rate", "nan"]),
    ("rate text", lambda: ops.dropout(X, SEED, rate="a"), TypeError, ["rate", "'a'"]),
    ("no rate", lambda: ops.dropout(X, SEED), TypeError, ["rate is missing"]),
    ("no seed", lambda: ops.dropout(X, rate=0.5), TypeError, ["seed is missing"]),
    ("2 seeds", lambda: ops.dropout(X, SEED[:2], rate=0.5), ShapeError, ["seed", "(2,)"]),
    ("float seed", lambda: ops.dropout(X, SEED * 1.0, rate=0.5), TypeError, ["seed", "int64"]),
    ("spatial 1-d", lambda: ops.dropout(ONES, SEED, rate=0.5, spatial=True), ShapeError, ["(3,)"]),
    ("slope text", lambda: ops.leaky_relu(X, slope="a"), TypeError, ["slope", "'a'"]),
    ("alpha None", lambda: ops.elu(X, alpha=None), TypeError, ["alpha", "None"]),
]

REDUCE: list[Wrong] = [
    ("sum axis", lambda: ops.sum(M, axis=2), ValueError, ["sum", "axis 2", "2 dimensions"]),
    ("mean axis", lambda: ops.mean(M, axis=(0, -3)), ValueError, ["mean", "axis -3"]),
    ("axis twice", lambda: ops.sum(M, axis=(0, -2)), ValueError, ["axis -2", "twice"]),
    ("17 axes", lambda: ops.sum(M, axis=(0,) * 17), ValueError, ["axis", "17", "16"]),
    ("axis text", lambda: ops.max(M, axis="a"), TypeError, ["max", "axis", "'a'"]),
    ("max of none", lambda: ops.max(M[:0]), ValueError, ["max", "(0, 5)", "empty"]),
    ("argmax of none", lambda: ops.argmax(M[:, :0]), ValueError, ["argmax", "(4, 0)", "empty"]),
    ("argmax axis", lambda: ops.argmax(M, axis=2), ValueError, ["argmax", "axis 2"]),
    ("argmax None", lambda: ops.argmax(M, axis=None), TypeError, ["argmax", "axis", "None"]),
    ("softmax axis", lambda: ops.softmax(M, axis=-3), ValueError, ["softmax", "axis -3"]),
    ("softmax 0-d", lambda: ops.softmax(1.0), ValueError, ["softmax", "0 dimensions"]),
    ("sum of ints", lambda: ops.sum(np.arange(4)), TypeError, ["sum", "x", "int64"]),
]

LABELS: list[Wrong] = [
    ("label 5", lambda: ops.nll(LOGP, [0, 1, 2, 5]).numpy(), ValueError, ["label 5", "row 3"]),
    ("label -1", lambda: ops.nll(LOGP, [0, -1, 2, 3]).numpy(), ValueError, ["label -1", "row 1"]),
    (
        "label 2**40",
        lambda: ops.softmax_cross_entropy(LOGP, np.array([2**40] * 4)).numpy(),
        ValueError,
        ["label 1099511627776", "row 0", "0..4"],
    ),
    (
        "label -2**63",
        lambda: ops.softmax_cross_entropy(LOGP, np.array([-(2**63)] * 4)).numpy(),
        ValueError,
        ["label -9223372036854775808", "row 0"],
    ),
    ("3 labels", lambda: ops.nll(LOGP, [0, 1, 2]), ShapeError, ["labels", "(4,)", "(3,)"]),
    ("a column", lambda: ops.nll(LOGP, [[0]] * 4), ShapeError, ["labels", "(4, 1)"]),
    ("floats", lambda: ops.nll(LOGP, M[:, 0]), TypeError, ["labels", "float32"]),
    ("bools", lambda: ops.nll(LOGP, np.ones(4, bool)), TypeError, ["labels", "bool"]),
    ("no labels", lambda: ops.nll(LOGP, None), TypeError, ["labels is missing"]),
    (
        "width 6",
        lambda: ops.softmax_cross_entropy(LOGP, np.ones((4, 6), np.float32)),
        ShapeError,
        ["labels", "(4, 5)", "(4, 6)"],
    ),
    (
        "float64 labels",
        lambda: ops.softmax_cross_entropy(LOGP, np.ones((4, 5))),
        TypeError,
        ["labels", "float64"],
    ),
    ("0 classes", lambda: ops.nll(LOGP[:, :0], [0] * 4), ShapeError, ["(4, 0)", "class"]),
    ("1-d logp", lambda: ops.nll(LOGP[0], np.array(1)), ShapeError, ["logp", "2 dim"]),
]

MOVES: list[Wrong] = [
    ("add shapes", lambda: ops.add(M, M[:3]), ShapeError, ["add", "(4, 5)", "(3, 5)"]),
    ("add dtypes", lambda: ops.add(M, M.astype(float)), TypeError, ["a and b", "float64"]),
    ("add 3", lambda: ops.add(M, M, M), TypeError, ["add", "at most 2"]),
    ("add text", lambda: ops.add(M, "a"), TypeError, ["add", "b"]),
    ("where", lambda: ops.where(M, M), TypeError, ["where", "b is missing"]),
    (
        "add huge",
        lambda: ops.add(np.zeros((2**20, 1)), np.zeros((1, 2**23))).numpy(),
        MemoryError,
        ["allocate"],
    ),
    ("reshape 21", lambda: ops.reshape(M, shape=(3, 7)), ShapeError, ["20 elements", "21"]),
    ("reshape two -1", lambda: ops.reshape(M, shape=(-1, -1)), ShapeError, ["one -1"]),
    ("reshape -2", lambda: ops.reshape(M, shape=(-2, 10)), ShapeError, ["-2"]),
    ("reshape huge", lambda: ops.reshape(M, shape=(HUGE, 4)), ShapeError, ["too large"]),
    ("reshape 9", lambda: ops.reshape(M, shape=(1,) * 9), ValueError, ["shape", "9"]),
    ("reshape 20.0", lambda: ops.reshape(M, shape=(20.0,)), TypeError, ["shape", "20.0"]),
    ("reshape none", lambda: ops.reshape(M), TypeError, ["shape is missing"]),
    ("reshape 0/-1", lambda: ops.reshape(M[:0], shape=(0, -1)), ShapeError, ["(0, -1)"]),
    ("perm short", lambda: ops.transpose(M, perm=(0,)), ValueError, ["perm", "got 1"]),
    ("perm twice", lambda: ops.transpose(M, perm=(0, 0)), ValueError, ["perm", "axis 0 twice"]),
    ("perm 2", lambda: ops.transpose(M, perm=(0, 2)), ValueError, ["axis 2"]),
    ("concat none", lambda: ops.concat(), ValueError, ["concat", "at least one"]),
    ("concat None", lambda: ops.concat(M, None), TypeError, ["concat", "xs is missing"]),
    ("concat shapes", lambda: ops.concat(M, M.T), ShapeError, ["input 1", "(5, 4)", "(4, 5)"]),
    ("concat dtypes", lambda: ops.concat(M, M.astype(float)), TypeError, ["input 1", "float64"]),
    ("concat axis", lambda: ops.concat(M, M, axis=2), ValueError, ["axis 2"]),
    ("concat 0-d", lambda: ops.concat(1.0, 2.0), ShapeError, ["one dimension"]),
    ("pads short", lambda: ops.pad(M, pads=(1, 1)), ValueError, ["pads", "pair", "got 2"]),
    ("pads -1", lambda: ops.pad(M, pads=(-1, 0, 0, 0)), ValueError, ["pads", "-1"]),
    ("pads huge", lambda: ops.pad(M, pads=(HUGE,) * 4), ShapeError, ["too large"]),
    ("pads 2**40", lambda: ops.pad(M, pads=(2**40,) * 4), MemoryError, ["pad", "too large"]),
    ("pad value", lambda: ops.pad(M, pads=(0,) * 4, value="a"), TypeError, ["value", "'a'"]),
    (
        "slice start",
        lambda: ops.slice(M, [3, 0], shape=(2, 2)).numpy(),
        IndexError,
        ["start 3", "axis 0", "0 to 2"],
    ),
    (
        "slice far",
        lambda: ops.slice(M, [-(2**63), 0], shape=(2, 2)).numpy(),
        IndexError,
        ["start -9223372036854775808"],
    ),
    (
        "slice size",
        lambda: ops.slice(M, [0, 0], shape=(2, 6)),
        ShapeError,
        ["6 elements", "axis 1"],
    ),
    (
        "slice step 0",
        lambda: ops.slice(M, [0, 0], shape=(2, 2), step=(0, 1)),
        ValueError,
        ["step", "0"],
    ),
    (
        "slice step",
        lambda: ops.slice(M, [0, 0], shape=(2, 2), step=(2**63 - 1, 1)),
        ShapeError,
        ["step 9223372036854775807"],
    ),
    ("gather 4", lambda: ops.gather(M, [0, 4]).numpy(), IndexError, ["index[1] is 4", "4 rows"]),
    ("gather -1", lambda: ops.gather(M, [-1]).numpy(), IndexError, ["index[0] is -1"]),
    ("gather 0-d", lambda: ops.gather(1.0, [0]), ShapeError, ["data", "one dimension"]),
    ("gather matrix", lambda: ops.gather(M, [[0]]), ShapeError, ["index", "1 dim"]),
    ("gather floats", lambda: ops.gather(M, [0.0]), TypeError, ["index", "int64"]),
    ("gather of none", lambda: ops.gather(M[:0], [0]).numpy(), IndexError, ["index[0]", "0 rows"]),
    ("cast float16", lambda: ops.cast(M, dtype="float16"), TypeError, ["dtype", "float16"]),
    ("cast complex", lambda: ops.cast(M, dtype=complex), TypeError, ["dtype", "complex128"]),
    ("cast none", lambda: ops.cast(M), TypeError, ["cast", "dtype is missing"]),
]

EFFECTS: list[Wrong] = [
    ("array", lambda: ops.sgd_(ONES, ONES, None, H4), TypeError, ["param", "Tensor", "ndarray"]),
    ("number", lambda: ops.sgd_(1.0, ONES, None, H4), TypeError, ["param", "Tensor", "float"]),
    ("no param", lambda: ops.sgd_(None, ONES, None, H4), TypeError, ["param is missing"]),
    ("shape", lambda: ops.sgd_(p(), B, None, H4), ShapeError, ["grad", "(3,)", "(4,)"]),
    ("dtype", lambda: ops.sgd_(p(), np.ones(3), None, H4), TypeError, ["grad", "float64"]),
    ("velocity", lambda: ops.sgd_(p(), ONES, tensor([1.0]), H4), ShapeError, ["velocity", "(1,)"]),
    ("velocity array", lambda: ops.sgd_(p(), ONES, ONES, H4), TypeError, ["velocity", "Tensor"]),
    ("no hyper", lambda: ops.sgd_(p(), ONES, None), TypeError, ["hyper is missing"]),
    ("hyper 1", lambda: ops.sgd_(p(), ONES, None, 0.1), TypeError, ["hyper", "float64"]),
    ("hyper 2-d", lambda: ops.sgd_(p(), ONES, None, H4[None]), ShapeError, ["hyper", "(1, 4)"]),
    ("style", lambda: ops.sgd_(p(), ONES, None, H4, style="tf"), ValueError, ["style", "'tf'"]),
    ("adam m", lambda: ops.adam_(p(), ONES, None, p(), np.ones(6)), TypeError, ["m is missing"]),
    ("adam hyper", lambda: ops.adam_(p(), ONES, p(), p(), H4), ShapeError, ["hyper", "(6,)"]),
    (
        "adam step 0",
        lambda: ops.adam_(p(), ONES, p(), p(), np.zeros(6))[0].numpy(),
        ValueError,
        ["adam_", "step", "0"],
    ),
    (
        "amsgrad",
        lambda: ops.adam_(p(), ONES, p(), p(), np.ones(6), amsgrad=True),
        TypeError,
        ["unexpected", "'amsgrad'"],
    ),
    ("assign_ shape", lambda: ops.assign_(p(), B), ShapeError, ["value", "(3,)", "(4,)"]),
    ("assign_ dtype", lambda: ops.assign_(p(), np.ones(3)), TypeError, ["value", "float64"]),
    ("assign_ array", lambda: ops.assign_(ONES, ONES), TypeError, ["target", "ndarray"]),
    ("assign shape", lambda: p().assign(B), ShapeError, ["assign", "(3,)", "(4,)"]),
    ("assign number", lambda: p().assign(1.0), ShapeError, ["assign", "()"]),
    ("assign int", lambda: tensor([1, 2]).assign([1.5, 2]), TypeError, ["assign", "float64"]),
]

MAKING: list[Wrong] = [
    ("tensor text", lambda: tensor("abc"), TypeError, ["data", "<U3"]),
    ("tensor None", lambda: tensor(None), TypeError, ["data", "object"]),
    ("tensor objects", lambda: tensor([1, None]), TypeError, ["data", "object"]),
    ("tensor dict", lambda: tensor({}), TypeError, ["data", "object"]),
    ("tensor ragged", lambda: tensor([[1, 2], [3]]), ValueError, ["inhomogeneous"]),
    ("tensor complex", lambda: tensor(np.ones(2, complex)), TypeError, ["data", "complex128"]),
    ("tensor dates", lambda: tensor(np.zeros(2, "M8[s]")), TypeError, ["data", "datetime64"]),
    ("tensor records", lambda: tensor(np.zeros(2, "f4,i4")), TypeError, ["data", "f0"]),
    ("tensor big ints", lambda: tensor([2**70]), TypeError, ["data", "object"]),
    ("tensor 9 axes", lambda: tensor(np.zeros((1,) * 9)), ValueError, ["data", "9", "8"]),
    ("tensor dtype", lambda: tensor([1.0], dtype="float16"), TypeError, ["float16"]),
    ("tensor keyword", lambda: tensor([1.0], dtpe="float32"), TypeError, ["dtpe"]),
    ("tensor int grad", lambda: tensor([1], requires_grad=True), RuntimeError, ["float", "int64"]),
    ("from a list", lambda: pycnn.from_numpy([1.0]), TypeError, ["from_numpy", "list"]),
    ("from float16", lambda: pycnn.from_numpy(np.ones(2, "f2")), TypeError, ["float16", "tensor("]),
    ("from swapped", lambda: pycnn.from_numpy(np.ones(2, ">f4")), TypeError, [">f4", "tensor("]),
    ("from strided", lambda: pycnn.from_numpy(np.ones(4)[::2]), ValueError, ["row-major"]),
    ("from reversed", lambda: pycnn.from_numpy(np.ones(4)[::-1]), ValueError, ["row-major"]),
    (
        "from broadcast",
        lambda: pycnn.from_numpy(np.broadcast_to(np.float32(1), (2, 3))),
        ValueError,
        ["row-major"],
    ),
    ("from 9 axes", lambda: pycnn.from_numpy(np.zeros((1,) * 9)), ValueError, ["8 dim"]),
    ("relu text", lambda: ops.relu("abc"), TypeError, ["relu", "x", "<U3"]),
    ("relu object", lambda: ops.relu(object()), TypeError, ["relu", "x", "object"]),
    ("relu None", lambda: ops.relu(None), TypeError, ["relu", "x is missing"]),
    ("relu ragged", lambda: ops.relu([[1, 2], [3]]), ValueError, ["relu"]),
    ("relu complex", lambda: ops.relu(1 + 2j), TypeError, ["relu", "complex128"]),
    ("relu ints", lambda: ops.relu(np.arange(3)), TypeError, ["relu", "int64"]),
    ("relu 9 axes", lambda: ops.relu(np.zeros((1,) * 9)), ValueError, ["relu", "x", "9"]),
    ("no threads", lambda: pycnn.set_num_threads(0), ValueError, ["set_num_threads", "0"]),
    ("threads text", lambda: pycnn.set_num_threads("a"), TypeError, ["str"]),
    ("isa", lambda: _core._set_isa("z80"), Exception, ["z80"]),
]

ALL = {
    "conv2d": CONV,
    "pool": POOL,
    "dense": DENSE,
    "norm": NORM,
    "reduce": REDUCE,
    "labels": LABELS,
    "moves": MOVES,
    "effects": EFFECTS,
    "making": MAKING,
}
CASES = [
    pytest.param(*case[1:], id=f"{group}-{number}-{case[0]}")
    for group, cases in ALL.items()
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(("call", "error", "words"), CASES)
def test_refused(call: Callable[[], Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    if error is not Exception:
        assert type(caught.value) is error or error in (MemoryError,)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 150


# ---- captures and plans ----


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        ((HUGE,), "float32", MemoryError),
        ((2**32, 2**32), "float32", MemoryError),
        ((-1,), "float32", ShapeError),
        ((None, 3), "float32", TypeError),
        ((1.5,), "float32", TypeError),
        ((1,) * 9, "float32", ValueError),
        (3, "float32", TypeError),
        ("ab", "float32", TypeError),
        ((2,), "float16", TypeError),
        ((2,), "nonsense", TypeError),
    ],
)
def test_wrong_placeholder(shape: Any, dtype: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        capture().placeholder(shape, dtype)


@pytest.mark.parametrize("outputs", [None, 3, [None], ["a"], [np.ones(2)], "ab"])
def test_wrong_outputs(outputs: Any) -> None:
    with pytest.raises(TypeError, match="compile"):
        capture().compile(outputs)


@pytest.fixture
def plan() -> Any:
    with capture() as tape:
        x = tape.placeholder((2, 3))
        i = tape.placeholder((2,), "int64")
        return tape.compile([ops.nll(x * 2.0, i)])


GOOD = (np.full((2, 3), -1.0, np.float32), np.array([0, 2]))


@pytest.mark.parametrize(
    ("arrays", "error", "words"),
    [
        ((), TypeError, ["expected 2", "got 0"]),
        (GOOD[:1], TypeError, ["expected 2", "got 1"]),
        ((*GOOD, GOOD[0]), TypeError, ["expected 2", "got 3"]),
        ((GOOD[0].astype(float), GOOD[1]), ShapeError, ["array 0", "float32", "float64"]),
        ((GOOD[0], GOOD[1].astype(np.int32)), ShapeError, ["array 1", "int64", "int32"]),
        ((GOOD[0].T, GOOD[1]), ShapeError, ["array 0", "(2, 3)", "(3, 2)"]),
        ((None, GOOD[1]), TypeError, ["object"]),
        (("a", GOOD[1]), TypeError, ["<U1"]),
        ((1.0, GOOD[1]), ShapeError, ["array 0", "()"]),
        (([[1, 2], [3]], GOOD[1]), ValueError, ["inhomogeneous"]),
        ((GOOD[0], np.array([0, 3])), ValueError, ["label 3", "row 1"]),
    ],
)
def test_wrong_run(plan: Any, arrays: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        plan.run(*arrays)
    for word in words:
        assert word in str(caught.value)
    assert plan.run(*GOOD)[0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    "x",
    [
        GOOD[0].astype(">f4"),
        GOOD[0].astype(np.float16),
        np.asfortranarray(GOOD[0]),
        np.broadcast_to(np.float32(-1), (2, 3)),
        np.full((2, 6), -1, np.float32)[:, ::-2],
        tensor(GOOD[0]),
        ops.neg(np.ones((2, 3), np.float32)),
    ],
    ids=["swapped", "half", "fortran", "zero strides", "negative strides", "tensor", "pending"],
)
def test_a_run_takes_what_numpy_can_make(plan: Any, x: Any) -> None:
    assert plan.run(x, GOOD[1])[0].tolist() == [2.0, 2.0]


def test_a_plan_whose_step_fails_changes_nothing_behind_it() -> None:
    w = tensor([5.0, 6.0])
    with capture() as tape:
        logp = tape.placeholder((2, 3))
        labels = tape.placeholder((2,), "int64")
        ops.assign_(w, ops.nll(logp, labels))
        plan = tape.compile([])
    with pytest.raises(ValueError, match="label 7 at row 1"):
        plan.run(np.zeros((2, 3), np.float32), np.array([0, 7]))
    assert w.tolist() == [5.0, 6.0]
    plan.run(np.full((2, 3), -3.0, np.float32), np.array([0, 1]))
    assert w.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda loss, t: gradients(loss, t), TypeError, ["sequence"]),
        (lambda loss, t: gradients(3, [t]), TypeError, ["Tensor", "int"]),
        (lambda loss, t: gradients(loss, [tensor([1.0])]), ValueError, ["item 0"]),
        (lambda loss, t: gradients(loss, [t, np.ones(2)]), ValueError, ["item 1"]),
        (lambda loss, t: gradients(t * 2.0, [t]), RuntimeError, ["scalar", "(2,)"]),
        (lambda loss, t: gradients(loss), TypeError, ["2 arguments"]),
    ],
)
def test_wrong_gradients(make: Any, error: type[Exception], words: list[str]) -> None:
    t = tensor([1.0, 2.0], requires_grad=True)
    loss = ops.sum(t * t)
    with pytest.raises(error) as caught:
        make(loss, t)
    for word in words:
        assert word in str(caught.value)
    assert gradients(loss, [t])[0].tolist() == [2.0, 4.0]
