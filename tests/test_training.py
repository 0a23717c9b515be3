"""The training loop: data of all kinds, weights, callbacks, interruption, repeatability."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from pycnn import _core, keras
from pycnn.keras import layers

X = np.random.default_rng(0).random((50, 4), np.float32)
Y = np.arange(50) % 3
START = [np.arange(12, dtype=np.float32).reshape(4, 3) / 12, np.zeros(3, np.float32)]


def make(loss="sparse_categorical_crossentropy", rate=0.1, **kwargs):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    model.set_weights(START)
    model.compile(keras.optimizers.SGD(rate), loss, **kwargs)
    return model


def fitted(*args, **kwargs):
    model = make()
    model.fit(*args, **{"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0, **kwargs})
    return model.get_weights()


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sgd_by_hand(x, y, weights=None, epochs=2, size=16, rate=0.1):
    """Gradient descent on softmax regression, in float64."""
    w, b = (v.astype(np.float64) for v in START)
    weights = np.ones(len(x)) if weights is None else weights
    losses = []
    for _ in range(epochs):
        total = 0.0
        for low in range(0, len(x), size):
            xs, ys, ws = (a[low : low + size] for a in (x, y, weights))
            p = softmax(xs @ w + b)
            total += float(-(np.log(p[np.arange(len(ys)), ys]) * ws).sum())
            d = (p - np.eye(3)[ys]) * ws[:, None] / len(ys)
            w, b = w - rate * xs.T @ d, b - rate * d.sum(0)
        losses.append(total / len(x))
    return [w, b], losses


@pytest.mark.parametrize("weighted", [False, True])
def test_numbers(weighted):
    weights = np.linspace(0.5, 2, 50) if weighted else None
    model = make()
    history = model.fit(
        X, Y, epochs=2, batch_size=16, shuffle=False, verbose=0, sample_weight=weights
    ).history
    expected, losses = sgd_by_hand(X, Y, weights)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)


def test_class_weight_times_sample_weight():
    table = {0: 2.0, 1: 0.5}
    by_class = np.array([2.0, 0.5, 1.0])[Y]
    own = np.linspace(1, 2, 50)
    assert equal(fitted(X, Y, class_weight=table), fitted(X, Y, sample_weight=by_class))
    assert equal(
        fitted(X, Y, class_weight=table, sample_weight=own),
        fitted(X, Y, sample_weight=(by_class * own.astype(np.float32))),
    )


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.tolist(),
        lambda x: _core.tensor(x),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x[::-1][::-1],
        lambda x: x.astype(">f4"),
        lambda x: np.ma.masked_array(x),
        lambda x: type("Frame", (), {"__array__": lambda self, *a, **k: x})(),
    ],
)
def test_kinds_of_arrays(convert):
    assert equal(fitted(X, Y), fitted(convert(X), convert(Y)))


@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", "f2"],
)
def test_dtypes(dtype):
    x = (X > 0.5).astype(dtype)
    y = Y.astype("uint8" if dtype in ("bool", "f2") else dtype)
    assert equal(fitted(x.astype(np.float32), Y), fitted(x, y))


def test_labels_with_an_axis():
    assert equal(fitted(X, Y), fitted(X, Y[:, None]))
    assert equal(fitted(X, Y), fitted(X, Y.astype(np.float32)))


def test_validation_split_takes_the_last():
    model = make(metrics=["accuracy"])
    a = model.fit(X, Y, validation_split=0.2, shuffle=False, verbose=0, batch_size=8).history
    model = make(metrics=["accuracy"])
    b = model.fit(
        X[:40], Y[:40], validation_data=(X[40:], Y[40:]), shuffle=False, verbose=0, batch_size=8
    ).history
    assert a == b and list(a) == ["accuracy", "loss", "val_accuracy", "val_loss"]


def test_shuffle_follows_the_seed():
    def run(seed, **kwargs):
        keras.utils.set_random_seed(seed)
        return fitted(X, Y, shuffle=True, **kwargs)

    assert equal(run(1), run(1))
    assert not equal(run(1), run(2))
    assert not equal(run(1), fitted(X, Y))


def test_every_sample_once():
    seen = []
    keras.utils.set_random_seed(0)
    from pycnn.keras.trainers.data import make_data

    data = make_data(X, Y, batch_size=16, shuffle=True, seed=lambda: 3)
    first, second = list(data.epoch()), list(data.epoch())
    for order in (first, second):
        assert [len(i) for i in order] == [16, 16, 16, 2]
        assert sorted(np.concatenate(order)) == list(range(50))
        seen.append(np.concatenate(order))
    assert not np.array_equal(*seen)


class Batches:
    def __init__(self):
        self.ended = 0

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[i * 16 : i * 16 + 16], Y[i * 16 : i * 16 + 16]

    def on_epoch_end(self):
        self.ended += 1


def generator(endless=False):
    while True:
        for i in range(4):
            yield X[i * 16 : i * 16 + 16], Y[i * 16 : i * 16 + 16]
        if not endless:
            return


class Loader:
    def __iter__(self):
        return generator()


def test_streams_equal_arrays():
    whole = fitted(X, Y)
    batches = Batches()
    assert equal(whole, fitted(batches, batch_size=None))
    assert batches.ended == 2
    assert equal(whole, fitted(generator(True), batch_size=None, steps_per_epoch=4))
    assert equal(whole, fitted(Loader(), batch_size=None))
    model = make()
    a = model.evaluate(X, Y, verbose=0)
    assert model.evaluate(Batches(), verbose=0) == pytest.approx(a, rel=1e-6)
    np.testing.assert_array_equal(
        model.predict(X, verbose=0), model.predict((b[:1] for b in generator()), verbose=0)
    )


def test_stream_that_ends_early():
    model = make()
    with pytest.warns(UserWarning, match="ran out: it gave 4 of the 9"):
        model.fit(generator(), steps_per_epoch=9, epochs=1, verbose=0)
    with pytest.raises(ValueError, match="y"):
        model.fit(generator(), Y, verbose=0)
    with pytest.raises(ValueError, match="validation_split"):
        model.fit(generator(), validation_split=0.2, verbose=0)


def test_steps_per_epoch_goes_on_through_the_data():
    assert equal(fitted(X, Y, epochs=4, steps_per_epoch=2), fitted(X, Y, epochs=2))


def test_on_batch_equals_fit():
    model = make(metrics=["accuracy"])
    values = model.train_on_batch(X, Y, return_dict=True)
    assert list(values) == ["accuracy", "loss"]
    assert equal(model.get_weights(), fitted(X, Y, epochs=1, batch_size=50))
    assert model.test_on_batch(X, Y) == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)
    np.testing.assert_array_equal(model.predict_on_batch(X), model.predict(X, 50, verbose=0))


def test_last_batch_counts_by_its_size():
    model = make(metrics=["accuracy"])
    for size in (1, 7, 16, 49, 50, 64):
        loss, accuracy = model.evaluate(X, Y, batch_size=size, verbose=0)
        p = softmax(X @ START[0])
        assert accuracy == pytest.approx((p.argmax(1) == Y).mean(), rel=1e-6)
        assert loss == pytest.approx(-np.log(p[np.arange(50), Y]).mean(), rel=1e-5)


def test_predict_in_pieces():
    model = make()
    whole = model.predict(X, batch_size=50, verbose=0)
    assert whole.dtype == np.float32 and whole.shape == (50, 3)
    for size in (1, 7, None):
        np.testing.assert_allclose(model.predict(X, size, verbose=0), whole, rtol=1e-6)
    whole[:] = 0  # the caller's own
    assert model.predict(X, batch_size=50, verbose=0).any()


def test_two_outputs():
    i = keras.Input((4,), name="in")
    a = layers.Dense(3, activation="softmax", name="a")(i)
    b = layers.Dense(1, name="b", kernel_regularizer="l2")(i)
    model = keras.Model(i, [a, b])
    model.compile(
        "sgd",
        loss={"a": "sparse_categorical_crossentropy", "b": "mse"},
        loss_weights={"a": 1.0, "b": 0.5},
        metrics={"a": "accuracy", "b": ["mae"]},
    )
    history = model.fit(X, {"a": Y, "b": X[:, :1]}, verbose=0).history
    assert list(history) == ["a_accuracy", "a_loss", "b_loss", "b_mae", "loss"]
    values = model.evaluate(X, [Y, X[:, :1]], verbose=0, return_dict=True)
    penalty = 0.01 * float((model.get_layer("b").get_weights()[0] ** 2).sum())
    total = values["a_loss"] + 0.5 * values["b_loss"] + penalty
    assert values["loss"] == pytest.approx(total, rel=1e-5)
    outputs = model.predict({"in": X}, verbose=0)
    assert [o.shape for o in outputs] == [(50, 3), (50, 1)]
    with pytest.raises(ValueError, match="list or a dict"):
        model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="no output 'c'"):
        model.fit(X, {"a": Y, "c": Y}, verbose=0)


@pytest.mark.parametrize(
    ("outputs", "loss", "order"),
    [
        ("bca", "cab", "cab"),  # a dict of losses: its order
        ("cba", "mae", "cba"),  # or else that of the outputs
        ("cba", ["mae"] * 3, "cba"),
    ],
)
def test_outputs_in_a_dict(outputs, loss, order):
    """Losses and labels go by the dict's keys, whatever the layers are called."""
    i = keras.Input((4,))
    made = {key: layers.Dense(2, name=f"layer_{key}", kernel_initializer="zeros") for key in "abc"}
    model = keras.Model(i, {key: made[key](i) for key in outputs})
    if order == "cab":
        loss = dict.fromkeys(loss, "mae")
    model.compile("sgd", loss, metrics={"a": ["mse"], "c": ["mse"]})
    amount = {"a": 1.0, "b": 2.0, "c": 3.0}
    y = {key: np.full((50, 2), value, np.float32) for key, value in amount.items()}
    expected = [6.0, *[amount[key] for key in order], 1.0, 9.0]
    assert model.evaluate(X, y, verbose=0) == pytest.approx(expected)
    assert model.evaluate(X, list(y.values()), verbose=0) == pytest.approx(expected)
    assert model.test_on_batch(X, y) == pytest.approx(expected)
    assert model.metrics_names[2:] == [f"{key}_loss" for key in order]
    named = model.evaluate(X, y, verbose=0, return_dict=True)
    assert list(named) == ["a_loss", "a_mse", "b_loss", "c_loss", "c_mse", "loss"]
    assert model.train_on_batch(X, y) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no output 'layer_a'"):
        model.compile("sgd", {"layer_a": "mse"})


def test_steps_are_kept():
    model = make()
    model.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    count = len(model._fit_state.steps)
    model.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    assert len(model._fit_state.steps) == count == 2
    for size in range(1, 40):
        model.fit(X, Y, batch_size=size, verbose=0)
    assert len(model._fit_state.steps) <= 16


def test_ctrl_c_keeps_what_was_reached(capsys):
    class Press(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.armed and batch == 1:
                signal.raise_signal(signal.SIGINT)

        def on_epoch_begin(self, epoch, logs=None):
            self.armed = epoch == 1

    model = make()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, epochs=3, batch_size=16, shuffle=False, verbose=0, callbacks=[Press()])
    assert signal.getsignal(signal.SIGINT) is before
    assert model.history.epoch == [0] and len(model.history.history["loss"]) == 1
    assert int(model.optimizer.iterations) == 6
    other = make()
    other.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    other.fit(X[:32], Y[:32], batch_size=16, shuffle=False, verbose=0)
    assert equal(model.get_weights(), other.get_weights())
    model.fit(X, Y, verbose=0)


def test_ctrl_c_during_a_step():
    from pycnn.keras.trainers.interrupts import Interrupts

    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.busy = True
        signal.raise_signal(signal.SIGINT)
        interrupts.busy = False
        assert interrupts.pending
        interrupts.check()


def test_ctrl_c_ends_a_prediction_within_its_batch(monkeypatch):
    from pycnn.keras.trainers.step import Step

    model = make()
    x = np.repeat(X, 8, axis=0)
    model.predict(x, batch_size=len(x), verbose=0)
    slices = []
    bind = Step.bind

    def counting(self, leaves):
        run = bind(self, leaves)

        def counted(*index):
            slices.append(index)
            if len(slices) == 2:
                signal.raise_signal(signal.SIGINT)
            return run(*index)

        return counted

    monkeypatch.setattr(Step, "bind", counting)
    with pytest.raises(KeyboardInterrupt):
        model.predict(x, batch_size=len(x), verbose=0)
    assert len(slices) == 2 and len(x) == 400  # of seven


def test_progress_is_one_line_when_redirected(capsys):
    model = make(metrics=["accuracy"])
    model.fit(X, Y, epochs=2, batch_size=16, validation_split=0.2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0] == "Epoch 1/2" and lines[2] == "Epoch 2/2"
    import re

    metric = r"\d+\.\d{4}(e-\d\d)?"
    assert re.fullmatch(
        rf"3/3 ━{{20}} \d+s \d+[mu]?s/step - accuracy: {metric} - loss: {metric} - "
        rf"val_accuracy: {metric} - val_loss: {metric}",
        lines[1],
    )
    model.evaluate(X, Y, verbose=2)
    assert re.fullmatch(
        rf"2/2 - \d+s - \d+[mu]?s/step - accuracy: {metric} - loss: {metric}\n",
        capsys.readouterr().out,
    )
    model.predict(X)
    assert re.fullmatch(r"2/2 ━{20} \d+s \d+[mu]?s/step\n", capsys.readouterr().out)
    model.fit(X, Y, verbose=0)
    assert capsys.readouterr().out == ""


def test_callbacks_of_a_training(tmp_path):
    model = make(metrics=["accuracy"])
    history = model.fit(
        X,
        Y,
        epochs=4,
        validation_split=0.2,
        verbose=0,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr / 2),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "{epoch}.weights.h5", save_weights_only=True
            ),
        ],
    ).history
    np.testing.assert_allclose(history["learning_rate"], [0.05, 0.025, 0.0125, 0.00625], rtol=1e-6)
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0] == "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss" and len(rows) == 5
    assert len(list(tmp_path.glob("*.weights.h5"))) == 4


def test_early_stopping_restores():
    model = make(rate=0.0)
    stop = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    # Unshuffled: sums over other batches would round otherwise, and a later epoch might be less.
    history = model.fit(X, Y, epochs=9, shuffle=False, verbose=0, callbacks=[stop])
    assert len(history.epoch) == 3
    assert equal(model.get_weights(), START)


def test_terminate_on_nan():
    model = make()
    x = X.copy()
    x[20] = np.nan
    with pytest.warns(RuntimeWarning):
        history = model.fit(
            x, Y, batch_size=16, epochs=3, shuffle=False, verbose=0,
            callbacks=[keras.callbacks.TerminateOnNaN()],
        )  # fmt: skip
    assert int(model.optimizer.iterations) == 2 and len(history.epoch) == 1


def test_validation_frequency():
    model = make()
    history = model.fit(X, Y, epochs=4, validation_split=0.2, validation_freq=2, verbose=0).history
    assert len(history["val_loss"]) == 2 and len(history["loss"]) == 4
    history = model.fit(X, Y, epochs=4, validation_split=0.2, validation_freq=[1], verbose=0)
    assert len(history.history["val_loss"]) == 1


def test_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboardX.proto.event_pb2")
    import struct

    model = make(metrics=["accuracy"])
    board = keras.callbacks.TensorBoard(
        tmp_path, histogram_freq=1, write_images=True, update_freq=2
    )
    model.fit(X, Y, epochs=2, batch_size=16, validation_split=0.2, verbose=0, callbacks=[board])

    def tags(folder):
        (path,) = (tmp_path / folder).iterdir()
        data, found, at = path.read_bytes(), [], 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = accumulator.Event.FromString(data[at + 12 : at + 12 + size])
            found += [(v.tag, event.step) for v in event.summary.value]
            at += size + 16
        return found

    train = tags("train")
    assert ("keras", 0) in train and ("epoch_loss", 1) in train
    assert ("epoch_accuracy", 0) in train and ("epoch_learning_rate", 1) in train
    assert ("batch_loss", 2) in train and ("batch_loss", 3) not in train
    kernel = model.layers[0].weights[0].path
    assert (f"{kernel}/histogram", 1) in train and (f"{kernel}/image", 1) in train
    validation = tags("validation")
    assert ("epoch_loss", 1) in validation
    assert ("evaluation_loss_vs_iterations", 6) in validation


@pytest.mark.parametrize("sparse", [True, False])
def test_metrics_of_a_model_in_float64(sparse):
    names = ["categorical_accuracy", "categorical_crossentropy", "top_k_categorical_accuracy"]
    names = [f"sparse_{name}" for name in names] if sparse else [*names, "mae", "cosine_similarity"]
    loss = "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"
    start = np.arange(28.0).reshape(4, 7) % 5 - 2
    y = np.arange(50) % 7
    found = []
    before = keras.config.floatx()
    try:
        for dtype in ("float32", "float64"):
            keras.config.set_floatx(dtype)
            model = keras.Sequential([keras.Input((4,)), layers.Dense(7, activation="softmax")])
            model.set_weights([start, np.zeros(7)])
            model.compile(keras.optimizers.SGD(0.1), loss, metrics=names)
            labels = y if sparse else np.eye(7)[y]
            found.append([*model.evaluate(X, labels, verbose=0), *model.train_on_batch(X, labels)])
    finally:
        keras.config.set_floatx(before)
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert len(found[0]) == 2 * (1 + len(names))
