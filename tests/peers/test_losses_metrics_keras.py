"""Losses, metrics and activation functions against Keras, called by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from peers.sides import RTOL32, SIDES, array, floatx, keras, pycnn, tensor, tensorflow

pytestmark = pytest.mark.peers

RNG = np.random.default_rng(0)
N, C = 7, 5
LOGITS = RNG.normal(size=(N, C)).astype("float32")
PROBABILITIES = (np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)).astype("float32")
LABELS = RNG.integers(0, C, N)
ONE_HOT = np.eye(C)[LABELS]
BINARY = (RNG.random((N, C)) > 0.5).astype("float32")
SIGMOIDS = (1 / (1 + np.exp(-LOGITS))).astype("float32")
REAL = RNG.normal(size=(N, C)).astype("float32")
POSITIVE = np.abs(REAL)
WEIGHTS = RNG.random(N).astype("float32")
SERIES = np.stack([PROBABILITIES, PROBABILITIES[::-1]], 1)
SERIES_LABELS = RNG.integers(0, C, (N, 2))
SERIES_ONE_HOT = np.eye(C)[SERIES_LABELS]
REVERSED = PROBABILITIES[::-1].copy()

# Class, its arguments, labels, predictions.
Case = tuple[str, dict[str, Any], np.ndarray, np.ndarray]
LOSSES: list[Case] = [
    ("CategoricalCrossentropy", {}, ONE_HOT, PROBABILITIES),
    ("CategoricalCrossentropy", {"from_logits": True}, ONE_HOT, LOGITS),
    ("CategoricalCrossentropy", {"label_smoothing": 0.25}, ONE_HOT, PROBABILITIES * 3),
    ("CategoricalCrossentropy", {}, SERIES_ONE_HOT, SERIES),
    ("CategoricalCrossentropy", {"from_logits": True}, SERIES_ONE_HOT, SERIES),
    ("SparseCategoricalCrossentropy", {}, LABELS, PROBABILITIES),
    ("SparseCategoricalCrossentropy", {}, LABELS.astype("uint8")[:, None], PROBABILITIES),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, LABELS.astype("float32"), LOGITS),
    ("SparseCategoricalCrossentropy", {}, SERIES_LABELS, SERIES),
    ("BinaryCrossentropy", {}, BINARY, SIGMOIDS),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.125}, BINARY, LOGITS),
    ("BinaryCrossentropy", {}, BINARY[:, 0], SIGMOIDS[:, :1]),
    ("Hinge", {}, BINARY, REAL),
    ("Hinge", {}, np.sign(REAL), REAL),
    ("SquaredHinge", {}, BINARY, REAL),
    ("CategoricalHinge", {}, ONE_HOT, REAL),
    ("Huber", {}, REAL, LOGITS),
    ("Huber", {"delta": 0.25}, REAL, LOGITS),
    ("CosineSimilarity", {}, REAL, LOGITS),
    ("MeanSquaredError", {}, REAL, LOGITS),
    ("MeanSquaredError", {}, REAL[:, 0], LOGITS[:, :1]),
    ("MeanSquaredError", {}, REAL[:, 0], LOGITS[:, 0]),
    ("MeanAbsoluteError", {}, REAL, LOGITS),
    ("MeanAbsolutePercentageError", {}, REAL, LOGITS),
    ("MeanSquaredLogarithmicError", {}, POSITIVE, np.abs(LOGITS)),
    ("LogCosh", {}, REAL, LOGITS),
    ("KLDivergence", {}, PROBABILITIES, REVERSED),
    ("Poisson", {}, POSITIVE, SIGMOIDS),
]
METRICS: list[Case] = [
    ("Accuracy", {}, LABELS, LABELS[::-1].copy()),
    ("BinaryAccuracy", {}, BINARY, SIGMOIDS),
    ("BinaryAccuracy", {"threshold": 0.75}, BINARY[:, 0], SIGMOIDS[:, :1]),
    ("CategoricalAccuracy", {}, ONE_HOT, PROBABILITIES),
    ("CategoricalAccuracy", {}, SERIES_ONE_HOT, SERIES),
    ("SparseCategoricalAccuracy", {}, LABELS, PROBABILITIES),
    ("SparseCategoricalAccuracy", {}, LABELS[:, None].astype("uint8"), PROBABILITIES),
    ("SparseCategoricalAccuracy", {}, SERIES_LABELS, SERIES),
    ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT, PROBABILITIES),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, LABELS, PROBABILITIES),
    (
        "SparseTopKCategoricalAccuracy",
        {"k": 2, "from_sorted_ids": True},
        LABELS,
        np.argsort(-PROBABILITIES, -1),
    ),
    ("CategoricalCrossentropy", {"label_smoothing": 0.125}, ONE_HOT, PROBABILITIES),
    ("CategoricalCrossentropy", {"from_logits": True}, ONE_HOT, LOGITS),
    ("SparseCategoricalCrossentropy", {}, LABELS, PROBABILITIES),
    ("BinaryCrossentropy", {}, BINARY, SIGMOIDS),
    ("KLDivergence", {}, PROBABILITIES, REVERSED),
    ("Poisson", {}, POSITIVE, SIGMOIDS),
    ("Precision", {}, BINARY, SIGMOIDS),
    ("Precision", {"thresholds": [0.25, 0.75]}, BINARY, SIGMOIDS),
    ("Recall", {}, BINARY, SIGMOIDS),
    ("Recall", {"class_id": 2, "thresholds": 0.25}, ONE_HOT, PROBABILITIES),
    ("TruePositives", {}, BINARY, SIGMOIDS),
    ("FalsePositives", {"thresholds": [0.125, 0.625]}, BINARY, SIGMOIDS),
    ("FalseNegatives", {}, BINARY, SIGMOIDS),
    ("TrueNegatives", {}, BINARY, SIGMOIDS),
    ("MeanSquaredError", {}, REAL, LOGITS),
    ("MeanAbsoluteError", {}, REAL, LOGITS),
    ("MeanAbsolutePercentageError", {}, REAL, LOGITS),
    ("MeanSquaredLogarithmicError", {}, POSITIVE, np.abs(LOGITS)),
    ("LogCoshError", {}, REAL, LOGITS),
    ("RootMeanSquaredError", {}, REAL, LOGITS),
    ("CosineSimilarity", {}, REAL, LOGITS),
    ("Hinge", {}, BINARY, REAL),
    ("SquaredHinge", {}, BINARY, REAL),
    ("CategoricalHinge", {}, ONE_HOT, REAL),
]
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


def ids(cases: list[Case]) -> list[str]:
    return [f"{i}-{name}-{arguments}" for i, (name, arguments, _, _) in enumerate(cases)]


def attempt(function: Any) -> Any:
    """The result, or the class of the error."""
    try:
        return array(function())
    except Exception as error:
        return type(error)


def test_every_loss_and_metric_has_a_case() -> None:
    for module, cases, without in (
        (pycnn.losses, LOSSES, {"Loss"}),
        (pycnn.metrics, METRICS, {"Mean", "MeanMetricWrapper", "Metric", "Sum"}),
    ):
        classes = {n for n in module.__all__ if isinstance(getattr(module, n), type)}
        names = {getattr(module, n).__name__ for n in classes} - without
        assert names == {name for name, *_ in cases}


@pytest.mark.parametrize("case", LOSSES, ids=ids(LOSSES))
def test_loss(case: Case) -> None:
    """All reductions, with and without weights of samples."""
    name, arguments, labels, predictions = case
    compared = 0
    for reduction in REDUCTIONS:
        for weights in (None, WEIGHTS, WEIGHTS[:, None]):
            ours, theirs = (
                attempt(
                    lambda k=k, r=reduction, w=weights: getattr(k.losses, name)(
                        reduction=r, **arguments
                    )(labels, predictions, sample_weight=w)
                )
                for k in (pycnn, keras)
            )
            what = f"{reduction} {None if weights is None else weights.shape}"
            assert isinstance(ours, type) == isinstance(theirs, type), (what, ours, theirs)
            if not isinstance(ours, type):
                compared += 1
                assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, what
                np.testing.assert_allclose(ours, theirs, **RTOL32, err_msg=what)
    assert compared >= 6


@pytest.mark.parametrize("case", LOSSES, ids=ids(LOSSES))
def test_gradient_of_a_loss(case: Case) -> None:
    """In float64, where Keras clips probabilities and norms in float64 too."""
    name, arguments, labels, predictions = case
    weights = WEIGHTS.astype("float64") if labels.ndim + predictions.ndim < 5 else None
    with floatx("float64"):
        p = pycnn.tensor(predictions.astype("float64"), requires_grad=True)
        mine = getattr(pycnn.losses, name)(**arguments)(labels, p, sample_weight=weights)
        mine.backward()
        q = tensorflow.constant(predictions.astype("float64"))
        with tensorflow.GradientTape() as tape:
            tape.watch(q)
            other = getattr(keras.losses, name)(**arguments)(labels, q, sample_weight=weights)
    # Keras rounds the logarithm of 2 in it to float32.
    rtol = 1e-8 if name == "LogCosh" else 1e-10
    np.testing.assert_allclose(array(mine), array(other), rtol=rtol)
    wanted = array(tape.gradient(other, q))
    assert np.abs(wanted).max() > 1e-4
    np.testing.assert_allclose(array(p.grad), wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("case", LOSSES, ids=ids(LOSSES))
def test_configuration_of_a_loss(case: Case) -> None:
    name, arguments, _, _ = case
    mine, other = (getattr(k.losses, name)(**arguments) for k in (pycnn, keras))
    if "delta" in arguments:  # which Keras forgets, but reads
        assert mine.get_config() == {**other.get_config(), **arguments}
        again = keras.losses.deserialize(pycnn.losses.serialize(mine))
        assert again._fn_kwargs == other._fn_kwargs
        return
    assert mine.get_config() == other.get_config()
    assert pycnn.losses.serialize(mine) == keras.losses.serialize(other)
    again = pycnn.losses.deserialize(keras.losses.serialize(other))
    assert again.get_config() == mine.get_config()


FUNCTIONS = [
    name
    for name in pycnn.losses.__all__
    if name[0].islower() and name not in ("get", "serialize", "deserialize")
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_loss_function(name: str) -> None:
    labels = LABELS if name.startswith("sparse") else ONE_HOT.astype("float32")
    mine = getattr(pycnn.losses, name)(labels, PROBABILITIES)
    other = array(getattr(keras.losses, name)(labels, PROBABILITIES))
    assert array(mine).shape == other.shape
    np.testing.assert_allclose(array(mine), other, **RTOL32)
    assert pycnn.losses.get(name) is getattr(pycnn.losses, name)


@pytest.mark.parametrize(
    "name", "mse mae mape msle bce crossentropy hinge CategoricalCrossentropy kld logcosh".split()
)
def test_names_of_losses(name: str) -> None:
    """A name is known on both sides, and means the same, or is known on none."""
    ours, theirs = (attempt_name(k, name) for k in SIDES)
    assert ours == theirs


def attempt_name(k: Any, name: str) -> str | None:
    try:
        found = k.losses.get(name)
    except ValueError:
        return None
    return getattr(found, "__name__", type(found).__name__)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_saturated_outputs_reach_the_loss_as_logits(kind: str) -> None:
    """Without that a logarithm would be cut off at 1e-7, and the gradient be zero."""
    big = np.array([[200.0, -200, 0], [0, 300, -300]], "float32")
    labels = np.eye(3)[[1, 2]]
    loss = "CategoricalCrossentropy" if kind == "softmax" else "BinaryCrossentropy"
    found = []
    for k in SIDES:
        y = getattr(k.activations, kind)(tensor(k, big))
        found.append(array(getattr(k.losses, loss)(reduction="none")(labels, y)))
    assert found[0].max() > 100
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


@pytest.mark.parametrize("case", METRICS, ids=ids(METRICS))
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_metric(case: Case, weighted: bool) -> None:
    """Two updates, the result, the state's names and shapes, the configuration, a reset."""
    name, arguments, labels, predictions = case
    weights = WEIGHTS if weighted else None
    found = []
    for k in (pycnn, keras):
        metric = getattr(k.metrics, name)(**arguments)
        metric.update_state(labels, predictions, sample_weight=weights)
        part = None if weights is None else weights[:3]
        metric.update_state(labels[:3], predictions[:3], sample_weight=part)
        state = [(v.name, tuple(v.shape)) for v in metric.variables]
        found.append((array(metric.result()), state, metric))
    (mine, state, ours), (other, state2, theirs) = found
    assert mine.shape == other.shape
    np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
    assert state == state2
    assert ours.get_config() == theirs.get_config()
    assert pycnn.metrics.serialize(ours) == keras.metrics.serialize(theirs)
    again = pycnn.metrics.deserialize(keras.metrics.serialize(theirs))
    assert type(again) is type(ours)
    for metric in (ours, theirs):
        metric.reset_state()
        assert not any(np.any(array(v)) for v in metric.variables)
    np.testing.assert_array_equal(array(ours.result()), array(theirs.result()))


@pytest.mark.parametrize(
    ("value", "weight"),
    [(3.5, None), (3.5, 4.0), (REAL, None), (REAL, WEIGHTS), (REAL, BINARY), (WEIGHTS, WEIGHTS)],
    ids=["number", "weighted number", "array", "weighted", "every number weighted", "vector"],
)
@pytest.mark.parametrize("name", ["Mean", "Sum"])
def test_reduction_metric(name: str, value: Any, weight: Any) -> None:
    found = []
    for k in SIDES:
        metric = getattr(k.metrics, name)()
        for _ in range(2):
            metric.update_state(value, sample_weight=weight)
        found.append(array(metric.result()))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)


SHAPES = [
    ("categorical_crossentropy", 4, "softmax"),
    ("sparse_categorical_crossentropy", 4, "softmax"),
    ("binary_crossentropy", 1, "sigmoid"),
    ("binary_crossentropy", 4, "sigmoid"),
    ("mse", 1, None),
    ("mse", 4, "softmax"),
    ("crossentropy", 4, "softmax"),
    ("crossentropy", 1, "sigmoid"),
    ("ce", 4, "softmax"),
]


@pytest.mark.parametrize("metric", ["accuracy", "acc", "mse"])
@pytest.mark.parametrize(("loss", "units", "last"), SHAPES)
def test_chosen_by_shape(loss: str, units: int, last: str | None, metric: str) -> None:
    """What "accuracy" and the loss "crossentropy" mean, and the names in the results."""
    x = np.linspace(-2, 2, 72).reshape(12, 6).astype("float32")
    labels = np.arange(12) % max(units, 2)
    if loss.startswith("sparse") and metric != "mse":
        y: Any = labels
    elif units == 1:
        y = labels[:, None].astype("float32")
    elif loss.startswith("sparse"):
        y = labels[:, None]
    else:
        y = np.eye(units, dtype="float32")[labels]
    found = []
    for k in (pycnn, keras):
        model = k.Sequential([k.Input((6,)), k.layers.Dense(units, activation=last)])
        model.set_weights([np.linspace(-1, 1, 6 * units).reshape(6, units), np.zeros(units)])
        model.compile("sgd", loss, metrics=[metric])
        found.append(model.evaluate(x, y, verbose=0, return_dict=True))
    assert list(found[0]) == list(found[1])
    np.testing.assert_allclose(list(found[0].values()), list(found[1].values()), rtol=1e-4)


X = RNG.normal(size=(4, 6)).astype("float32") * 3
PLAIN = [
    name
    for name in pycnn.activations.__all__
    if name not in ("deserialize", "get", "serialize", "threshold")
]


@pytest.mark.parametrize("name", PLAIN)
def test_activation_function(name: str) -> None:
    mine = getattr(pycnn.activations, name)(X)
    other = getattr(keras.activations, name)(keras.ops.convert_to_tensor(X))
    np.testing.assert_allclose(array(mine), array(other), **RTOL32)
    functions = [getattr(k.activations, name) for k in SIDES]
    assert pycnn.activations.serialize(functions[1]) == keras.activations.serialize(functions[0])
    assert pycnn.activations.get(name) is functions[1]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("threshold", {"threshold": 0.5, "default_value": 2.0}),
        ("relu", {"negative_slope": 0.125}),
        ("relu", {"max_value": 2.0}),
        ("relu", {"threshold": 0.75}),
        ("relu", {"negative_slope": 0.25, "max_value": 3.0, "threshold": 0.5}),
        ("relu", {"max_value": 6}),
        ("relu", {"negative_slope": 0.25, "max_value": 1.0}),
        ("leaky_relu", {"negative_slope": 0.5}),
        ("elu", {"alpha": 0.5}),
        ("celu", {"alpha": 0.5}),
        ("gelu", {"approximate": True}),
        ("glu", {"axis": 0}),
        ("softmax", {"axis": 0}),
        ("log_softmax", {"axis": 0}),
        ("hard_shrink", {"threshold": 1.0}),
        ("soft_shrink", {"threshold": 1.0}),
        ("squareplus", {"b": 1}),
    ],
)
def test_arguments_of_activations(name: str, arguments: dict[str, Any]) -> None:
    mine = getattr(pycnn.activations, name)(X, **arguments)
    other = getattr(keras.activations, name)(keras.ops.convert_to_tensor(X), **arguments)
    np.testing.assert_allclose(array(mine), array(other), **RTOL32)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("L1", {"l1": 0.25}), ("L2", {"l2": 0.25}), ("L1L2", {"l1": 0.125, "l2": 0.25})],
)
def test_regularizer(name: str, arguments: dict[str, float]) -> None:
    """Keras keeps the factor of L1 in float32: this one is exact there."""
    mine, other = (getattr(k.regularizers, name)(**arguments) for k in (pycnn, keras))
    np.testing.assert_allclose(
        array(mine(REAL)), array(other(keras.ops.convert_to_tensor(REAL))), rtol=1e-5
    )
    assert pycnn.regularizers.serialize(mine) == keras.regularizers.serialize(other)
