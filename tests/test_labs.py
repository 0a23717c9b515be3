"""The command `pycnn lab`: what it lists, trains, writes, says and refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pycnn
from pycnn.__main__ import main
from pycnn.labs import LABS, Published, Result, Variation, load_lab, mnist_batchnorm
from pycnn.labs import mnist_same_sigmoid as same_sigmoid
from pycnn.labs.report import comparison, mean_result


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, and the environment as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYCNN_DATASETS", "sample")
    return tmp_path


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both labs on 400 pictures."""
    (x_train, y_train), (x_test, y_test) = pycnn.datasets.mnist.load_data()
    small = (x_train[:400], y_train[:400]), (x_test[:100], y_test[:100])
    monkeypatch.setattr(pycnn.datasets.mnist, "load_data", lambda path="mnist.npz": small)


def test_labs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab"]) == 0
    out = capsys.readouterr().out
    for name in LABS:
        assert name in out
        for variation in load_lab(name).variations:
            assert f"--variation {variation}" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mnist"], "there is no lab 'mnist'; there are: mnist-batchnorm"),
        (["mnist-batchnorm", "--variation", "tahn"], "no variation 'tahn'; there are: relu"),
    ],
)
def test_unknown_names(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--epochs", "--seeds", "--threads"])
def test_numbers_below_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["lab", "mnist-batchnorm", option, "0"])
    assert "expected a number from 1 on, got '0'" in capsys.readouterr().err


def test_lab_1_end_to_end(capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    """One epoch on the sample: summary, training, files, comparison; and it has learnt."""
    assert main(["lab", "mnist-batchnorm", "--epochs", "1", "--data", "sample"]) == 0
    out = capsys.readouterr().out
    assert "do not compare with the published ones" in out
    assert "204,928" in out and "79/79" in out
    assert ".5865 .8286 .8834 .9083 .9227" in out and "97.39 %" in out
    assert (elsewhere / "figures" / "mnist-batchnorm-relu.png").read_bytes()[:4] == b"\x89PNG"
    assert list((elsewhere / "logs").rglob("*tfevents*"))
    loss, accuracy = mnist_batchnorm.test(str(elsewhere / "models" / "mnist_cnn.keras"), verbose=0)
    assert f"{100 * accuracy:.2f} %" in out and np.isfinite(loss)
    # 79 steps with much dropout: well above one in ten on what it trains with. (The test lags: the
    # moving statistics of batch normalisation have hardly left their start.)
    ours = next(line for line in out.splitlines() if line.startswith("here, seed 1"))
    assert float(ours.split(")")[1].split()[0]) > 0.18


def test_several_seeds_have_their_mean_and_files(
    few_pictures: None, capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    words = ["mnist-same-sigmoid", "--variation", "light", "--epochs", "1", "--seeds", "2"]
    threads = ["--threads", "2"]
    assert main(["lab", *words, "--seed", "5", *threads]) == 0
    out = capsys.readouterr().out
    assert "here, seed 5" in out and "here, seed 6" in out and "mean of 2 seeds" in out
    assert "Threads: 2" in out
    saved = "models/mnist_same_sigmoid-light.keras"
    assert (elsewhere / saved).is_file() and (elsewhere / "seed-6" / saved).is_file()


@pytest.mark.parametrize("name", list(mnist_batchnorm.VARIATIONS))
def test_variations_of_lab_1(name: str) -> None:
    model = mnist_batchnorm.build_model(**mnist_batchnorm.SETTINGS[name])
    assert tuple(model.output_shape) == (None, 10)
    if name == "relu":
        parameters = [layer.count_params() for layer in model.layers]
        assert parameters == [
            *(640, 256, 0, 0),
            *(36928, 256, 0, 0),
            0,
            *(204928, 512, 0),
            *(16512, 512, 0),
            *(16512, 512, 0),
            1290,
        ]
    if name == "one-block":
        assert 1384576 in [layer.count_params() for layer in model.layers]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("model-1", 207_178), ("model-2", 440_906), ("model-3", 449_482), ("light", 11_907)],
)
def test_models_of_lab_3(name: str, parameters: int) -> None:
    model = same_sigmoid.build_model(name)
    assert model.count_params() == parameters
    kernel, bias = model.layers[0].get_weights()
    assert bias.std() > 0  # the biases start random too
    again = same_sigmoid.build_model(name).layers[0].get_weights()
    assert np.array_equal(kernel, again[0]) and np.array_equal(bias, again[1])


def test_summaries_of_lab_3_to_the_digit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "mnist-same-sigmoid", "--variation", "summaries"]) == 0
    out = capsys.readouterr().out
    for total in ("152,102", "112,166", "39,206"):
        assert f"published {total}, here {total}" in out
    for number in ("150,656", "110,720", "37,760", "1,290", "156"):
        assert number in out


def test_first_fold_is_that_of_scikit_learn() -> None:
    x = np.arange(60_000)
    (train, _), (held_out, _) = same_sigmoid.first_fold(x, x)
    assert len(train) == 48_000 and len(held_out) == 12_000
    assert len(np.union1d(train, held_out)) == 60_000


def test_the_comparison_leaves_empty_columns_out() -> None:
    variation = Variation("", 2, (Published("report", test_accuracy=0.9584),))
    results = {
        "here, seed 1": Result({"accuracy": [0.5, 0.75], "loss": [1.0, 0.5]}, 0.25, 0.5),
        "here, seed 2": Result({"accuracy": [0.6, 0.85], "loss": [2.0, 1.5]}, 0.35, 0.6),
    }
    lines = comparison(variation, results).splitlines()
    assert "validation loss" not in lines[0] and "test accuracy" in lines[0]
    assert lines[2].startswith("published, report") and lines[2].split()[-3:] == ["95.84", "%", "-"]
    assert "mean of 2 seeds" in lines[-1] and ".5500 .8000" in lines[-1]
    assert "55.00 %" in lines[-1] and lines[-1].endswith(".3000")


def test_long_histories_show_their_last_epoch() -> None:
    result = Result({"loss": [float(n) for n in range(50, 0, -1)], "val_loss": [0.5] * 50})
    lines = comparison(Variation("", 50), {"here": result}).splitlines()
    assert lines[-1].split() == ["here", "1.0000", ".5000"]
    assert mean_result([result, result]).history["loss"][-1] == 1.0


def test_nothing_heavy_is_imported_by_the_package() -> None:
    code = (
        "import sys, pycnn; print(sorted({'matplotlib', 'h5py', 'sklearn', 'tensorboardX', "
        "'urllib.request'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_without_data_falls_back_and_says_so(
    elsewhere: Path,
    few_pictures: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = pycnn.datasets.mnist.load_data()

    def only_sample(path: str = "mnist.npz") -> object:
        if os.environ.get("PYCNN_DATASETS") != "sample":
            raise pycnn.datasets.DatasetNotFoundError("MNIST is not on this machine")
        return small

    monkeypatch.setattr(pycnn.datasets.mnist, "load_data", only_sample)
    monkeypatch.delenv("PYCNN_DATASETS")
    arguments = ["lab", "mnist-same-sigmoid", "--variation", "light", "--epochs", "1"]
    assert main([*arguments, "--data", "full"]) == 1
    assert "MNIST is not on this machine" in capsys.readouterr().err
    monkeypatch.delenv("PYCNN_DATASETS", raising=False)
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "because the whole was not to be had" in captured.out
    assert "MNIST is not on this machine" in captured.err
    monkeypatch.delenv("PYCNN_DATASETS", raising=False)


@pytest.mark.sanitize
@pytest.mark.tsan
def test_a_fit_on_three_threads(few_pictures: None) -> None:
    """Lab 1's network for a few steps: the whole engine at once, for the sanitizers."""
    pycnn.set_num_threads(3)
    (x_train, y_train), _ = mnist_batchnorm.load_data()
    model = mnist_batchnorm.build_model()
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x_train, y_train, batch_size=100, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
