"""Each framework builds a network and gives what is timed: a training step, a prediction, a fit.

Steps and predictions are fed from memory, with one fixed batch of random pictures.  Only the
framework asked for is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from networks import Network, same_padding

__all__ = ["ENVIRONMENT", "FRAMEWORKS", "Subject", "build", "environment_of", "module_of"]

# Environment that must stand before a framework is imported, on top of the number of threads.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296"}
ENVIRONMENT: dict[str, dict[str, str]] = {
    "pycnn": {},
    "torch": {},
    "torch-tuned": _KEEP_MEMORY,  # the allocator told to keep what it has
    "torch-compiled": {},
    "keras-tensorflow": {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    "keras-jax": {"KERAS_BACKEND": "jax"},
}
FRAMEWORKS = tuple(ENVIRONMENT)

# What holds every framework to one instruction set.
_ISA = {
    "avx2": {
        "PYCNN_ISA": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    }
}


@dataclass(frozen=True)
class Subject:
    """What is timed: a step of training, which returns the loss, and a prediction.

    ``fit(x, y, validation, epochs)`` is the framework's own loop with its progress bar, where it
    has one; ``parameters`` the count of all numbers in its layers.
    """

    version: str
    parameters: int
    step: Callable[[], float]
    predict: Callable[[], Any]
    fit: Callable[..., Any] | None = None


def module_of(framework: str) -> str:
    """The module whose import time is the framework's."""
    return "torch" if framework.startswith("torch") else framework.partition("-")[0]


def batch_of(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, H, W, C) in 0..1 and labels (N,)."""
    rng = np.random.default_rng(1)
    x = rng.random((network.batch, *network.shape), np.float32)
    return x, rng.integers(0, 10, network.batch)


def build(framework: str, network: Network, threads: int) -> Subject:
    """Build a network in a framework, with a number of threads."""
    if framework == "pycnn":
        return _build_pycnn(network, threads)
    if framework == "keras-tensorflow":
        return _build_tensorflow(network, threads)
    if framework == "keras-jax":
        return _build_jax(network, threads)
    return _build_torch(network, threads, compiled=framework == "torch-compiled")


# The vocabulary of Keras, ours and the original


def keras_model(keras: Any, network: Network) -> Any:
    layers, regularizers = keras.layers, keras.regularizers
    model = keras.Sequential([keras.Input(network.shape)])
    for kind, settings in network.layers:
        more = dict(settings)
        if "l2" in more:
            more["kernel_regularizer"] = regularizers.L2(more.pop("l2"))
        if kind == "conv":
            layer = layers.Conv2D(more.pop("filters"), more.pop("kernel"), **more)
        elif kind == "dense":
            layer = layers.Dense(more.pop("units"), **more)
        else:
            layer = {
                "batch_norm": layers.BatchNormalization,
                "max_pool": layers.MaxPooling2D,
                "average_pool": layers.AveragePooling2D,
                "dropout": layers.Dropout,
                "spatial_dropout": layers.SpatialDropout2D,
                "flatten": layers.Flatten,
                "zero_pad": layers.ZeroPadding2D,
            }[kind](**more)
        model.add(layer)
    name, settings = network.optimizer
    optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[name](**settings)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _build_pycnn(network: Network, threads: int) -> Subject:
    import pycnn
    import pycnn._core as core
    import pycnn.keras

    pycnn.set_num_threads(threads)
    emulated = core.config()["isa_emulated"]
    model = keras_model(pycnn.keras, network)
    x, y = batch_of(network)
    return Subject(
        pycnn.__version__ + (f", {emulated} emulated: no measure" if emulated else ""),
        int(model.count_params()),
        lambda: float(model.train_on_batch(x, y)[0]),
        lambda: model.predict_on_batch(x),
        _fit_of(model, network),
    )


def _fit_of(model: Any, network: Network) -> Callable[..., Any]:
    def fit(x: Any, y: Any, validation: Any, epochs: int) -> Any:
        return model.fit(
            x,
            y,
            batch_size=network.batch,
            epochs=epochs,
            validation_data=validation,
            shuffle=validation is not None,  # lab 1 does not
            verbose=1,
        )

    return fit


def _build_tensorflow(network: Network, threads: int) -> Subject:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    import keras

    model = keras_model(keras, network)
    x, y = batch_of(network)
    # The step function itself, from tensors that are there: less than fit or train_on_batch take.
    data = iter(tf.data.Dataset.from_tensors((tf.constant(x), tf.constant(y))).repeat())
    pictures = tf.constant(x)
    forward = tf.function(lambda pictures: model(pictures, training=False))

    def step() -> float:
        model.make_train_function()
        return float(model.train_function(data)["loss"])

    return Subject(
        f"Keras {keras.__version__}, TensorFlow {tf.__version__}",
        int(model.count_params()),
        step,
        lambda: forward(pictures).numpy(),
        _fit_of(model, network),
    )


def _build_jax(network: Network, threads: int) -> Subject:
    # The number of threads is settled by the process's affinity: JAX has no switch for it.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax
    import keras

    model = keras_model(keras, network)
    x, y = batch_of(network)
    return Subject(
        f"Keras {keras.__version__}, JAX {jax.__version__}",
        int(model.count_params()),
        lambda: float(model.train_on_batch(x, y)[0]),
        lambda: np.asarray(model.predict_on_batch(x)),
        _fit_of(model, network),
    )


# PyTorch


def _build_torch(network: Network, threads: int, compiled: bool) -> Subject:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = torch.nn.Sequential(*_torch_layers(torch, network))
    name, settings = network.optimizer
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
    more = {"momentum": settings["momentum"]} if "momentum" in settings else {}
    optimizer = kind(model.parameters(), lr=settings["learning_rate"], **more)
    penalties = _torch_penalties(model, network)
    x, y = batch_of(network)
    pictures = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(y)

    def loss_of(pictures: Any, labels: Any) -> Any:
        loss = torch.nn.functional.cross_entropy(model(pictures), labels)
        for strength, weight in penalties:
            loss = loss + strength * (weight * weight).sum()
        return loss

    if compiled and os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
        import torch._inductor.config as inductor

        inductor.cpp.simdlen = 256
    forward = torch.compile(loss_of) if compiled else loss_of
    evaluate = torch.compile(model) if compiled else model

    def step() -> float:
        optimizer.zero_grad()
        loss = forward(pictures, labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    def predict() -> Any:
        model.eval()
        with torch.inference_mode():
            result = torch.softmax(evaluate(pictures), 1).numpy()
        model.train()
        return result

    count = sum(p.numel() for p in model.parameters())
    # Each batch norm also counts its batches.
    count += sum(b.numel() for n, b in model.named_buffers() if not n.endswith("_tracked"))
    return Subject(f"PyTorch {torch.__version__}", count, step, predict)


def _torch_layers(torch: Any, network: Network) -> list[Any]:
    """The layers; the last softmax belongs to the loss."""
    nn = torch.nn
    activations = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
    found: list[Any] = []
    before: tuple[int, ...] = network.shape
    for (kind, settings), after in zip(network.layers, network.sizes(), strict=True):
        if kind == "conv":
            kernel, strides = settings["kernel"], settings.get("strides", 1)
            padding = 0
            if settings.get("padding") == "same":
                top, bottom = same_padding(before[0], kernel, strides)
                left, right = same_padding(before[1], kernel, strides)
                if top == bottom == left == right:
                    padding = top
                else:
                    found.append(nn.ZeroPad2d((left, right, top, bottom)))
            found.append(nn.Conv2d(before[2], after[2], kernel, strides, padding))
        elif kind == "dense":
            found.append(nn.Linear(before[0], after[0]))
        elif kind == "batch_norm":
            found.append((nn.BatchNorm2d if len(after) == 3 else nn.BatchNorm1d)(after[-1], 1e-3))
        else:
            found.append(
                {
                    "max_pool": lambda: nn.MaxPool2d(2),
                    "average_pool": lambda: nn.AvgPool2d(2),
                    "dropout": lambda s=settings: nn.Dropout(s["rate"]),
                    "spatial_dropout": lambda s=settings: nn.Dropout2d(s["rate"]),
                    "flatten": nn.Flatten,
                    "zero_pad": lambda s=settings: nn.ZeroPad2d(s["padding"]),
                }[kind]()
            )
        if settings.get("activation") in activations:
            found.append(activations[settings["activation"]]())
        before = after
    return found


def _torch_penalties(model: Any, network: Network) -> list[tuple[float, Any]]:
    strengths = [s.get("l2", 0.0) for kind, s in network.layers if kind in ("conv", "dense")]
    weights = [p for name, p in model.named_parameters() if name.endswith("weight") and p.ndim > 1]
    return [pair for pair in zip(strengths, weights, strict=True) if pair[0]]


def environment_of(framework: str, threads: int, isa: str | None = None) -> dict[str, str]:
    """The environment of a framework's process: threads, instruction set, its own settings."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYCNN_NUM_THREADS")
    held = _ISA[isa] if isa is not None else {}
    return {**os.environ, **dict.fromkeys(names, str(threads)), **held, **ENVIRONMENT[framework]}
