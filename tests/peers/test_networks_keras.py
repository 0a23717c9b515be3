"""The labs' networks against Keras: outputs, loss, gradients, weights after steps, histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from peers.networks import NETWORKS, images
from peers.sides import RTOL32, SIDES, Build, allclose32, array, both, floatx, keras, pycnn

pytestmark = pytest.mark.peers

SPARSE = "sparse_categorical_crossentropy"

# Keras rounds rates that a schedule makes to float32: all factors here are powers of two.
OPTIMIZERS: dict[str, Build] = {
    "sgd": lambda k: k.optimizers.SGD(0.0625),
    "momentum": lambda k: k.optimizers.SGD(0.03125, momentum=0.75),
    "nesterov": lambda k: k.optimizers.SGD(0.03125, momentum=0.75, nesterov=True),
    "adam": lambda k: k.optimizers.Adam(0.001),
    "schedule": lambda k: k.optimizers.SGD(
        k.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.125, 0.0625, 0.03125])
    ),
    # All of these clip in every step, the gradients of penalties included.
    "clipnorm": lambda k: k.optimizers.SGD(0.25, momentum=0.75, clipnorm=0.0625),
    "global_clipnorm": lambda k: k.optimizers.SGD(0.25, global_clipnorm=0.125),
    "clipvalue": lambda k: k.optimizers.Adam(0.001, clipvalue=0.0078125),
}


def one_hot(labels: np.ndarray, dtype: str = "float32") -> np.ndarray:
    return np.eye(10, dtype=dtype)[labels]


# Behind batch normalisation over random pictures, a rounding error in TensorFlow or here is enough
# to turn a rectifier on or to choose another pixel of a pooling window, and one such pixel of
# thousands shows beyond 1e-4. These pictures (number, seed) are away from such places: on them
# both sides are within a third of the tolerance of the float64 gradients.
AWAY_FROM_KINKS = {
    "lab1 one block": (16, 7),
    "lab1 three blocks": (8, 39),
    "lab1 kernels 2": (8, 14),
    "lab1 kernels 4": (16, 10),
    "lab4 cifar": (16, 6),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_loss_and_gradients_in_float32(name: str) -> None:
    """Gradients are the differences of the weights after one step of SGD with rate 1."""
    count, seed = AWAY_FROM_KINKS.get(name, (8, 5))
    x, labels = images(name, count, seed=seed)
    y = one_hot(labels)
    models = both(NETWORKS[name][0])
    allclose32(models[0](x), models[1](x), "output in inference")
    steps = []
    losses = []
    for k, model in zip((pycnn, keras), models, strict=True):
        model.compile(k.optimizers.SGD(1.0), "categorical_crossentropy", metrics=["accuracy"])
        before = model.get_weights()
        tested = model.test_on_batch(x, y)
        losses.append([*map(float, tested), *map(float, model.train_on_batch(x, y))])
        after = model.get_weights()
        steps.append([a - b for a, b in zip(before, after, strict=True)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for a, b, weight in zip(*steps, models[1].weights, strict=True):
        np.testing.assert_allclose(a, b, **RTOL32, err_msg=weight.path)
    moved = [np.any(step != 0) for step in steps[0]]
    assert sum(moved) >= len(models[0].trainable_weights)


# Every network with two optimizers, some with all.
STEPS = [
    (name, optimizer)
    for name in NETWORKS
    for optimizer in OPTIMIZERS
    if optimizer in ("momentum", "adam") or name in ("lab1", "lab2", "lab5 max", "penalties")
]


@pytest.mark.parametrize(("name", "optimizer"), STEPS)
def test_weights_after_three_steps_in_float64(name: str, optimizer: str) -> None:
    x, labels = images(name, 8, "float64")
    with floatx("float64"):
        models = both(NETWORKS[name][0])
        start = models[0].get_weights()
        losses: list[list[float]] = [[], []]
        for k, model, found in zip((pycnn, keras), models, losses, strict=True):
            model.compile(OPTIMIZERS[optimizer](k), SPARSE)
            for step in range(3):
                found.append(
                    float(model.train_on_batch(np.roll(x, step, 0), np.roll(labels, step)))
                )
    assert len(set(losses[0])) == 3
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)
    for a, b, c, weight in zip(
        models[0].get_weights(), models[1].get_weights(), start, models[1].weights, strict=True
    ):
        assert a.dtype == b.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12, err_msg=weight.path)
        if weight.trainable:
            assert np.abs(a - c).max() > 1e-4, weight.path


def histories(name: str, run: Any, count: int = 36, **settings: Any) -> list[dict[str, Any]]:
    """What `fit` of both sides reports, in float64, ours first."""
    x, labels = images(name, count, "float64")
    found = []
    with floatx("float64"):
        for k, model in zip((pycnn, keras), both(NETWORKS[name][0]), strict=True):
            model.compile(
                k.optimizers.SGD(0.03125),
                settings.get("loss", SPARSE),
                metrics=settings.get("metrics", ["accuracy"]),
                weighted_metrics=settings.get("weighted_metrics"),
            )
            found.append(dict(run(model, x, labels)))
            found[-1]["weights"] = model.get_weights()
    return found


def assert_same(found: list[dict[str, Any]]) -> None:
    """The same keys in the same order, the same numbers.

    Keras keeps sums of metrics in float32, ours are float64: hence the tolerance for them. The
    weights have no such sums in them; after up to a dozen steps some of them nearly vanish.
    """
    ours, theirs = found
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        if key == "weights":
            for a, b in zip(ours[key], value, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)
        else:
            assert np.shape(ours[key]) == np.shape(value), key
            np.testing.assert_allclose(ours[key], value, rtol=2e-6, err_msg=key)


RUNS: dict[str, Any] = {
    "plain": lambda m, x, y: m.fit(x, y, batch_size=12, epochs=2, shuffle=False, verbose=0).history,
    "partial last batch": lambda m, x, y: (
        m.fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0).history
    ),
    "batch larger than the data": lambda m, x, y: (
        m.fit(x, y, batch_size=100, epochs=2, shuffle=False, verbose=0).history
    ),
    "default batch": lambda m, x, y: m.fit(x, y, epochs=1, shuffle=False, verbose=0).history,
    "validation_split": lambda m, x, y: (
        m.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_split=0.3).history
    ),
    "validation_data": lambda m, x, y: (
        m.fit(
            x[:20],
            y[:20],
            batch_size=8,
            epochs=3,
            shuffle=False,
            verbose=0,
            validation_data=(x[20:], y[20:]),
            validation_freq=2,
            validation_batch_size=7,
        ).history
    ),
    "validation weights": lambda m, x, y: (
        m.fit(
            x[:20],
            y[:20],
            batch_size=8,
            shuffle=False,
            verbose=0,
            validation_data=(x[20:], y[20:], np.arange(1.0, 17.0)),
        ).history
    ),
    "class_weight": lambda m, x, y: (
        m.fit(
            x,
            y,
            batch_size=10,
            epochs=2,
            shuffle=False,
            verbose=0,
            class_weight={c: 0.25 * (c + 1) for c in range(10)},
        ).history
    ),
    "sample_weight": lambda m, x, y: (
        m.fit(
            x,
            y,
            batch_size=10,
            epochs=2,
            shuffle=False,
            verbose=0,
            sample_weight=np.arange(1.0, 37.0) / 16.0,
            validation_split=0.25,
        ).history
    ),
    "initial_epoch": lambda m, x, y: (
        m.fit(x, y, batch_size=12, epochs=4, initial_epoch=2, shuffle=False, verbose=0).history
    ),
    "steps_per_epoch": lambda m, x, y: (
        m.fit(x, y, batch_size=6, epochs=2, steps_per_epoch=3, shuffle=False, verbose=0).history
    ),
}


@pytest.mark.parametrize("run", RUNS)
def test_history_of_fit(run: str) -> None:
    assert_same(histories("lab1 one block", RUNS[run]))


@pytest.mark.parametrize("run", ["class_weight", "sample_weight", "validation weights"])
def test_history_with_one_hot_labels_and_weighted_metrics(run: str) -> None:
    def fit(model: Any, x: Any, y: Any) -> Any:
        return RUNS[run](model, x, one_hot(y, "float64"))

    found = histories(
        "lab4 mnist",
        fit,
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=["accuracy", "mse"],
    )
    assert_same(found)


@pytest.mark.parametrize("name", ["lab1", "lab3 light", "lab4 cifar", "lab5 dropout", "penalties"])
def test_history_of_the_networks(name: str) -> None:
    """Loss with penalties, running statistics in validation, a partial last batch."""
    assert_same(histories(name, RUNS["validation_split"], count=30))


def test_rate_of_the_labs_callback() -> None:
    """Lab 5's `LearningRateScheduler`, its rate in the history."""

    def fit(model: Any, x: Any, y: Any) -> Any:
        k = pycnn if isinstance(model, pycnn.Model) else keras
        halve = k.callbacks.LearningRateScheduler(lambda e, rate: rate / 2 if e % 2 else rate)
        return model.fit(
            x, y, batch_size=12, epochs=4, shuffle=False, verbose=0, callbacks=[halve]
        ).history

    found = histories("lab5 baseline", fit)
    assert_same(found)
    assert list(found[0]["learning_rate"]) == [0.03125, 0.015625, 0.015625, 0.0078125]


BATCHES = [(name, size) for name in ("lab1", "lab5 max", "branches") for size in (7, None)]
BATCHES += [("lab3 light", size) for size in (1, 11, 32, 100)]


@pytest.mark.parametrize(("name", "batch"), BATCHES)
def test_evaluate_and_predict(name: str, batch: int | None) -> None:
    x, labels = images(name, 33)
    models = both(NETWORKS[name][0])
    found = []
    for k, model in zip((pycnn, keras), models, strict=True):
        model.compile(
            "sgd",
            SPARSE,
            metrics=["accuracy", k.metrics.SparseTopKCategoricalAccuracy(3, name="top")],
        )
        weights = np.linspace(0.5, 1.5, 33).astype("float32")
        values = model.evaluate(x, labels, batch_size=batch, verbose=0)
        named = model.evaluate(
            x, labels, batch_size=batch, verbose=0, return_dict=True, sample_weight=weights
        )
        found.append((values, named, model.predict(x, batch_size=batch, verbose=0)))
    (ours, named, outputs), (theirs, named2, outputs2) = found
    assert len(ours) == 3 and list(named) == list(named2)
    np.testing.assert_allclose(ours, theirs, **RTOL32)
    np.testing.assert_allclose(list(named.values()), list(named2.values()), **RTOL32)
    assert type(outputs) is type(outputs2) is np.ndarray
    allclose32(outputs, outputs2)
    allclose32(models[0].predict_on_batch(x[:5]), models[1].predict_on_batch(x[:5]))
    allclose32(models[0](x[:5]), array(models[1](x[:5])))


def test_several_inputs_and_outputs() -> None:
    """Losses by output, their weights and names, in `fit` and `evaluate`."""
    r = np.random.RandomState(0)
    x = {"a": r.normal(size=(20, 6, 6, 1)), "b": r.normal(size=(20, 4))}
    y = {"kind": r.randint(0, 3, 20), "amount": r.normal(size=(20, 1))}

    def build(k: Any) -> Any:
        a, b = k.Input((6, 6, 1), name="a"), k.Input((4,), name="b")
        both_ = k.layers.Concatenate()([k.layers.Flatten()(a), b])
        hidden = k.layers.Dense(8, activation="tanh")(both_)
        kind = k.layers.Dense(3, activation="softmax", name="kind")(hidden)
        return k.Model([a, b], {"kind": kind, "amount": k.layers.Dense(1, name="amount")(hidden)})

    found = []
    with floatx("float64"):
        for k, model in zip((pycnn, keras), both(build), strict=True):
            model.compile(
                k.optimizers.SGD(0.0625, momentum=0.5),
                loss={"kind": SPARSE, "amount": "mse"},
                loss_weights={"kind": 0.5, "amount": 2.0},
                metrics={"kind": ["accuracy"], "amount": ["mae"]},
            )
            history = model.fit(
                x, y, batch_size=6, epochs=2, shuffle=False, verbose=0, validation_split=0.2
            ).history
            named = model.evaluate(x, y, verbose=0, return_dict=True)
            history.update({f"evaluated {key}": value for key, value in named.items()})
            history["weights"] = model.get_weights()
            found.append(history)
            outputs = model.predict(x, verbose=0)
            assert list(outputs) == ["kind", "amount"]
            assert outputs["amount"].dtype == np.float64
    assert_same(found)


def test_order_of_results_of_several_outputs() -> None:
    """The lists of `evaluate`, `train_on_batch`, `predict` and `metrics_names`."""
    x = np.random.RandomState(0).normal(size=(20, 4)).astype("float32")
    y = [np.arange(20) % 3, x[:, :1]]

    def build(k: Any) -> Any:
        inputs = k.Input((4,))
        kind = k.layers.Dense(3, activation="softmax", name="kind")(inputs)
        return k.Model(inputs, [kind, k.layers.Dense(1, name="amount")(inputs)])

    found = []
    for k, model in zip((pycnn, keras), both(build), strict=True):
        model.compile(
            k.optimizers.SGD(0.0625), [SPARSE, "mse"], metrics=[["accuracy"], ["mae", "mse"]]
        )
        values = [model.evaluate(x, y, verbose=0), model.train_on_batch(x, y)]
        history = model.fit(x, y, batch_size=6, shuffle=False, verbose=0).history
        named = model.evaluate(x, y, verbose=0, return_dict=True)
        names = [list(history), list(named), model.metrics_names]
        found.append((np.array(values, "float64"), names, model.predict(x, verbose=0)))
    assert found[0][0].shape == (2, 6)
    np.testing.assert_allclose(found[0][0], found[1][0], **RTOL32)
    assert found[0][1] == found[1][1]
    for a, b in zip(found[0][2], found[1][2], strict=True):
        allclose32(a, b)


@pytest.mark.parametrize("loss", ["bac", "mae", "list"])
@pytest.mark.parametrize("prefix", ["", "layer_"])
def test_order_of_results_of_outputs_in_a_dict(prefix: str, loss: str) -> None:
    """By a dict of losses, or else by the outputs; under the dict's keys, not the layers' names."""
    x = np.random.RandomState(0).normal(size=(20, 4)).astype("float32")
    y = {key: x[:, i : i + 1] for i, key in enumerate("cab")}

    def build(k: Any) -> Any:
        inputs = k.Input((4,))
        made = {key: k.layers.Dense(1, name=prefix + key)(inputs) for key in "cba"}
        return k.Model(inputs, made)

    found = []
    wanted: Any = {"bac": dict.fromkeys("bac", "mse"), "mae": "mae", "list": ["mse"] * 3}[loss]
    for k, model in zip((pycnn, keras), both(build), strict=True):
        model.compile(k.optimizers.SGD(0.0625), wanted, metrics={key: ["mae"] for key in "bca"})
        values = [model.evaluate(x, y, verbose=0), model.train_on_batch(x, y)]
        history = model.fit(x, y, batch_size=6, shuffle=False, verbose=0).history
        found.append((np.array(values, "float64"), [list(history), model.metrics_names]))
    assert found[0][0].shape == (2, 7)
    np.testing.assert_allclose(found[0][0], found[1][0], **RTOL32)
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("loss", ["categorical", "sparse", "binary", "mse"])
@pytest.mark.parametrize("last", ["dense", "activation", "layer", "flattened"])
def test_probabilities_reach_the_loss_as_logits(loss: str, last: str) -> None:
    """With outputs of 0 and 1, where a logarithm of probabilities would be cut off at 1e-7."""
    names = {"categorical": "softmax", "sparse": "softmax", "binary": "sigmoid", "mse": "softmax"}
    kinds = {"categorical": "categorical_crossentropy", "binary": "binary_crossentropy"}
    kinds |= {"sparse": SPARSE, "mse": "mse"}
    function = names[loss]
    x = np.random.RandomState(0).normal(0.0, 40.0, size=(16, 5)).astype(np.float32)
    labels = np.random.RandomState(1).randint(0, 4, 16)
    y = labels if loss == "sparse" else np.eye(4, dtype="float32")[labels]

    def build(k: Any) -> Any:
        layers = k.layers
        model = k.Sequential([k.Input((5,))])
        if last == "layer" and function == "softmax":
            model.add(layers.Dense(4))
            model.add(layers.Softmax())
        elif last in ("activation", "layer"):
            model.add(layers.Dense(4))
            model.add(layers.Activation(function))
        else:
            model.add(layers.Dense(4, activation=function))
        if last == "flattened":
            model.add(layers.Reshape((4,)))
        return model

    results = []
    for k, model in zip((pycnn, keras), both(build), strict=True):
        model.compile(k.optimizers.SGD(0.0625), kinds[loss])
        value = float(model.train_on_batch(x, y))
        results.append((value, model.get_weights()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, **RTOL32)


@pytest.mark.parametrize("shape", ["(N,28,28)", "labels (N,1)", "float64", "uint8", "lists"])
def test_what_keras_sensibly_accepts(shape: str) -> None:
    x, labels = images("lab3 same", 10)
    data: tuple[Any, Any] = {
        "(N,28,28)": (x[..., 0], labels),
        "labels (N,1)": (x, labels[:, None]),
        "float64": (x.astype("float64"), labels.astype("float64")),
        "uint8": ((x * 2 + 5).clip(0, 255).astype("uint8"), labels.astype("uint8")),
        "lists": ([x], [labels]),
    }[shape]
    found = []
    for k, model in zip((pycnn, keras), both(NETWORKS["lab3 same"][0]), strict=True):
        model.compile(k.optimizers.SGD(0.0625), SPARSE, metrics=["accuracy"])
        history = model.fit(*data, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        found.append([*history["loss"], *history["accuracy"], *model.evaluate(*data, verbose=0)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


def test_all_networks_have_these_parameters() -> None:
    """The topology in full width is the labs' own."""
    from peers.networks import lab1, lab3, lab4_cifar, lab5

    for k in SIDES:
        full = lab1(k, width=1)
        assert [layer.count_params() for layer in full.layers] == (
            [640, 256, 0, 0, 36928, 256, 0, 0, 0]
            + [204928, 512, 0, 16512, 512, 0, 16512, 512, 0, 1290]
        )
        assert lab1(k, blocks=1, width=1).layers[5].count_params() == 1384576
        assert lab3(k, [(6, 5, 1)], (128,)).count_params() == 152102
        assert lab3(k, [(6, 5, 1)], (128,), "valid").count_params() == 112166
        assert lab3(k, [(6, 5, 2)], (128,)).count_params() == 39206
        assert lab3(k, [(16, 5, 1), (32, 3, 1)], (128,)).count_params() == 207178
        assert lab3(k, [(16, 7, 1), (32, 5, 1)], (256, 128)).count_params() == 449482
        assert lab3(k, [(32, 4, 2), (16, 4, 1), (9, 2, 1)], (128,)).count_params() == 11907
        assert lab4_cifar(k, width=1).layers[13].output.shape == (None, 2048)
        assert lab5(k).layers[5].output.shape == (None, 400)
