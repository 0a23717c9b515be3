"""What turns a case into numbers: draws its inputs, runs it here and in the reference."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import pycnn
import pycnn._core as core
from cases import Case, Dense, Fixed, Labels
from reference import REFERENCE

Array = np.ndarray

OPS = {info["name"]: info for info in core._op_info()}


def seed_of(case: Case) -> int:
    return zlib.crc32(case.name.encode())


def draw(case: Case, dtype: str, whole: bool = False) -> list[Array | None]:
    """Inputs of a case. ``whole``: small whole numbers, so that sums are exact in float32."""
    rng = np.random.default_rng(seed_of(case))
    arrays: list[Array | None] = []
    for item in case.inputs:
        if item is None:
            arrays.append(None)
        elif isinstance(item, Labels):
            arrays.append(rng.integers(0, item.classes, item.shape).astype(item.dtype))
        elif isinstance(item, Fixed):
            kind = dtype if item.dtype == "float" else item.dtype
            arrays.append(np.asarray(item.values).astype(kind))
        elif isinstance(item, Dense):
            rows = rng.random(item.shape) + 0.1
            arrays.append((rows / rows.sum(axis=-1, keepdims=True)).astype(dtype))
        else:
            values = _floats(rng, item, case.kind, whole)
            if case.kind == "apart" and not whole:
                values = np.asarray(values + 0.1 * len(arrays))  # apart from the other inputs too
            arrays.append(values.astype(dtype))
    return arrays


def _floats(rng: np.random.Generator, shape: Sequence[int], kind: str, whole: bool) -> Array:
    size = int(np.prod(shape))
    if kind == "apart":
        # A shuffled ramp: no two equal, none within half a step of zero. Kinks stay away.
        ramp = rng.permutation(size) - size // 2
        values = ramp + np.where(ramp >= 0, 1, 0)
        return np.asarray(values if whole else values * 0.37).reshape(shape).astype(float)
    if whole:
        return rng.integers(-4, 5, shape).astype(float)
    if kind == "positive":
        return np.asarray(rng.uniform(0.5, 2.0, shape))
    if kind == "unit":
        return np.asarray(rng.uniform(0.1, 1.0, shape))
    return np.asarray(rng.standard_normal(shape))


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def expected(case: Case, arrays: Sequence[Array | None]) -> tuple[Array, ...]:
    """The reference's outputs in float64."""
    wide = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]
    return tuple(np.asarray(y) for y in as_tuple(REFERENCE[case.op](*wide, **case.attrs)))


def call(case: Case, arrays: Sequence[Any]) -> tuple[Any, ...]:
    return as_tuple(getattr(pycnn.ops, case.op)(*arrays, **case.attrs))


def wants_gradient(case: Case) -> list[int]:
    """Which inputs a gradient is checked for: all float ones."""
    return [i for i, item in enumerate(case.inputs) if isinstance(item, tuple)]


@dataclasses.dataclass
class Result:
    outputs: list[Array]
    gradients: list[Array]
    steps: set[tuple[str, str]]


def weights_for(case: Case, shape: Sequence[int], dtype: str, whole: bool) -> Array:
    """What the first output is multiplied by before it is summed up to a loss."""
    rng = np.random.default_rng(seed_of(case) + 1)
    values = rng.integers(-2, 3, shape) if whole else rng.standard_normal(shape)
    return np.asarray(values).astype(dtype)


def captured(case: Case, arrays: Sequence[Array | None], whole: bool = False) -> Result:
    """Outputs and gradients through one plan, and the (op, implementation) pairs that ran."""
    wanted = wants_gradient(case) if case.gradient and OPS[case.op]["differentiable"] else []
    tensors = [
        core.tensor(a, requires_grad=i in wanted) if a is not None else None
        for i, a in enumerate(arrays)
    ]
    with core.capture() as tape:
        outputs = list(call(case, tensors))
        y = outputs[0]
        gradients: list[Any] = []
        if wanted:
            r = weights_for(case, y.shape, y.dtype.name, whole)
            loss = pycnn.ops.sum(y * core.tensor(r))
            gradients = core.gradients(loss, [tensors[i] for i in wanted])
        plan = tape.compile(outputs + gradients)
    values = [t.numpy() for t in plan.run()]
    steps = {(step["op"], step["impl"]) for step in plan.steps}
    return Result(values[: len(outputs)], values[len(outputs) :], steps)


@contextmanager
def forced(op: str, impl: str) -> Iterator[None]:
    core._force_impl(op, impl)
    before = core._set_option("min_n16_batch", 1)
    # 2: also where it is not faster; it is compared with a tolerance, test_winograd.py is exact.
    winograd = core._set_option("winograd", 2 if impl == "winograd" else 0)
    try:
        yield
    finally:
        core._set_option("winograd", winograd)
        core._set_option("min_n16_batch", before)
        core._force_impl(op, None)


@contextmanager
def isa(name: str) -> Iterator[None]:
    before = core.config()["isa"]
    core._set_isa(name)
    try:
        yield
    finally:
        core._set_isa(before)


@contextmanager
def option(name: str, value: int) -> Iterator[None]:
    before = core._set_option(name, value)
    try:
        yield
    finally:
        core._set_option(name, before)


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = core.get_num_threads()
    core.set_num_threads(n)
    core._set_parallel_threshold(0)
    try:
        yield
    finally:
        core._set_parallel_threshold(-1)
        core.set_num_threads(before)


def close(got: Array, want: Array, dtype: str, what: str) -> None:
    """Forward values: float64 to 1e-12, float32 to 2e-5, relative to the size of the numbers."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    scale = float(np.max(np.abs(want), initial=1.0))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def says_the_same_when_poisoned(program: str, **environment: str) -> None:
    """Run a program, told where the tests are, twice: with memory that starts as NaN, and without.

    What it prints is the same.
    """
    here, package = Path(__file__).resolve().parent, Path(core.__file__).resolve().parents[1]
    said = []
    for poison in ("0", "1"):
        result = subprocess.run(
            [sys.executable, "-c", program, str(here)],
            env={**os.environ, **environment, "PYCNN_POISON": poison, "PYTHONPATH": str(package)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        said.append(result.stdout)
    assert said[0] == said[1] != ""
