"""Every op: forward against the reference, gradient against central differences."""

from __future__ import annotations

import numpy as np
import pytest

import pycnn
import pycnn._core as core
from cases import CASES, Case
from harness import OPS, as_tuple, call, captured, close, draw, expected, wants_gradient
from harness import weights_for as weights
from reference import REFERENCE

pytestmark = pytest.mark.sanitize

# Effects and random ops have tests of their own (test_effects.py, test_dropout.py).
ELSEWHERE = {"sgd_", "adam_", "assign_", "dropout"}


def test_every_op_has_a_case() -> None:
    missing = {
        name
        for name, info in OPS.items()
        if not info["internal"] and name not in ELSEWHERE and name not in {c.op for c in CASES}
    }
    assert not missing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_forward(case: Case, dtype: str) -> None:
    arrays = draw(case, dtype)
    outputs = [t.numpy() for t in call(case, arrays)]
    wanted = expected(case, arrays)
    assert len(outputs) == len(wanted)
    for got, want in zip(outputs, wanted, strict=True):
        if want.dtype.kind == "f" and case.op != "cast":
            assert got.dtype == dtype
        close(got, want, dtype if case.op != "cast" else "float32", case.name)


DIFFERENTIABLE = [c for c in CASES if c.gradient and OPS[c.op]["differentiable"]]


def numeric(case: Case, arrays: list, r: np.ndarray, i: int, where: list[tuple]) -> list[float]:
    """Central differences of sum(reference * r) at some positions of input i."""
    slopes = []
    for at in where:
        losses = []
        step = 1e-5 * max(1.0, abs(arrays[i][at]))
        for sign in (1, -1):
            moved = [None if a is None else a.copy() for a in arrays]
            moved[i][at] += sign * step
            y = as_tuple(REFERENCE[case.op](*moved, **case.attrs))[0]
            losses.append(float(np.sum(y * r)))
        slopes.append((losses[0] - losses[1]) / (2 * step))
    return slopes


# Through a cast to float32 no float64 gradient comes; test_looking_first covers those cases.
IN_FLOAT64 = [c for c in DIFFERENTIABLE if c.attrs.get("dtype") != "float32"]


@pytest.mark.parametrize("case", IN_FLOAT64, ids=lambda case: case.name)
def test_gradient(case: Case) -> None:
    arrays = draw(case, "float64")
    result = captured(case, arrays)
    y = result.outputs[0]
    r = weights(case, y.shape, "float64", False)
    rng = np.random.default_rng(0)
    for i, gradient in zip(wants_gradient(case), result.gradients, strict=True):
        array = arrays[i]
        assert array is not None and gradient.shape == array.shape
        positions = list(np.ndindex(array.shape))
        if len(positions) > 6:
            positions = [positions[k] for k in rng.choice(len(positions), 6, replace=False)]
        slopes = numeric(case, arrays, r, i, positions)
        found = [float(gradient[at]) for at in positions]
        # Central differences of a loss of size L carry rounding noise of about 1e-16 L / 1e-5.
        noise = 1e-10 * float(np.sum(np.abs(y * r))) if y.size else 0.0
        np.testing.assert_allclose(
            found, slopes, rtol=1e-6, atol=1e-8 + noise, err_msg=f"input {i}"
        )


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda case: case.name)
def test_looking_first_changes_no_gradient(case: Case) -> None:
    """backward() after the forward pass was computed finds what it needs, with the same bits."""
    arrays = draw(case, "float64")
    found = []
    for look in (False, True):
        tensors = [
            core.tensor(a, requires_grad=i in wants_gradient(case)) if a is not None else None
            for i, a in enumerate(arrays)
        ]
        y = call(case, tensors)[0]
        r = weights(case, y.shape, y.dtype.name, False)
        loss = pycnn.ops.sum(y * core.tensor(r))
        del y
        if look:
            loss.item()
        loss.backward()
        found.append(
            [
                None if tensors[i].grad is None else tensors[i].grad.numpy()
                for i in wants_gradient(case)
            ]
        )
    for first, second in zip(*found, strict=True):
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_array_equal(first, second)
