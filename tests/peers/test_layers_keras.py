"""Every layer against Keras's: same weights and inputs, then outputs, gradients and a step.

A case is a line: a name, the input's shape (or shapes) and a function of the library's layers. It
is held against Keras twice: on its own, called on data, and inside a small model that is trained
for a step. Layers of random numbers are compared where they draw none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from peers.sides import RTOL32, SIDES, allclose32, array, fill, keras, pycnn, tensorflow

pytestmark = pytest.mark.peers

MAPS = (4, 7, 9, 3)
ROWS = (5, 6)
SERIES = (4, 6, 3)
CASES: dict[str, tuple[Any, Callable[[Any], Any]]] = {}


def add(name: str, shape: Any, make: Callable[[Any], Any]) -> None:
    assert name not in CASES
    CASES[name] = (shape, make)


def _convolutions() -> None:
    add("Conv2D", MAPS, lambda k: k.layers.Conv2D(4, 3))
    add("Conv2D relu", MAPS, lambda k: k.layers.Conv2D(4, (2, 3), activation="relu"))
    add("Conv2D 1x1", MAPS, lambda k: k.layers.Conv2D(5, 1, use_bias=False))
    add("Conv2D whole map", MAPS, lambda k: k.layers.Conv2D(2, (7, 9)))
    add("Conv2D batch of 1", (1, 7, 9, 3), lambda k: k.layers.Conv2D(4, 3, padding="same"))
    add("Conv2D batch of 17", (17, 5, 6, 2), lambda k: k.layers.Conv2D(19, 3, padding="same"))
    add("Conv2D one map", (8, 8, 8, 1), lambda k: k.layers.Conv2D(6, 5, padding="same"))
    for kernel in (1, 2, 3, 4, 5, (2, 5), (7, 1)):
        for strides in (1, 2, 3, (2, 1)):
            add(
                f"Conv2D same {kernel} {strides}",
                MAPS,
                lambda k, kernel=kernel, strides=strides: k.layers.Conv2D(
                    3, kernel, strides=strides, padding="same"
                ),
            )
    for strides in (2, 3, (1, 2), (5, 5)):
        add(
            f"Conv2D valid {strides}",
            MAPS,
            lambda k, strides=strides: k.layers.Conv2D(3, (3, 2), strides=strides),
        )
    for activation in ("sigmoid", "tanh", "softmax", "elu", "gelu", "softplus", "swish"):
        add(
            f"Conv2D {activation}",
            MAPS,
            lambda k, activation=activation: k.layers.Conv2D(4, 2, activation=activation),
        )
    add(
        "Conv2D penalties",
        MAPS,
        lambda k: k.layers.Conv2D(
            4,
            3,
            kernel_regularizer=k.regularizers.L2(0.25),
            bias_regularizer=k.regularizers.L1(0.5),
            activity_regularizer=k.regularizers.L1L2(0.125, 0.25),
        ),
    )


def _pooling() -> None:
    for name in ("MaxPooling2D", "AveragePooling2D"):
        for size, strides, padding in (
            (2, None, "valid"),
            (2, None, "same"),
            (3, None, "valid"),
            (3, 1, "same"),
            (3, 2, "same"),
            ((2, 3), (3, 2), "valid"),
            ((4, 2), (2, 1), "same"),
            ((7, 9), None, "valid"),
            (1, 2, "valid"),
        ):
            add(
                f"{name} {size} {strides} {padding}",
                MAPS,
                lambda k, n=name, a=(size, strides, padding): getattr(k.layers, n)(*a),
            )
        add(
            f"{name} channels_first",
            MAPS,
            lambda k, n=name: getattr(k.layers, n)(2, data_format="channels_first"),
        )
    add("MaxPooling2D", MAPS, lambda k: k.layers.MaxPooling2D())
    for name in ("GlobalAveragePooling2D", "GlobalMaxPooling2D"):
        add(name, MAPS, lambda k, n=name: getattr(k.layers, n)())
        add(f"{name} keepdims", MAPS, lambda k, n=name: getattr(k.layers, n)(keepdims=True))
        add(
            f"{name} channels_first",
            MAPS,
            lambda k, n=name: getattr(k.layers, n)("channels_first"),
        )


def _dense_and_normalization() -> None:
    add("Dense", ROWS, lambda k: k.layers.Dense(4))
    add("Dense no bias", ROWS, lambda k: k.layers.Dense(7, use_bias=False))
    add("Dense one unit", ROWS, lambda k: k.layers.Dense(1, activation="sigmoid"))
    add("Dense of 3 axes", SERIES, lambda k: k.layers.Dense(4, activation="tanh"))
    add("Dense of maps", MAPS, lambda k: k.layers.Dense(5, activation="softplus"))
    add(
        "Dense penalties",
        ROWS,
        lambda k: k.layers.Dense(
            4,
            kernel_regularizer=k.regularizers.L1L2(0.125, 0.25),
            bias_regularizer=k.regularizers.L2(0.5),
            activity_regularizer=k.regularizers.L1(0.25),
        ),
    )
    add("BatchNormalization", MAPS, lambda k: k.layers.BatchNormalization())
    add(
        "BatchNormalization momentum",
        MAPS,
        lambda k: k.layers.BatchNormalization(momentum=0.5, epsilon=0.0625),
    )
    add("BatchNormalization no beta", MAPS, lambda k: k.layers.BatchNormalization(center=False))
    add("BatchNormalization no gamma", MAPS, lambda k: k.layers.BatchNormalization(scale=False))
    add(
        "BatchNormalization plain",
        MAPS,
        lambda k: k.layers.BatchNormalization(center=False, scale=False),
    )
    add(
        "BatchNormalization penalties",
        MAPS,
        lambda k: k.layers.BatchNormalization(
            gamma_regularizer="l2", beta_regularizer=k.regularizers.L1(0.5)
        ),
    )
    for axis in (1, 2, 3, -2):
        add(
            f"BatchNormalization axis {axis}",
            MAPS,
            lambda k, axis=axis: k.layers.BatchNormalization(axis=axis),
        )
    add("BatchNormalization rows", (32, 6), lambda k: k.layers.BatchNormalization())
    add("BatchNormalization series", SERIES, lambda k: k.layers.BatchNormalization())
    add("BatchNormalization series 1", SERIES, lambda k: k.layers.BatchNormalization(axis=1))
    add("BatchNormalization frozen", MAPS, lambda k: k.layers.BatchNormalization(trainable=False))


ACTIVATIONS = (
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear "
    "log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus "
    "softsign sparse_plus sparse_sigmoid squareplus tanh tanh_shrink".split()
)


def _activations() -> None:
    for name in ACTIVATIONS:
        add(f"Activation {name}", MAPS, lambda k, n=name: k.layers.Activation(n))
    add("Activation softmax of rows", ROWS, lambda k: k.layers.Activation("softmax"))
    add("ReLU", MAPS, lambda k: k.layers.ReLU())
    add("ReLU ceiling", MAPS, lambda k: k.layers.ReLU(1.0))
    add("ReLU all", MAPS, lambda k: k.layers.ReLU(1.0, 0.125, 0.25))
    add("ReLU slope", ROWS, lambda k: k.layers.ReLU(negative_slope=0.5))
    add("LeakyReLU", MAPS, lambda k: k.layers.LeakyReLU())
    add("LeakyReLU slope", ROWS, lambda k: k.layers.LeakyReLU(negative_slope=0.125))
    add("ELU", MAPS, lambda k: k.layers.ELU())
    add("ELU alpha", ROWS, lambda k: k.layers.ELU(0.5))
    add("Softmax", ROWS, lambda k: k.layers.Softmax())
    add("Softmax of maps", MAPS, lambda k: k.layers.Softmax())
    add("Softmax axis 1", MAPS, lambda k: k.layers.Softmax(axis=1))
    add("Softmax two axes", MAPS, lambda k: k.layers.Softmax(axis=[1, 2]))


def _shapes() -> None:
    first = "channels_first"
    add("Flatten", MAPS, lambda k: k.layers.Flatten())
    add("Flatten channels_first", MAPS, lambda k: k.layers.Flatten(data_format=first))
    add("Flatten rows", ROWS, lambda k: k.layers.Flatten())
    add("Flatten series", SERIES, lambda k: k.layers.Flatten())
    add("Reshape", MAPS, lambda k: k.layers.Reshape((9, -1)))
    add("Reshape to maps", ROWS, lambda k: k.layers.Reshape((3, 1, 2)))
    add("Reshape maps", MAPS, lambda k: k.layers.Reshape((3, 9, 7)))
    add("Permute", MAPS, lambda k: k.layers.Permute((3, 1, 2)))
    add("Permute series", SERIES, lambda k: k.layers.Permute((2, 1)))
    add("ZeroPadding2D", MAPS, lambda k: k.layers.ZeroPadding2D())
    add("ZeroPadding2D pair", MAPS, lambda k: k.layers.ZeroPadding2D((2, 1)))
    add("ZeroPadding2D sides", MAPS, lambda k: k.layers.ZeroPadding2D(((1, 0), (2, 3))))
    add("ZeroPadding2D first", MAPS, lambda k: k.layers.ZeroPadding2D(1, data_format=first))
    add("Identity", MAPS, lambda k: k.layers.Identity())
    add("Rescaling", MAPS, lambda k: k.layers.Rescaling(0.5, offset=1.0))
    add("Dropout 0", MAPS, lambda k: k.layers.Dropout(0.0))
    add("SpatialDropout2D 0", MAPS, lambda k: k.layers.SpatialDropout2D(0.0))


def _merging() -> None:
    for name in "Add Subtract Multiply Average Maximum Minimum Concatenate".split():
        add(name, [MAPS, MAPS], lambda k, n=name: getattr(k.layers, n)())
        add(f"{name} rows", [ROWS, ROWS], lambda k, n=name: getattr(k.layers, n)())
    for name in "Add Multiply Average Maximum Minimum".split():
        add(f"{name} three", [MAPS] * 3, lambda k, n=name: getattr(k.layers, n)())
        add(
            f"{name} broadcast",
            [MAPS, (4, 1, 1, 3)],
            lambda k, n=name: getattr(k.layers, n)(),
        )
    for axis in (1, 2, 3, -1):
        add(
            f"Concatenate axis {axis}",
            [MAPS, MAPS, MAPS],
            lambda k, axis=axis: k.layers.Concatenate(axis=axis),
        )
    add("Concatenate widths", [(5, 2), (5, 3)], lambda k: k.layers.Concatenate())
    add("Concatenate maps", [MAPS, (4, 7, 9, 2)], lambda k: k.layers.Concatenate())


for _fill in (_convolutions, _pooling, _dense_and_normalization, _activations, _shapes, _merging):
    _fill()

# Layers whose configuration draws random numbers, or that compute nothing.
ELSEWHERE = {"Input", "InputLayer", "Layer", "Dropout", "SpatialDropout2D"}


def data(shape: Any, seed: int = 2) -> list[np.ndarray]:
    """Inputs without ties and away from the corners of rectifiers: every number is another."""
    shapes = shape if isinstance(shape, list) else [shape]
    total = sum(int(np.prod(s)) for s in shapes)
    numbers = (np.random.RandomState(seed).permutation(total) + 0.5 - total / 2) * (4.0 / total)
    cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    parts = np.split(numbers.astype(np.float32), cuts)
    return [part.reshape(s) for part, s in zip(parts, shapes, strict=True)]


def built(k: Any, name: str) -> Any:
    """The layer of a case with its weights filled."""
    shape, make = CASES[name]
    layer = make(k)
    layer.build(shape if not isinstance(shape, list) else list(shape))
    fill(layer)
    return layer


def ours(layer: Any, inputs: list[np.ndarray], upstream: np.ndarray, training: bool) -> Any:
    """Output, penalties and gradients of the inputs and the weights."""
    tensors = [pycnn.tensor(x, requires_grad=True) for x in inputs]
    y = layer(tensors if len(tensors) > 1 else tensors[0], training=training)
    total = pycnn.ops.sum(y * upstream)
    for penalty in layer.losses:
        total = total + penalty
    penalties = [float(array(p)) for p in layer.losses]
    total.backward()
    gradients = [x.grad for x in tensors]
    for variable in layer.trainable_weights:
        gradient = variable.tensor.grad
        assert gradient is not None, variable.path
        order = getattr(variable, "_to_keras", None)
        gradients.append(gradient if order is None else gradient.transpose(*order))
    return array(y), penalties, [array(g) for g in gradients]


def theirs(layer: Any, inputs: list[np.ndarray], upstream: np.ndarray, training: bool) -> Any:
    tensors = [tensorflow.constant(x) for x in inputs]
    with tensorflow.GradientTape() as tape:
        tape.watch(tensors)
        y = layer(tensors if len(tensors) > 1 else tensors[0], training=training)
        total = tensorflow.reduce_sum(y * upstream) + sum(layer.losses)
    penalties = [float(p) for p in layer.losses]
    wanted = [*tensors, *(v.value for v in layer.trainable_weights)]
    gradients = tape.gradient(total, wanted, unconnected_gradients="zero")
    return array(y), penalties, [array(g) for g in gradients]


def test_every_layer_has_a_case() -> None:
    with_case = {type(make(pycnn)).__name__ for _, make in CASES.values()}
    classes = {
        getattr(pycnn.layers, name).__name__
        for name in pycnn.layers.__all__
        if isinstance(getattr(pycnn.layers, name), type)
        and issubclass(getattr(pycnn.layers, name), pycnn.layers.Layer)
    }
    assert classes - with_case <= ELSEWHERE


def test_every_activation_has_a_case() -> None:
    """But for two names of one function, and those that need more than one argument."""
    others = {"deserialize", "get", "serialize", "glu", "threshold"}
    functions = set(pycnn.activations.__all__) - others
    assert {getattr(pycnn.activations, n) for n in functions} == {
        getattr(pycnn.activations, n) for n in ACTIVATIONS
    }


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name: str, training: bool) -> None:
    shape, _ = CASES[name]
    inputs = data(shape)
    mine, other = built(pycnn, name), built(keras, name)
    spec = list(shape) if isinstance(shape, list) else shape
    wanted = tuple(other.compute_output_shape(spec))
    assert tuple(mine.compute_output_shape(spec)) == wanted
    # As from a mean over the batch.
    upstream = np.random.RandomState(4).uniform(-1.0, 1.0, wanted) / wanted[0]
    upstream = upstream.astype(np.float32)
    y, penalties, gradients = ours(mine, inputs, upstream, training)
    y2, penalties2, gradients2 = theirs(other, inputs, upstream, training)
    allclose32(y, y2, "output")
    assert y.shape == wanted
    np.testing.assert_allclose(penalties, penalties2, **RTOL32)
    assert len(gradients) == len(gradients2)
    for index, (a, b) in enumerate(zip(gradients, gradients2, strict=True)):
        allclose32(a, b, f"gradient {index}")
    for a, b in zip(mine.weights, other.weights, strict=True):
        assert (a.name, a.trainable, a.shape) == (b.name, b.trainable, tuple(b.shape))
        allclose32(a.numpy(), b.numpy(), a.name)


def small_model(k: Any, name: str) -> Any:
    shape, make = CASES[name]
    shapes = shape if isinstance(shape, list) else [shape]
    inputs = [k.Input(s[1:]) for s in shapes]
    y = make(k)(inputs if len(inputs) > 1 else inputs[0])
    y = k.layers.Dense(3)(k.layers.Flatten()(y))
    model = k.Model(inputs if len(inputs) > 1 else inputs[0], y)
    fill(model)
    return model


@pytest.mark.parametrize("name", CASES)
def test_step_of_a_model_around_it(name: str) -> None:
    """The loss, and the gradients as the weights' differences after SGD with rate 1."""
    shape, _ = CASES[name]
    inputs = data(shape)
    targets = np.random.RandomState(3).normal(size=(len(inputs[0]), 3)).astype(np.float32)
    found = []
    for k in SIDES:
        model = small_model(k, name)
        before = model.get_weights()
        x = inputs if len(inputs) > 1 else inputs[0]
        model.compile(k.optimizers.SGD(1.0), "mse")
        loss = float(model.train_on_batch(x, targets))
        after = model.get_weights()
        found.append((loss, [a - b for a, b in zip(before, after, strict=True)], model))
    (loss2, steps2, model2), (loss, steps, model) = found
    np.testing.assert_allclose(loss, loss2, rtol=1e-4)
    for a, b, weight in zip(steps, steps2, model2.weights, strict=True):
        np.testing.assert_allclose(a, b, **RTOL32, err_msg=weight.path)
    assert [w.path for w in model.weights] == [w.path for w in model2.weights]
    assert model.output_shape == model2.output_shape


@pytest.mark.parametrize("name", CASES)
def test_configuration(name: str) -> None:
    """The layer's configuration, and the layer made from it."""
    _, make = CASES[name]
    configs = [keras.layers.serialize(make(keras)), pycnn.layers.serialize(make(pycnn))]
    for config in configs:
        config["config"].pop("name")
    texts = [json.dumps(c, sort_keys=True, default=list) for c in configs]
    assert texts[0] == texts[1]
    again = pycnn.layers.deserialize(json.loads(texts[0]))
    assert again.get_config().keys() == make(pycnn).get_config().keys()


@pytest.mark.parametrize("name", ["Dropout", "SpatialDropout2D"])
def test_random_layers_in_distribution(name: str) -> None:
    """Keras's and ours: zeros at the rate, the rest scaled, nothing done in inference."""
    x = np.ones((64, 6, 5, 32), np.float32)
    for k in SIDES:
        layer = getattr(k.layers, name)(0.25, seed=7)
        np.testing.assert_array_equal(array(layer(x)), x)
        y = array(layer(x, training=True))
        np.testing.assert_allclose(np.unique(y), [0.0, 4.0 / 3.0], rtol=1e-6)
        draws = y if name == "Dropout" else y[:, 0, 0, :]
        if name == "SpatialDropout2D":
            np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1, :], y.shape))
        spread = np.sqrt(0.25 * 0.75 / draws.size)
        assert abs((draws == 0).mean() - 0.25) < 5 * spread
        assert not np.array_equal(y, array(layer(x, training=True)))


@pytest.mark.parametrize("shape", [(None, 1), (None, 1, 1, 3), (4, 7, 1, 1)])
def test_dropout_noise_shape(shape: tuple[int | None, ...]) -> None:
    """What is dropped together is the same on both sides, or refused on both."""
    x = np.ones((4, 7, 9, 3) if len(shape) == 4 else (16, 8), np.float32)
    for k in SIDES:
        y = array(k.layers.Dropout(0.5, noise_shape=shape, seed=1)(x, training=True))
        whole = tuple(slice(0, 1) if size == 1 else slice(None) for size in shape)
        np.testing.assert_array_equal(y, np.broadcast_to(y[whole], y.shape))
        assert set(np.unique(y)) <= {0.0, 2.0}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_of_layers(dtype: str) -> None:
    """A layer's own dtype is that of its weights and outputs, whatever came in."""
    x = np.random.RandomState(0).normal(size=(2, 5, 5, 3)).astype(np.float32)
    for make in (
        lambda k: k.layers.Conv2D(2, 3, dtype=dtype),
        lambda k: k.layers.ReLU(dtype=dtype),
    ):
        a, b = make(pycnn)(x), make(keras)(x)
        assert array(a).dtype == array(b).dtype == np.dtype(dtype)


@pytest.mark.parametrize("kind", ["float64", "float16"])
def test_floats_of_other_types(kind: str) -> None:
    """They are converted to the layer's type."""
    x = np.random.RandomState(0).uniform(0, 2, size=(3, 6, 6, 2)).astype(kind)
    layers = [k.layers.Conv2D(3, 3) for k in SIDES]
    for layer in layers:
        layer.build((None, 6, 6, 2))
        fill(layer)
    allclose32(layers[1](x), layers[0](x))


@pytest.mark.parametrize("kind", ["uint8", "int64", "bool"])
def test_whole_numbers(kind: str) -> None:
    """A layer called on them fails in Keras, converts them here; `predict` takes them in both."""
    x = np.random.RandomState(0).uniform(0, 2, size=(3, 6, 6, 2)).astype(kind)
    models = []
    for k in SIDES:
        models.append(k.Sequential([k.Input((6, 6, 2)), k.layers.Conv2D(3, 3)]))
        fill(models[-1])
    allclose32(models[1].predict(x, verbose=0), models[0].predict(x, verbose=0))
    with pytest.raises(ValueError, match="Incompatible type"):
        models[0].layers[0](x)
    allclose32(models[1].layers[0](x), models[1].layers[0](x.astype("float32")))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, (2, 1)])
def test_convolution_channels_first(padding: str, strides: Any) -> None:
    """TensorFlow has no such convolution on the CPU: Keras's result is transposed."""
    x = np.random.RandomState(0).normal(size=(3, 5, 7, 6)).astype(np.float32)
    layers = [
        k.layers.Conv2D(
            4, (3, 2), strides=strides, padding=padding, activation="relu", data_format=order
        )
        for k, order in ((keras, "channels_last"), (pycnn, "channels_first"))
    ]
    layers[0].build((None, 7, 6, 5))
    layers[1].build((None, 5, 7, 6))
    for layer in layers:
        fill(layer)
    wanted = np.moveaxis(array(layers[0](np.moveaxis(x, 1, -1))), -1, 1)
    allclose32(layers[1](x), wanted)
    assert tuple(layers[1].compute_output_shape((None, 5, 7, 6))) == (None, *wanted.shape[1:])


def test_frozen_from_the_start() -> None:
    """`trainable=False` of a layer keeps its weights as they are, and can be taken back."""
    x = np.random.RandomState(0).normal(size=(4, 5)).astype(np.float32)
    for k in SIDES:
        model = k.Sequential([k.Input((5,)), k.layers.Dense(3, trainable=False), k.layers.Dense(1)])
        counts = [len(model.trainable_weights), len(model.non_trainable_weights)]
        assert counts == [2, 2]
        before = model.get_weights()
        model.compile("sgd", "mse")
        model.train_on_batch(x, np.ones((4, 1), np.float32))
        same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
        assert same == [True, True, False, False]
        model.layers[0].trainable = True
        assert [v.trainable for v in model.weights] == [True] * 4
