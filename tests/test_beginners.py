"""Beginners' mistakes: each message names the layer or argument, what came, and the fix in code.

They are numbered as in the documentation of errors. The model is a small network for digits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pycnn import keras
from pycnn.keras import Input, Sequential, callbacks, layers, losses, optimizers
from pycnn.keras.utils import to_categorical

N = 40
PICTURES = np.random.default_rng(0).uniform(size=(N, 28, 28, 1)).astype(np.float32)
LABELS = np.arange(N) % 10
HOT = to_categorical(LABELS)
SPARSE, DENSE = "sparse_categorical_crossentropy", "categorical_crossentropy"


def network(activation: Any = "softmax", units: int = 10) -> Any:
    return Sequential(
        [
            Input((28, 28, 1)),
            layers.MaxPooling2D(4),
            layers.Conv2D(2, 3, activation="relu", name="conv2d_1"),
            layers.Flatten(),
            layers.Dense(units, activation=activation, name="dense_2"),
        ]
    )


def compiled(loss: Any = SPARSE, **arguments: Any) -> Any:
    model = network(**arguments)
    model.compile("sgd", loss, metrics=["accuracy"])
    return model


def told(call: Callable[[], Any], *words: str, error: Any = (ValueError, TypeError)) -> None:
    """The call is refused and the message holds the words, in this order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(error) as caught:
            call()
    text, at = str(caught.value), 0
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
        found = text.find(word, at)
        assert found >= 0, f"{word!r} comes too early in: {text}"
        at = found


def warned(call: Callable[[], Any], *words: str) -> None:
    """The call warns exactly once, with the words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    texts = [str(warning.message) for warning in caught]
    texts = [text for text in texts if words[0] in text]
    assert len(texts) == 1, [str(warning.message) for warning in caught]
    for word in words:
        assert word in texts[0], texts[0]


METHODS = ["fit", "evaluate", "train_on_batch", "test_on_batch"]


@pytest.mark.parametrize("method", METHODS)
def test_1_class_numbers_for_one_hot(method: str) -> None:
    model = compiled(DENSE)
    told(
        lambda: getattr(model, method)(PICTURES, LABELS),
        "one-hot",
        "(40, 10)",
        "'dense_2'",
        "got (40,)",
        SPARSE,
        "to_categorical(y, 10)",
    )


@pytest.mark.parametrize("method", METHODS)
def test_2_one_hot_for_class_numbers(method: str) -> None:
    model = compiled(SPARSE)
    told(
        lambda: getattr(model, method)(PICTURES, HOT),
        "class numbers of shape (40,)",
        "'dense_2'",
        "got (40, 10)",
        f"use {DENSE}",
        "np.argmax(y, axis=-1)",
    )


@pytest.mark.parametrize("method", METHODS)
def test_3_labels_from_1_to_10(method: str) -> None:
    model = compiled(SPARSE)
    told(
        lambda: getattr(model, method)(PICTURES, LABELS + 1),
        "label 10 at row 9",
        "'dense_2' has classes 0..9",
        "subtract 1",
    )


def test_3_labels_far_from_the_units() -> None:
    model = compiled(SPARSE, units=5)
    told(lambda: model.fit(PICTURES, LABELS), "label 9 at row 9", "classes 0..4", "10 units")


@pytest.mark.parametrize("width", [9, 12])
def test_4_one_hot_of_another_width(width: int) -> None:
    model = compiled(DENSE)
    y = np.eye(width)[LABELS % width]
    told(
        lambda: model.fit(PICTURES, y),
        "(40, 10)",
        "'dense_2'",
        f"got (40, {width})",
        f"{width} columns",
        "10 units",
        "to_categorical(y, 10)",
    )


def test_4_one_hot_twice() -> None:
    with pytest.warns(UserWarning, match="looks already one-hot"):
        twice = to_categorical(HOT)
    model = compiled(DENSE)
    told(lambda: model.fit(PICTURES, twice), "(40, 10, 2)", "twice", "already one-hot")


def test_4_too_few_columns() -> None:
    told(lambda: to_categorical(LABELS, 5), "class number 5 at row 5", "0..4", "num_classes=10")


@pytest.mark.parametrize("method", ["predict", "predict_on_batch", "__call__"])
def test_5_one_picture(method: str) -> None:
    told(
        lambda: getattr(network(), method)(PICTURES[0]),
        "(N, 28, 28, 1)",
        "got",
        "(28, 28, 1)",
        "x[None]",
    )


def test_5_one_picture_without_channels() -> None:
    told(lambda: network().predict(PICTURES[0, :, :, 0]), "got (28, 28)", "x[None, ..., None]")


def test_5_rows_instead_of_pictures() -> None:
    rows = PICTURES.reshape(N, -1)
    told(lambda: network().predict(rows), "got (40, 784)", "x.reshape(-1, 28, 28, 1)")


@pytest.mark.parametrize("method", ["predict", "fit"])
def test_6_channels_first(method: str) -> None:
    x = np.moveaxis(PICTURES, -1, 1)
    arguments = (x,) if method == "predict" else (x, LABELS)
    told(
        lambda: getattr(compiled(), method)(*arguments),
        "(N, 28, 28, 1)",
        "got (40, 1, 28, 28)",
        "looks channels-first",
        "np.moveaxis(x, 1, -1)",
    )


def test_6_a_network_for_channels_first() -> None:
    told(
        lambda: Sequential([Input((3, 32, 32)), layers.Conv2D(6, 5, name="conv2d_1")]),
        '"conv2d_1"',
        "3x32",
        "looks channels-first",
        "(32, 32, 3)",
        "np.moveaxis(x, 1, -1)",
    )


def test_7_the_map_shrinks_to_nothing() -> None:
    def deep() -> Any:
        stack = [Input((28, 28, 1))]
        for i in range(5):
            stack += [layers.Conv2D(2, 3, name=f"conv{i}"), layers.MaxPooling2D(name=f"pool{i}")]
        return Sequential(stack)

    told(deep, '"conv3"', "1x1", "kernel 3x3", 'padding="same"', "fewer poolings")


def test_7_too_many_poolings() -> None:
    stack = [layers.MaxPooling2D(name=f"pool{i}") for i in range(6)]
    told(
        lambda: Sequential([Input((28, 28, 1)), *stack]),
        '"pool4"',
        "1x1",
        "window 2x2",
        "fewer poolings",
    )


@pytest.mark.parametrize("method", METHODS)
def test_8_fit_before_compile(method: str) -> None:
    told(
        lambda: getattr(network(), method)(PICTURES, LABELS),
        f"compile() before {method}()",
        'model.compile(optimizer="adam", loss=',
        "metrics=",
    )


def test_9_the_loss_becomes_nan() -> None:
    model = network(None)
    model.compile(optimizers.SGD(1e7), "mse")
    warned(
        lambda: model.fit(PICTURES * 255, HOT, batch_size=8, epochs=4, verbose=0),
        "the loss became ",
        "step ",
        "of epoch ",
        "0",
        "255",
        "divide by 255",
        "learning rate is 1e+07",
    )


def test_10_softmax_together_with_from_logits() -> None:
    model = compiled(losses.SparseCategoricalCrossentropy(from_logits=True))
    warned(
        lambda: model.fit(PICTURES, LABELS, verbose=0),
        "from_logits=True",
        "'dense_2'",
        "softmax",
        "leave out from_logits=True",
    )


@pytest.mark.parametrize("activation", [None, "tanh"])
def test_10_negative_outputs_without_from_logits(activation: Any) -> None:
    model = compiled(SPARSE, activation=activation)
    warned(
        lambda: model.fit(PICTURES, LABELS, verbose=0),
        "'dense_2'",
        f"'{activation or 'linear'}'",
        "activation='softmax'",
        "from_logits=True",
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layers.Dense(3, activation="sigmod"), ["activation", '"sigmod"', '"sigmoid"']),
        (lambda: layers.Activation("rleu"), ["activation", '"rleu"', '"relu"']),
        (
            lambda: layers.Dense(3, kernel_initializer="glorot_unifrom"),
            ["initializer", '"glorot_unifrom"', '"glorot_uniform"'],
        ),
        (
            lambda: network().compile("adm", SPARSE),
            ["optimizer", '"adm"', '"Adam"'],
        ),
        (
            lambda: network().compile("sgd", "categorical_crosentropy"),
            ["loss", '"categorical_crosentropy"', '"categorical_crossentropy"'],
        ),
        (
            lambda: network().compile("sgd", SPARSE, metrics=["acurracy"]),
            ["metric", '"acurracy"', '"accuracy"'],
        ),
        (
            lambda: layers.Conv2D(3, 3, padding="smae"),
            ["padding", "'smae'", '"same"'],
        ),
        (
            lambda: network().get_layer("dense2"),
            ["dense2", '"dense_2"'],
        ),
    ],
)
def test_11_misspelt_names(make: Callable[[], Any], words: list[str]) -> None:
    told(make, *words)


def test_12_one_optimizer_for_two_models() -> None:
    adam = optimizers.Adam()
    first, second = network(), network()
    first.compile(adam, SPARSE)
    first.fit(PICTURES, LABELS, verbose=0)

    def train_the_second() -> None:
        second.compile(adam, SPARSE)
        second.fit(PICTURES, LABELS, verbose=0)

    told(train_the_second, "Adam", second.name, "create a new one for each", "optimizer=Adam(")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layers.Conv2D(3, 3, stride=2), ["Conv2D", "stride=2", '"strides"']),
        (lambda: layers.MaxPooling2D(stride=2), ["MaxPooling2D", "stride=2", '"strides"']),
        (lambda: layers.Conv2D(3, 3, border_mode="same"), ["border_mode", '"padding"']),
        (lambda: layers.Conv2D(nb_filter=3, kernel_size=3), ["nb_filter=3", '"filters"']),
        (lambda: layers.Dense(output_dim=3), ["Dense", "output_dim=3", '"units"']),
        (lambda: layers.Dense(3, init="uniform"), ["init", '"kernel_initializer"']),
        (lambda: layers.Dropout(p=0.5), ["Dropout", "p=0.5", '"rate"']),
        (lambda: optimizers.SGD(lr=0.1), ["SGD", "lr=0.1", '"learning_rate"']),
        (lambda: compiled().fit(PICTURES, LABELS, epoch=3), ["fit()", "'epoch'", "epochs=3"]),
        (lambda: compiled().fit(PICTURES, LABELS, nb_epoch=3), ["'nb_epoch'", "epochs=3"]),
        (lambda: keras.Model(input=1, output=2), ["`input`", "`inputs`"]),
    ],
)
def test_13_spellings_of_other_days(make: Callable[[], Any], words: list[str]) -> None:
    told(make, *words)


@pytest.mark.parametrize(
    ("name", "today"),
    [
        ("predict_classes", "np.argmax(model.predict(x), axis=-1)"),
        ("predict_proba", "model.predict(x)"),
        ("fit_generator", "model.fit(generator"),
        ("evaluate_generator", "model.evaluate(generator"),
        ("predict_generator", "model.predict(generator"),
    ],
)
def test_13_methods_of_other_days(name: str, today: str) -> None:
    told(lambda: getattr(compiled(), name)(PICTURES), name, today, error=AttributeError)


@pytest.mark.parametrize("key", ["acc", "val_acc", "val_loss"])
def test_14_keys_of_the_history(key: str) -> None:
    history = compiled().fit(PICTURES, LABELS, verbose=0)
    words = [f"'{key}'", "'accuracy', 'loss'"]
    if key != "acc":
        words += ["no validation data was given", "validation_data=(x_val, y_val)"]
    if key != "val_loss":
        words += [f"did you mean '{key}uracy'"]
    told(lambda: history.history[key], *words, error=KeyError)


def test_14_keys_with_validation_data() -> None:
    history = compiled().fit(PICTURES, LABELS, validation_split=0.5, verbose=0)
    with pytest.raises(KeyError) as caught:
        history.history["val_acc"]
    assert "'val_accuracy'" in str(caught.value)
    assert "no validation data" not in str(caught.value)


@pytest.mark.parametrize("validation", [0.0, 0.5])
def test_14_keys_to_monitor(validation: float, tmp_path: Path) -> None:
    for watcher in (
        callbacks.EarlyStopping(monitor="val_acc"),
        callbacks.ModelCheckpoint(
            str(tmp_path / "x.keras"), monitor="val_acc", save_best_only=True
        ),
    ):
        keys = "'accuracy', 'loss', 'val_accuracy'" if validation else "'accuracy', 'loss'"
        words = ["monitor='val_acc'", keys, "did you mean 'val_accuracy'"]
        if not validation:
            words.append("no validation data was given")

        def fit(watcher: Any = watcher) -> None:
            compiled().fit(
                PICTURES, LABELS, validation_split=validation, verbose=0, callbacks=[watcher]
            )

        warned(fit, *words)
