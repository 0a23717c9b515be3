"""The same seed gives the same weights, bit for bit: for any number of threads, on every run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import pycnn
import pycnn._core as core
from harness import threads
from pycnn.keras import layers

pytestmark = pytest.mark.tsan


def train(seed: int, epochs: int = 1) -> pycnn.Model:
    """Lab 1's network in narrow, on noise: dropout, batch normalisation, a partial last batch."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (150, 12, 12, 1), dtype=np.uint8)
    y = np.eye(4)[rng.integers(0, 4, 150)]
    pycnn.utils.set_random_seed(seed)
    model = pycnn.Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Conv2D(5, 3, padding="same", activation="tanh"),
            layers.SpatialDropout2D(0.2),
            layers.Flatten(),
            layers.Dense(16, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def digest(model: pycnn.Model) -> str:
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()


def test_any_number_of_threads_gives_the_same_weights() -> None:
    found = {}
    for n in (1, 2, 3, 8):
        with threads(n):
            core._workers_seen()
            found[n] = digest(train(7))
            assert (core._workers_seen() > 1) == (n > 1)
    assert len(set(found.values())) == 1, found


def test_a_seed_repeats_and_another_differs() -> None:
    assert digest(train(7)) == digest(train(7))
    assert digest(train(7)) != digest(train(8))


def test_another_process_gives_the_same_weights() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_reproducible as t; "
        "print(t.digest(t.train(7)))"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    result = subprocess.run(
        [sys.executable, "-c", code, here],
        capture_output=True,
        text=True,
        check=True,
        cwd=here,
        env={
            **os.environ,
            "PYCNN_NUM_THREADS": "3",
            "PYTHONPATH": os.path.dirname(os.path.dirname(pycnn.__file__)),
        },
    )
    assert result.stdout.strip() == digest(train(7))


def test_fusing_changes_no_bit() -> None:
    before = core._set_option("fuse", 0)
    try:
        plain = digest(train(3))
    finally:
        core._set_option("fuse", before)
    assert digest(train(3)) == plain
