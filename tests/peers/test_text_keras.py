"""What the user reads: summaries, configurations, progress lines, hooks of callbacks and logs."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from peers.networks import NETWORKS, images, lab1, lab3
from peers.sides import SIDES, Build, array, both, keras, pycnn

pytestmark = pytest.mark.peers

SPARSE = "sparse_categorical_crossentropy"


def summary(model: Any, **settings: Any) -> str:
    lines: list[str] = []
    model.summary(print_fn=lines.append, **settings)
    return "\n".join(lines)


FULL: dict[str, Build] = {
    "lab1 in full width": lambda k: lab1(k, width=1),
    "lab1 one block in full width": lambda k: lab1(k, blocks=1, width=1),
    "lab3 in full width": lambda k: lab3(k, [(16, 5, 1), (32, 3, 1)], (128,)),
    "lab3 light in full width": lambda k: lab3(k, [(32, 4, 2), (16, 4, 1), (9, 2, 1)], (128,)),
}
MODELS: dict[str, Build] = FULL | {name: build for name, (build, _) in NETWORKS.items()}


@pytest.mark.parametrize("name", MODELS)
def test_summary(name: str) -> None:
    ours, theirs = both(MODELS[name], seed=None)
    text = summary(theirs)
    assert "Total params" in text
    assert summary(ours) == text


@pytest.mark.parametrize(
    "settings",
    [
        {"line_length": 60},
        {"line_length": 120},
        {"show_trainable": True},
        {"expand_nested": True},
        {"expand_nested": True, "show_trainable": True, "line_length": 100},
        {"positions": [0.3, 0.6, 1.0]},
        {"positions": [0.3, 0.6, 0.8, 1.0]},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["lab1", "branches", "penalties"])
def test_summary_with_arguments(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # or Keras cuts long lines to the terminal's width
    ours, theirs = both(MODELS[name], seed=None)
    columns = 4 if name == "branches" else 3
    if len(settings.get("positions", ())) not in (0, columns):
        # Keras draws a table of other widths than asked for, or fails in a list index.
        with pytest.raises(ValueError, match="positions: expected"):
            summary(ours, **settings)
        return
    assert summary(ours, **settings) == summary(theirs, **settings)


def test_frozen_layers_stay_frozen_in_copies() -> None:
    """A configuration and a clone keep the frozen layer of the inner model frozen."""
    found = []
    for model in both(MODELS["penalties"], seed=None):
        k = pycnn if isinstance(model, pycnn.Model) else keras
        copies = [model, k.models.clone_model(model), k.models.model_from_json(model.to_json())]
        frozen = [[w.name for w in m.non_trainable_weights] for m in copies]
        assert frozen[0] == frozen[1] == frozen[2]
        found.append(frozen)
    assert len(found[0][0]) == 3
    assert found[0] == found[1]


def test_summary_of_some_layers() -> None:
    ours, theirs = both(lab1, seed=None)
    wanted = summary(theirs, layer_range=["conv2d_1", "flatten"])
    assert "dense" not in wanted
    assert summary(ours, layer_range=["conv2d_1", "flatten"]) == wanted


def test_summary_of_models_not_built_frozen_and_trained() -> None:
    """The counts of an optimizer's variables join after training."""
    texts = []
    x, labels = images("lab3 same", 4)
    for k in SIDES:
        deferred = k.Sequential([k.layers.Conv2D(3, 3), k.layers.Flatten(), k.layers.Dense(2)])
        found = [summary(deferred)]
        deferred.build((None, 8, 8, 1))
        found.append(summary(deferred))
        model = NETWORKS["lab3 same"][0](k)
        model.layers[0].trainable = False
        found.append(summary(model, show_trainable=True))
        for optimizer in (k.optimizers.SGD(0.1, momentum=0.5), k.optimizers.Adam()):
            model.compile(optimizer, SPARSE)
            model.fit(x, labels, verbose=0)
            found.append(summary(model))
        texts.append(found)
    assert "Optimizer params" in texts[0][-1]
    assert texts[1] == texts[0]


def without_numbers(value: Any) -> Any:
    """A configuration without what is counted anew in every process."""
    if isinstance(value, dict):
        # Keras writes of some calls what `training` and `mask` were; None means nothing.
        left = {k: v for k, v in value.items() if k not in ("shared_object_id", "keras_version")}
        if set(left.get("kwargs", "-")) <= {"training", "mask"}:
            left["kwargs"] = {}
        return {key: without_numbers(item) for key, item in left.items()}
    if isinstance(value, (list, tuple)):
        return [without_numbers(item) for item in value]
    return value


@pytest.mark.parametrize("name", MODELS)
def test_configuration_in_json(name: str) -> None:
    ours, theirs = both(MODELS[name], seed=None)
    mine, other = (without_numbers(json.loads(m.to_json())) for m in (ours, theirs))
    assert mine == other
    again = pycnn.models.model_from_json(theirs.to_json())
    assert summary(again) == summary(theirs)
    assert without_numbers(json.loads(again.to_json())) == other


@pytest.mark.parametrize("name", MODELS)
def test_names_and_shapes(name: str) -> None:
    found = []
    for model in both(MODELS[name], seed=None):
        found.append(
            (
                [(layer.name, type(layer).__name__, layer.built) for layer in model.layers],
                [(w.name, w.path, tuple(w.shape), w.trainable) for w in model.weights],
                [w.path for w in model.trainable_weights],
                [w.path for w in model.non_trainable_weights],
                [tuple(layer.output.shape) for layer in model.layers],
                (model.name, model.input_shape, model.output_shape, model.count_params()),
                [tuple(x.shape) for x in (*model.inputs, *model.outputs)],
                None if "Sequential" in type(model).__name__ else model.output_names,
            )
        )
    assert found[0] == found[1]


# ---- progress ----

NUMBER = re.compile(r"-?\d+\.\d+(e[-+]\d+)?")
TIMES = re.compile(r"\d+s -? ?\d+(s|ms|us)/(step|epoch|sample|batch)")


def last_lines(printed: str) -> list[str]:
    """Each line as it looks in the end: colours, overwritten parts and blanks taken away."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed).replace("\x08", "")
    return [line.rsplit("\r", 1)[-1].rstrip() for line in plain.split("\n")]


def words_and_numbers(lines: list[str]) -> tuple[list[str], list[float]]:
    assert sum(len(TIMES.findall(line)) for line in lines) > 0
    timeless = [TIMES.sub("TIME", line) for line in lines]
    numbers = [float(m.group()) for line in timeless for m in NUMBER.finditer(line)]
    return [NUMBER.sub("#", line) for line in timeless], numbers


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
@pytest.mark.parametrize("what", ["fit", "validation", "evaluate", "predict", "rates"])
def test_printed_lines(what: str, verbose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The final lines, times aside; numbers equal to a unit of their last digit."""
    x, labels = images("lab3 same", 20)
    printed = []
    for k, model in zip((pycnn, keras), both(NETWORKS["lab3 same"][0]), strict=True):
        optimizer = k.optimizers.SGD(0.0625)
        if what == "rates":
            optimizer = k.optimizers.Adam(0.0009765625)
        model.compile(optimizer, SPARSE, metrics=["accuracy", k.metrics.MeanSquaredError()][:1])
        settings = {"batch_size": 8, "verbose": verbose}
        capsys.readouterr()
        if what in ("fit", "rates"):
            halve = k.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
            callbacks = [halve] if what == "rates" else None
            model.fit(x, labels, epochs=2, shuffle=False, callbacks=callbacks, **settings)
        elif what == "validation":
            model.fit(x, labels, epochs=2, shuffle=False, validation_split=0.25, **settings)
        elif what == "evaluate":
            model.evaluate(x, labels, **settings)
        else:
            model.predict(x, **settings)
        printed.append(words_and_numbers(last_lines(capsys.readouterr().out)))
    (words, numbers), (words2, numbers2) = printed
    assert words == words2
    for a, b in zip(numbers, numbers2, strict=True):
        assert a == pytest.approx(b, rel=2e-4, abs=1.01e-4)


def test_colours_and_redrawing_only_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Keras redraws in a file too; here only the last form of a line is written to one."""
    x, labels = images("lab3 same", 20)
    for k, model in zip((pycnn, keras), both(NETWORKS["lab3 same"][0]), strict=True):
        model.compile("sgd", SPARSE)
        capsys.readouterr()
        model.fit(x, labels, batch_size=4, epochs=1, verbose=1)
        printed = capsys.readouterr().out
        assert ("\r" in printed, "\x1b" in printed) == ((k is keras),) * 2


# ---- callbacks ----

HOOKS = [
    name
    for name in dir(keras.callbacks.Callback)
    if name.startswith("on_") and name not in ("on_batch_begin", "on_batch_end")
]


def recorder(k: Any, calls: list[Any]) -> Any:
    """A callback that notes every hook, its number and the keys of its logs in order."""

    def hook(name: str) -> Any:
        def noted(self: Any, *arguments: Any, **named: Any) -> None:
            number = [a for a in arguments if isinstance(a, (int, np.integer))]
            logs = next((a for a in arguments if isinstance(a, dict)), named.get("logs"))
            calls.append((name, number, None if logs is None else list(logs)))
            for value in (logs or {}).values():
                assert np.ndim(array(value)) in (0, 2)

        return noted

    return type("Recorder", (k.callbacks.Callback,), {name: hook(name) for name in HOOKS})()


CALLS: dict[str, Any] = {
    "fit": lambda m, x, y, c: m.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[c]),
    "fit with validation": lambda m, x, y, c: m.fit(
        x, y, batch_size=8, epochs=2, verbose=0, validation_split=0.25, callbacks=[c]
    ),
    "validation every other epoch": lambda m, x, y, c: m.fit(
        x, y, epochs=3, verbose=0, validation_data=(x, y), validation_freq=2, callbacks=[c]
    ),
    "from epoch 2": lambda m, x, y, c: m.fit(
        x, y, epochs=4, initial_epoch=2, verbose=0, callbacks=[c]
    ),
    "evaluate": lambda m, x, y, c: m.evaluate(x, y, batch_size=6, verbose=0, callbacks=[c]),
    "predict": lambda m, x, y, c: m.predict(x, batch_size=6, verbose=0, callbacks=[c]),
}


@pytest.mark.parametrize("what", CALLS)
def test_hooks_and_their_logs(what: str) -> None:
    x, labels = images("lab3 same", 20)
    found = []
    for k, model in zip((pycnn, keras), both(NETWORKS["lab3 same"][0]), strict=True):
        calls: list[Any] = []
        model.compile("sgd", SPARSE, metrics=["accuracy"], weighted_metrics=["mse"][:0])
        callback = recorder(k, calls)
        CALLS[what](model, x, labels, callback)
        found.append(calls)
        assert callback.model is model
        calls.append(sorted((key, value) for key, value in callback.params.items()))
    assert len(found[0]) > 4
    assert found[0] == found[1]


@pytest.mark.parametrize("monitor", ["val_loss", "accuracy"])
@pytest.mark.parametrize("best", [False, True])
def test_early_stopping(monitor: str, best: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """It stops at the same epoch, restores the same weights and says the same."""
    x, labels = images("lab3 same", 20)
    found = []
    for k, model in zip((pycnn, keras), both(NETWORKS["lab3 same"][0]), strict=True):
        model.compile(k.optimizers.SGD(4.0), SPARSE, metrics=["accuracy"])
        stop = k.callbacks.EarlyStopping(monitor, patience=1, verbose=1, restore_best_weights=best)
        capsys.readouterr()
        history = model.fit(
            x,
            labels,
            batch_size=10,
            epochs=9,
            shuffle=False,
            verbose=0,
            validation_data=(x[:7], labels[::-1][:7]),
            callbacks=[stop],
        )
        said = last_lines(capsys.readouterr().out)
        found.append((history.epoch, stop.stopped_epoch, stop.best_epoch, said, model))
    assert found[0][:4] == found[1][:4]
    assert found[0][1] > 0
    for a, b in zip(found[0][4].get_weights(), found[1][4].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_history_object() -> None:
    x, labels = images("lab3 same", 20)
    found = []
    for model in both(NETWORKS["lab3 same"][0]):
        model.compile("sgd", SPARSE, metrics=["accuracy"])
        history = model.fit(x, labels, epochs=2, verbose=0)
        assert history is model.history and history.model is model
        kinds = {key: [type(v) for v in values] for key, values in history.history.items()}
        found.append((kinds, history.epoch, history.params))
    assert found[0] == found[1]
