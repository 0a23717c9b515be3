"""The labs' networks as data, so that every framework builds the same ones; and their work.

A layer is a tuple of a kind and its settings, in the words of Keras.  ``flops`` counts what direct
convolution and the matrix products of all three passes of a training step need: two operations a
multiply-add; the first layer has no backward pass to its input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["NETWORKS", "Network", "prediction_goal", "same_padding", "training_goal"]

Layer = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Network:
    """A network with its batch size, its optimizer and the lab's name for it."""

    title: str
    shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    batch: int
    optimizer: tuple[str, dict[str, float]]

    def sizes(self) -> list[tuple[int, ...]]:
        """The shape (H, W, C) or (units,) after each layer."""
        shape: tuple[int, ...] = self.shape
        shapes = []
        for kind, settings in self.layers:
            if kind == "conv":
                strides = settings.get("strides", 1)
                kernel = settings["kernel"]
                if settings.get("padding", "valid") == "same":
                    side = [math.ceil(n / strides) for n in shape[:2]]
                else:
                    side = [(n - kernel) // strides + 1 for n in shape[:2]]
                shape = (*side, settings["filters"])
            elif kind in ("max_pool", "average_pool"):
                shape = (shape[0] // 2, shape[1] // 2, shape[2])
            elif kind == "zero_pad":
                pad = settings["padding"]
                shape = (shape[0] + 2 * pad, shape[1] + 2 * pad, shape[2])
            elif kind == "flatten":
                shape = (math.prod(shape),)
            elif kind == "dense":
                shape = (settings["units"],)
            shapes.append(shape)
        return shapes

    def parameters(self) -> int:
        """Numbers that the layers hold, moving statistics included."""
        total = 0
        before: tuple[int, ...] = self.shape
        for (kind, settings), after in zip(self.layers, self.sizes(), strict=True):
            if kind == "conv":
                total += (settings["kernel"] ** 2 * before[2] + 1) * after[2]
            elif kind == "dense":
                total += (before[0] + 1) * after[0]
            elif kind == "batch_norm":
                total += 4 * after[-1]
            before = after
        return total

    def flops(self, training: bool = True) -> float:
        """Operations of one step over a batch, or of one prediction."""
        total = 0.0
        before: tuple[int, ...] = self.shape
        first = True
        for (kind, settings), after in zip(self.layers, self.sizes(), strict=True):
            if kind == "conv":
                work = math.prod(after) * before[2] * settings["kernel"] ** 2
            elif kind == "dense":
                work = before[0] * after[0]
            else:
                before = after
                continue
            passes = (2 if first else 3) if training else 1
            total += 2.0 * self.batch * work * passes
            first = False
            before = after
        return total


def same_padding(size: int, kernel: int, strides: int) -> tuple[int, int]:
    """Padding before and after under 'same', the odd one after."""
    total = max((math.ceil(size / strides) - 1) * strides + kernel - size, 0)
    return total // 2, total - total // 2


def conv(filters: int, kernel: int, **more: Any) -> Layer:
    return "conv", {"filters": filters, "kernel": kernel, "activation": "relu", **more}


def dense(units: int, activation: str | None = "relu", **more: Any) -> Layer:
    return "dense", {"units": units, "activation": activation, **more}


def dropout(rate: float) -> Layer:
    return "dropout", {"rate": rate}


NORM: Layer = ("batch_norm", {})
POOL: Layer = ("max_pool", {"pool_size": 2})
AVERAGE: Layer = ("average_pool", {"pool_size": 2})
FLATTEN: Layer = ("flatten", {})
SOFTMAX = dense(10, "softmax")


def lab1(blocks: int) -> tuple[Layer, ...]:
    return (
        *((conv(64, 3), NORM, POOL, dropout(0.25)) * blocks),
        FLATTEN,
        *((dense(128), NORM, dropout(0.5)) * 3),
        SOFTMAX,
    )


def lab3(
    convolutions: tuple[tuple[int, int, int], ...], units: tuple[int, ...]
) -> tuple[Layer, ...]:
    blocks = [(conv(f, k, strides=s, padding="same"), POOL) for f, k, s in convolutions]
    hidden = [dense(n, "sigmoid") for n in units]
    return (*(layer for block in blocks for layer in block), FLATTEN, *hidden, SOFTMAX)


def lab4_cifar() -> tuple[Layer, ...]:
    blocks = [(conv(f, 3, padding="same", l2=1e-4), POOL, NORM) for f in (64, 128, 256, 512)]
    hidden = [(dense(n, l2=1e-4), dropout(0.3), NORM) for n in (128, 256, 512, 1024)]
    layers = [layer for block in (*blocks, (FLATTEN,), *hidden) for layer in block]
    return (*layers, SOFTMAX)


def lab5(first: int, second: int) -> tuple[Layer, ...]:
    return (
        ("zero_pad", {"padding": 2}),
        conv(first, 5, l2=0.01),
        AVERAGE,
        conv(second, 5, l2=0.01),
        AVERAGE,
        FLATTEN,
        dense(120),
        dense(84),
        SOFTMAX,
    )


_GREY, _COLOUR = (28, 28, 1), (32, 32, 3)
_SGD = ("sgd", {"learning_rate": 0.01})
_SGD5 = ("sgd", {"learning_rate": 0.05})
_ADAM = ("adam", {"learning_rate": 0.001})

NETWORKS: dict[str, Network] = {
    "lab1": Network("lab 1, two blocks", _GREY, lab1(2), 128, _SGD),
    "lab1-one-block": Network("lab 1, one block", _GREY, lab1(1), 128, _SGD),
    "lab2": Network(
        "lab 2",
        _GREY,
        (
            conv(10, 5),
            POOL,
            conv(20, 5),
            ("spatial_dropout", {"rate": 0.5}),
            POOL,
            FLATTEN,
            dense(50),
            dropout(0.5),
            SOFTMAX,
        ),
        128,
        ("sgd", {"learning_rate": 0.01, "momentum": 0.5}),
    ),
    "lab3": Network("lab 3, model 1", _GREY, lab3(((16, 5, 1), (32, 3, 1)), (128,)), 100, _SGD5),
    "lab3-model-2": Network(
        "lab 3, model 2", _GREY, lab3(((16, 5, 1), (32, 3, 1)), (256, 128)), 100, _SGD5
    ),
    "lab3-model-3": Network(
        "lab 3, model 3", _GREY, lab3(((16, 7, 1), (32, 5, 1)), (256, 128)), 100, _SGD5
    ),
    "lab3-light": Network(
        "lab 3, light",
        _GREY,
        lab3(((32, 4, 2), (16, 4, 1), (9, 2, 1)), (128,)),
        100,
        _SGD5,
    ),
    "lab4": Network(
        "lab 4, MNIST",
        _GREY,
        (conv(28, 3, l2=1e-4), POOL, FLATTEN, dense(128, l2=1e-4), SOFTMAX),
        128,
        _ADAM,
    ),
    "lab4-cifar": Network("lab 4, CIFAR-10", _COLOUR, lab4_cifar(), 128, _ADAM),
    "lab5": Network("lab 5, baseline", _GREY, lab5(6, 16), 128, _ADAM),
    "lab5-filters": Network("lab 5, 32+64 filters", _GREY, lab5(32, 64), 128, _ADAM),
}

# What is aimed at, as times the fastest other framework as it is installed.
_TRAINING = {
    "lab1": 5.0,
    "lab1-one-block": 5.0,
    "lab2": 3.0,
    "lab3": 3.0,
    "lab3-model-2": 3.0,
    "lab3-model-3": 2.5,
    "lab3-light": 3.0,
    "lab4": 4.0,
    "lab4-cifar": 3.0,
    "lab5": 4.0,
    "lab5-filters": 2.5,
}


def training_goal(name: str, isa: str | None = None) -> float:
    """The ratio aimed at for a training step; with an instruction set forced on all sides, 1.5."""
    return 1.5 if isa is not None else _TRAINING[name]


def prediction_goal(name: str, batch: int) -> float:
    """The ratio aimed at for a prediction of so many pictures."""
    if batch < 8:
        return 1.0
    return 1.5 if name == "lab4-cifar" else 3.0
