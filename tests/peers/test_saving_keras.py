"""Files against the real Keras 3: what is written here opens there, and the reverse.

Each network is made in both vocabularies by the same function; a file carries the numbers
across. Random layers are switched off where training is compared: their seeds are not part of
the file.
"""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")

import h5py  # noqa: E402

import pycnn  # noqa: E402

pytestmark = pytest.mark.peers

RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 8, 8, 1)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
Build = Callable[..., Any]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Names and seeds anew; TensorFlow step by step, for tracing would take most of the time."""
    for library in (keras, pycnn):
        library.utils.clear_session()
        library.utils.set_random_seed(3)
    before = tensorflow.config.functions_run_eagerly()
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(before)


def plain(k: Any, rate: float = 0.0) -> Any:
    layers = k.layers
    return k.Sequential(
        [
            k.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", kernel_regularizer=k.regularizers.L2(1e-3)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(3, (2, 3), strides=(2, 1), activation="relu", use_bias=False),
            layers.Dropout(rate),
            layers.Flatten(),
            layers.Dense(6, activation="tanh", kernel_initializer="he_normal"),
            layers.Dense(3, activation="softmax"),
        ]
    )


def branched(k: Any) -> Any:
    layers = k.layers
    inputs = k.Input((8, 8, 1))
    left = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    right = layers.Conv2D(4, 1)(layers.ZeroPadding2D(0)(inputs))
    joined = layers.Concatenate()([layers.Add()([left, right]), left])
    features = layers.GlobalAveragePooling2D()(joined)
    shared = layers.Dense(8, activation="tanh", name="shared")
    outputs = layers.Dense(3, activation="softmax")(shared(shared(features)))
    return k.Model(inputs, outputs)


def nested(k: Any) -> Any:
    layers = k.layers
    inner = k.Sequential(
        [
            k.Input((8, 8, 1)),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.Activation("relu"),
        ]
    )
    entry = k.Input((6, 6, 3))
    pooled = k.Model(entry, layers.Dropout(0.0)(layers.AveragePooling2D(2)(entry)))
    inputs = k.Input((8, 8, 1))
    flat = layers.Flatten()(pooled(inner(inputs)))
    return k.Model(inputs, layers.Dense(3, activation="softmax")(flat))


def nested_last(k: Any) -> Any:
    """The output of the model is the output of a model inside it."""
    layers = k.layers
    entry = k.Input((64,))
    head = k.Model(entry, layers.Dense(3, activation="softmax")(entry))
    inputs = k.Input((8, 8, 1))
    return k.Model(inputs, head(layers.Flatten()(inputs)))


def nested_twice(k: Any) -> Any:
    """A model used at two places of another, and a Sequential inside a Sequential."""
    layers = k.layers
    entry = k.Input((8, 8, 1))
    tower = k.Model(entry, layers.Conv2D(2, 3, activation="relu")(entry))
    inputs = k.Input((8, 8, 1))
    both = layers.Concatenate()([tower(inputs), tower(layers.ReLU()(inputs))])
    tail = k.Sequential([k.Sequential([layers.Flatten()]), layers.Dense(3, activation="softmax")])
    return k.Model(inputs, tail(both))


def reshaped(k: Any) -> Any:
    layers = k.layers
    return k.Sequential(
        [
            k.Input((8, 8, 1)),
            layers.ZeroPadding2D(((1, 0), (2, 1))),
            layers.SpatialDropout2D(0.0),
            layers.AveragePooling2D((2, 3), strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.1),
            layers.Reshape((-1, 3)),
            layers.Flatten(),
            layers.Dense(3),
            layers.Softmax(),
        ]
    )


MODELS: dict[str, Build] = {
    "plain": plain,
    "branched": branched,
    "nested": nested,
    "nested_last": nested_last,
    "nested_twice": nested_twice,
    "reshaped": reshaped,
}

OPTIMIZERS: dict[str, Build] = {
    "sgd": lambda k: k.optimizers.SGD(0.05),
    "momentum": lambda k: k.optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda k: k.optimizers.Adam(0.002, beta_1=0.8, clipnorm=1.0),
    "exponential": lambda k: k.optimizers.Adam(
        k.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.9, staircase=True)
    ),
    "piecewise": lambda k: k.optimizers.SGD(
        k.optimizers.schedules.PiecewiseConstantDecay([2, 5], [0.1, 0.05, 0.01]), momentum=0.5
    ),
    "polynomial": lambda k: k.optimizers.SGD(
        k.optimizers.schedules.PolynomialDecay(0.1, 9, 0.01, power=2.0)
    ),
    "cosine": lambda k: k.optimizers.Adam(k.optimizers.schedules.CosineDecay(1e-2, 12)),
    "inverse": lambda k: k.optimizers.Adam(k.optimizers.schedules.InverseTimeDecay(1e-2, 2, 0.5)),
}


def trained(k: Any, build: Build, optimizer: Any = "adam", **settings: Any) -> Any:
    model = build(k)
    settings.setdefault("loss", "sparse_categorical_crossentropy")
    settings.setdefault("metrics", ["accuracy"])
    model.compile(optimizer, **settings)
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model


def load(k: Any, path: Path, **kwargs: Any) -> Any:
    """A warning about the file is a difference."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return k.saving.load_model(path, **kwargs)


def config_of(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def groups_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        content = archive.read("model.weights.h5")
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        kind = (item.shape, str(item.dtype)) if isinstance(item, h5py.Dataset) else None
        found[name] = (kind, dict(item.attrs))

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(visit)
    return found


def assert_same_numbers(one: Any, other: Any) -> None:
    """Weights and optimizer state, exactly."""
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    mine, theirs = one.optimizer.variables, other.optimizer.variables
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(np.asarray(a.numpy()), np.asarray(b.numpy()))


def assert_same_behaviour(one: Any, other: Any) -> None:
    np.testing.assert_allclose(
        one.predict(X, verbose=0), other.predict(X, verbose=0), rtol=1e-4, atol=1e-5
    )
    old = one.evaluate(X, Y, verbose=0, return_dict=True)
    new = other.evaluate(X, Y, verbose=0, return_dict=True)
    assert list(old) == list(new)
    for key in old:
        assert old[key] == pytest.approx(new[key], rel=1e-4, abs=1e-5), key


@pytest.mark.parametrize("direction", ["to keras", "from keras"])
@pytest.mark.parametrize("name", MODELS)
def test_model_opens_on_the_other_side(name: str, direction: str, tmp_path: Path) -> None:
    source, target = (pycnn, keras) if direction == "to keras" else (keras, pycnn)
    model = trained(source, MODELS[name])
    model.save(tmp_path / "m.keras")
    loaded = load(target, tmp_path / "m.keras")
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert_same_numbers(model, loaded)
    assert_same_behaviour(model, loaded)


@pytest.mark.parametrize("direction", ["to keras", "from keras"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_continues_on_the_other_side(
    optimizer: str, direction: str, tmp_path: Path
) -> None:
    """In float64, where three more steps agree to seven digits."""
    source, target = (pycnn, keras) if direction == "to keras" else (keras, pycnn)
    for library in (pycnn, keras):
        library.config.set_floatx("float64")
    try:
        model = trained(source, branched, OPTIMIZERS[optimizer](source))
        model.save(tmp_path / "m.keras")
        loaded = load(target, tmp_path / "m.keras")
        assert_same_numbers(model, loaded)
        assert loaded.optimizer.get_config().keys() == model.optimizer.get_config().keys()
        for each in (model, loaded):
            each.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)
        for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
            assert a.dtype == b.dtype == np.float64
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)
    finally:
        for library in (pycnn, keras):
            library.config.set_floatx("float32")


@pytest.mark.parametrize("name", MODELS)
def test_both_write_the_same_file(name: str, tmp_path: Path) -> None:
    """The same groups, shapes and names; the same configuration but for object numbers."""
    for library, file in ((pycnn, "ours.keras"), (keras, "theirs.keras")):
        trained(library, MODELS[name]).save(tmp_path / file)
    assert groups_of(tmp_path / "ours.keras") == groups_of(tmp_path / "theirs.keras")
    ours = _without_numbers(config_of(tmp_path / "ours.keras"))
    assert ours == _without_numbers(config_of(tmp_path / "theirs.keras"))


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        # Keras tells layers in some cases what training and mask were; None means nothing.
        return {
            key: _without_numbers(item)
            for key, item in value.items()
            if key not in ("shared_object_id", "kwargs")
        }
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    return value


@pytest.mark.parametrize("direction", ["to keras", "from keras"])
@pytest.mark.parametrize("name", MODELS)
def test_weights_file_on_the_other_side(name: str, direction: str, tmp_path: Path) -> None:
    source, target = (pycnn, keras) if direction == "to keras" else (keras, pycnn)
    model, other = trained(source, MODELS[name]), trained(target, MODELS[name])
    other.fit(X, Y, epochs=1, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    assert_same_numbers(model, other)
    assert_same_behaviour(model, other)


@pytest.mark.parametrize("first", ["keras", "pycnn"])
def test_there_and_back(first: str, tmp_path: Path) -> None:
    one, other = (keras, pycnn) if first == "keras" else (pycnn, keras)
    model = trained(one, nested)
    model.save(tmp_path / "a.keras")
    load(other, tmp_path / "a.keras").save(tmp_path / "b.keras")
    back = load(one, tmp_path / "b.keras")
    assert_same_numbers(model, back)
    assert_same_behaviour(model, back)
    assert groups_of(tmp_path / "a.keras") == groups_of(tmp_path / "b.keras")


SETTINGS: dict[str, Build] = {
    "names": lambda k: {"loss": "sparse_categorical_crossentropy", "metrics": ["acc"]},
    "objects": lambda k: {
        "loss": k.losses.SparseCategoricalCrossentropy(name="entropy"),
        "metrics": [k.metrics.SparseCategoricalAccuracy(name="right"), "accuracy"],
        "weighted_metrics": [k.metrics.SparseTopKCategoricalAccuracy(2, name="top2")],
    },
    "weights": lambda k: {
        "loss": ["sparse_categorical_crossentropy"],
        "loss_weights": [0.5],
        "metrics": [["accuracy"]],
    },
    "none": lambda k: {"loss": "sparse_categorical_crossentropy", "metrics": None},
}


@pytest.mark.parametrize("direction", ["to keras", "from keras"])
@pytest.mark.parametrize("name", SETTINGS)
def test_compile_settings(name: str, direction: str, tmp_path: Path) -> None:
    source, target = (pycnn, keras) if direction == "to keras" else (keras, pycnn)
    model = trained(source, branched, "sgd", **SETTINGS[name](source))
    model.save(tmp_path / "m.keras")
    assert_same_behaviour(model, load(target, tmp_path / "m.keras"))


@pytest.mark.parametrize("direction", ["to keras", "from keras"])
def test_compile_settings_by_output(direction: str, tmp_path: Path) -> None:
    source, target = (pycnn, keras) if direction == "to keras" else (keras, pycnn)
    inputs = source.Input((8, 8, 1), name="picture")
    flat = source.layers.Flatten()(inputs)
    model = source.Model(
        inputs,
        [
            source.layers.Dense(3, activation="softmax", name="kind")(flat),
            source.layers.Dense(1, name="amount", activation="sigmoid")(flat),
        ],
    )
    model.compile(
        source.optimizers.SGD(0.01),
        loss={"kind": "sparse_categorical_crossentropy", "amount": "binary_crossentropy"},
        loss_weights={"kind": 1.0, "amount": 0.25},
        metrics={"kind": ["accuracy"], "amount": ["accuracy"]},
    )
    targets = {"kind": Y, "amount": (Y > 1).astype(np.float32)}
    model.fit(X, targets, epochs=1, verbose=0, shuffle=False)
    model.save(tmp_path / "m.keras")
    loaded = load(target, tmp_path / "m.keras")
    old = model.evaluate(X, targets, verbose=0, return_dict=True)
    new = loaded.evaluate(X, targets, verbose=0, return_dict=True)
    assert set(old) == set(new)
    for key in old:
        assert old[key] == pytest.approx(new[key], rel=1e-4, abs=1e-5), key


@pytest.mark.parametrize("direction", ["to keras", "from keras"])
def test_not_compiled_not_trained_not_built(direction: str, tmp_path: Path) -> None:
    source, target = (pycnn, keras) if direction == "to keras" else (keras, pycnn)
    model = plain(source)
    model.save(tmp_path / "uncompiled.keras")
    loaded = load(target, tmp_path / "uncompiled.keras")
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model = source.Sequential([source.layers.Flatten(), source.layers.Dense(3)])
    model.predict(X, verbose=0)
    model.save(tmp_path / "deferred.keras")
    np.testing.assert_allclose(
        load(target, tmp_path / "deferred.keras").predict(X, verbose=0),
        model.predict(X, verbose=0),
        rtol=1e-4,
        atol=1e-5,
    )


def test_frozen_layers(tmp_path: Path) -> None:
    model = plain(keras)
    model.layers[1].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = load(pycnn, tmp_path / "m.keras")
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    assert_same_numbers(model, loaded)
    loaded.save(tmp_path / "back.keras")
    assert_same_numbers(model, load(keras, tmp_path / "back.keras"))


def test_lambda_of_keras_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(2)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "m.keras")
    for safe_mode in (True, False):
        with pytest.raises(ValueError, match="Lambda"):
            pycnn.saving.load_model(tmp_path / "m.keras", safe_mode=safe_mode)


def test_class_unknown_here_is_named(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(2)])
    model.save(tmp_path / "m.keras")
    with pytest.raises((ValueError, NotImplementedError), match="LSTM"):
        pycnn.saving.load_model(tmp_path / "m.keras")


def test_keras_refuses_a_missing_folder_too(tmp_path: Path) -> None:
    for library in (keras, pycnn):
        with pytest.raises(FileNotFoundError):
            plain(library).save(tmp_path / "models" / "m.keras")
