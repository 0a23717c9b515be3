"""Arguments of `compile`, `fit` and the callbacks that are wrong, or unusual and right."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from pycnn import keras
from pycnn.keras import callbacks, layers

X = np.random.default_rng(0).random((20, 3), np.float32)
Y = np.ones((20, 4), np.float32)


def make(loss="mse", **kwargs):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="last")])
    model.compile("sgd", loss, **kwargs)
    return model


def two_outputs(**kwargs):
    inputs = keras.Input((3,))
    outputs = [layers.Dense(1, name="a")(inputs), layers.Dense(1, name="b")(inputs)]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", **kwargs)
    return model


# ---- compile ----


@pytest.mark.parametrize("argument", ["metrics", "weighted_metrics"])
@pytest.mark.parametrize(
    "value, words",
    [
        ({"nope": ["mae"]}, r"no output 'nope'.*'last'"),
        ({"lst": ["mae"], "last": ["mae"]}, r"no output 'lst'.*Did you mean.*last"),
        ([["mae"], ["mse"]], r"one output \(last\).*\['mae', 'mse'\].*got \[\['mae'\]"),
        (["mae", ["mse"]], "one output"),
    ],
)
def test_metrics_of_no_output(argument, value, words):
    with pytest.raises(ValueError, match=rf"^{argument}: .*{words}"):
        make(**{argument: value})


def test_metrics_of_several_outputs_are_told_by_compile():
    with pytest.raises(ValueError, match="metrics: the model has no output 'c'"):
        two_outputs(metrics={"c": ["mae"]})
    with pytest.raises(ValueError, match=r"metrics: the model has 2 outputs \(a, b\)"):
        two_outputs(metrics=["mae", "mae", "mse"])


@pytest.mark.parametrize("value", [["mae"], [["mae"]], {"last": ["mae"]}, {"last": "mae"}])
def test_metrics_of_one_output(value):
    history = make(metrics=value).fit(X, Y, verbose=0).history
    assert set(history) == {"loss", "mae"}


def test_metrics_of_a_model_not_built():
    model = keras.Sequential([layers.Dense(4, name="last")])
    model.compile("sgd", "mse", metrics={"nope": ["mae"]})
    with pytest.raises(ValueError, match="metrics: the model has no output 'nope'"):
        model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, [math.nan], {"last": np.float32("nan")}])
def test_loss_weights_are_finite(value):
    with pytest.raises(ValueError, match="loss_weights: expected finite numbers, got"):
        make(loss_weights=value)


def test_loss_weights_of_numpy():
    plain, doubled = make(), make(loss_weights=np.float32(2.0))
    doubled.set_weights(plain.get_weights())
    losses = [model.evaluate(X, Y, verbose=0) for model in (plain, doubled)]
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-6)


# ---- labels ----


@pytest.mark.parametrize("loss", ["mean_squared_error", "mean_absolute_error", "huber", "poisson"])
def test_targets_that_do_not_fit_name_the_layer(loss):
    model = make(loss)
    recorded = []
    model.compute_loss = lambda *args, **kwargs: recorded.append(args)
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError) as error:
            call(X, Y[:, :3])
        for word in (loss, "layer 'last'", "(20, 4)", "(20, 3)", "3 units"):
            assert word in str(error.value)
    assert not recorded


@pytest.mark.parametrize("y", [Y, Y[:, :1], Y[..., None]])
def test_targets_that_are_stretched(y):
    assert math.isfinite(make().fit(X, y, verbose=0).history["loss"][0])


# ---- fit ----


@pytest.mark.parametrize("value", [np.ones(3), "yes", 2, 0.5, [True]])
def test_shuffle_is_told(value):
    with pytest.raises(TypeError, match="fit: shuffle must be True or False, got"):
        make().fit(X, Y, shuffle=value, verbose=0)


@pytest.mark.parametrize("value", [True, False, None, np.True_, 0, "batch"])
def test_shuffle_that_is_right(value):
    make().fit(X, Y, shuffle=value, verbose=0)


def test_a_set_is_no_data():
    for call in (make().fit, make().evaluate):
        with pytest.raises(ValueError, match=r"x: expected an array.*got set \{1, 2\}"):
            call({1, 2}, Y)
    with pytest.raises(ValueError, match="validation_data: expected"):
        make().fit(X, Y, validation_data={1, 2}, verbose=0)


def test_weights_as_a_list_of_numbers():
    weights = [float(i) for i in range(20)]
    reference = make()
    for given in (weights, tuple(weights), [np.float32(w) for w in weights], [np.array(weights)]):
        losses = []
        for value in (np.array(weights), given):
            model = make()
            model.set_weights(reference.get_weights())
            history = model.fit(X, Y, sample_weight=value, shuffle=False, verbose=0).history
            losses.append((history["loss"], model.evaluate(X, Y, sample_weight=value, verbose=0)))
        assert losses[0] == losses[1]
    model.fit(X, Y, sample_weight=weights, validation_split=0.5, verbose=0)
    with pytest.raises(ValueError, match="x has 20, y has 20, sample_weight has 3"):
        model.fit(X, Y, sample_weight=[1, 2, 3], verbose=0)
    with pytest.raises(TypeError, match="sample_weight: holds text"):
        model.fit(X, Y, sample_weight=["a"] * 20, verbose=0)


def test_weights_as_lists_by_output():
    model = two_outputs()
    y = [Y[:, :1], Y[:, :1]]
    ones = [1] * 20
    losses = [
        model.evaluate(X, y, sample_weight=weights, verbose=0)
        for weights in (None, [ones, ones], {"a": ones, "b": ones})
    ]
    assert losses[0] == losses[1] == losses[2]


# ---- callbacks ----

WRONG = {
    "patience": (-1, "a", None, math.nan),
    "min_delta": (math.nan, "a", None),
    "baseline": ("a", math.nan),
    "start_from_epoch": ("a", -1, None),
    "factor": (math.nan, -1, "a", None, 1.0),
    "min_lr": ("a", math.nan, None),
    "cooldown": ("a", -1),
    "initial_value_threshold": ("a", math.nan),
    "save_freq": (0, -1, "epochs", 1.5, True, None, np.ones(2)),
}
MAKERS = {
    callbacks.EarlyStopping: ("patience", "min_delta", "baseline", "start_from_epoch"),
    callbacks.ReduceLROnPlateau: ("patience", "min_delta", "factor", "min_lr", "cooldown"),
    lambda **k: callbacks.ModelCheckpoint("a.keras", **k): ("initial_value_threshold", "save_freq"),
    lambda **k: callbacks.BackupAndRestore("a", **k): ("save_freq",),
}


@pytest.mark.parametrize(
    "maker, name, value",
    [(m, name, value) for m, names in MAKERS.items() for name in names for value in WRONG[name]],
)
def test_callback_numbers(maker, name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^\w+: `?{name}`? must be .*, got"):
        maker(**{name: value})


def test_callback_numbers_that_are_right():
    stop = callbacks.EarlyStopping(patience=math.inf, min_delta=-0.5, baseline=math.inf)
    assert (stop.patience, stop.min_delta, stop.baseline) == (math.inf, 0.5, math.inf)
    assert callbacks.EarlyStopping(patience=np.int64(3)).patience == 3
    assert callbacks.ModelCheckpoint("a.keras", save_freq=np.int64(3)).save_freq == 3
    assert callbacks.BackupAndRestore("a", save_freq=False).save_freq is False
    assert callbacks.ModelCheckpoint("a.keras", initial_value_threshold=-math.inf).best == -math.inf


@pytest.mark.parametrize("value", [3, None, ["a"]])
@pytest.mark.parametrize(
    "maker, name",
    [
        (callbacks.ModelCheckpoint, "filepath"),
        (callbacks.BackupAndRestore, "backup_dir"),
        (callbacks.CSVLogger, "filename"),
        (callbacks.TensorBoard, "log_dir"),
    ],
)
def test_callback_paths(maker, name, value):
    with pytest.raises(TypeError, match=rf"{maker.__name__}: {name} must be a path such as"):
        maker(value)
    with pytest.raises(ValueError, match=f"{name} is empty"):
        maker("")


def test_callback_separator():
    with pytest.raises(ValueError, match="CSVLogger: separator must be one character, got ', '"):
        callbacks.CSVLogger("a.csv", separator=", ")


@pytest.mark.parametrize("path", ["{}.keras", "{0}.keras", "{epoch.keras", "a}.keras"])
def test_braces_without_a_name(path):
    with pytest.raises(ValueError, match="ModelCheckpoint: filepath="):
        callbacks.ModelCheckpoint(path)


def test_checkpoint_names_are_told_before_the_first_epoch(tmp_path):
    model = make(metrics=["mae"])
    save = callbacks.ModelCheckpoint(tmp_path / "{epoch:02d}-{val_mea:.2f}.keras")
    epochs = []
    seen = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(len(found)))
    with pytest.raises(KeyError, match="val_mea"), warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(X, Y, validation_split=0.2, callbacks=[save, seen], verbose=0)
    assert epochs == [1]
    assert "'val_mea', which is no metric" in str(found[0].message)
    assert "did you mean 'val_mae'" in str(found[0].message)


def test_checkpoint_names_that_are_there(tmp_path):
    model = make(metrics=["mae"])
    save = callbacks.ModelCheckpoint(tmp_path / "{epoch}-{val_mae:.1e}-{learning_rate}.keras")
    rate = callbacks.LearningRateScheduler(lambda epoch: 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y, validation_split=0.2, callbacks=[rate, save], verbose=0)
    assert len(list(tmp_path.iterdir())) == 1


# ---- the optimizer's numbers of a step ----


def test_rate_is_checked_at_every_step():
    model = make()
    model.optimizer.learning_rate.assign(math.nan)
    with pytest.raises(ValueError, match="SGD: `learning_rate` must be a finite number >= 0"):
        model.train_on_batch(X, Y)
    model.optimizer.learning_rate = 0.5
    model.train_on_batch(X, Y)
    assert int(model.optimizer.iterations) == 1
    assert model.optimizer.iterations.dtype == "int64"


def test_settings_may_change_between_steps():
    optimizer = keras.optimizers.Adam()
    before = optimizer.hyper()
    optimizer.beta_1 = 0.5
    optimizer.learning_rate = 0.25
    optimizer.advance()
    after = optimizer.hyper()
    assert (before[1], after[1]) == (0.9, 0.5)
    assert after[0] == pytest.approx(0.25, rel=1e-4)
    assert (before[5], after[5]) == (1.0, 2.0)


class TestAssignedOptimizer:
    """``model.optimizer = ...`` before and after `compile`."""

    @staticmethod
    def _model(compiled: bool = True):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        if compiled:
            model.compile("adam", "mse")
        return model

    def test_without_compile_fit_asks_for_compile(self):
        model = self._model(compiled=False)
        model.optimizer = "sgd"
        assert isinstance(model.optimizer, keras.optimizers.SGD)
        with pytest.raises(ValueError, match=r"compile\(\) before fit"):
            model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)

    @pytest.mark.parametrize("trained", [False, True])
    def test_another_takes_over(self, trained, tmp_path):
        x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
        model = self._model()
        if trained:
            model.fit(x, y, verbose=0)
        model.optimizer = keras.optimizers.SGD(0.0)
        before = model.get_weights()
        model.fit(x, y, verbose=0)
        model.train_on_batch(x, y)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        assert int(model.optimizer.iterations) == 2
        model.optimizer = "sgd"
        model.fit(x, y, verbose=0)
        assert not np.array_equal(before[0], model.get_weights()[0])
        model.save(tmp_path / "m.keras")
        assert type(keras.models.load_model(tmp_path / "m.keras").optimizer).__name__ == "SGD"

    def test_misspelt_is_told_at_once(self):
        model = self._model()
        with pytest.raises(ValueError, match="SGD"):
            model.optimizer = "sdg"
        assert isinstance(model.optimizer, keras.optimizers.Adam)

    def test_what_is_none_is_told_by_fit(self):
        model = self._model()
        model.optimizer = object()
        with pytest.raises(TypeError, match="model.optimizer must be"):
            model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
        model.optimizer = None
        with pytest.raises(ValueError, match=r"no optimizer.*model.optimizer = "):
            model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
