"""Wrong calls of the Keras vocabulary: refused in words, and the model stays as it was.

After every refused call on a model its weights, its optimizer's variables and its ability to train
are the same as before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn.keras import Input, Model, Sequential, layers, losses, optimizers
from pycnn.keras import callbacks as keras_callbacks

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(0)
X = RNG.uniform(size=(20, 3)).astype(np.float32)
Y = np.arange(20) % 4
HOT = np.eye(4, dtype=np.float32)[Y]
SPARSE, DENSE = "sparse_categorical_crossentropy", "categorical_crossentropy"


@pytest.fixture(autouse=True)
def _works_afterwards() -> Iterator[None]:
    yield
    assert pycnn.is_grad_enabled()
    assert pycnn.ops.relu(np.array([-1.0, 2.0])).tolist() == [0.0, 2.0]


def small(loss: Any = SPARSE, activation: Any = "softmax", **arguments: Any) -> Any:
    model = Sequential(
        [
            Input((3,)),
            layers.Dense(5, activation="relu", name="hidden"),
            layers.Dense(4, activation=activation, name="out"),
        ]
    )
    arguments.setdefault("metrics", ["accuracy"])
    model.compile(optimizers.SGD(0.1, momentum=0.9), loss, **arguments)
    return model


def state(model: Any) -> list[np.ndarray]:
    variables = [*model.weights, *model.optimizer.variables]
    return [np.array(variable.numpy()) for variable in variables]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Two models that have trained for a while; no test may change them."""
    made = {SPARSE: small(), DENSE: small(DENSE)}
    made[SPARSE].fit(X, Y, batch_size=8, verbose=0)
    made[DENSE].fit(X, HOT, batch_size=8, verbose=0)
    return made


def refused(
    model: Any, call: Callable[[], Any], error: type[Exception], words: list[str]
) -> Exception:
    before = state(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a refusal is an error, not a warning
        with pytest.raises(error) as caught:
            call()
    for word in words:
        assert word in str(caught.value), str(caught.value)
    for a, b in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(a, b)
    return caught.value


def trains(model: Any, y: np.ndarray) -> None:
    before = state(model)
    model.train_on_batch(X, y)
    after = state(model)
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert np.isfinite(model.evaluate(X, y, verbose=0)).all()


def pairs() -> dict[str, tuple[Any, Any, type[Exception], list[str]]]:
    """(x, y, error, words), the same for fit, evaluate, train_on_batch and test_on_batch."""
    return {
        "no x": (None, Y, ValueError, ["x", "None"]),
        "no y": (X, None, ValueError, ["y", "missing", SPARSE]),
        "fewer y": (X, Y[:10], ValueError, ["x has 20", "y has 10"]),
        "fewer x": (X[:10], Y, ValueError, ["x has 10", "y has 20"]),
        "empty": (X[:0], Y[:0], ValueError, ["x", "no samples"]),
        "width": (X[:, :2], Y, ValueError, ["(N, 3)", "(20, 2)"]),
        "a row": (X[0], Y[:3], ValueError, ["(N, 3)", "(3,)"]),
        "3 axes": (X[None], Y[:1], ValueError, ["(N, 3)", "(1, 20, 3)"]),
        "a number": (1.0, Y, ValueError, ["x", "single number"]),
        "text": ("abc", Y, ValueError, ["x", "str"]),
        "texts": (X.astype(str), Y, TypeError, ["x", "text"]),
        "objects": (X.astype(object), Y, TypeError, ["x", "object", "astype"]),
        "complex": (X.astype(complex), Y, TypeError, ["x", "complex128"]),
        "dates": (X.astype("M8[s]"), Y, TypeError, ["x", "datetime64"]),
        "records": (np.zeros(20, "f4,f4"), Y, TypeError, ["x", "numbers"]),
        "masked": (np.ma.array(X, mask=X > 0.5), Y, ValueError, ["x", "masked", "filled"]),
        "uint64": (np.full((20, 3), 2**64 - 1, "u8"), Y, ValueError, ["x", "2**63"]),
        "ragged": ([[1, 2, 3], [1, 2]], [0, 1], ValueError, ["x", "(2,)", "(3,)"]),
        "label 4": (X, Y + 1, ValueError, ["label 4", "row 3", "'out'", "0..3", "subtract 1"]),
        "label -1": (X, Y - 1, ValueError, ["label -1", "row 0", "'out'"]),
        "label 2**40": (X, Y + 2**40, ValueError, ["label 1099511627779", "'out'"]),
        "label 0.5": (X, Y + 0.5, ValueError, ["whole", "0.5", "row 0"]),
        "label NaN": (X, Y * NAN, ValueError, ["nan", "row 0"]),
        "one-hot": (X, HOT, ValueError, ["(20,)", "(20, 4)", DENSE, "argmax"]),
        "label axes": (X, Y[:, None, None], ValueError, ["(20,)", "(20, 1, 1)", "'out'"]),
        "label texts": (X, Y.astype(str), TypeError, ["y", "text", "np.unique"]),
        "label objects": (X, Y.astype(object), TypeError, ["y", "object"]),
        "masked labels": (X, np.ma.array(Y, mask=Y > 2), ValueError, ["y", "masked"]),
    }


@pytest.mark.parametrize("what", pairs())
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_wrong_data(models: dict[str, Any], method: str, what: str) -> None:
    x, y, error, words = pairs()[what]
    if what == "a number" and "batch" in method:
        words = ["x"]
    model = models[SPARSE]
    quiet = {"verbose": 0} if method in ("fit", "evaluate") else {}
    refused(model, lambda: getattr(model, method)(x, y, **quiet), error, words)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y, ["(20, 4)", "(20,)", SPARSE, "to_categorical(y, 4)"]),
        (Y[:, None], ["(20, 4)", "(20, 1)", SPARSE]),
        (np.eye(5)[Y], ["(20, 4)", "(20, 5)", "5 columns", "4 units"]),
        (np.eye(2)[HOT.astype(int)], ["(20, 4)", "(20, 4, 2)", "twice", "already one-hot"]),
    ],
)
def test_wrong_one_hot_labels(models: dict[str, Any], y: np.ndarray, words: list[str]) -> None:
    model = models[DENSE]
    refused(model, lambda: model.fit(X, y, verbose=0), ValueError, ["'out'", *words])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64, ">f4"])
def test_one_hot_labels_of_any_dtype(dtype: Any) -> None:
    model = small(DENSE)
    want = model.evaluate(X, HOT, verbose=0)
    np.testing.assert_allclose(model.evaluate(X, HOT.astype(dtype), verbose=0), want, rtol=1e-5)
    model.fit(X, HOT.astype(dtype), verbose=0)


@pytest.mark.parametrize("y", [np.ones((20, 3)), np.ones(20), np.ones((10, 4, 2))])
def test_targets_of_a_regression(y: np.ndarray) -> None:
    model = small("mse", None, metrics=[])
    words = ["x has 20"] if len(y) == 10 else ["mean_squared_error", "(20, 4)", str(y.shape)]
    refused(model, lambda: model.fit(X, y, verbose=0), ValueError, words)
    trains(model, HOT)


FIT: dict[str, tuple[dict[str, Any], type[Exception], list[str]]] = {
    "batch_size 0": ({"batch_size": 0}, ValueError, ["batch_size", "0"]),
    "batch_size -1": ({"batch_size": -1}, ValueError, ["batch_size", "-1"]),
    "batch_size 2.5": ({"batch_size": 2.5}, TypeError, ["batch_size", "2.5", "batch_size=2"]),
    "batch_size text": ({"batch_size": "32"}, TypeError, ["batch_size", "'32'"]),
    "batch_size True": ({"batch_size": True}, TypeError, ["batch_size", "True"]),
    "epochs -1": ({"epochs": -1}, ValueError, ["epochs", "-1"]),
    "epochs 2.0": ({"epochs": 2.0}, TypeError, ["epochs", "2.0", "epochs=2"]),
    "epochs None": ({"epochs": None}, TypeError, ["epochs", "None"]),
    "initial_epoch -1": ({"initial_epoch": -1}, ValueError, ["initial_epoch", "-1"]),
    "steps 0": ({"steps_per_epoch": 0}, ValueError, ["steps_per_epoch", "0"]),
    "steps text": ({"steps_per_epoch": "a"}, TypeError, ["steps_per_epoch", "'a'"]),
    "verbose 5": ({"verbose": 5}, ValueError, ["verbose", "5"]),
    "split 1": ({"validation_split": 1}, ValueError, ["validation_split", "below 1"]),
    "split -0.1": ({"validation_split": -0.1}, ValueError, ["validation_split", "-0.1"]),
    "split 20": ({"validation_split": 20}, ValueError, ["validation_split", "20", "0.2"]),
    "split NaN": ({"validation_split": NAN}, ValueError, ["validation_split", "nan"]),
    "split text": ({"validation_split": "a"}, TypeError, ["validation_split", "'a'"]),
    "split leaves none": ({"validation_split": 0.999}, ValueError, ["0.999", "20 samples"]),
    "val alone": ({"validation_data": (X,)}, ValueError, ["validation_data", "(x, y)"]),
    "val array": ({"validation_data": X}, ValueError, ["validation_data", "ndarray"]),
    "val four": ({"validation_data": (X, Y, Y, Y)}, ValueError, ["validation_data", "4 parts"]),
    "val lengths": ({"validation_data": (X, Y[:5])}, ValueError, ["x has 20", "y has 5"]),
    "val width": ({"validation_data": (X[:, :2], Y)}, ValueError, ["(N, 3)", "(20, 2)"]),
    "val labels": ({"validation_data": (X, Y + 7)}, ValueError, ["label 10", "'out'"]),
    "val empty": ({"validation_data": (X[:0], Y[:0])}, ValueError, ["no samples"]),
    "val steps": (
        {"validation_data": (X, Y), "validation_steps": 0},
        ValueError,
        ["validation_steps", "0"],
    ),
    "val freq": (
        {"validation_data": (X, Y), "validation_freq": 0},
        ValueError,
        ["validation_freq", "0"],
    ),
    "val batch": (
        {"validation_data": (X, Y), "validation_batch_size": 0},
        ValueError,
        ["validation_batch_size", "0"],
    ),
    "weights short": (
        {"sample_weight": np.ones(19)},
        ValueError,
        ["x has 20", "sample_weight has 19"],
    ),
    "weights wide": ({"sample_weight": np.ones((20, 2))}, ValueError, ["sample_weight", "(20, 2)"]),
    "weights NaN": ({"sample_weight": np.full(20, NAN)}, ValueError, ["sample_weight", "NaN"]),
    "weights text": ({"sample_weight": np.array(["a"] * 20)}, TypeError, ["sample_weight"]),
    "class list": ({"class_weight": [1, 1]}, TypeError, ["class_weight", "dict", "list"]),
    "class text": ({"class_weight": {"a": 1}}, ValueError, ["class_weight", "'a'"]),
    "class NaN": ({"class_weight": {0: NAN}}, ValueError, ["class_weight", "nan"]),
    "callback text": ({"callbacks": "a"}, TypeError, ["callbacks", "'a'"]),
    "callback class": (
        {"callbacks": [keras_callbacks.EarlyStopping]},
        TypeError,
        ["callbacks", "EarlyStopping(...)"],
    ),
    "epoch=": ({"epoch": 3}, TypeError, ["fit()", "'epoch'", "epochs=3"]),
    "nb_epoch=": ({"nb_epoch": 3}, TypeError, ["'nb_epoch'", "epochs=3"]),
    "val_split=": ({"val_split": 0.1}, TypeError, ["validation_split=0.1"]),
    "rate text": (
        {"callbacks": [keras_callbacks.LearningRateScheduler(lambda epoch: "a")]},
        ValueError,
        ["schedule", "'a'", "epoch 0"],
    ),
    "rate NaN": (
        {"callbacks": [keras_callbacks.LearningRateScheduler(lambda epoch: NAN)]},
        ValueError,
        ["learning_rate", "nan"],
    ),
    "rate -1": (
        {"callbacks": [keras_callbacks.LearningRateScheduler(lambda epoch: -1.0)]},
        ValueError,
        ["learning_rate", "-1"],
    ),
}


@pytest.mark.parametrize("what", FIT)
def test_wrong_arguments_of_fit(models: dict[str, Any], what: str) -> None:
    arguments, error, words = FIT[what]
    model = models[SPARSE]
    refused(model, lambda: model.fit(X, Y, **{"verbose": 0, **arguments}), error, words)


PREDICT: dict[str, tuple[Any, dict[str, Any], type[Exception], list[str]]] = {
    "nothing": (None, {}, ValueError, ["x", "None"]),
    "one row": (X[0], {}, ValueError, ["(N, 3)", "(3,)", "x[None]"]),
    "empty": (X[:0], {}, ValueError, ["no samples"]),
    "width": (X[:, :2], {}, ValueError, ["(N, 3)", "(20, 2)"]),
    "text": ("a", {}, ValueError, ["x", "str"]),
    "objects": (X.astype(object), {}, TypeError, ["x", "object"]),
    "9 axes": (np.zeros((1,) * 9), {}, ValueError, ["(N, 3)"]),
    "masked": (np.ma.array(X, mask=True), {}, ValueError, ["masked"]),
    "batch_size": (X, {"batch_size": 0}, ValueError, ["predict", "batch_size"]),
    "steps": (X, {"steps": -1}, ValueError, ["predict", "steps"]),
    "verbose": (X, {"verbose": 7}, ValueError, ["predict", "verbose"]),
    "unknown": (X, {"batchsize": 3}, TypeError, ["batch_size=3"]),
}


@pytest.mark.parametrize("what", PREDICT)
def test_wrong_predict(models: dict[str, Any], what: str) -> None:
    x, arguments, error, words = PREDICT[what]
    model = models[SPARSE]
    refused(model, lambda: model.predict(x, **{"verbose": 0, **arguments}), error, words)
    if not arguments and what not in ("empty", "nothing", "text"):
        refused(model, lambda: model(x), error, words[:1] if "x" not in words[:1] else [])


SET: dict[str, tuple[Callable[[list[np.ndarray]], Any], type[Exception], list[str]]] = {
    "short": (lambda w: w[:-1], ValueError, ["length 3", "4 weights"]),
    "long": (lambda w: [*w, w[0]], ValueError, ["length 5", "4 weights"]),
    "none": (lambda w: [], ValueError, ["length 0", "4 weights"]),
    "transposed": (lambda w: [w[0].T, *w[1:]], ValueError, ["kernel", "(3, 5)", "(5, 3)"]),
    "last": (lambda w: [*w[:-1], np.ones(9)], ValueError, ["out/bias", "(4,)", "(9,)"]),
    "None": (lambda w: None, TypeError, ["set_weights", "None"]),
    "dict": (lambda w: {}, TypeError, ["set_weights", "dict"]),
    "number": (lambda w: 1.0, TypeError, ["set_weights", "1.0"]),
    "objects": (lambda w: [object()] * 4, ValueError, ["kernel", "(3, 5)", "()"]),
    "complex": (lambda w: [*w[:-1], w[-1] * 1j], TypeError, ["out/bias", "complex"]),
    "texts": (lambda w: [*w[:-1], w[-1].astype(str)], TypeError, ["out/bias", "<U"]),
}


@pytest.mark.parametrize("what", SET)
def test_wrong_weights(models: dict[str, Any], what: str) -> None:
    change, error, words = SET[what]
    model = models[SPARSE]
    given = change(model.get_weights())
    refused(model, lambda: model.set_weights(given), error, words)


COMPILE: dict[str, tuple[dict[str, Any], type[Exception], list[str]]] = {
    "optimizer name": ({"optimizer": "adm"}, ValueError, ["optimizer", '"adm"', '"Adam"']),
    "optimizer number": ({"optimizer": 0.1}, ValueError, ["optimizer", "0.1"]),
    "loss name": ({"loss": SPARSE[:-1]}, ValueError, ["loss", f'"{SPARSE}"']),
    "loss number": ({"loss": 3}, ValueError, ["loss", "3"]),
    "two losses": ({"loss": ["mse", "mse"]}, ValueError, ["loss", "1 outputs", "2 items"]),
    "loss output": ({"loss": {"nope": "mse"}}, ValueError, ["'nope'", "'out'"]),
    "metric name": ({"metrics": ["acuracy"]}, ValueError, ["metric", '"accuracy"']),
    "metric text": ({"metrics": "accuracy"}, ValueError, ["metrics", "['accuracy']"]),
    "metric number": ({"metrics": [3]}, ValueError, ["metric", "3"]),
    "loss_weights": ({"loss_weights": [1, 2]}, ValueError, ["loss_weights", "2 items"]),
    "metric=": ({"metric": "accuracy"}, TypeError, ["'metric'", "metrics="]),
    "optimiser=": ({"optimiser": "adam"}, TypeError, ["'optimiser'", "optimizer="]),
    "eager": ({"run_eagerly": True}, NotImplementedError, ["run_eagerly"]),
    "steps": ({"steps_per_execution": 0}, ValueError, ["steps_per_execution", "0"]),
}


@pytest.mark.parametrize("what", COMPILE)
def test_wrong_compile(what: str) -> None:
    arguments, error, words = COMPILE[what]
    model = small()
    with pytest.raises(error) as caught:
        model.compile(**{"optimizer": "sgd", "loss": SPARSE, **arguments})
    for word in words:
        assert word in str(caught.value), str(caught.value)
    model.compile("sgd", SPARSE)
    trains(model, Y)


# ---- user code that fails within a step ----


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        (lambda t, y: 1 / 0, ZeroDivisionError, ["division"]),
        (lambda t, y: None, TypeError, ["loss", "NoneType"]),
        (lambda t, y: "a", TypeError, ["loss", "str"]),
        (lambda t: t, TypeError, ["positional"]),
        (lambda t, y: np.mean(np.asarray(y)), RuntimeError, ["capture"]),
    ],
)
def test_a_loss_that_fails(loss: Any, error: type[Exception], words: list[str]) -> None:
    model = small(loss)
    refused(model, lambda: model.fit(X, Y, verbose=0), error, words)
    model.compile("sgd", SPARSE)
    trains(model, Y)


@pytest.mark.parametrize("rate", [NAN, INF, -1.0, "a", None, np.ones(2)])
def test_a_schedule_that_gives_no_rate(rate: Any) -> None:
    class Schedule(optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return rate

    for given in (Schedule(), lambda: rate):
        model = small()
        model.compile(optimizers.SGD(given), SPARSE)
        refused(model, lambda model=model: model.fit(X, Y, verbose=0), Exception, ["rate"])
        model.compile("sgd", SPARSE)
        trains(model, Y)


def test_an_error_in_a_call_names_the_layer() -> None:
    class Scale(layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.w = self.add_weight(shape=(7,), name="w")

        def call(self, x: Any) -> Any:
            return x * self.w

    class Looks(layers.Layer):
        def call(self, x: Any) -> Any:
            return x if float(x.mean()) > 0 else -x

    with pytest.raises(pycnn.ShapeError, match="mul") as caught:
        Sequential([layers.Dense(3), Scale(name="mine")])(X)
    (note,) = caught.value.__notes__
    assert '"mine" (Scale)' in note and ", 3)" in note
    with pytest.raises(RuntimeError, match="no numbers") as caught:
        Sequential([Input((3,)), Looks(name="looks")])
    assert '"looks" (Looks)' in caught.value.__notes__[0]
    assert "pycnn.ops" in caught.value.__notes__[1]


def test_a_callback_that_fails_keeps_what_was_learned() -> None:
    class Fails(keras_callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                raise RuntimeError("mine")

    model = small()
    before = state(model)
    with pytest.raises(RuntimeError, match="mine"):
        model.fit(X, Y, batch_size=5, verbose=0, callbacks=[Fails()])
    assert int(model.optimizer.iterations.numpy()) == 2
    assert not np.array_equal(before[0], state(model)[0])
    trains(model, Y)


def test_data_that_ends_with_an_error() -> None:
    def batches() -> Iterator[Any]:
        yield X, Y
        raise RuntimeError("the disk is gone")

    model = small()
    with pytest.raises(RuntimeError, match="the disk is gone"):
        model.fit(batches(), verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 1
    trains(model, Y)


def test_a_batch_with_a_wrong_label_changes_nothing() -> None:
    """Batches of a generator are checked one by one; the wrong one is not learned from."""
    model = small()
    seen: list[list[np.ndarray]] = []

    def batches() -> Iterator[Any]:
        yield X, Y
        seen.append(state(model))
        yield X, Y + 1

    with pytest.raises(ValueError, match="label 4"):
        model.fit(batches(), verbose=0)
    for a, b in zip(seen[0], state(model), strict=True):
        np.testing.assert_array_equal(a, b)
    trains(model, Y)


# ---- what Keras sensibly accepts is accepted ----


ACCEPTED: dict[str, tuple[Any, Any]] = {
    "lists": (X.tolist(), Y.tolist()),
    "float16": (X.astype(np.float16), Y),
    "float64": (X.astype(float), Y),
    "swapped": (X.astype(">f4"), Y.astype(">i8")),
    "bytes": ((X * 255).astype(np.uint8), Y.astype(np.uint8)),
    "bools": (X > 0.5, Y > 1),
    "fortran": (np.asfortranarray(X), Y),
    "negative strides": (X[::-1, ::-1], Y[::-1]),
    "zero strides": (np.broadcast_to(X[:1], X.shape), np.broadcast_to(1, 20)),
    "column of labels": (X, Y[:, None]),
    "float labels": (X, Y.astype(np.float32)),
    "int8 labels": (X, Y.astype(np.int8)),
    "nothing masked": (np.ma.array(X), np.ma.array(Y)),
    "tensors": (pycnn.tensor(X), pycnn.tensor(Y)),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_accepted(what: str) -> None:
    x, y = ACCEPTED[what]
    pycnn.utils.set_random_seed(0)
    model = small()
    plain_x, plain_y = (np.ascontiguousarray(np.asarray(a), "f4") for a in (x, y))
    want = model.evaluate(plain_x, plain_y, verbose=0)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), want, rtol=1e-5)
    model.fit(x, y, batch_size=7, verbose=0)
    assert model.predict(x, verbose=0).shape == (20, 4)


def test_pictures_without_the_channel_axis() -> None:
    model = Sequential([Input((6, 6, 1)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.compile("sgd", SPARSE)
    pictures = RNG.uniform(size=(8, 6, 6)).astype(np.float32)
    model.fit(pictures, np.arange(8) % 2, verbose=0)
    np.testing.assert_array_equal(
        model.predict(pictures, verbose=0), model.predict(pictures[..., None], verbose=0)
    )


def test_optimizer_of_another_model() -> None:
    optimizer = optimizers.Adam()
    first, second, third = small(), small(), small()
    first.compile(optimizer, SPARSE)
    second.compile(optimizer, SPARSE)  # nobody can know yet
    first.fit(X, Y, verbose=0)
    for call in (
        lambda: second.fit(X, Y, verbose=0),
        lambda: third.compile(optimizer, SPARSE),
    ):
        before = state(first)
        with pytest.raises(ValueError, match="create a new one for each model"):
            call()
        for a, b in zip(before, state(first), strict=True):
            np.testing.assert_array_equal(a, b)
    trains(first, Y)
    trains(third, Y)


def test_a_graph_that_hangs_in_the_air() -> None:
    x = Input((3,))
    y = layers.Dense(2)(x)
    for make, error, words in (
        (lambda: Model(1, 2), ValueError, "KerasTensors.*1"),
        (lambda: Model(Input((3,)), y), ValueError, "Graph disconnected"),
        (lambda: Model(x, X), ValueError, "KerasTensors"),
        (lambda: Model(outputs=y), TypeError, "`inputs` is missing"),
        (lambda: Model(input=x, output=y), TypeError, "did you mean `inputs`"),
        (lambda: bool(y), ValueError, "symbolic"),
        (lambda: np.asarray(y), ValueError, "symbolic"),
        (lambda: losses.get("mes"), ValueError, '"mse"'),
    ):
        with pytest.raises(error, match=words):
            make()
