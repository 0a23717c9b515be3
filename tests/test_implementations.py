"""Every implementation of every op, on every instruction set, against the reference.

Whole-numbered inputs make sums exact: there the results must be equal to the last bit. Elsewhere
they must lie within the same tolerance as the op's forward test. What counts as run is read from
the plan's steps, and an implementation that never ran fails the last test.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import pycnn._core as core
from cases import CASES, Case
from harness import OPS, captured, close, draw, expected, forced, isa, option

pytestmark = pytest.mark.sanitize

RAN: Counter[tuple[str, str, str]] = Counter()

# What no plan can make: the second operand is a ** b, as large as a or larger, never broadcast.
UNREACHABLE = {("pow_slope_exponent", "n16_a")}


def implementations(op: str) -> list[str]:
    return list(OPS[op]["impls"])


@pytest.mark.parametrize("name", core.config()["isa_available"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_implementations_agree(case: Case, name: str) -> None:
    whole = case.exact
    arrays = draw(case, "float32", whole)
    wanted = expected(case, arrays)
    with isa(name):
        done: set[str] = set()
        for fuse in (1, 0):  # 0: ops that a pass replaces where it can
            with option("fuse", fuse):
                steps = captured(case, arrays, whole).steps
                for op in sorted({op for op, _ in steps} - done):
                    check_op(case, arrays, wanted, op, name)
                done |= {op for op, _ in steps}


def check_op(
    case: Case,
    arrays: list[np.ndarray | None],
    wanted: tuple[np.ndarray, ...],
    op: str,
    name: str,
) -> None:
    whole = case.exact
    plain = captured(case, arrays, whole)
    for impl in implementations(op):
        with forced(op, impl):
            result = captured(case, arrays, whole)
        if (op, impl) not in result.steps:
            continue  # it refused; where it always does, the last test tells
        RAN[op, impl, name] += 1
        exact = whole and impl != "winograd"  # its fractions: see test_winograd.py
        compare(case, result.outputs, wanted, exact, f"{name} {op} {impl}")
        for got, want in zip(result.gradients, plain.gradients, strict=True):
            if exact:
                np.testing.assert_array_equal(got, want, f"{name} {op} {impl} gradient")
            else:
                close(got, want.astype(np.float64), "float32", f"{op} {impl} gradient")


def compare(
    case: Case, outputs: list[np.ndarray], wanted: tuple[np.ndarray, ...], whole: bool, what: str
) -> None:
    for got, want in zip(outputs, wanted, strict=True):
        if whole:
            np.testing.assert_array_equal(got, want.astype(np.float32), what)
        else:
            close(got, want, "float32", what)


def test_every_implementation_ran() -> None:
    """Runs last in this file: what no case reached would be tested in vain."""
    if not RAN:
        pytest.fail("run this test together with test_implementations_agree")
    missing = []
    chosen = sorted({name for _, _, name in RAN})  # pytest -k may leave instruction sets out
    for op, info in OPS.items():
        if op in {"sgd_", "adam_", "assign_", "reorder", "load_images"} or op.startswith("dropout"):
            # test_effects.py, test_dropout.py, test_remembered.py, test_load_images.py; N16 plans
            continue  # reorder
        if op == "sum_sloped_squares":
            continue  # made by plans: test_updates.py
        for impl in info["impls"]:
            for name in chosen:
                if not RAN[op, impl, name] and (op, impl) not in UNREACHABLE:
                    missing.append(f"{op}:{impl} on {name}")
    assert not missing, "\n".join(missing)


def test_instruction_sets_not_run() -> None:
    """Reports the compiled sets that this processor lacks; at least one must have run."""
    config = core.config()
    lacking = set(config["isa_compiled"]) - set(config["isa_available"])
    print(f"not run here, the processor lacks them: {sorted(lacking) or 'none'}")
    assert config["isa_available"]


def test_an_emulated_instruction_set_is_told() -> None:
    """Nobody measures a build whose AVX-512 is made of AVX2 by mistake."""
    emulated = core.config()["isa_emulated"]
    assert emulated in (None, "avx512")
    assert ("emulated" in core.show_config()) == (emulated is not None)
