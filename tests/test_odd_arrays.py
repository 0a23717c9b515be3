"""Arrays of every kind that NumPy can make: read right, or refused; and random calls."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import ops, tensor

pytestmark = pytest.mark.sanitize

NAN, INF = float("nan"), float("inf")
X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
W = np.ones((4, 3, 3, 3), np.float32)
B = np.ones(4, np.float32)
M = np.arange(20, dtype=np.float32).reshape(4, 5)

BASE = np.random.default_rng(1).standard_normal((4, 6))


def _misaligned() -> np.ndarray:
    raw = np.frombuffer(b"\0" + BASE.astype(np.float32).tobytes(), np.uint8)
    return raw[1:].view(np.float32).reshape(BASE.shape)


def _read_only() -> np.ndarray:
    array = BASE.copy()
    array.setflags(write=False)
    return array


ZOO: dict[str, Callable[[], Any]] = {
    "row major": lambda: BASE,
    "float32": lambda: BASE.astype(np.float32),
    "float16": lambda: BASE.astype(np.float16),
    "long double": lambda: BASE.astype(np.longdouble),
    "swapped": lambda: BASE.astype(">f8"),
    "fortran": lambda: np.asfortranarray(BASE),
    "strided": lambda: BASE[::2, 1::2],
    "negative": lambda: BASE[::-1, ::-1],
    "zero strides": lambda: np.broadcast_to(BASE[:1], BASE.shape),
    "one number": lambda: np.broadcast_to(np.float32(2), (3, 4)),
    "transposed": lambda: BASE.T,
    "misaligned": _misaligned,
    "read-only": _read_only,
    "0-d": lambda: np.array(-3.0),
    "a scalar": lambda: np.float32(-3.0),
    "no rows": lambda: BASE[:0],
    "no columns": lambda: BASE[:, :0],
    "8 axes": lambda: BASE.reshape(1, 2, 1, 2, 1, 3, 1, 2),
    "matrix": lambda: np.ones((2, 3)).view(np.recarray).view(np.ndarray),
    "nothing masked": lambda: np.ma.array(BASE),
    "a list": lambda: [[1.5, -2.0], [0.25, 4.0]],
    "a memoryview": lambda: memoryview(BASE),
    "a number": lambda: -2.5,
}


@pytest.mark.parametrize("kind", ZOO)
def test_every_kind_of_float_array(kind: str) -> None:
    value = ZOO[kind]()
    array = np.asarray(value)
    tolerance = 1e-6 if array.dtype.itemsize < 8 or not isinstance(value, np.ndarray) else 1e-12
    for got in (tensor(value), ops.relu(value) - ops.relu(ops.neg(value))):
        assert got.shape == array.shape
        np.testing.assert_allclose(got.numpy(), array.astype(float), rtol=tolerance)
    total = ops.sum(value).item() if array.ndim else float(array)
    np.testing.assert_allclose(total, array.astype(float).sum(), rtol=1e-3 * tolerance**0.25)


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", ">i4", ">u2"])
def test_every_kind_of_whole_number(dtype: str) -> None:
    array = np.array([[0, 1, 100], [7, 3, 1]]).astype(dtype)
    for view in (array, array[::-1], array.T, np.broadcast_to(array[0], (4, 3))):
        t = tensor(view)
        assert t.dtype.name in ("int64", "int32", "uint8", "bool")
        np.testing.assert_array_equal(t.numpy(), view)
        rows = np.array([1, 0, 1])
        np.testing.assert_array_equal(ops.gather(view, rows).numpy(), view[rows])
        np.testing.assert_array_equal(ops.cast(view, dtype="float64").numpy(), view.astype(float))


def test_a_file_in_memory(tmp_path: Path) -> None:
    BASE.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", BASE.dtype, "r", shape=BASE.shape)
    np.testing.assert_array_equal(ops.square(mapped).numpy(), BASE**2)
    np.testing.assert_array_equal(tensor(mapped).numpy(), BASE)


def test_empty_batches_pass_through() -> None:
    assert ops.conv2d(X[:0], W, B).shape == (0, 4, 6, 6)
    assert ops.conv2d(X[:, :0], W[:, :0], B).numpy().min() == 1.0  # a sum of nothing, plus b
    assert ops.max_pool2d(X[:0], kernel=2).numpy().shape == (0, 3, 4, 4)
    assert ops.dense(M[:0], M.T).numpy().shape == (0, 4)
    np.testing.assert_array_equal(ops.dense(M[:, :0], M.T[:0], B).numpy(), np.ones((4, 4)))
    np.testing.assert_array_equal(ops.matmul(M[:, :0], M.T[:0]).numpy(), np.zeros((4, 4)))
    assert ops.softmax(M[:, :0]).numpy().shape == (4, 0)
    assert ops.nll(M[:0], np.zeros(0, int)).numpy().shape == (0,)
    assert ops.sum(M[:0]).item() == 0.0
    assert np.isnan(ops.mean(M[:0]).item())


def test_nan_is_data_and_passes() -> None:
    x = np.array([NAN, INF, -INF, 1.0])
    for op in (ops.relu, ops.exp, ops.tanh, ops.sigmoid, ops.square):
        got = op(x).numpy()
        assert np.isnan(got[0]) and not np.isnan(got[3])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(ops.div(np.array([1.0, 0.0]), 0.0).numpy(), [INF, NAN])


FUZZ = Path(__file__).with_name("fuzz_ops.py")


def test_random_calls_never_crash() -> None:
    """Some hundred calls with random ops, inputs and attributes, in a process of their own."""
    environment = {**os.environ, "PYCNN_POISON": "1"}
    root = str(Path(pycnn.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(FUZZ), "7", "400"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = done.stdout.split()
    right, refused, guards = (int(words[i]) for i in (1, 3, 5))
    assert right >= 100 and refused >= 100  # it tries both kinds
    assert guards == 0  # nothing was written beyond its memory
