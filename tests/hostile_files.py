"""An honest model file and ways to change it, for the tests of hostile files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

import pycnn
from pycnn.keras import layers

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"


def make_model() -> Any:
    model = pycnn.Sequential(
        [
            pycnn.Input((6, 6, 1)),
            layers.Conv2D(2, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def honest_parts(folder: Path) -> dict[str, bytes]:
    """The members of an honest file."""
    path = folder / "honest.keras"
    make_model().save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def changed_config(parts: dict[str, bytes], change: Callable[[Any], None]) -> dict[str, bytes]:
    config = json.loads(parts[CONFIG])
    change(config)
    return {**parts, CONFIG: json.dumps(config).encode()}


def changed_weights(parts: dict[str, bytes], change: Callable[[Any], None]) -> dict[str, bytes]:
    buffer = io.BytesIO(parts[WEIGHTS])
    with h5py.File(buffer, "r+") as file:
        change(file)
    return {**parts, WEIGHTS: buffer.getvalue()}
