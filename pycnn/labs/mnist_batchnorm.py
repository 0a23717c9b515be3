"""Lab 1: MNIST with batch normalisation.

Two blocks of convolution, batch normalisation, max pooling and dropout, then three dense layers of
128 with batch normalisation and dropout, then softmax.  As a program of its own:

    python -m pycnn.labs.mnist_batchnorm --mode train --batch-size 128 --epochs 5 \\
        --model_path models/mnist_cnn.keras
    python -m pycnn.labs.mnist_batchnorm --mode test --model_path models/mnist_cnn.keras
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pycnn.datasets import mnist
from pycnn.keras import Sequential
from pycnn.keras.callbacks import History, TensorBoard
from pycnn.keras.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    MaxPooling2D,
)
from pycnn.keras.models import load_model
from pycnn.keras.optimizers import SGD
from pycnn.keras.utils import set_random_seed, to_categorical
from pycnn.labs.frame import Lab, Published, Result, Run, Variation

__all__ = ["LAB", "build_model", "load_data", "main", "test", "train"]


def prepare(pictures: Any, labels: Any) -> tuple[Any, Any]:
    """Pictures (N, 28, 28, 1) in 0..1 and one-hot labels (N, 10)."""
    x = pictures.reshape(-1, 28, 28, 1).astype("float32") / 255
    return x, to_categorical(labels, 10)


def load_data() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """MNIST for training and for the test."""
    train_data, test_data = mnist.load_data()
    return prepare(*train_data), prepare(*test_data)


def build_model(activation: str = "relu", blocks: int = 2, kernel: int = 3) -> Sequential:
    """The network; 278,858 parameters as the lab has it."""
    model = Sequential()
    model.add(Input(shape=(28, 28, 1)))
    for _ in range(blocks):
        model.add(Conv2D(64, (kernel, kernel), activation=activation))
        model.add(BatchNormalization())
        model.add(MaxPooling2D(pool_size=(2, 2)))
        model.add(Dropout(0.25))
    model.add(Flatten())
    for _ in range(3):
        model.add(Dense(128, activation=activation))
        model.add(BatchNormalization())
        model.add(Dropout(0.5))
    model.add(Dense(10, activation="softmax"))
    return model


def train(
    model: Sequential,
    batch_size: int = 128,
    epochs: int = 5,
    model_path: str = "models/mnist_cnn.keras",
    log_dir: str = "logs",
    verbose: int | str = "auto",
) -> History:
    """Train the network and save it."""
    (x_train, y_train), _ = load_data()
    model.summary()
    model.compile(
        optimizer=SGD(learning_rate=0.01),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    history: History = model.fit(
        x_train,
        y_train,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        callbacks=[TensorBoard(log_dir=log_dir)],
        verbose=verbose,
    )
    Path(model_path).parent.mkdir(parents=True, exist_ok=True)
    model.save(model_path)
    return history


def test(
    model_path: str = "models/mnist_cnn.keras", batch_size: int = 128, verbose: int | str = "auto"
) -> tuple[float, float]:
    """Load the saved network; its loss and accuracy on the test pictures."""
    _, (x_test, y_test) = load_data()
    model = load_model(model_path)
    loss, accuracy = model.evaluate(x_test, y_test, batch_size=batch_size, verbose=verbose)
    return loss, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description="MNIST with batch normalisation")
    parser.add_argument("--mode", choices=["train", "test"], default="train")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--model_path", default="models/mnist_cnn.keras")
    args = parser.parse_args()
    if args.mode == "train":
        train(build_model(), args.batch_size, args.epochs, args.model_path)
    else:
        loss, accuracy = test(args.model_path, args.batch_size)
        print(f"Test loss: {loss:.4f}, test accuracy: {100 * accuracy:.2f} %")


# What was published, and how `pycnn lab` runs the variations

SETTINGS: dict[str, dict[str, Any]] = {
    "relu": {},
    "sigmoid": {"activation": "sigmoid"},
    "tanh": {"activation": "tanh"},
    "one-block": {"blocks": 1},
    "three-blocks": {"blocks": 3},
    "kernel-2": {"kernel": 2},
    "kernel-4": {"kernel": 4},
}

VARIATIONS = {
    "relu": Variation(
        "as the lab has it: two blocks, 3x3, ReLU",
        5,
        (
            Published(
                "report 1",
                (0.5865, 0.8286, 0.8834, 0.9083, 0.9227),
                (1.3014, 0.5440, 0.3856, 0.3098, 0.2625),
                test_accuracy=0.9739,
                test_loss=0.0861,
            ),
            Published(
                "report 2",
                (0.5630, 0.8282, 0.8838, 0.9086, 0.9234),
                (1.3730, 0.5466, 0.3864, 0.3116, 0.2664),
                test_accuracy=0.9733,
                test_loss=0.0853,
            ),
            Published(
                "Keras 3.15, one run",
                (0.5753, 0.8310, 0.8849, 0.9093, 0.9218),
                test_accuracy=0.9708,
            ),
        ),
    ),
    "sigmoid": Variation(
        "sigmoid everywhere but the output",
        5,
        (
            Published(
                "report 1",
                (0.6267, 0.8304, 0.8757, 0.9021, 0.9147),
                (1.1678, 0.5426, 0.3996, 0.3245, 0.2831),
                test_accuracy=0.9664,
                test_loss=0.1090,
            ),
            Published(
                "report 2",
                (0.6097, 0.8210, 0.8728, 0.8993, 0.9133),
                (1.2130, 0.5635, 0.4070, 0.3310, 0.2901),
                test_accuracy=0.9674,
                test_loss=0.1096,
            ),
        ),
    ),
    "tanh": Variation(
        "tanh everywhere but the output",
        5,
        (
            Published("report 1", test_accuracy=0.9683),
            Published(
                "report 2",
                (0.5644, 0.8081, 0.8710, 0.8999, 0.9165),
                (1.3940, 0.6109, 0.4317, 0.3397, 0.2897),
                test_accuracy=0.9687,
                test_loss=0.1239,
            ),
        ),
    ),
    "one-block": Variation(
        "one block of convolution",
        5,
        (
            Published("report 1", test_accuracy=0.9762),
            Published(
                "report 2",
                (0.6888, 0.8748, 0.9145, 0.9320, 0.9440),
                (0.9833, 0.4222, 0.2991, 0.2397, 0.2054),
                test_accuracy=0.9773,
                test_loss=0.0719,
            ),
        ),
    ),
    "three-blocks": Variation(
        "three blocks of convolution", 5, (Published("report", test_accuracy=0.9584),)
    ),
    "kernel-2": Variation(
        "kernels 2x2", 5, (Published("report", test_accuracy=0.9690, test_loss=0.0993),)
    ),
    "kernel-4": Variation(
        "kernels 4x4",
        5,
        (
            Published(
                "report (three digits from the second epoch on)",
                (0.5624, 0.832, 0.888, 0.913, None),
                (1.3817, 0.5389, 0.3724, 0.2952, None),
                test_accuracy=0.9755,
                test_loss=0.0790,
            ),
        ),
    ),
}


def run(wanted: Run) -> Result:
    """Train one variation, save it, and test what was saved."""
    set_random_seed(wanted.seed)
    model = build_model(**SETTINGS[wanted.variation])
    suffix = "" if wanted.variation == "relu" else f"-{wanted.variation}"
    path = wanted.folder / "models" / f"mnist_cnn{suffix}.keras"
    log_dir = wanted.folder / "logs" / f"mnist-batchnorm{suffix}"
    history = train(
        model,
        epochs=wanted.epochs,
        model_path=str(path),
        log_dir=str(log_dir),
        verbose=wanted.verbose,
    )
    loss, accuracy = test(str(path), verbose=wanted.verbose)
    return Result(history.history, loss, accuracy, path)


LAB = Lab("mnist-batchnorm", "MNIST with batch normalisation", VARIATIONS, run)

if __name__ == "__main__":
    main()
