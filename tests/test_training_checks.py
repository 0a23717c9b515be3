"""The words of beginners' mistakes in training, and what is unchanged after them."""

from __future__ import annotations

import numpy as np
import pytest

from pycnn import keras
from pycnn.keras import layers


def make(units=10, activation="softmax", loss=None, **kwargs):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(units, activation=activation, name="last")]
    )
    if loss is not None:
        model.compile(optimizer="sgd", loss=loss, **kwargs)
    return model


X = np.random.default_rng(0).random((60, 4), np.float32)
LABELS = np.arange(60) % 10
ONE_HOT = np.eye(10, dtype=np.float32)[LABELS]

CASES = {
    "labels for categorical": ("categorical_crossentropy", LABELS, 10,
        ["one-hot", "(60, 10)", "(60,)", "sparse_categorical_crossentropy", "to_categorical",
         "last"]),
    "one-hot for sparse": ("sparse_categorical_crossentropy", ONE_HOT, 10,
        ["(60,)", "(60, 10)", "categorical_crossentropy", "argmax", "last"]),
    "labels from 1": ("sparse_categorical_crossentropy", LABELS + 1, 10,
        ["label 10 at row 9", "last", "classes 0..9", "subtract 1"]),
    "negative label": ("sparse_categorical_crossentropy", LABELS - 1, 10,
        ["label -1 at row 0", "last", "classes 0..9"]),
    "too few units": ("sparse_categorical_crossentropy", LABELS, 5, ["label 9", "10 units"]),
    "half labels": ("sparse_categorical_crossentropy", LABELS + 0.5, 10, ["0.5 at row 0", "whole"]),
    "nan label": ("sparse_categorical_crossentropy", np.where(LABELS == 3, np.nan, LABELS), 10,
        ["nan at row 3"]),
    "wrong width": ("categorical_crossentropy", np.eye(12)[LABELS], 10,
        ["12 columns", "10 units", "to_categorical(y, 10)", "last"]),
    "twice one-hot": ("categorical_crossentropy", np.eye(2)[ONE_HOT.astype(int)], 10,
        ["(60, 10, 2)", "twice", "already one-hot"]),
    "binary with many units": ("binary_crossentropy", LABELS, 10, ["(60, 10)", "(60,)", "sparse"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_labels_are_told(name):
    loss, y, units, words = CASES[name]
    model = make(units, "sigmoid" if "binary" in loss else "softmax", loss, metrics=["accuracy"])
    before = model.get_weights()
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError) as error:
            call(X, y)
        for word in words:
            assert word in str(error.value), (call.__name__, str(error.value))
    for a, b in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert int(model.optimizer.iterations) == 0
    good = ONE_HOT if loss == "categorical_crossentropy" else LABELS
    if units == 10 and "binary" not in loss:
        history = model.fit(X, good, verbose=0).history  # the model is usable
        assert set(history) == {"accuracy", "loss"}


def test_one_picture():
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"\(28, 28, 1\).*x\[None\]|x\[None\].*"):
        model.predict(np.zeros((28, 28, 1)), verbose=0)
    with pytest.raises(ValueError, match="moveaxis"):
        model.predict(np.zeros((5, 1, 28, 28)), verbose=0)
    assert model.predict(np.zeros((5, 28, 28)), verbose=0).shape == (5, 2)


def test_fit_before_compile():
    for method in ("fit", "evaluate", "train_on_batch", "test_on_batch"):
        with pytest.raises(ValueError, match=rf"compile\(\) before {method}.*model.compile\("):
            getattr(make(), method)(X, LABELS)


def test_nan_is_told_once():
    model = make(loss="sparse_categorical_crossentropy")
    model.optimizer.learning_rate = 0.5
    x = X * 255
    x[7] = np.inf
    with pytest.warns(RuntimeWarning) as found:
        model.fit(x, LABELS, epochs=2, shuffle=False, verbose=0)
    texts = [str(w.message) for w in found if w.category is RuntimeWarning]
    assert len(texts) == 1
    assert "step 1 of epoch 1" in texts[0] and "row 7" in texts[0] and "0.5" in texts[0]


def test_nan_by_range():
    model = make(loss="mse", activation="linear")
    model.optimizer.learning_rate = 1e6
    x = X * 0 + np.linspace(0, 255, 240, dtype=np.float32).reshape(60, 4)
    with pytest.warns(RuntimeWarning, match=r"0 to 255: divide by 255.*learning rate is 1e\+06"):
        model.fit(x, ONE_HOT, epochs=9, verbose=0)


def test_activation_against_from_logits():
    model = make(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.warns(UserWarning, match="'last' ends in softmax: leave out from_logits=True"):
        model.fit(X, LABELS, verbose=0)
    model = make(activation=None, loss="categorical_crossentropy")
    with pytest.warns(UserWarning, match="'last' has the activation 'linear'.*from_logits=True"):
        model.fit(X, ONE_HOT, verbose=0)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"loss": "categorical_crossentropyy"}, "categorical_crossentropy"),
        ({"loss": "mse", "metrics": ["acuracy"]}, "accuracy"),
        ({"loss": "mse", "optimizer": "adm"}, "Adam"),
        ({"loss": "mse", "metrics": "accuracy"}, r"\['accuracy'\]"),
        ({"loss": "mse", "steps_per_execution": 0}, "steps_per_execution"),
        ({"loss": "mse", "run_eagerly": True}, "run_eagerly"),
        ({"loss": "mse", "metric": ["accuracy"]}, "metrics="),
        ({"loss": ["mse", "mse"]}, "1 output"),
        ({"loss": {"lst": "mse"}}, "last"),
        ({"loss_weights": [1.0]}, "loss"),
    ],
)
def test_compile_tells(arguments, words):
    model = make()
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=words):
        model.compile(**{"optimizer": "sgd", **arguments})
    assert not model.compiled


def test_one_optimizer_for_two_models():
    optimizer = keras.optimizers.SGD()
    first, second = make(), make()
    first.compile(optimizer, "mse")
    first.fit(X, ONE_HOT, verbose=0)
    with pytest.raises(ValueError, match=r"create a new one.*SGD\("):
        second.compile(optimizer, "mse")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"epoch": 3}, "epochs=3"),
        ({"nb_epoch": 3}, "epochs=3"),
        ({"batchsize": 3}, "batch_size=3"),
        ({"epochs": 1.5}, "epochs"),
        ({"epochs": -1}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.0}, "batch_size=2"),
        ({"batch_size": True}, "batch_size"),
        ({"validation_split": 20}, "0.2"),
        ({"validation_split": 1.0}, "validation_split"),
        ({"verbose": 3}, "verbose"),
        ({"validation_data": X}, r"validation_data=\(x_val, y_val\)"),
        ({"validation_data": (X, LABELS[:5])}, "60.*5"),
        ({"validation_data": (X, LABELS + 1)}, "label 10"),
        ({"validation_data": (X[:, :3], LABELS)}, r"\(60, 3\)"),
        ({"validation_freq": 0}, "validation_freq"),
        ({"class_weight": "balanced"}, "class_weight"),
        ({"class_weight": {"a": 1}}, "class_weight"),
        ({"sample_weight": np.ones(3)}, "sample_weight has 3"),
        ({"sample_weight": np.full(60, np.nan)}, "NaN"),
        ({"callbacks": ["stop"]}, "Callback"),
        ({"callbacks": [keras.callbacks.EarlyStopping]}, r"EarlyStopping\("),
        ({"steps_per_epoch": 0}, "steps_per_epoch"),
        ({"initial_epoch": -1}, "initial_epoch"),
    ],
)
def test_fit_tells(arguments, words):
    model = make(loss="sparse_categorical_crossentropy")
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError), match=words):
        model.fit(X, LABELS, **{"verbose": 0, **arguments})
    for a, b in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "x, y, words",
    [
        (X, None, "labels are missing"),
        (None, LABELS, "x"),
        (X[:30], LABELS, "x has 30, y has 60|same number"),
        (X[:0], LABELS[:0], "no samples"),
        (np.float32(3), LABELS, "number"),
        ("abc", LABELS, "abc"),
        ([[1, 2], [1]], LABELS[:2], "shapes"),
        (np.array([["a", "b"]]), LABELS[:1], "text"),
        (np.array([[None, 1]]), LABELS[:1], "object"),
        (X.astype(complex), LABELS, "complex"),
        (np.ma.masked_greater(X, 0.5), LABELS, "masked"),
        (X, np.array(list("abcdefghij") * 6), "unique"),
        (X[:, :3], LABELS, r"\(60, 3\)"),
        (X, [LABELS, LABELS], "x has 60, y has 2"),
    ],
)
def test_data_is_told(x, y, words):
    model = make(loss="sparse_categorical_crossentropy")
    with pytest.raises((ValueError, TypeError), match=words):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize("name", ["predict_classes", "fit_generator", "predict_proba"])
def test_old_methods(name):
    with pytest.raises(AttributeError, match="today write"):
        getattr(make(), name)
    assert not hasattr(make(), name)


def test_history_key():
    model = make(loss="mse", metrics=["accuracy"])
    history = model.fit(X, ONE_HOT, verbose=0)
    with pytest.raises(KeyError, match="'accuracy', 'loss'.*did you mean 'accuracy'"):
        history.history["acc"]
    with pytest.raises(KeyError, match="no validation data"):
        history.history["val_loss"]


def test_monitor_key():
    model = make(loss="mse", metrics=["accuracy"])
    with pytest.warns(UserWarning, match="val_acc.*'accuracy', 'loss'.*no validation data"):
        model.fit(
            X, ONE_HOT, verbose=0, callbacks=[keras.callbacks.EarlyStopping(monitor="val_acc")]
        )


@pytest.mark.parametrize("named", [{}, {"optimizer": "rmsprop"}, {"optimizer": "RMSprop"}])
def test_the_default_optimizer_is_said_to_be_one(named):
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(NotImplementedError, match=r"where none is named: .*compile\(optimizer="):
        model.compile(loss="mse", **named)
    with pytest.raises(NotImplementedError, match="'AdamW'.$"):
        model.compile("adagrad", loss="mse")
    assert not model.compiled
