"""Lab 3: MNIST, 'same' padding and sigmoid.

First the summaries of three small networks that differ in padding and stride; then four networks
trained for 50 epochs with plain SGD, the first three on one fold of a 5-fold split.  The fold is
that of scikit-learn's ``KFold(5, shuffle=True, random_state=6570518)``, as far as the report tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pycnn.datasets import mnist
from pycnn.keras import Sequential
from pycnn.keras.callbacks import History
from pycnn.keras.initializers import TruncatedNormal
from pycnn.keras.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from pycnn.keras.optimizers import SGD
from pycnn.keras.utils import set_random_seed, to_categorical
from pycnn.labs.frame import Lab, Published, Result, Run, Variation

__all__ = ["LAB", "build_model", "load_data", "small_model", "train"]

SEED = 6570518


def prepare(pictures: Any, labels: Any) -> tuple[Any, Any]:
    """Pictures (N, 28, 28, 1) in 0..1 and one-hot labels (N, 10)."""
    x = pictures.reshape(-1, 28, 28, 1).astype("float32") / 255
    return x, to_categorical(labels, 10)


def load_data() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """MNIST for training and for the test."""
    train_data, test_data = mnist.load_data()
    return prepare(*train_data), prepare(*test_data)


def small_model(padding: str = "same", strides: int = 1) -> Sequential:
    """The network whose summary the lab begins with."""
    return Sequential(
        [
            Input(shape=(28, 28, 1)),
            Conv2D(6, 5, strides=strides, padding=padding, activation="relu"),
            MaxPooling2D(2),
            Flatten(),
            Dense(128, activation="sigmoid"),
            Dense(10, activation="softmax"),
        ]
    )


# For each model: convolutions as (filters, kernel, strides), and the units of the dense layers.
MODELS: dict[str, tuple[list[tuple[int, int, int]], list[int]]] = {
    "model-1": ([(16, 5, 1), (32, 3, 1)], [128]),
    "model-2": ([(16, 5, 1), (32, 3, 1)], [256, 128]),
    "model-3": ([(16, 7, 1), (32, 5, 1)], [256, 128]),
    "light": ([(32, 4, 2), (16, 4, 1), (9, 2, 1)], [128]),
}


def build_model(name: str = "model-1", seed: int = SEED) -> Sequential:
    """One of the four networks: 'same' convolutions with pooling, then sigmoid layers."""
    convolutions, units = MODELS[name]
    start: dict[str, Any] = {
        "kernel_initializer": TruncatedNormal(seed=seed),
        "bias_initializer": TruncatedNormal(seed=seed),
    }
    model = Sequential([Input(shape=(28, 28, 1))])
    for filters, kernel, strides in convolutions:
        model.add(
            Conv2D(filters, kernel, strides=strides, padding="same", activation="relu", **start)
        )
        model.add(MaxPooling2D(2))
    model.add(Flatten())
    for width in units:
        model.add(Dense(width, activation="sigmoid", **start))
    model.add(Dense(10, activation="softmax", **start))
    return model


def first_fold(x: Any, y: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The first fold of five: four fifths to train on, one fifth to validate with."""
    from sklearn.model_selection import KFold

    train_rows, validation_rows = next(KFold(5, shuffle=True, random_state=SEED).split(x))
    return (x[train_rows], y[train_rows]), (x[validation_rows], y[validation_rows])


def train(
    model: Sequential,
    data: tuple[Any, Any],
    validation_data: tuple[Any, Any] | None = None,
    epochs: int = 50,
    verbose: int | str = "auto",
) -> History:
    """Train with plain SGD."""
    model.summary()
    model.compile(
        optimizer=SGD(learning_rate=0.05),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    history: History = model.fit(
        *data,
        batch_size=100,
        epochs=epochs,
        validation_data=validation_data,
        verbose=verbose,
    )
    return history


# What was published, and how `pycnn lab` runs the variations

SUMMARIES: dict[str, tuple[dict[str, Any], int]] = {
    "'same'": ({"padding": "same"}, 152_102),
    "'valid'": ({"padding": "valid"}, 112_166),
    "'same' with stride 2": ({"padding": "same", "strides": 2}, 39_206),
}

VARIATIONS = {
    "model-1": Variation(
        "conv 16 5x5, conv 32 3x3, dense 128; validated on the first fold",
        50,
        (
            Published("report", val_loss=0.04368, note="13:38 min then"),
            Published(
                "Keras 3.15, one run, last fifth held out", val_loss=0.0465, test_accuracy=0.9882
            ),
        ),
    ),
    "model-2": Variation(
        "as model-1, dense 256 and 128",
        50,
        (Published("report", val_loss=0.04466, note="14:35 min then"),),
    ),
    "model-3": Variation(
        "conv 16 7x7, conv 32 5x5, dense 256 and 128",
        50,
        (Published("report", val_loss=0.04151, test_accuracy=0.9896, note="19:53 min then"),),
    ),
    "light": Variation(
        "conv 32 4x4 stride 2, conv 16 4x4, conv 9 2x2, dense 128; trained on all 60,000",
        50,
        (
            Published("report", test_accuracy=0.9857, note="14 min then"),
            Published("Keras 3.15, one run, last fifth held out", test_accuracy=0.9810),
        ),
    ),
    "summaries": Variation("the summaries of 'same', 'valid' and 'same' with stride 2"),
}


def print_summaries() -> None:
    for title, (settings, published) in SUMMARIES.items():
        print(f"\n{title}")
        model = small_model(**settings)
        model.summary()
        print(f"parameters: published {published:,}, here {model.count_params():,}")


def run(wanted: Run) -> Result:
    """Train one of the models and test it, or print the summaries."""
    if wanted.variation == "summaries":
        print_summaries()
        return Result()
    set_random_seed(wanted.seed)
    (x_train, y_train), (x_test, y_test) = load_data()
    model = build_model(wanted.variation, wanted.seed)
    if wanted.variation == "light":
        history = train(model, (x_train, y_train), None, wanted.epochs, wanted.verbose)
    else:
        data, held_out = first_fold(x_train, y_train)
        history = train(model, data, held_out, wanted.epochs, wanted.verbose)
    path = Path(wanted.folder, "models", f"mnist_same_sigmoid-{wanted.variation}.keras")
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    loss, accuracy = model.evaluate(x_test, y_test, batch_size=100, verbose=wanted.verbose)
    return Result(history.history, loss, accuracy, path)


LAB = Lab("mnist-same-sigmoid", "MNIST, 'same' padding and sigmoid", VARIATIONS, run, seed=SEED)
