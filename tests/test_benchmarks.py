"""The benchmark's own arithmetic: networks, work, ratios, goals, pictures. Nothing is timed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycnn.keras

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

import chart  # noqa: E402
import epochs  # noqa: E402
import frameworks  # noqa: E402
import networks  # noqa: E402
import ops as op_benchmark  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
from processes import Process, WorkerError  # noqa: E402

# What the labs' reports and their networks' definitions say.
PARAMETERS = {
    "lab1": 278_858,
    "lab1-one-block": 1_421_322,
    "lab2": 21_840,
    "lab3": 207_178,
    "lab3-model-2": 440_906,
    "lab3-model-3": 449_482,
    "lab3-light": 11_907,
    "lab4": 607_394,
    "lab5": 61_706,
    "lab5-filters": 255_230,
}


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks_are_what_they_say(name: str) -> None:
    network = networks.NETWORKS[name]
    if name in PARAMETERS:
        assert network.parameters() == PARAMETERS[name]
    model = frameworks.keras_model(pycnn.keras, network)
    assert model.count_params() == network.parameters()
    assert model.output_shape == (None, *network.sizes()[-1]) == (None, 10)
    assert networks.training_goal(name) >= 2.5
    assert networks.training_goal(name, "avx2") == 1.5


def test_operations_by_hand() -> None:
    # Lab 1, one block: a convolution of 1 to 64 channels, 3x3, to 26x26 (two passes: the first
    # layer has none to its input), then 10816-128-128-128-10.
    multiplied = 26 * 26 * 64 * 9
    dense = 10816 * 128 + 2 * 128 * 128 + 128 * 10
    network = networks.NETWORKS["lab1-one-block"]
    assert network.flops() == 2 * 128 * (2 * multiplied + 3 * dense)
    assert network.flops(training=False) == 2 * 128 * (multiplied + dense)
    # 'same' with stride 2: 28 -> 14, three layers.
    light = networks.NETWORKS["lab3-light"]
    assert light.sizes()[:2] == [(14, 14, 32), (7, 7, 32)]


def test_same_padding() -> None:
    assert networks.same_padding(28, 5, 1) == (2, 2)
    assert networks.same_padding(28, 4, 2) == (1, 1)
    assert networks.same_padding(7, 4, 1) == (1, 2)
    assert networks.same_padding(28, 1, 1) == (0, 0)


def test_goals_of_predictions() -> None:
    assert networks.prediction_goal("lab1", 1) == 1
    assert networks.prediction_goal("lab1", 32) == 3
    assert networks.prediction_goal("lab4-cifar", 1000) == 1.5


def row(framework: str, minimum: float, median: float, megabytes: float) -> report.Measured:
    return report.Measured(framework, "1.0", minimum, median, megabytes)


RESULT = report.Result(
    "a network",
    [
        row("pycnn", 0.010, 0.011, 20),
        row("torch", 0.030, 0.044, 80),
        row("torch-tuned", 0.025, 0.026, 90),
        row("keras-tensorflow", 0.040, 0.041, 100),
    ],
    2e9,
    3.0,
    {"keras-jax": "No module named 'jax' | really"},
)


def test_ratios() -> None:
    assert RESULT.ratio() == pytest.approx(3.0)  # not the tuned one: that is no default
    assert RESULT.ratio("median") == pytest.approx(41 / 11)  # Keras's is the least median
    assert RESULT.tuned_ratio() == pytest.approx(2.5)
    assert RESULT.memory_ratio() == pytest.approx(0.25)
    alone = dataclasses.replace(RESULT, rows=RESULT.rows[:1])
    assert alone.ratio() is None and alone.tuned_ratio() is None and alone.memory_ratio() is None
    assert dataclasses.replace(RESULT, rows=RESULT.rows[1:]).ratio() is None


def test_tables() -> None:
    text = report.network_table(RESULT, peak=400.0)
    assert "| pycnn (1.0) | 10.00 | 11.00 | 1.00 | 1.00 | 200 (50 %) | 20 |" in text
    assert "| torch (1.0) | 30.00 | 44.00 | 3.00 | 4.00 |" in text
    assert "| keras-jax: No module named 'jax' / really | - |" in text
    assert "| direct, at the peak | 5.00 |" in text
    summary = report.summary_table([RESULT, dataclasses.replace(RESULT, goal=4.0)])
    assert "30.00 (torch) | 3.00 (goal 3, met) | 3.73 | 2.50 (goal 2, met)" in summary
    assert "0.25 (goal 0.5, met)" in summary and "3.00 (goal 4, not met)" in summary
    assert "failed" in report.summary_table([dataclasses.replace(RESULT, rows=RESULT.rows[1:])])
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_scaling() -> None:
    found = report.Scaled("a network", 0.018, 0.010, 100.0, 190.0)
    assert found.speedup == pytest.approx(1.8)
    assert found.share == pytest.approx(1.8 / 1.9)
    assert "| 1.80 | 1.90 | 0.95 (goal 0.92, met) |" in report.scaling_table([found], 2)


def test_epochs_are_scaled_and_said_to_be() -> None:
    some = report.Fitted("lab", 50, 2, {"pycnn": [2.0, 1.0], "keras-jax": [3.0, 4.0]}, {"x": "no"})
    text = report.fit_table([some])
    assert "| lab | pycnn | 1.00 | 50.0 (50 epochs, scaled from 2) | 1.00 |" in text
    assert "| lab | keras-jax | 3.00 | 150.0 (50 epochs, scaled from 2) | 3.00 |" in text
    assert "| lab | x: no | - | - | - |" in text
    whole = report.Fitted("lab", 50, 50, {"pycnn": [1.0]})
    assert "50.0 (50 epochs) |" in report.fit_table([whole])
    assert "1.00 (1 epoch)" in report.fit_table([report.Fitted("lab", 1, 1, {"pycnn": [1.0]})])
    assert set(epochs.FITS) <= set(networks.NETWORKS)


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert chart.explain_missing(tmp_path / "speed.png") is None
    assert "ends in .png" in str(chart.explain_missing(tmp_path / "speed.foo"))
    assert "no folder" in str(chart.explain_missing(tmp_path / "nowhere" / "speed.png"))
    slow = dataclasses.replace(RESULT, rows=[*RESULT.rows, row("torch-compiled", 9.0, 9.0, 1)])
    path = tmp_path / "speed.png"
    chart.draw([RESULT, slow], path, "a title")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000
    chart.draw([], tmp_path / "empty.png", "nothing measured")
    assert (tmp_path / "empty.png").is_file()


def test_the_command_line() -> None:
    assert run.arguments([]).networks == ["lab1", "lab3", "lab5"]
    assert run.arguments(["--networks", "all"]).networks == list(networks.NETWORKS)
    for words in (
        ["--blocks", "0"],
        ["--batch", "0"],
        ["--networks", "lab9"],
        ["--scaling", "--threads", "1"],
        ["--no-steps", "--png", "x.png"],
        ["--epochs", "lab2"],
        ["--output", "no-such-folder/speed.md"],
    ):
        with pytest.raises(SystemExit):
            run.arguments(words)


@pytest.mark.parametrize("command", [["benchmarks/run.py"], ["-m", "benchmarks"]])
def test_it_is_one_command(command: list[str]) -> None:
    root = BENCHMARKS.parent
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    words = [sys.executable, *command, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 0 and "--peer-python" in done.stdout, done.stderr


def test_the_instruction_set_is_held_on_all_sides() -> None:
    told = frameworks.environment_of("torch", 2, "avx2")
    assert told["ATEN_CPU_CAPABILITY"] == "avx2" and told["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert frameworks.environment_of("pycnn", 2, "avx2")["PYCNN_ISA"] == "avx2"
    assert "PYCNN_NUM_THREADS" in told and told["OMP_NUM_THREADS"] == "2"


# ---- the frameworks' processes ----

ECHO = "import sys\nprint('1', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"


def process(code: str, timeout: float = 60) -> Process:
    environment = frameworks.environment_of("pycnn", 1)
    return Process("someone", [sys.executable, "-c", code], environment, timeout)


def test_a_process_answers() -> None:
    worker = process(ECHO)
    assert worker.answer() == 1
    assert worker.ask(a=[1, 2]) == {"a": [1, 2]}
    worker.close()


def test_a_process_that_fails_says_why() -> None:
    worker = process("raise ValueError('no such thing')")
    with pytest.raises(WorkerError, match="someone stopped: ValueError: no such thing"):
        worker.answer()
    with pytest.raises(WorkerError, match="does not start"):
        Process("someone", ["/no/such/program"], {}, 1)


def test_a_process_that_hangs_is_given_up() -> None:
    worker = process("import time; time.sleep(600)", timeout=0.2)
    with pytest.raises(WorkerError, match="did not answer within"):
        worker.answer()


def test_our_worker_steps_predicts_and_tells_its_memory() -> None:
    settings = run.Settings(
        ["lab2"],
        ["pycnn"],
        threads=1,
        blocks=1,
        block_seconds=1e-3,
        peer_python="-",
        isa=None,
        timeout=120,
    )
    for predict in (False, True):
        result = run.measure("lab2", settings, predict, batch=4)
        (ours,) = result.rows
        assert not result.failures and result.title == "lab 2 (batch 4)"
        assert 0 < ours.minimum <= ours.median and ours.megabytes > 0


def test_a_framework_that_does_not_start_is_shown() -> None:
    settings = run.Settings(
        ["lab2"],
        ["torch"],
        threads=1,
        blocks=1,
        block_seconds=1e-3,
        peer_python="/no/such/python",
        isa=None,
        timeout=60,
    )
    result = run.measure("lab2", settings, predict=False)
    assert not result.rows and "does not start" in result.failures["torch"]
    assert "does not start" in report.network_table(result, None)


# ---- ops by the names of their cases ----


@pytest.mark.parametrize(
    ("name", "inputs", "attrs"),
    [
        ("conv2d-8x3x9x9-4x3x3x3-4", ((8, 3, 9, 9), (4, 3, 3, 3), (4,)), {}),
        ("sum-3x4-axis-1-keepdimsTrue", ((3, 4),), {"axis": -1, "keepdims": True}),
        ("sum-3x4-axis(0,-1)", ((3, 4),), {"axis": (0, -1)}),
        ("batch_norm-8x3--3", ((8, 3), (), (3,)), {}),
        ("relu-", ((),), {}),
        ("mul--", ((), ()), {}),
        ("add---2", (None, (2,)), {}),
        (
            "conv2d-8x3x9x9-4x3x3x3-activationrelu",
            ((8, 3, 9, 9), (4, 3, 3, 3)),
            {"activation": "relu"},
        ),
    ],
)
def test_names_of_cases(name: str, inputs: tuple[object, ...], attrs: dict[str, object]) -> None:
    case = op_benchmark.parse(name)
    assert case.inputs == inputs and case.attrs == attrs


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing-3", "no op 'nothing'"),
        ("relu-3y", "neither a shape nor"),
        ("relu-3-hm", "'hm'"),
        ("relu-3x", "'3x'"),
    ],
)
def test_other_names_are_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        op_benchmark.parse(name)


@pytest.mark.parametrize(
    "name", ["conv2d-8x3x6x6-4x3x3x3-4-activationrelu", "conv2d_dw-8x3x6x6-8x4x4x4-kernel(3,3)"]
)
def test_each_implementation_is_timed_by_itself(name: str) -> None:
    timed = op_benchmark.time_case(name, seconds=1e-3)
    impls = {(one.case.partition("-")[0], one.impl) for one in timed}
    assert {(op, "n16") for op in ("conv2d", "conv2d_dx", "conv2d_dw")} <= impls
    assert ("conv2d", "im2col") in impls and ("conv2d", "reference") not in impls
    assert {one.case.partition("-")[0] for one in timed if one.chosen} == {
        "conv2d",
        "conv2d_dx",
        "conv2d_dw",
    }
    assert all(one.ms > 0 and one.gflops is not None and one.gflops > 0 for one in timed)
    assert name in {one.case for one in timed} or name.startswith("conv2d_dw")


def test_gradients_alone_are_sent_to_their_forward_op() -> None:
    with pytest.raises(ValueError, match="with its forward op"):
        op_benchmark.time_case("relu_grad-3-3", seconds=1e-3)
    with pytest.raises(SystemExit, match="no op"):
        op_benchmark.main(["nothing-3"])
    for name in ("conv2d_dx", "conv2d_dx-4x3x6x6-3x2x3x3"):
        with pytest.raises(SystemExit, match="both inputs and size are needed"):
            op_benchmark.main([name])
