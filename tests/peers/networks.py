"""The networks of the labs, written once for both libraries.

The topologies are the true ones; `width` divides the numbers of maps and units, so that float64
on TensorFlow takes little time. Rates of dropout are zero: the streams of random numbers differ.
Penalties are powers of two, for Keras rounds some of these factors to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["NETWORKS", "images"]

Network = Callable[[Any], Any]


def lab1(k: Any, activation: str = "relu", kernel: int = 3, blocks: int = 2, width: int = 8) -> Any:
    """Convolution, normalisation, pooling, dropout; then dense, normalisation, dropout."""
    layers = k.layers
    model = k.Sequential()
    model.add(k.Input((28, 28, 1)))
    for _ in range(blocks):
        model.add(layers.Conv2D(64 // width, kernel, activation=activation))
        model.add(layers.BatchNormalization())
        model.add(layers.MaxPooling2D(pool_size=(2, 2)))
        model.add(layers.Dropout(0.0))
    model.add(layers.Flatten())
    for _ in range(3):
        model.add(layers.Dense(128 // width, activation=activation))
        model.add(layers.BatchNormalization())
        model.add(layers.Dropout(0.0))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def lab2(k: Any) -> Any:
    """Pooling before the rectifier, channels dropped whole, logits at the end."""
    layers = k.layers
    return k.Sequential(
        [
            k.Input((28, 28, 1)),
            layers.Conv2D(5, 5),
            layers.MaxPooling2D(2),
            layers.ReLU(),
            layers.Conv2D(8, 5),
            layers.SpatialDropout2D(0.0),
            layers.MaxPooling2D(2),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(25, activation="relu"),
            layers.Dropout(0.0),
            layers.Dense(10),
            layers.Softmax(),
        ]
    )


def lab3(
    k: Any,
    convolutions: Sequence[tuple[int, int, int]],
    dense: Sequence[int] = (16,),
    padding: str = "same",
) -> Any:
    """Convolutions given as (maps, kernel, stride), each pooled; dense layers with sigmoid."""
    layers = k.layers
    start = k.initializers.TruncatedNormal(seed=6570518)
    settings = {"kernel_initializer": start, "bias_initializer": start}
    model = k.Sequential([k.Input((28, 28, 1))])
    for maps, kernel, stride in convolutions:
        model.add(
            layers.Conv2D(
                maps, kernel, strides=stride, padding=padding, activation="relu", **settings
            )
        )
        model.add(layers.MaxPooling2D((2, 2)))
    model.add(layers.Flatten())
    for units in dense:
        model.add(layers.Dense(units, activation="sigmoid", **settings))
    model.add(layers.Dense(10, activation="softmax", **settings))
    return model


def lab4_mnist(k: Any) -> Any:
    layers, l2 = k.layers, k.regularizers.L2(0.0078125)
    return k.Sequential(
        [
            k.Input((28, 28, 1)),
            layers.Conv2D(7, 3, activation="relu", kernel_regularizer=l2),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(16, activation="relu", kernel_regularizer=l2),
            layers.Dense(10, activation="softmax", kernel_regularizer=l2),
        ]
    )


def lab4_cifar(k: Any, width: int = 16) -> Any:
    layers, l2 = k.layers, k.regularizers.L2(0.0078125)
    x = inputs = k.Input((32, 32, 3))
    for maps in (64, 128, 256, 512):
        x = layers.Conv2D(
            maps // width, 3, padding="same", activation="relu", kernel_regularizer=l2
        )(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.BatchNormalization()(x)
    x = layers.Flatten()(x)
    for units in (128, 256, 512, 1024):
        x = layers.Dense(units // width, activation="relu", kernel_regularizer=l2)(x)
        x = layers.Dropout(0.0)(x)
        x = layers.BatchNormalization()(x)
    return k.Model(inputs, layers.Activation("softmax")(layers.Dense(10)(x)))


def lab5(
    k: Any,
    pooling: str = "AveragePooling2D",
    maps: tuple[int, ...] = (6, 16),
    dropout: bool = False,
) -> Any:
    """LeNet-5: the baseline and its variants."""
    layers, l2 = k.layers, k.regularizers.L2(0.0078125)
    model = k.Sequential([k.Input((28, 28, 1)), layers.ZeroPadding2D(2)])
    for filters in maps:
        model.add(layers.Conv2D(filters, 5, activation="relu", kernel_regularizer=l2))
        if filters != 120:
            model.add(getattr(layers, pooling)(2))
            if dropout:
                model.add(layers.Dropout(0.0))
    model.add(layers.Flatten())
    if 120 not in maps:
        model.add(layers.Dense(30, activation="relu"))
    model.add(layers.Dense(21, activation="relu"))
    if dropout:
        model.add(layers.Dropout(0.0))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def branches(k: Any) -> Any:
    """A shared convolution, every way to merge, normalisation of another axis."""
    layers = k.layers
    x = k.Input((12, 12, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    a = shared(x)
    b = shared(layers.LeakyReLU(negative_slope=0.25)(a))
    y = layers.Add()([a, b, x])
    y = layers.Concatenate()(
        [y, layers.Multiply()([x, a]), layers.Subtract()([x, b]), layers.Average()([a, x])]
    )
    y = layers.Maximum()([y, layers.GlobalAveragePooling2D(keepdims=True)(y)])
    y = layers.Minimum()([y, layers.ELU()(y)])
    y = layers.MaxPooling2D(3, strides=2, padding="same")(y)
    z = layers.BatchNormalization(axis=1)(y)
    z = layers.Permute((3, 1, 2))(z)
    z = layers.Reshape((12, -1))(z)
    z = layers.Dense(4, activation="relu")(z)
    z = layers.BatchNormalization()(z)
    z = layers.Concatenate()([layers.Flatten()(z), layers.GlobalMaxPooling2D()(y)])
    return k.Model(x, layers.Dense(10, activation="softmax")(z))


def penalties(k: Any) -> Any:
    """All kinds of penalties, a frozen layer, a model within a model, sigmoid before softmax."""
    layers, r = k.layers, k.regularizers
    inner = k.Sequential(
        [
            k.Input((12, 12, 2)),
            layers.Conv2D(
                4, 3, kernel_regularizer=r.L1L2(0.0078125, 0.015625), bias_regularizer=r.L1(0.0625)
            ),
            layers.BatchNormalization(axis=2, scale=False, beta_regularizer=r.L2(0.0625)),
            layers.ReLU(2.0, 0.125, 0.0625),
        ],
        name="inner",
    )
    inner.layers[1].trainable = False
    x = k.Input((12, 12, 2))
    y = inner(layers.AveragePooling2D((3, 2), strides=1, padding="same")(x))
    y = layers.Flatten()(y)
    y = layers.Dense(12, activation="sigmoid", activity_regularizer=r.L2(0.03125))(y)
    return k.Model(x, layers.Dense(10, activation="softmax")(y))


NETWORKS: dict[str, tuple[Network, tuple[int, int, int]]] = {
    "lab1": (lab1, (28, 28, 1)),
    "lab1 sigmoid": (lambda k: lab1(k, "sigmoid"), (28, 28, 1)),
    "lab1 tanh": (lambda k: lab1(k, "tanh"), (28, 28, 1)),
    "lab1 one block": (lambda k: lab1(k, blocks=1), (28, 28, 1)),
    "lab1 three blocks": (lambda k: lab1(k, blocks=3), (28, 28, 1)),
    "lab1 kernels 2": (lambda k: lab1(k, kernel=2), (28, 28, 1)),
    "lab1 kernels 4": (lambda k: lab1(k, kernel=4), (28, 28, 1)),
    "lab2": (lab2, (28, 28, 1)),
    "lab3 same": (lambda k: lab3(k, [(6, 5, 1)]), (28, 28, 1)),
    "lab3 valid": (lambda k: lab3(k, [(6, 5, 1)], padding="valid"), (28, 28, 1)),
    "lab3 stride 2": (lambda k: lab3(k, [(6, 5, 2)]), (28, 28, 1)),
    "lab3 model 1": (lambda k: lab3(k, [(4, 5, 1), (8, 3, 1)]), (28, 28, 1)),
    "lab3 model 2": (lambda k: lab3(k, [(4, 5, 1), (8, 3, 1)], (32, 16)), (28, 28, 1)),
    "lab3 model 3": (lambda k: lab3(k, [(4, 7, 1), (8, 5, 1)], (32, 16)), (28, 28, 1)),
    "lab3 light": (lambda k: lab3(k, [(8, 4, 2), (6, 4, 1), (9, 2, 1)]), (28, 28, 1)),
    "lab4 mnist": (lab4_mnist, (28, 28, 1)),
    "lab4 cifar": (lab4_cifar, (32, 32, 3)),
    "lab5 baseline": (lab5, (28, 28, 1)),
    "lab5 max": (lambda k: lab5(k, "MaxPooling2D"), (28, 28, 1)),
    "lab5 filter": (lambda k: lab5(k, maps=(16, 24)), (28, 28, 1)),
    "lab5 convolution": (lambda k: lab5(k, maps=(6, 16, 120)), (28, 28, 1)),
    "lab5 dropout": (lambda k: lab5(k, dropout=True), (28, 28, 1)),
    "branches": (branches, (12, 12, 3)),
    "penalties": (penalties, (12, 12, 2)),
}


def images(name: str, count: int, dtype: str = "float32", seed: int = 5) -> tuple[Any, Any]:
    """Pictures for a network and labels of its ten classes, as whole numbers."""
    r = np.random.RandomState(seed)
    x = r.normal(0.0, 1.0, (count, *NETWORKS[name][1])).astype(dtype)
    return x, r.randint(0, 10, count)
