"""Copies and pickles of models, layers, optimizers, metrics and tensors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import ops
from pycnn.keras import layers as L

X = np.random.default_rng(0).normal(size=(48, 10, 10, 1)).astype("float32")
Y = np.arange(48) % 5
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


@pytest.fixture(params=sorted(COPIES))
def copied(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return COPIES[request.param]


def _body() -> list[Any]:
    return [
        L.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"),
        L.BatchNormalization(),
        L.MaxPooling2D(),
        L.Dropout(0.3),
        L.Flatten(),
        L.Dense(5, activation="softmax"),
    ]


class Block(L.Layer):
    """A layer with layers in a list and a dictionary."""

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stages = [L.Dense(width, activation="relu") for _ in range(2)]
        self.named = {"last": L.Dense(5)}

    def call(self, x: Any) -> Any:
        for stage in self.stages:
            x = stage(x)
        return self.named["last"](x)


class ByCode(pycnn.Model):
    """A model given by code."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.flat = L.Flatten()
        self.block = Block(8)

    def call(self, x: Any) -> Any:
        return self.block(self.flat(x))


def _sequential(rule: Any = "adam") -> Any:
    model = pycnn.Sequential([L.Input((10, 10, 1)), *_body()])
    model.compile(rule, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _without_input(rule: Any = "adam") -> Any:
    model = pycnn.Sequential(_body())
    model.compile(rule, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _functional(rule: Any = "adam") -> Any:
    start = L.Input((10, 10, 1))
    conv = L.Conv2D(3, 3, padding="same")
    once = conv(start)
    both = L.Add()([once, L.ReLU()(once)])
    shared = L.Dense(4)
    flat = L.Flatten()(both)
    joined = L.Concatenate()([shared(flat), shared(L.Dropout(0.2)(flat))])
    model = pycnn.Model(start, L.Dense(5, activation="softmax")(joined))
    model.compile(rule, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _nested(rule: Any = "adam") -> Any:
    inner = pycnn.Sequential([L.Input((10, 10, 1)), L.Conv2D(2, 3), L.Flatten()])
    start = L.Input((10, 10, 1))
    model = pycnn.Model(start, L.Dense(5, activation="softmax")(inner(start)))
    model.compile(rule, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _by_code(rule: Any = "adam") -> Any:
    model = ByCode()
    loss = pycnn.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(rule, loss, metrics=["accuracy"])
    return model


MODELS = {f.__name__: f for f in (_sequential, _without_input, _functional, _nested, _by_code)}


def _fit(model: Any, epochs: int = 1) -> Any:
    return model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history


def _same(a: Any, b: Any) -> None:
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize("used", ["new", "predicted", "trained", "evaluated"])
@pytest.mark.parametrize("make", sorted(MODELS))
def test_a_model_goes_on_where_it_was(make: str, used: str, copied: Any) -> None:
    pycnn.utils.set_random_seed(3)
    model = MODELS[make]()
    if used == "predicted":
        model.predict(X, verbose=0)
    elif used == "trained":
        _fit(model)
        model.train_on_batch(X[:16], Y[:16])
    elif used == "evaluated":
        model.evaluate(X, Y, verbose=0)
    twin = copied(model)
    assert type(twin) is type(model) and twin.name == model.name
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    assert [v.path for v in twin.weights] == [v.path for v in model.weights]
    _same(twin.get_weights(), model.get_weights())
    assert int(twin.optimizer.iterations) == int(model.optimizer.iterations)
    assert len(twin.optimizer.variables) == len(model.optimizer.variables)
    if used == "new" and not model.built:
        return  # the weights are made from the seeds of each
    assert np.array_equal(twin.predict(X, verbose=0), model.predict(X, verbose=0))
    before = model.get_weights()
    mine = _fit(twin, 2)
    _same(before, model.get_weights())  # the copy's training is its own
    assert _fit(model, 2) == mine  # dropout's stream and the optimizer's state came along
    _same(twin.get_weights(), model.get_weights())
    assert twin.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


@pytest.mark.parametrize("make", ["_sequential", "_functional", "_nested"])
def test_a_copy_has_the_config_of_its_model(make: str, copied: Any, tmp_path: Any) -> None:
    model = MODELS[make]()
    twin = copied(model)
    assert twin.get_config() == model.get_config()
    assert twin.get_compile_config() == model.get_compile_config()
    assert twin.count_params() == model.count_params()
    twin.save(tmp_path / "twin.keras")
    again = pycnn.models.load_model(tmp_path / "twin.keras")
    _same(again.get_weights(), model.get_weights())
    assert np.array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_lists_of_layers_track_on(copied: Any) -> None:
    model = _by_code()
    model.predict(X, verbose=0)
    block = copied(model).block
    assert len(block.weights) == 6
    block.stages.append(L.Dense(2))
    assert block.stages[-1] in block._layers
    assert block.named["last"] in block._layers and len(block._layers) == 4


def test_models_that_share_layers_share_them_in_a_copy() -> None:
    start = L.Input((10, 10, 1))
    code = L.Dense(4, activation="relu")(L.Flatten()(start))
    encoder = pycnn.Model(start, code)
    whole = pycnn.Model(start, L.Dense(2)(code))
    late = L.Input((10, 10, 1))
    around = pycnn.Model(late, L.Dense(3)(encoder(late)))
    for copies in (copy.deepcopy, COPIES["pickle"]):
        a, b, c = copies((encoder, whole, around))
        assert a.layers[2] is b.layers[2] and c.layers[1] is a
        for model, twin in ((encoder, a), (whole, b), (around, c)):
            assert np.array_equal(model.predict(X, verbose=0), twin.predict(X, verbose=0))
        part = pycnn.Model(c.inputs, c.layers[-1].input)
        assert np.array_equal(part.predict(X, verbose=0), a.predict(X, verbose=0))


def test_inputs_and_outputs_keep_their_structure(copied: Any) -> None:
    left, right = L.Input((3,), name="left"), L.Input((3,), name="right")
    total = L.Add()([left, right])
    ends = {"a": L.Dense(1, name="a")(total), "b": L.Dense(2, name="b")(total)}
    model = pycnn.Model({"left": left, "right": right}, ends)
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 2.0, "b": 1.0})
    data = {"left": np.ones((4, 3), "float32"), "right": np.eye(4, 3, dtype="float32")}
    labels = {"a": np.ones((4, 1)), "b": np.ones((4, 2))}
    model.fit(data, labels, shuffle=False, verbose=0)
    twin = copied(model)
    for key, value in model.predict(data, verbose=0).items():
        assert np.array_equal(twin.predict(data, verbose=0)[key], value)
    runs = [m.fit(data, labels, shuffle=False, verbose=0).history for m in (twin, model)]
    assert runs[0] == runs[1]


class Graph(pycnn.Model):
    """A subclass that is a graph."""

    def __init__(self, width: int) -> None:
        start = L.Input((4,))
        super().__init__(start, L.Dense(width)(start))
        self.width = width


def test_a_subclass_that_is_a_graph(copied: Any) -> None:
    model = Graph(3)
    twin = copied(model)
    assert type(twin) is Graph and twin.width == 3
    x = np.ones((2, 4), "float32")
    assert np.array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_pickle_opens_in_a_new_process(tmp_path: Any) -> None:
    model = _functional()
    _fit(model)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "x.npy", X)
    code = (
        "import pickle, numpy as np\n"
        "model = pickle.load(open('model.pkl', 'rb'))\n"
        "np.save('y.npy', model.predict(np.load('x.npy'), verbose=0))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=60)
    assert np.array_equal(np.load(tmp_path / "y.npy"), model.predict(X, verbose=0))


def test_deep_models_do_not_exhaust_the_stack() -> None:
    start = x = L.Input((4,))
    for _ in range(400):
        x = L.Dense(4)(x)
    model = pycnn.Model(start, x)
    for copies in COPIES.values():
        assert len(copies(model).layers) == 401


def test_functions_of_the_users_own() -> None:
    def loss(y_true: Any, y_pred: Any) -> Any:
        return pycnn.keras.ops.mean(pycnn.keras.ops.square(y_true - y_pred))

    model = pycnn.Sequential([L.Input((2,)), L.Dense(1)])
    rate = lambda: 0.25  # noqa: E731
    model.compile(pycnn.optimizers.SGD(rate), loss)
    twin = copy.deepcopy(model)
    assert twin.loss is loss and twin.optimizer.learning_rate == 0.25
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    assert twin.fit(x, y, verbose=0).history == model.fit(x, y, verbose=0).history


def test_frozen_layers_stay_frozen(copied: Any) -> None:
    model = _sequential()
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    twin = copied(model)
    assert [v.trainable for v in twin.weights] == [v.trainable for v in model.weights]
    before = twin.layers[0].get_weights()
    _fit(twin)
    _same(before, twin.layers[0].get_weights())


def test_a_layer_alone_is_free_of_its_model(copied: Any) -> None:
    model = _sequential()
    model.predict(X, verbose=0)
    conv = copied(model.layers[0])
    assert np.array_equal(conv(X).numpy(), model.layers[0](X).numpy())
    assert not conv._inbound_nodes
    conv.kernel.assign(np.zeros(conv.kernel.shape))
    assert np.any(model.layers[0].kernel.numpy())
    assert conv.kernel.regularizer is not None
    assert pycnn.Sequential([L.Input((10, 10, 1)), conv]).output_shape == (None, 8, 8, 4)


def test_an_optimizer_alone_starts_anew(copied: Any) -> None:
    schedule = pycnn.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    for rate in (0.125, schedule):
        rule = pycnn.optimizers.Adam(rate, beta_1=0.75, weight_decay=0.5)
        rule.exclude_from_weight_decay(var_names=["bias"])
        model = _sequential(rule)
        _fit(model)
        with pytest.warns(UserWarning, match="starts anew"):
            other = copied(rule)
        assert other.get_config() == rule.get_config()
        assert int(other.iterations) == 0 and not other.built
        assert other._no_decay_names is not None
        _fit(_sequential(other))  # it may train another model
    plain = pycnn.optimizers.SGD(0.5)
    _fit(_sequential(plain))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert int(copied(plain).iterations) == 3


@pytest.mark.parametrize("trained", [False, True])
def test_a_model_keeps_which_weights_do_not_decay(copied: Any, trained: bool) -> None:
    rule = pycnn.optimizers.AdamW(0.01, weight_decay=5.0)
    model = pycnn.Sequential([L.Input((10, 10, 1)), L.Flatten(), L.Dense(5, activation="softmax")])
    rule.exclude_from_weight_decay(var_list=[model.layers[-1].kernel])
    model.compile(rule, "sparse_categorical_crossentropy")
    if trained:
        _fit(model)
    twin = copied(model)
    _fit(twin)
    _fit(model)
    for ours, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    fresh = pycnn.optimizers.AdamW(0.01, weight_decay=5.0)
    fresh.exclude_from_weight_decay(var_list=[model.layers[-1].kernel])
    with pytest.warns(UserWarning, match="var_list"):
        copied(fresh)


def test_metrics_keep_what_they_counted(copied: Any) -> None:
    metric = pycnn.metrics.SparseCategoricalAccuracy()
    metric.update_state([1, 2], np.eye(3)[[1, 1]])
    twin = copied(metric)
    assert float(twin.result()) == 0.5
    twin.reset_state()
    twin.update_state([1], np.eye(3)[[1]])
    assert (float(twin.result()), float(metric.result())) == (1.0, 0.5)


def test_history_and_callbacks_can_be_kept(copied: Any) -> None:
    model = _sequential()
    stop = pycnn.callbacks.EarlyStopping("loss", restore_best_weights=True)
    history = model.fit(X, Y, verbose=0, callbacks=[stop])
    assert copied(history).history == history.history
    assert copied(stop).best == stop.best


def test_variables(copied: Any) -> None:
    variable = _sequential().layers[0].kernel
    twin = copied(variable)
    assert (twin.path, twin.shape, twin.trainable) == (variable.path, variable.shape, True)
    assert np.array_equal(twin.numpy(), variable.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
def test_tensors_are_copied_as_numbers(dtype: str, copied: Any) -> None:
    for shape in ((2, 3), (), (0, 4)):
        tensor = pycnn.tensor(np.arange(np.prod(shape)).reshape(shape), dtype=dtype)
        twin = copied(tensor)
        assert twin.dtype == tensor.dtype and twin.shape == tensor.shape
        assert np.array_equal(twin.numpy(), tensor.numpy())
        twin.assign(np.full(shape, 9, dtype))
        assert not np.array_equal(twin.numpy(), tensor.numpy()) or not tensor.size


def test_tensors_leave_their_history(copied: Any) -> None:
    w = pycnn.tensor([1.0, 2.0], requires_grad=True)
    assert copied(w).requires_grad
    result = copied(ops.square(w))
    assert not result.requires_grad and result.tolist() == [1.0, 4.0]
    assert copied(pycnn.keras.ops.transpose(w[None])).shape == (2, 1)
