"""What a newcomer meets: names that are not there, arguments that mean something else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import keras
from pycnn.keras import layers as L
from pycnn.keras._absent import ABSENT

X = np.random.default_rng(0).random((20, 8, 8, 1), dtype=np.float32)
Y = np.arange(20) % 3


def _model(*middle: Any) -> Any:
    model = keras.Sequential([L.Input((8, 8, 1)), *middle, L.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


# ---- names ----


@pytest.mark.parametrize("module", sorted(ABSENT))
def test_names_of_keras_that_are_not_here_say_so(module: str) -> None:
    here = getattr(keras, module) if module else keras
    for name in ABSENT[module]:
        with pytest.raises(AttributeError, match=rf"keras\..*{name} of Keras is not available"):
            getattr(here, name)


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        (keras, "Sequental", "Sequential"),
        (pycnn, "Modell", "Model"),
        (keras.layers, "Dens", "Dense"),
        (keras.layers, "Conv2d", "Conv2D"),
        (keras.layers, "MaxPool2d", "MaxPool2D"),
        (keras.layers, "BatchNormalisation", "BatchNormalization"),
        (keras.losses, "CategoricalCrossEntropy", "CategoricalCrossentropy"),
        (keras.metrics, "acuracy", "Accuracy"),
        (keras.callbacks, "EarlyStop", "EarlyStopping"),
        (keras.optimizers, "Sgd", "SGD"),
        (keras.initializers, "HeNorma", "HeNormal"),
        (keras.regularizers, "l1l3", "l1_l2"),
        (keras.activations, "rellu", "relu"),
        (keras.utils, "to_categoricals", "to_categorical"),
    ],
)
def test_misspelt_names_are_told_the_nearest(module: Any, name: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=rf'Did you mean .*"{meant}"'):
        getattr(module, name)
    assert not hasattr(module, name)


def test_the_data_sets_are_still_found_on_first_use() -> None:
    assert keras.datasets.mnist is pycnn.keras.datasets.mnist
    with pytest.raises(AttributeError, match="__wrapped__"):
        _ = keras.__wrapped__


# ---- layers in the wrong place ----


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: _model(L.Flatten(), L.Conv2D(2, 3)), "put it before Flatten"),
        (lambda: keras.Sequential([L.Input((8, 8)), L.Conv2D(2, 3)]), "Input((8, 8, 1))"),
        (lambda: keras.Sequential([L.Input((60000, 8, 8, 1)), L.Conv2D(2, 3)]), "Input((8, 8, 1))"),
        (lambda: keras.Model(L.Input((3,)), L.Dense(3)), "Dense(...)(x)"),
        (lambda: _model(L.Conv2D(2, 3)).fit(X, Y, verbose=0), "put Flatten()"),
    ],
)
def test_layers_in_the_wrong_place(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        make()


def test_one_hot_labels_of_a_network_without_flatten() -> None:
    model = _model(L.Conv2D(2, 3))
    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ValueError, match=r"put Flatten\(\)"):
        model.fit(X, keras.utils.to_categorical(Y, 3), verbose=0)


def test_a_map_of_one_pixel_does_not_look_channels_first() -> None:
    with pytest.raises(ValueError, match="shrunk to 1x1") as caught:
        _model(*[L.MaxPooling2D() for _ in range(4)])
    assert "channels-first" not in str(caught.value)
    with pytest.raises(ValueError, match="looks channels-first"):
        keras.Sequential([L.Input((1, 28, 28)), L.Conv2D(2, 3)])


# ---- data in other forms ----


def _batches() -> Iterator[Any]:
    yield X[:4], Y[:4]


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda m: m.fit((X, Y), verbose=0), ValueError, "as in fit(x, y)"),
        (lambda m: m.evaluate([X, Y], verbose=0), ValueError, "as in fit(x, y)"),
        (lambda m: m.fit(_batches, verbose=0), TypeError, "_batches(...)"),
        (lambda m: m.fit([(X[:4], Y[:4])], verbose=0), ValueError, "iter(x)"),
        (lambda m: m.fit([X[0], X[1, :5]], Y[:2], verbose=0), ValueError, "one shape"),
        (lambda m: m.fit([[1, 2], [1, [2, 3]]], Y[:2], verbose=0), ValueError, "(ragged)"),
    ],
)
def test_data_in_a_form_that_is_not_taken(call: Any, error: type, said: str) -> None:
    model = _model(L.Flatten())
    with pytest.raises(error, match=re.escape(said)):
        call(model)


class Batches(keras.utils.PyDataset):
    """Five batches of four; counts its calls."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.begun = self.ended = 0

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return X[index * 4 : index * 4 + 4], Y[index * 4 : index * 4 + 4]

    def on_epoch_begin(self) -> None:
        self.begun += 1

    def on_epoch_end(self) -> None:
        self.ended += 1


def test_batches_by_number() -> None:
    assert keras.utils.Sequence is keras.utils.PyDataset
    data, model, same = Batches(), _model(L.Flatten()), _model(L.Flatten())
    same.set_weights(model.get_weights())
    got = model.fit(data, epochs=3, shuffle=False, verbose=0).history
    assert got == same.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0).history
    assert (data.begun, data.ended, data.num_batches) == (3, 3, 5)
    assert model.predict(data, verbose=0).shape == (20, 3)
    assert model.evaluate(data, verbose=0) == same.evaluate(X, Y, batch_size=4, verbose=0)
    for wrong in ({"workers": 4}, {"use_multiprocessing": True}):
        with pytest.raises(NotImplementedError, match=next(iter(wrong))):
            Batches(**wrong)
    with pytest.raises(NotImplementedError, match="must define __len__"):
        len(keras.utils.PyDataset())


# ---- code of one's own ----


class Forgetful(L.Layer):
    """A layer whose constructor does not call the base's."""

    def __init__(self) -> None:
        self.inner = L.Dense(2)


def test_a_layer_without_its_base_says_so_when_it_is_put_into_a_model() -> None:
    for make in (
        lambda: keras.Sequential([L.Input((3,)), Forgetful()]),
        lambda: Forgetful()(np.ones((2, 3), "float32")),
    ):
        with pytest.raises(RuntimeError, match=r"Forgetful.*super\(\).__init__\(\)"):
            make()


@pytest.mark.parametrize("kind", ["loss", "metric"])
def test_numbers_looked_at_in_a_loss_of_ones_own(kind: str) -> None:
    def looking(y_true: Any, y_pred: Any) -> Any:
        return float(keras.ops.mean(keras.ops.square(y_true - y_pred)))

    model = keras.Sequential([L.Input((3,)), L.Dense(2)])
    if kind == "loss":
        model.compile("sgd", looking)
    else:
        model.compile("sgd", "mse", metrics=[looking])
    with pytest.raises(RuntimeError, match="no numbers to look at") as caught:
        model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert "pycnn.keras.ops" in caught.value.__notes__[0]


def test_the_learning_rate_to_try_after_nan_is_a_sensible_one() -> None:
    model = keras.Sequential([L.Input((3,)), L.Dense(2)])
    model.compile(keras.optimizers.SGD(1e30), "mse")
    with pytest.warns(RuntimeWarning, match="such as 0.01"):
        model.fit(np.ones((8, 3)), np.zeros((8, 2)), batch_size=2, epochs=2, verbose=0)


# ---- settings ----


@pytest.mark.parametrize(
    ("name", "value"),
    [("ISA", "avx1024"), ("CONV", "fast"), ("NUM_THREADS", "two"), ("NUM_THREADS", "0")],
)
def test_settings_of_the_environment_are_checked(name: str, value: str) -> None:
    setting = {f"PYCNN_{name}": value}
    done = subprocess.run(
        [sys.executable, "-c", "import pycnn"],
        env={**os.environ, **setting},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert last.startswith(f"ImportError: PYCNN_{name}={value} is not"), last
