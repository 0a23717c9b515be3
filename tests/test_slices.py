"""Predictions of large batches run in slices: only where samples are independent, and unseen."""

import numpy as np
import pytest

import pycnn.keras as keras
from pycnn import ops
from pycnn.keras import layers
from pycnn.keras.trainers.slices import SLICE, samples_are_independent

RNG = np.random.default_rng(3)
X = RNG.random((2 * SLICE + 37, 6, 6, 1), np.float32)


def stack():
    return [
        layers.Conv2D(3, 3, activation="relu", padding="same"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    ]


def recorded(model):
    return list(model._fit_state.predict_steps._steps)


def by_hand(model):
    return np.concatenate([model.predict_on_batch(X[i : i + 50]) for i in range(0, len(X), 50)])


def test_sequential_and_functional():
    keras.utils.set_random_seed(1)
    sequential = keras.Sequential([layers.Input((6, 6, 1)), *stack()])
    entry = layers.Input((6, 6, 1))
    value = entry
    for layer in stack():
        value = layer(value)
    functional = keras.Model(entry, value)
    for model in (sequential, functional):
        assert samples_are_independent(model)
        whole = model.predict_on_batch(X)
        assert len(recorded(model)) == 2  # slices of 64, and of 37
        assert whole.flags.writeable
        np.testing.assert_allclose(whole, by_hand(model), rtol=1e-5)
        for size in (SLICE, 150, 500):
            np.testing.assert_allclose(model.predict(X, size, verbose=0), whole, rtol=1e-5)


def test_a_callback_sees_whole_batches():
    model = keras.Sequential([layers.Input((6, 6, 1)), *stack()])
    seen = []

    class Look(keras.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            seen.append(logs["outputs"].shape)

    model.predict(X, 140, verbose=0, callbacks=[Look()])
    assert seen == [(140, 4), (len(X) - 140, 4)]


def test_several_outputs_keep_their_structure():
    entry = layers.Input((6, 6, 1))
    flat = layers.Flatten()(entry)
    model = keras.Model(entry, {"a": layers.Dense(2)(flat), "b": layers.Dense(3)(flat)})
    found = model.predict_on_batch(X)
    assert {name: part.shape for name, part in found.items()} == {
        "a": (len(X), 2),
        "b": (len(X), 3),
    }
    np.testing.assert_allclose(found["b"][100:150], model.predict_on_batch(X[100:150])["b"], 1e-5)


class Centred(layers.Layer):
    def call(self, x):
        return x - ops.mean(x)


def whole_batch_models():
    yield keras.Sequential([layers.Input((6, 6, 1)), layers.Flatten(), Centred()])
    yield keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Flatten(),
            layers.Dense(3, activation=lambda x: x / ops.sum(x)),
        ]
    )

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten = layers.Flatten()

        def call(self, x):
            return self.flatten(x) - ops.mean(x)

    yield Own()

    own = keras.Sequential([layers.Input((6, 6, 1)), layers.Flatten()])
    own.call = lambda x, training=None: x - ops.mean(x)
    yield own


@pytest.mark.parametrize("number", range(4))
def test_what_looks_at_the_whole_batch_gets_it(number):
    model = list(whole_batch_models())[number]
    assert not samples_are_independent(model)
    found = model.predict_on_batch(X)
    assert len(recorded(model)) == 1
    np.testing.assert_allclose(model.predict(X, len(X), verbose=0), found, rtol=1e-6)
    parts = np.concatenate([model.predict_on_batch(X[i : i + 50]) for i in range(0, len(X), 50)])
    assert np.abs(parts - found).max() > 1e-4


def test_a_step_of_ones_own_is_refused():
    class Own(keras.Sequential):
        def predict_step(self, data):
            return self(data)

    made = Own([layers.Input((6, 6, 1)), layers.Flatten()])
    for call in (made.predict, made.predict_on_batch):
        with pytest.raises(NotImplementedError, match="predict_step"):
            call(X)
