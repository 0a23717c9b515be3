"""`profile` and PYCNN_VERBOSE: what they tell is what ran."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
import pycnn._core as core
from cases import CASES, Case
from harness import draw
from pycnn import layers, ops
from pycnn._steps import case_of, flops_of, grouped, layers_of, title_of
from pycnn.profiling import Row


def small_model(seed: int = 1) -> Any:
    pycnn.utils.set_random_seed(seed)
    model = pycnn.Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Conv2D(8, 3, activation="relu", name="first"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(4, 3, name="second"),
            layers.Flatten(name="flat"),
            layers.Dense(3, activation="softmax", name="last"),
        ]
    )
    model.compile(pycnn.optimizers.SGD(0.1, name="descent"), "sparse_categorical_crossentropy")
    return model


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.random((n, 12, 12, 1), np.float32), rng.integers(0, 3, n)


@pytest.fixture
def _no_chains() -> Iterator[None]:
    """Each step by itself: in a chain, several layers share a line."""
    before = core._set_option("chain", 0)
    yield
    core._set_option("chain", before)


@pytest.mark.sanitize
@pytest.mark.usefixtures("_no_chains")
def test_a_training_step_layer_by_layer() -> None:
    model = small_model()
    x, y = data(40)
    model.fit(x, y, batch_size=16, verbose=0)
    with pycnn.profile() as p:
        model.fit(x, y, batch_size=16, verbose=0, epochs=2)
    rows = p.rows
    assert all(isinstance(row, Row) and row.calls > 0 and row.ms >= 0 for row in rows)
    found = {(row.layer, row.phase): row for row in rows if row.gflops is not None}
    for key in [(name, phase) for name in ("first", "second") for phase in ("forward", "backward")]:
        assert key in found, key
    # Two batches of 16 and one of 8 an epoch, two epochs; both plans are one line.
    convolutions = [r for r in rows if r.op == "conv2d+relu" and r.layer == "first"]
    assert sum(row.calls for row in convolutions) == 6
    assert {row.op for row in rows if row.layer == "first" and row.phase == "backward"} >= {
        "conv2d_dw"
    }
    assert {row.op for row in rows if row.phase == "update"} == {"sgd_"}
    assert {row.layer for row in rows if row.phase == "update"} == {"descent"}
    assert any(row.layer == "(batch)" and row.op == "gather" for row in rows)
    assert any(row.layer == "(loss)" for row in rows)
    assert p.runs == 6 and p.plans == 2
    assert 0 < p.engine_ms <= p.wall_ms
    assert math.isclose(p.engine_ms + p.outside_ms, p.wall_ms, rel_tol=1e-9)
    assert math.isclose(sum(row.ms for row in rows), p.engine_ms, rel_tol=1e-6)
    assert math.isclose(sum(row.share for row in rows), 1.0, rel_tol=1e-6)


def test_a_chain_is_one_line_with_all_its_layers() -> None:
    with core.capture() as tape:
        x = tape.placeholder((16, 6, 8, 8))
        core._push_label("one")
        y = ops.max_pool2d(x, kernel=2)
        core._pop_label()
        core._push_label("two")
        y = ops.tanh(y)
        core._pop_label()
        core._push_label("three")
        plan = tape.compile([ops.max_pool2d(y, kernel=2)])
        core._pop_label()
    numbers = {step["chain"] for step in plan.steps if "chain" in step}
    assert len(numbers) == 1, "no chain was formed"
    with pycnn.profile() as p:
        plan.run(np.ones((16, 6, 8, 8), np.float32))
    (row,) = [row for row in p.rows if " > " in row.op]
    assert row.op == "max_pool2d > tanh > max_pool2d" and row.calls == 1 and row.ms > 0
    assert row.layer == "one, two, three"


def test_what_backward_makes_again_counts_as_backward() -> None:
    """The chain begins with the convolution of forward."""
    model = pycnn.Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Conv2D(8, 3, activation="relu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flat"),
            layers.Dense(3, name="last"),
        ]
    )
    model.compile("sgd", "mse")
    with pycnn.profile() as p:
        model.fit(data(16)[0], np.zeros((16, 3)), batch_size=16, verbose=0)
    chains = [row for row in p.rows if row.op.startswith("conv2d+relu > ")]
    assert [row.phase for row in sorted(chains, key=lambda row: len(row.op))] == [
        "forward",
        "backward",
    ]
    assert all(row.layer == "first, norm, pool" for row in chains if row.phase == "forward")


def test_speed_is_work_over_time() -> None:
    a, b = np.ones((16, 24), np.float32), np.ones((24, 8), np.float32)
    with pycnn.profile() as p:
        ops.matmul(a, b).numpy()
    (row,) = [row for row in p.rows if row.op == "matmul"]
    assert row.gflops is not None and row.of_peak is not None
    assert math.isclose(row.gflops * row.ms * 1e6, 2 * 16 * 24 * 8, rel_tol=1e-9)
    assert math.isclose(row.of_peak, row.gflops / p.peak_gflops, rel_tol=1e-9)
    assert row.case == "matmul-16x24-24x8"


def test_what_was_recorded_before_is_not_counted_and_pending_work_is() -> None:
    before = ops.exp(core.tensor([1.0, 2.0]))
    with pycnn.profile() as p:
        inside = ops.tanh(core.tensor([1.0, 2.0]))
    names = [row.op for row in p.rows]
    assert names.count("tanh") == 1 and "exp" not in names
    del before, inside


def test_imperative_layers_have_their_names_and_phases() -> None:
    layer = layers.Dense(2, name="mine")
    x = core.tensor(np.ones((3, 4), np.float32))
    layer(x)
    with pycnn.profile() as p:
        ops.mean(layer(x)).backward()
    assert {(r.layer, r.phase) for r in p.rows if r.op in ("dense", "matmul")} == {
        ("mine", "forward"),
        ("mine", "backward"),
    }


def test_two_layers_of_one_structure_are_told_apart_only_while_profiling() -> None:
    x = core.tensor(np.ones((3, 5), np.float32))
    one, two = layers.Dense(2, name="one"), layers.Dense(2, name="two")
    one(x).numpy(), two(x).numpy()
    made = core.plan_cache_info()["made"]
    one(x).numpy(), two(x).numpy()
    assert core.plan_cache_info()["made"] == made
    with pycnn.profile() as p:
        one(x).numpy(), two(x).numpy()
    assert {row.layer for row in p.rows if row.op == "dense"} == {"one", "two"}


@pytest.mark.sanitize
def test_nothing_is_timed_without_a_profile() -> None:
    x = core.tensor(np.ones((4, 4), np.float32))
    with core.capture() as tape:
        y = ops.relu(x)
        plan = tape.compile([y])
    plan.run()
    assert all(step["runs"] == 0 and step["ns"] == 0 for step in plan.steps)
    with pycnn.profile():
        plan.run()
    plan.run()
    assert [step["runs"] for step in plan.steps] == [1]
    with pycnn.profile() as again:
        plan.run()
        plan.run()
    assert [row.calls for row in again.rows if row.op == "relu"] == [2]


@pytest.mark.sanitize
def test_profiles_are_not_nested() -> None:
    with pycnn.profile() as outer:
        with pytest.raises(RuntimeError, match="cannot be nested"):
            with pycnn.profile():
                pass
        with pytest.raises(RuntimeError, match="after the with block"):
            _ = outer.rows
        ops.exp(core.tensor([1.0])).numpy()
    assert [row.op for row in outer.rows][:1] == ["exp"]


@pytest.mark.sanitize
def test_an_error_inside_ends_the_profile() -> None:
    p = pycnn.profile()
    with pytest.raises(ZeroDivisionError), p:
        ops.exp(core.tensor([1.0])).numpy()
        _ = 1 / 0
    assert p.rows
    with p:
        ops.tanh(core.tensor([1.0])).numpy()
    assert [row.op for row in p.rows][:1] == ["tanh"]


@pytest.mark.sanitize
def test_other_threads_are_counted() -> None:
    def work() -> None:
        ops.sqrt(core.tensor([4.0])).numpy()

    with pycnn.profile() as p:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "sqrt" in [row.op for row in p.rows]


def test_the_engine_takes_no_longer_than_the_block() -> None:
    """Also where other threads run plans while the profile begins and ends.

    A plan whose thread waits its turn when the profile ends has only the times of an earlier one.
    """
    plans = []
    for k in range(7):
        with core.capture() as tape:
            y = ops.exp(core.tensor(np.ones((256, 256 + k), np.float32)))
            plans.append(tape.compile([y]))
    stop = threading.Event()

    def work(plan: Any) -> None:
        while not stop.is_set():
            plan.run()

    threads = [threading.Thread(target=work, args=(plan,)) for plan in plans[1:]]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            with pycnn.profile() as p:
                plans[0].run()
            assert p.runs >= 1 and 0 < p.engine_ms <= p.wall_ms
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.usefixtures("_no_chains")
def test_the_table() -> None:
    model = small_model()
    x, y = data(16)
    with pycnn.profile() as p:
        model.train_on_batch(x, y)
    for text in (str(p), p.table("order"), p.table("layer", by="layer"), p.table(limit=2)):
        first = text.splitlines()[0].split()
        assert first[:3] == ["layer", "pass", "op"] and first[-1] == "share"
        assert "outside the engine" in text and "GFLOP/s (float32)" in text
    lines = p.to_markdown(sort="time", limit=3).splitlines()
    assert lines[1].startswith("| --- |") and len([x for x in lines if x.startswith("|")]) == 5
    times = [row.ms for row in p.rows]
    assert f"{max(times):.3f}" in lines[2]
    by_layer = {(row.layer, row.phase): row for row in p.layers()}
    assert math.isclose(
        by_layer["second", "backward"].ms,
        sum(r.ms for r in p.rows if (r.layer, r.phase) == ("second", "backward")),
    )
    with pytest.raises(ValueError, match="sort must be"):
        p.table("size")
    with pytest.raises(ValueError, match="by must be"):
        p.table(by="op")
    with pytest.raises(ValueError, match="limit must"):
        p.table(limit=-1)


def test_an_empty_profile() -> None:
    with pycnn.profile() as p:
        pass
    assert p.rows == [] and p.runs == 0 and "0 runs" in str(p)
    assert pycnn.profile().rows == []


@pytest.mark.sanitize
def test_labels_never_fail() -> None:
    for odd in (3, None, "\udcff", "a\0b", ""):
        core._push_label(odd)
        core._pop_label()
    with pytest.raises(RuntimeError, match="no label"):
        core._pop_label()
    with pytest.raises(ValueError, match="forward, backward or update"):
        core._push_label("x", "sideways")


# ---- the words ----


def shapes(*sizes: tuple[int, ...]) -> list[tuple[str, str]]:
    return [(str(size), "plain") for size in sizes]


@pytest.mark.parametrize(
    ("op", "ins", "outs", "attrs", "flops"),
    [
        ("conv2d", [(8, 3, 9, 9), (5, 3, 2, 2)], [(8, 5, 8, 8)], {}, 2 * 8 * 5 * 64 * 12),
        ("conv2d_dx", [(8, 5, 8, 8), (5, 3, 2, 2)], [(8, 3, 9, 9)], {}, 2 * 8 * 5 * 64 * 12),
        ("conv2d_dw", [(8, 3, 9, 9), (8, 5, 8, 8)], [(5, 3, 2, 2)], {}, 2 * 8 * 5 * 64 * 12),
        ("dense", [(4, 7), (7, 3), (3,)], [(4, 3)], {}, 2 * 4 * 7 * 3),
        ("matmul", [(7, 4), (7, 3)], [(4, 3)], {"transpose_a": True}, 2 * 4 * 7 * 3),
        ("dense_maps", [(9, 2, 3, 4), (24, 5), (5,)], [(9, 5)], {}, 2 * 9 * 24 * 5),
        ("dense_maps_dx", [(9, 5), (24, 5)], [(9, 2, 3, 4)], {}, 2 * 9 * 24 * 5),
        ("dense_maps_dw", [(9, 2, 3, 4), (9, 5)], [(24, 5)], {}, 2 * 9 * 24 * 5),
        ("relu", [(4, 3)], [(4, 3)], {}, None),
    ],
)
def test_operations(op: str, ins: Any, outs: Any, attrs: dict[str, Any], flops: Any) -> None:
    step = {"op": op, "inputs": shapes(*ins), "outputs": shapes(*outs), "attrs": attrs}
    assert flops_of(step) == flops


def test_chained_steps_are_summed_and_named() -> None:
    product = {"op": "matmul", "inputs": shapes((2, 3), (3, 4)), "outputs": shapes((2, 4))}
    relu = {"op": "relu", "inputs": shapes((2, 4)), "outputs": shapes((2, 4))}
    times = {"runs": 2, "last_ns": 3.0, "impl": "n16", "dtype": "float32", "pass": "forward"}
    steps = [
        {**relu, **times, "ns": 1.0, "layer": "alone"},
        {**product, **times, "ns": 7.0, "layer": "a", "chain": 1},
        {**relu, **times, "ns": 0.0, "last_ns": 0.0, "layer": "b", "impl": "plain", "chain": 1},
        {**relu, **times, "ns": 5.0, "layer": "c", "chain": 3},
        {**relu, **times, "ns": 0.0, "last_ns": 0.0, "layer": "c", "chain": 3},
    ]
    alone, chain, other = grouped(steps)
    assert alone is steps[0] and layers_of(other) == "c" and other["ns"] == 5.0
    assert chain["ns"] == 7.0 and chain["last_ns"] == 3.0 and chain["impl"] == "n16, plain"
    assert flops_of(chain) == 48
    assert title_of(chain) == "matmul > relu"
    assert layers_of(chain) == "a, b"
    assert case_of(chain) == "matmul-2x3-3x4+relu-2x4"


NAMED = [
    case for case in CASES if case.op in ("conv2d", "max_pool2d", "dense", "matmul", "softmax")
]


@pytest.mark.parametrize("case", NAMED[::5], ids=lambda case: case.name)
def test_steps_are_named_as_the_cases_of_the_tests(case: Case) -> None:
    with core.capture() as tape:
        tensors = [None if a is None else core.tensor(a) for a in draw(case, "float32")]
        plan = tape.compile([getattr(ops, case.op)(*tensors, **case.attrs)])
    (told,) = [case_of(step) for step in plan.steps if step["op"] == case.op]
    # A case may spell out a default, or put its attributes in another order.
    words = set(case.name.split("-"))
    assert told.startswith(case.op + "-") and set(told.split("-")) <= words
    # Shapes come first; a digit behind an attribute is a negative number's.
    shapes = list(itertools.takewhile(lambda word: word[:1].isdigit(), case.name.split("-")[1:]))
    assert told.split("-")[1 : 1 + len(shapes)] == shapes


# ---- PYCNN_VERBOSE ----

PROGRAM = """
import numpy as np, pycnn
from pycnn import layers
layer = layers.BatchNormalization(name="mine")
for n in (4, 16, 16):
    layer(np.ones((n, 6, 5, 3), "float32"), training=True).numpy()
"""


def run_verbose(setting: str, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYCNN_VERBOSE": setting},
    )


def test_verbose_tells_each_op_once() -> None:
    done = run_verbose("1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if " batch_norm-" in line]
    assert len(lines) == 2 and done.stdout == ""
    small, large = lines
    assert ": batch_norm-4x3x6x5-3-3" in small and "| forward of mine |" in small
    assert "| float32 | plain,plain,plain->plain,plain,plain |" in small
    assert "refused: n16: batch of 4 is below 8" in small
    assert ": batch_norm-16x3x6x5-3-3" in large and "| n16,plain,plain->n16,plain,plain |" in large
    assert "| n16" in large and "refused" not in large


def test_verbose_two_tells_times_of_each_run() -> None:
    done = run_verbose("2")
    assert done.returncode == 0, done.stderr
    runs = [
        line
        for line in done.stderr.splitlines()
        if "run of plan" in line and " batch_norm-" in line
    ]
    assert len(runs) == 3 and all(line.endswith(" ms") for line in runs)


def test_verbose_of_another_value_is_refused() -> None:
    done = run_verbose("loud", "import pycnn")
    assert done.returncode != 0 and "PYCNN_VERBOSE=loud is not one of 0, 1, 2" in done.stderr
    assert run_verbose("0").stderr == "" and run_verbose("").stderr == ""


def test_a_hook_that_fails_stops_nothing() -> None:
    program = """
import sys, numpy as np, pycnn, pycnn._core as core
def hook(made, plan):
    raise RuntimeError("from the hook")
core._set_plan_hook(hook, 2)
print(float(pycnn.ops.sum(core.tensor([1.0, 2.0]))))
core._set_plan_hook(None, 0)
print(float(pycnn.ops.sum(core.tensor([1.0, 2.0, 3.0]))))
"""
    done = run_verbose("", program)
    assert done.stdout.split() == ["3.0", "6.0"], done.stderr
    assert done.stderr.count("from the hook") == 2


def test_the_peak_of_all_threads() -> None:
    one, every = core.fma_peak(), core.fma_peak(all_threads=True)
    assert one > 0 and every > 0
    assert core.fma_peak(dtype="float64") > 0
    with pytest.raises(ValueError, match="float32 or float64"):
        core.fma_peak(dtype="int64")
