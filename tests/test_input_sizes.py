"""Models on pictures of other sizes than those they were made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn.keras import layers as L

LABELS = np.arange(8) % 3


def _pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(8, *shape)).astype("float32")


def _model(shape: Any, functional: bool, end: Any = None) -> Any:
    layers = [
        L.Conv2D(4, 3, activation="relu"),
        L.MaxPooling2D(),
        L.BatchNormalization(),
        end or L.GlobalAveragePooling2D(),
        L.Dense(3, activation="softmax"),
    ]
    start = L.Input(shape)
    if functional:
        x = start
        for layer in layers:
            x = layer(x)
        model = pycnn.Model(start, x)
    else:
        model = pycnn.Sequential([start, *layers])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("shape", [(None, None, 1), (12, 12, 1), (12, None, 1)])
def test_convolutions_and_global_pooling_take_any_size(shape: Any, functional: bool) -> None:
    model = _model(shape, functional)
    for height, width in ((12, 12), (16, 16), (17, 9), (12, 12)):
        x = _pictures(height, width, 1)
        same = _model((height, width, 1), functional)
        same.set_weights(model.get_weights())
        assert np.array_equal(model.predict(x, verbose=0), same.predict(x, verbose=0))
        assert np.array_equal(model(x).numpy(), same(x).numpy())
        assert model.evaluate(x, LABELS, verbose=0) == same.evaluate(x, LABELS, verbose=0)
        runs = [m.fit(x, LABELS, shuffle=False, verbose=0).history for m in (model, same)]
        assert runs[0] == runs[1]
        assert model.predict_on_batch(x).shape == (8, 3)
        assert model.train_on_batch(x, LABELS) == same.train_on_batch(x, LABELS)
    assert model.input_shape == (None, *shape)


def test_batches_of_several_sizes_in_one_epoch() -> None:
    model = _model((None, None, 1), False)
    batches = [(_pictures(size, size, 1), LABELS) for size in (12, 15, 20)]
    assert np.isfinite(model.fit(iter(batches), verbose=0).history["loss"][0])


def test_outputs_as_large_as_the_pictures() -> None:
    model = pycnn.Sequential([L.Input((12, 12, 1)), L.Conv2D(1, 3, padding="same")])
    model.compile("sgd", "mse")
    x = _pictures(20, 16, 1)
    model.fit(x, x, verbose=0)
    assert model.predict(x, verbose=0).shape == x.shape
    with pytest.raises(ValueError, match="12"):
        model.fit(x, x[:, :12, :12], verbose=0)


@pytest.mark.parametrize("functional", [False, True])
def test_what_the_layers_cannot_take_is_refused(functional: bool) -> None:
    flat = _model((12, 12, 1), functional, L.Flatten())
    pooled = _model((12, 12, 1), functional)
    expected = r"\(N, 12, 12, 1\)"
    for model, shape in (
        (flat, (16, 16, 1)),  # the dense layer has weights for 12x12
        (flat, (1, 12, 12)),
        (pooled, (16, 16, 3)),
        (pooled, (16, 16)),
        (pooled, (3, 3, 1)),  # nothing would be left after pooling
        (pooled, (1, 16, 16)),
    ):
        x = _pictures(*shape)
        for run in (
            lambda x=x, model=model: model.predict(x, verbose=0),
            lambda x=x, model=model: model.fit(x, LABELS, verbose=0),
            lambda x=x, model=model: model.train_on_batch(x, LABELS),
            lambda x=x, model=model: model(x),
        ):
            with pytest.raises(ValueError, match=expected):
                run()
