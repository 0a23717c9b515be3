"""`*_on_batch` called again and again: the short way must notice what has changed."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import pycnn.keras as keras
from pycnn.keras import layers
from pycnn.keras.trainers.checks import _are_class_numbers

RNG = np.random.default_rng(5)
X = RNG.random((12, 6, 6, 1), np.float32)
Y = RNG.integers(0, 3, 12)


def model():
    keras.utils.set_random_seed(1)
    made = keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


def test_same_numbers_as_the_long_way():
    short, long = model(), model()
    for step in range(5):
        long._fit_state.repeats.clear()
        x, y = X + np.float32(step), Y[::-1].copy() if step % 2 else Y
        assert short.train_on_batch(x, y) == long.train_on_batch(x, y)
        assert short.test_on_batch(x, y) == long.test_on_batch(x, y)
        np.testing.assert_array_equal(short.predict_on_batch(x), long.predict_on_batch(x))
    assert set(short._fit_state.repeats) == {"train", "test", "predict"}


@pytest.mark.parametrize("labels", [np.full(12, 3), np.full(12, -1)])
def test_labels_are_checked_at_every_call(labels):
    made = model()
    made.train_on_batch(X, Y)
    made.test_on_batch(X, Y)
    before = made.get_weights()
    for call in (made.train_on_batch, made.test_on_batch):
        with pytest.raises(ValueError, match="out of range"):
            call(X, labels)
    for old, new in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_other_arrays_take_the_long_way():
    made = model()
    expected = made.predict_on_batch(X)
    spread = np.zeros((12, 6, 6, 2), np.float32)[..., :1]
    spread[...] = X
    bytes_ = np.zeros(X.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(X.shape)
    bytes_[...] = X
    swapped = X.astype(X.dtype.newbyteorder())
    for same in (spread, bytes_, swapped, X.tolist(), X.astype(np.float64), X[:]):
        np.testing.assert_allclose(made.predict_on_batch(same), expected, rtol=1e-6)
    np.testing.assert_allclose(made.predict_on_batch(X[:5]), expected[:5], rtol=1e-5)
    with pytest.raises(ValueError):
        made.predict_on_batch(X[:, :5])


def test_a_changed_model_is_noticed():
    made = model()
    made.predict_on_batch(X)
    made.pop()
    made.pop()  # the dropout: it has no weights
    assert made.predict_on_batch(X).shape == (12, 64)
    made.add(layers.Activation("relu"))
    made.add(layers.Dense(2))
    assert made.predict_on_batch(X).shape == (12, 2)
    made.compile("sgd", "mse")
    made.train_on_batch(X, np.zeros((12, 2), np.float32))
    made.set_weights([np.zeros_like(w) for w in made.get_weights()])
    np.testing.assert_array_equal(made.predict_on_batch(X), 0)


def test_a_new_compile_starts_anew():
    made = model()
    made.train_on_batch(X, Y)
    made.compile("sgd", "mse")
    one_hot = np.eye(3, dtype=np.float32)[Y]
    assert isinstance(made.train_on_batch(X, one_hot), float)
    with pytest.raises(ValueError):
        made.train_on_batch(X, None)


@pytest.mark.parametrize(
    "weights", [{"sample_weight": np.arange(12.0)}, {"class_weight": {0: 1.0, 1: 2.0, 2: 3.0}}]
)
def test_weights_given_once_do_not_stay(weights):
    mixed, fresh = model(), model()
    for made in (mixed, fresh):
        calls = [weights, {}, weights, {}, {}]
        logs = []
        for more in calls:
            logs.append(made.train_on_batch(X, Y, **more))
            if "sample_weight" in more:
                logs.append(made.test_on_batch(X, Y, **more))
            logs.append(made.test_on_batch(X, Y))
            if made is fresh:
                made._fit_state.repeats.clear()
        made.logs = logs
    assert mixed.logs == fresh.logs


def test_another_optimizer_takes_over():
    made, same = model(), model()
    made.train_on_batch(X, Y)
    same.train_on_batch(X, Y)
    made.optimizer = keras.optimizers.SGD(0.5)  # of another number of settings than Adam
    same.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    for _ in range(2):
        assert made.train_on_batch(X, Y) == same.train_on_batch(X, Y)
        assert (
            made.fit(X, Y, 5, shuffle=False, verbose=0).history
            == same.fit(X, Y, 5, shuffle=False, verbose=0).history
        )
    assert int(made.optimizer.iterations) == int(same.optimizer.iterations) == 8
    for a, b in zip(made.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_replaced_layer_cannot_have_the_address_of_the_old_one():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = layers.Activation("relu")

        def call(self, x):
            return self.last(x)

    made = Own()
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    for name, expected in [("relu", np.maximum(x, 0)), ("tanh", np.tanh(x))] * 10:
        del made.last
        made.last = layers.Activation(name)
        np.testing.assert_allclose(made.predict_on_batch(x), expected, rtol=1e-6)


def test_ctrl_c_leaves_no_step_uncounted(monkeypatch):
    made, same = model(), model()
    made.train_on_batch(X, Y)
    advance = made.optimizer.advance
    arrivals = iter([True])

    def interrupted():
        if next(arrivals, False):
            signal.raise_signal(signal.SIGINT)
        advance()

    monkeypatch.setattr(made.optimizer, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.train_on_batch(X, Y)
    assert int(made.optimizer.iterations) == 2
    for _ in range(2):
        same.train_on_batch(X, Y)
    assert made.train_on_batch(X, Y) == same.train_on_batch(X, Y)


def test_ctrl_c_at_any_moment():
    made = model()
    made.train_on_batch(X, Y)
    plan = made._fit_state.repeats["train"].step.plan
    for moment in range(30):
        timer = threading.Timer(0.002 + moment / 7000, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()  # in here: on a loaded machine it may end before the next line
            limit = time.monotonic() + 20
            while time.monotonic() < limit:
                made.train_on_batch(X, Y)
        timer.join()
        assert int(made.optimizer.iterations) == plan.runs > moment


def test_metrics_of_all_kinds_are_reset_and_returned():
    class Twice(keras.metrics.Mean):
        def result(self):
            return 2.0 * super().result()

    class Both(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="both")
            self.sum = self.add_variable((), "zeros", name="sum")
            self.resets = 0

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.sum.assign_add(keras.ops.sum(y_pred))

        def result(self):
            return {"b": self.sum.value, "a": -self.sum.value}

        def reset_state(self):
            self.resets += 1
            super().reset_state()

    class Doubling(layers.Layer):
        def __init__(self):
            super().__init__()
            self.twice = Twice(name="twice")

        def call(self, x):
            self.twice.update_state(x)
            return x

    both = Both()
    made = keras.Sequential([layers.Input((4,)), Doubling(), layers.Dense(3, activation="softmax")])
    made.compile("sgd", "sparse_categorical_crossentropy", metrics=[both], weighted_metrics=["acc"])
    x = RNG.random((12, 4), np.float32)
    for call in (made.train_on_batch, made.test_on_batch):
        for step in range(3):
            before = both.resets
            logs = call(x + step, Y, return_dict=True)
            assert both.resets == before + 1
            assert list(logs) == sorted(logs) == ["a", "acc", "b", "loss", "twice"]
            assert all(type(value) is float for value in logs.values())
            np.testing.assert_allclose(logs["b"], 12, rtol=1e-6)  # of this batch alone
            np.testing.assert_allclose(logs["twice"], 2 * (x + step).mean(), rtol=1e-6)
            assert logs == {name: float(v) for name, v in made.get_metrics_result().items()}
        again = call(x, Y)
        expected = made.get_metrics_result()
        assert again == [float(expected[name]) for name in ("loss", "acc", "twice", "a", "b")]


def test_a_metric_that_came_later_is_returned():
    made = model()
    made.train_on_batch(X, Y)
    made.layers[0].more = keras.metrics.Mean(name="more")
    for _ in range(2):
        assert made.train_on_batch(X, Y, return_dict=True)["more"] == 0.0


def test_results_of_the_model_s_own():
    class Own(keras.Sequential):
        def get_metrics_result(self):
            results = super().get_metrics_result()
            return {**results, "twice": 2 * float(results["loss"])}

    made = Own(model().layers)
    made.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    for call in (made.train_on_batch, made.test_on_batch):
        for _ in range(3):
            logs = call(X, Y, return_dict=True)
            assert list(logs) == ["accuracy", "loss", "twice"]
            assert logs["twice"] == 2 * logs["loss"]
    logs = made.evaluate(X, Y, verbose=0, return_dict=True)
    assert logs["twice"] == 2 * logs["loss"]
    history = made.fit(X, Y, batch_size=4, epochs=2, verbose=0).history
    assert history["twice"] == [2 * loss for loss in history["loss"]]


def test_a_reset_of_the_model_s_own():
    class Own(keras.Sequential):
        resets = 0

        def reset_metrics(self):
            self.resets += 1
            super().reset_metrics()

    made = Own(model().layers)
    made.compile("sgd", "sparse_categorical_crossentropy")
    for step in range(1, 4):
        made.train_on_batch(X, Y)
        assert made.resets == step


def test_all_metrics_of_one_name_are_reset():
    class Measuring(layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = keras.metrics.Mean(name="m")

        def call(self, x):
            self.mean.update_state(x)
            return x

    compiled = keras.metrics.MeanSquaredError(name="m")
    made = keras.Sequential([layers.Input((4,)), Measuring(), layers.Dense(1)])
    made.compile("sgd", "mse", metrics=[compiled])
    x = RNG.random((12, 4), np.float32)
    for _ in range(3):
        made.train_on_batch(x, np.zeros((12, 1), np.float32))
        assert float(compiled.count) == 12


@pytest.mark.parametrize(
    ("label", "dtype", "classes", "fits"),
    [
        (-100, "int8", 200, False),
        (100, "int8", 200, False),  # told by the longer way
        (-1, "int64", 10, False),
        (9, "int64", 10, True),
        (10, "uint8", 10, False),
        (199, "uint8", 200, True),
    ],
)
def test_labels_checked_in_one_pass(label, dtype, classes, fits):
    assert _are_class_numbers(np.array([0, label], dtype), classes) == fits
