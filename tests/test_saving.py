"""Models and weights written to files and read back: the same numbers, the same settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import pycnn
from pycnn.keras import layers
from pycnn.keras.saving import SavedFileError, load_model, weights_h5

RNG = np.random.default_rng(11)
X = RNG.normal(size=(24, 8, 8, 1)).astype(np.float32)
Y = RNG.integers(0, 3, 24)


def sequential() -> Any:
    return pycnn.Sequential(
        [
            pycnn.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", kernel_regularizer=pycnn.regularizers.L2(1e-3)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(3, (2, 3), strides=(2, 1), activation="relu"),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(6, activation="tanh"),
            layers.Dense(3, activation="softmax"),
        ]
    )


def branched() -> Any:
    """Two branches, and a dense layer used twice."""
    inputs = pycnn.Input((8, 8, 1))
    left = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    right = layers.Conv2D(4, 1)(inputs)
    joined = layers.Concatenate()([layers.Add()([left, right]), left])
    features = layers.GlobalAveragePooling2D()(joined)
    shared = layers.Dense(8, activation="tanh", name="shared")
    outputs = layers.Dense(3, activation="softmax")(shared(shared(features)))
    return pycnn.Model(inputs, outputs)


def nested() -> Any:
    """A Sequential and a functional model inside a functional model."""
    inner = pycnn.Sequential(
        [
            pycnn.Input((8, 8, 1)),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.Activation("relu"),
        ]
    )
    entry = pycnn.Input((6, 6, 3))
    pooled = pycnn.Model(entry, layers.Dropout(0.2)(layers.AveragePooling2D(2)(entry)))
    inputs = pycnn.Input((8, 8, 1))
    flat = layers.Flatten()(pooled(inner(inputs)))
    return pycnn.Model(inputs, layers.Dense(3, activation="softmax")(flat))


def nested_sequential() -> Any:
    return pycnn.Sequential(
        [
            pycnn.Input((8, 8, 1)),
            pycnn.Sequential([layers.Conv2D(2, 3), layers.ReLU()]),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def many_outputs() -> Any:
    first = pycnn.Input((8, 8, 1), name="picture")
    flat = layers.Flatten()(first)
    return pycnn.Model(
        first,
        [
            layers.Dense(3, activation="softmax", name="kind")(flat),
            layers.Dense(1, name="amount")(flat),
        ],
    )


MODELS = {
    "sequential": sequential,
    "branched": branched,
    "nested": nested,
    "nested_sequential": nested_sequential,
}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: pycnn.optimizers.SGD(0.05),
    "nesterov": lambda: pycnn.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: pycnn.optimizers.Adam(0.002, beta_1=0.8),
    "schedule": lambda: pycnn.optimizers.Adam(
        pycnn.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.9)
    ),
}


def compiled(make: Callable[[], Any], optimizer: Any = "adam") -> Any:
    model = make()
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trained(make: Callable[[], Any], optimizer: Any = "adam") -> Any:
    model = compiled(make, optimizer)
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    return model


def assert_same_weights(one: Any, other: Any) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- whole models ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_model_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = trained(MODELS[name])
    path = tmp_path / "m.keras"
    model.save(path)
    loaded = load_model(path)
    assert type(loaded) is type(model)
    assert loaded.name == model.name
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert_same_weights(model, loaded)
    np.testing.assert_array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))
    assert model.evaluate(X, Y, verbose=0) == loaded.evaluate(X, Y, verbose=0)
    assert loaded.get_config() == model.get_config()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_continues_as_if_nothing_had_happened(optimizer: str, tmp_path: Path) -> None:
    """No dropout in this model: seeds are not part of the file, in Keras neither."""
    model = trained(branched, OPTIMIZERS[optimizer]())
    path = tmp_path / "m.keras"
    model.save(path)
    loaded = load_model(path)
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) == 6
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    fits = [
        m.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
        for m in (model, loaded)
    ]
    assert fits[0] == fits[1]
    assert_same_weights(model, loaded)


def test_changed_learning_rate_is_kept(tmp_path: Path) -> None:
    model = trained(branched, "sgd")
    model.optimizer.learning_rate = 0.125
    model.save(tmp_path / "m.keras")
    assert float(load_model(tmp_path / "m.keras").optimizer.learning_rate) == 0.125


def test_compile_settings_of_many_outputs(tmp_path: Path) -> None:
    model = many_outputs()
    model.compile(
        "sgd",
        loss={"kind": "sparse_categorical_crossentropy", "amount": "mse"},
        loss_weights={"kind": 1.0, "amount": 0.25},
        metrics={"kind": ["accuracy"]},
    )
    targets = {"kind": Y, "amount": Y.astype(np.float32)}
    model.fit(X, targets, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    old = model.evaluate(X, targets, verbose=0, return_dict=True)
    new = loaded.evaluate(X, targets, verbose=0, return_dict=True)
    assert old == new


def test_objects_as_loss_and_metric(tmp_path: Path) -> None:
    model = pycnn.Sequential([pycnn.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)])
    model.compile(
        pycnn.optimizers.SGD(0.01),
        pycnn.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[pycnn.metrics.SparseCategoricalAccuracy(name="right")],
    )
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    old = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert old == loaded.evaluate(X, Y, verbose=0, return_dict=True)
    assert set(old) == {"loss", "right"}


def test_compile_false_leaves_the_model_uncompiled(tmp_path: Path) -> None:
    model = trained(sequential)
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras", compile=False)
    assert not getattr(loaded, "compiled", False)
    np.testing.assert_array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))


def test_uncompiled_model_and_optimizer_before_its_first_step(tmp_path: Path) -> None:
    model = sequential()
    model.save(tmp_path / "a.keras")
    assert_same_weights(model, load_model(tmp_path / "a.keras"))
    model = compiled(sequential)
    model.save(tmp_path / "b.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_model(tmp_path / "b.keras")
    loaded.fit(X, Y, epochs=1, verbose=0)


def test_deferred_model(tmp_path: Path) -> None:
    model = pycnn.Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")])
    with pytest.warns(UserWarning, match="not been built"):
        model.save(tmp_path / "early.keras")
    assert not load_model(tmp_path / "early.keras").built
    predicted = model.predict(X, verbose=0)
    model.save(tmp_path / "late.keras")
    loaded = load_model(tmp_path / "late.keras")
    np.testing.assert_array_equal(predicted, loaded.predict(X, verbose=0))


def test_frozen_layers_stay_frozen(tmp_path: Path) -> None:
    model = sequential()
    model.layers[1].trainable = False
    model = model
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert [layer.trainable for layer in loaded.layers] == [
        layer.trainable for layer in model.layers
    ]
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    assert_same_weights(model, loaded)


def test_layer_shared_by_two_inner_models_is_refused(tmp_path: Path) -> None:
    """Keras writes such a file and cannot read it."""
    shared = layers.Dense(4, name="common")
    models = []
    for _ in range(2):
        entry = pycnn.Input((64,))
        models.append(pycnn.Model(entry, shared(entry)))
    inputs = pycnn.Input((8, 8, 1))
    flat = layers.Flatten()(inputs)
    model = pycnn.Model(inputs, layers.Add()([models[0](flat), models[1](flat)]))
    with pytest.raises(NotImplementedError, match="common"):
        model.save(tmp_path / "m.keras")
    assert list(tmp_path.iterdir()) == []
    before = model.predict(X, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    model.set_weights([w + 1 for w in model.get_weights()])
    model.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(before, model.predict(X, verbose=0))


def test_own_loss_and_metric_need_custom_objects(tmp_path: Path) -> None:
    def halved(y_true: Any, y_pred: Any) -> Any:
        return pycnn.losses.sparse_categorical_crossentropy(y_true, y_pred) * 0.5

    model = sequential()
    model.compile("sgd", halved)
    model.fit(X, Y, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="halved"):
        load_model(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras", custom_objects={"halved": halved})
    assert model.evaluate(X, Y, verbose=0) == loaded.evaluate(X, Y, verbose=0)


def test_float64_model(tmp_path: Path) -> None:
    model = pycnn.Sequential(
        [
            pycnn.Input((8, 8, 1), dtype="float64"),
            layers.Conv2D(2, 3, dtype="float64"),
            layers.Flatten(dtype="float64"),
            layers.Dense(3, dtype="float64"),
        ]
    )
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert {w.dtype for w in loaded.weights} == {"float64"}
    assert_same_weights(model, loaded)


class Scale(layers.Layer):
    """A layer of a user."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape: Any) -> None:
        self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

    def call(self, inputs: Any) -> Any:
        return inputs * self.gain * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def test_own_layer_needs_custom_objects(tmp_path: Path) -> None:
    model = pycnn.Sequential(
        [pycnn.Input((8, 8, 1)), layers.Flatten(), Scale(3.0), layers.Dense(3)]
    )
    path = tmp_path / "m.keras"
    model.save(path)
    with pytest.raises(ValueError, match="custom_objects"):
        load_model(path)
    loaded = load_model(path, custom_objects={"Scale": Scale})
    assert loaded.layers[1].factor == 3.0
    np.testing.assert_array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))
    with pytest.raises(TypeError, match="custom_objects"):
        load_model(path, custom_objects=[Scale])  # type: ignore[arg-type]


# --- weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_weights_come_back(name: str, ending: str, tmp_path: Path) -> None:
    model, other = trained(MODELS[name]), MODELS[name]()
    path = tmp_path / f"m{ending}"
    (model.save if ending == ".keras" else model.save_weights)(path)
    other.load_weights(path)
    assert_same_weights(model, other)
    np.testing.assert_array_equal(model.predict(X, verbose=0), other.predict(X, verbose=0))


def test_weights_are_written_in_keras_order_under_keras_names(tmp_path: Path) -> None:
    model = trained(sequential)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path) as file:
        kernel = file["layers/conv2d_1/vars/0"]
        assert kernel.shape == (2, 3, 4, 3)
        np.testing.assert_array_equal(kernel, model.layers[4].kernel.numpy())
        assert sorted(file["layers"]) == [
            "batch_normalization",
            "conv2d",
            "conv2d_1",
            "dense",
            "dense_1",
            "dropout",
            "flatten",
            "max_pooling2d",
            "re_lu",
        ]
        assert len(file["layers/batch_normalization/vars"]) == 4
        assert file["optimizer/vars/0"].dtype == np.int64
        assert file["layers/dense/vars"].attrs["name"] == model.layers[7].name


def test_paths_of_nested_models() -> None:
    paths = [saveable.path for saveable in weights_h5.walk_model(nested())]
    assert "layers/sequential/layers/conv2d" in paths
    assert "layers/functional/layers/average_pooling2d" in paths
    assert paths[0] == ""
    assert len(paths) == len(set(paths))


def test_skip_mismatch_loads_what_fits(tmp_path: Path) -> None:
    model = trained(sequential)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    other = pycnn.Sequential([*sequential().layers[:-1], layers.Dense(5, name="answer")])
    other.build((None, 8, 8, 1))
    before = other.layers[-1].get_weights()
    with pytest.raises(ValueError, match="answer"):
        other.load_weights(path)
    with pytest.warns(UserWarning, match="answer"):
        other.load_weights(path, skip_mismatch=True)
    for a, b in zip(before, other.layers[-1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])


def test_extra_layers_in_the_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    sequential().save_weights(path)
    small = pycnn.Sequential([pycnn.Input((8, 8, 1)), layers.Conv2D(4, 3, padding="same")])
    with pytest.warns(UserWarning, match="dense_1"):
        small.load_weights(path)


def test_half_precision_files_are_widened(tmp_path: Path) -> None:
    """bfloat16 as Keras writes it (two opaque bytes and a note), float16, float64, integers."""
    model = pycnn.Sequential([pycnn.Input((2,)), layers.Dense(2)])
    values = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    path = tmp_path / "m.weights.h5"
    for kind in ("bfloat16", "float16", "float64", "int8"):
        wanted = np.trunc(values) if kind == "int8" else values
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/dense/vars")
            if kind == "bfloat16":
                group.create_dataset("0", data=upper.view("V2"))
                group["0"].attrs["dtype"] = "bfloat16"
            else:
                group["0"] = wanted.astype(kind)
            group["1"] = np.zeros(2, np.float32)
        model.load_weights(path)
        np.testing.assert_array_equal(model.get_weights()[0], wanted)


def test_weights_of_a_users_model_class(tmp_path: Path) -> None:
    class Net(pycnn.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = layers.Dense(4)
            self.blocks = [layers.Dense(4), layers.Dense(4)]
            self.heads = {"a": layers.Dense(2)}

        def call(self, inputs: Any) -> Any:
            x = self.first(inputs)
            for block in self.blocks:
                x = block(x)
            return self.heads["a"](x)

    model, other = Net(), Net()
    x = RNG.normal(size=(3, 5)).astype(np.float32)
    model(x)
    other(x)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path) as file:
        for name in ("first", "blocks/dense", "blocks/dense_1", "heads/dense"):
            assert f"{name}/vars/0" in file, sorted(file)
    other.load_weights(path)
    assert_same_weights(model, other)


class Counted(layers.Layer):
    """A layer that writes one number more than it has weights."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen = 0

    def build(self, input_shape: Any) -> None:
        self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

    def call(self, inputs: Any) -> Any:
        return inputs * self.gain

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store["seen"] = np.array(self.seen)

    def load_own_variables(self, store: Any) -> None:
        self.gain.assign(store["0"])
        self.seen = int(store["seen"])
        if self.seen < 0:
            raise ValueError("less than nothing")


def test_layer_with_numbers_of_its_own(tmp_path: Path) -> None:
    model, other = (
        pycnn.Sequential([pycnn.Input((4,)), Counted(), layers.Dense(2)]) for _ in range(2)
    )
    path = tmp_path / "m.weights.h5"
    model.layers[0].seen = 7
    model.save_weights(path)
    other.load_weights(path)
    assert other.layers[0].seen == 7
    assert_same_weights(model, other)
    model.layers[0].seen = -1
    model.set_weights([w + 1 for w in model.get_weights()])
    before = other.get_weights()
    model.save_weights(path)
    with pytest.raises(SavedFileError, match="less than nothing"):
        other.load_weights(path)
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_of_an_optimizer_that_never_stepped(tmp_path: Path) -> None:
    """It fits another that never stepped; one with a history keeps it, and says so."""
    path = tmp_path / "m.weights.h5"
    compiled(branched).save_weights(path)
    fresh = compiled(branched)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh.load_weights(path)
    model = trained(branched)
    before = [v.numpy() for v in model.optimizer.variables]
    with pytest.warns(UserWarning, match="state of optimizer"):
        model.load_weights(path)
    for a, b in zip(before, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        (pycnn.keras.losses.Huber(delta=0.25), None),
        (pycnn.keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.25), None),
        (pycnn.keras.losses.CategoricalCrossentropy(label_smoothing=0.25), "softmax"),
    ],
)
def test_a_loss_keeps_its_settings(loss, activation, tmp_path):
    model = pycnn.keras.Sequential([pycnn.keras.Input((2,)), layers.Dense(2, activation)])
    x, y = np.full((2, 2), 5.0, np.float32), np.eye(2, dtype=np.float32)
    model.compile("sgd", loss)
    model.save(tmp_path / "m.keras")
    again = pycnn.keras.models.load_model(tmp_path / "m.keras")
    assert again.loss.get_config() == loss.get_config()
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
