"""The claims of docs/differences.md: what one side refuses and the other lets pass.

An entry fails when Keras, or this library, has changed its mind.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from peers.sides import Build, array, keras, pycnn

pytestmark = pytest.mark.peers

NAN = math.nan
SPARSE = "sparse_categorical_crossentropy"
X = np.linspace(-1, 1, 40).reshape(8, 5).astype("float32")
LABELS = np.arange(8) % 3


def trained(k: Any, loss: str = SPARSE, y: Any = LABELS, x: Any = X, **settings: Any) -> Any:
    """Compile and fit a small classifier."""
    model = k.Sequential([k.Input((5,)), k.layers.Dense(3, activation="softmax")])
    model.compile(k.optimizers.SGD(0.0625), loss, metrics=settings.pop("metrics", None))
    return model.fit(x, y, verbose=0, **settings)


def small_map(k: Any) -> Any:
    inputs = k.Input((4, 4, 1))
    return k.layers.MaxPooling2D(5)(inputs).shape


# Refused here with this error; Keras lets it pass.
REFUSED: dict[str, tuple[Build, type[Exception], str]] = {
    "negative rate": (lambda k: k.optimizers.SGD(-1.0), ValueError, "learning_rate"),
    "NaN rate": (lambda k: k.optimizers.Adam(NAN), ValueError, "learning_rate"),
    "infinite rate": (lambda k: k.optimizers.SGD(math.inf), ValueError, "learning_rate"),
    "beta above 1": (lambda k: k.optimizers.Adam(beta_1=1.5), ValueError, "beta_1"),
    "NaN epsilon": (lambda k: k.optimizers.Adam(epsilon=NAN), ValueError, "epsilon"),
    "negative clipnorm": (lambda k: k.optimizers.SGD(clipnorm=-1.0), ValueError, "clipnorm"),
    "NaN momentum": (lambda k: k.layers.BatchNormalization(momentum=NAN), ValueError, "momentum"),
    "negative epsilon": (
        lambda k: k.layers.BatchNormalization(epsilon=-1.0),
        ValueError,
        "epsilon",
    ),
    "NaN spread": (lambda k: k.initializers.RandomNormal(stddev=NAN), ValueError, "stddev"),
    "NaN in training": (
        lambda k: trained(
            k, callbacks=[k.callbacks.LearningRateScheduler(lambda epoch: NAN)], epochs=1
        ),
        ValueError,
        "rate",
    ),
    "unknown loss": (
        lambda k: k.Sequential([k.layers.Dense(1)]).compile("sgd", "mean_sqared_error"),
        ValueError,
        "mean_squared_error",
    ),
    "unknown metric": (
        lambda k: k.Sequential([k.layers.Dense(1)]).compile("sgd", "mse", metrics=["acuracy"]),
        ValueError,
        "accuracy",
    ),
    "labels not whole": (lambda k: trained(k, y=LABELS + 0.5), ValueError, "whole"),
    "causal pooling": (
        lambda k: k.layers.MaxPooling2D(2, padding="causal"),
        ValueError,
        "padding",
    ),
    "default optimizer": (
        lambda k: k.Sequential([k.layers.Dense(1)]).compile(loss="mse"),
        NotImplementedError,
        "rmsprop",
    ),
    "constraint": (
        lambda k: k.layers.Dense(2, kernel_constraint="non_neg"),
        NotImplementedError,
        "kernel_constraint",
    ),
    "dilation": (
        lambda k: k.layers.Conv2D(2, 3, dilation_rate=2),
        NotImplementedError,
        "dilation_rate",
    ),
    "groups": (lambda k: k.layers.Conv2D(2, 3, groups=2), NotImplementedError, "groups"),
    "renorm": (
        lambda k: k.layers.BatchNormalization(renorm=True),
        NotImplementedError,
        "renorm",
    ),
    "half precision": (
        lambda k: k.layers.Dense(2, dtype="mixed_float16"),
        NotImplementedError,
        "float32",
    ),
    "low rank": (lambda k: k.layers.Dense(2, lora_rank=1), NotImplementedError, "lora_rank"),
    "optional input": (
        lambda k: k.Input((2,), optional=True),
        NotImplementedError,
        "optional",
    ),
    "sparse input": (lambda k: k.Input((2,), sparse=True), NotImplementedError, "sparse"),
    "amsgrad": (lambda k: k.optimizers.Adam(amsgrad=True), NotImplementedError, "amsgrad"),
    "averaged weights": (
        lambda k: k.optimizers.SGD(use_ema=True),
        NotImplementedError,
        "use_ema",
    ),
    "accumulation": (
        lambda k: k.optimizers.SGD(gradient_accumulation_steps=2),
        NotImplementedError,
        "gradient_accumulation_steps",
    ),
    "loss scale": (
        lambda k: k.optimizers.SGD(loss_scale_factor=2.0),
        NotImplementedError,
        "loss_scale_factor",
    ),
    "ignored class": (
        lambda k: k.losses.SparseCategoricalCrossentropy(ignore_class=0),
        NotImplementedError,
        "ignore_class",
    ),
    "axis of a similarity": (
        lambda k: k.losses.CosineSimilarity(axis=0)(X, X),
        NotImplementedError,
        "axis",
    ),
    "top_k": (lambda k: k.metrics.Precision(top_k=2), NotImplementedError, "top_k"),
    "list of factors": (
        lambda k: k.layers.Rescaling([0.5, 1.0]),
        NotImplementedError,
        "Rescaling",
    ),
    "step by step": (
        lambda k: k.Sequential([k.layers.Dense(1)]).compile("sgd", "mse", run_eagerly=True),
        NotImplementedError,
        "run_eagerly",
    ),
}
# Refused on both sides.
BOTH: dict[str, tuple[Build, str]] = {
    "labels of the wrong width": (
        lambda k: trained(k, "categorical_crossentropy", np.ones((8, 4), "float32")),
        "dense",
    ),
    "lengths": (lambda k: trained(k, y=LABELS[:5]), "8"),
    "no layer of that name": (
        lambda k: k.Sequential([k.layers.Dense(2, name="a")]).get_layer("b"),
        "a",
    ),
    "map smaller than the pool": (small_map, "smaller than the window"),
    "units of 0": (lambda k: k.layers.Dense(0), "units"),
    "rate of dropout": (lambda k: k.layers.Dropout(1.5), "rate"),
    "shapes to add": (
        lambda k: k.layers.Add()([k.Input((3,)), k.Input((4,))]),
        "shape",
    ),
    "unknown activation": (lambda k: k.layers.Dense(2, activation="rleu"), "relu"),
    "unknown optimizer": (lambda k: k.optimizers.get("agdm"), "Adam"),
    "fit before compile": (
        lambda k: k.Sequential([k.Input((5,)), k.layers.Dense(1)]).fit(X, X[:, :1]),
        "compile",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_here_only(name: str) -> None:
    build, error, word = REFUSED[name]
    build(keras)
    with pytest.raises(error, match=word):
        build(pycnn)


@pytest.mark.parametrize("name", BOTH)
def test_refused_by_both(name: str) -> None:
    build, word = BOTH[name]
    with pytest.raises(Exception):  # noqa: B017 - Keras's kinds of errors are many
        build(keras)
    with pytest.raises((ValueError, TypeError, RuntimeError), match=word):
        build(pycnn)


def test_labels_out_of_range() -> None:
    """Here an error; in Keras NaN, or an error of TensorFlow's kernels."""
    with pytest.raises(ValueError, match="label 3 at row 2"):
        trained(pycnn, y=np.array([0, 1, 3, 1, 0, 0, 0, 0]))


def test_accepted_here_only() -> None:
    assert array(pycnn.initializers.get("constant")((2,))).tolist() == [0, 0]
    with pytest.raises(KeyError):
        keras.initializers.get("constant")
    one_hot = np.eye(3, dtype="float32")[LABELS]
    trained(pycnn, "categorical_crossentropy", one_hot, metrics=["crossentropy", "ce"])
    for metric in ("crossentropy", "ce"):
        with pytest.raises(ValueError):
            trained(keras, "categorical_crossentropy", one_hot, metrics=[metric])


def test_other_results() -> None:
    assert pycnn.regularizers.L1(0.01).get_config() == {"l1": 0.01}
    assert keras.regularizers.L1(0.01).get_config() != {"l1": 0.01}
    shapes = []
    trainable = []
    for k in (pycnn, keras):
        model = k.Sequential([k.layers.Dense(2)])
        model(X)
        shapes.append(model.input_shape)
        model.layers[0].trainable = False
        model.trainable = True
        trainable.append(model.layers[0].trainable)
    assert shapes == [(None, 5), (8, 5)]
    assert trainable == [True, False]


def test_refusals_leave_the_model_as_it_was() -> None:
    model = pycnn.Sequential([pycnn.Input((4, 4, 1)), pycnn.layers.Flatten()])
    with pytest.raises(ValueError):
        model.add(pycnn.layers.MaxPooling2D(2))
    assert [layer.name for layer in model.layers] == ["flatten"]
    assert model.output_shape == (None, 16)
