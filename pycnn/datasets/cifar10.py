"""CIFAR-10: 50,000 + 10,000 colour pictures of ten kinds of things, 32 x 32.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.  Read from the
"binary version"; the pickled one is never opened, for a pickle runs what it contains.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pycnn.datasets import _files
from pycnn.datasets._sources import CIFAR10, DatasetError

__all__ = ["load_data"]

_RECORD = 1 + 3 * 32 * 32


def load_data() -> _files.Splits:
    """CIFAR-10 as NumPy arrays.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        uint8.  Shapes: pictures (N, 32, 32, 3) with values 0..255, labels (N, 1) with values 0..9
        (airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck); N is 50,000 and
        10,000.

    Raises
    ------
    DatasetNotFoundError
        The data set is not on this machine and cannot be downloaded.
    DatasetError
        A file is damaged.

    Notes
    -----
    Signature and result are those of ``keras.datasets.cifar10.load_data``.
    """
    if _files.mode() == "sample":
        raise _files.no_sample(CIFAR10)
    found = _files.find(CIFAR10)
    if found is None:
        from pycnn.datasets._download import download

        found = download(CIFAR10)
    parts = [_read_batch(found[file.name]) for file in CIFAR10.files]
    x_train = np.concatenate([images for images, _ in parts[:-1]])
    y_train = np.concatenate([labels for _, labels in parts[:-1]])
    return (x_train, y_train), parts[-1]


def _read_batch(path: Path) -> tuple[_files.Arrays, _files.Arrays]:
    """Pictures (N, 32, 32, 3) and labels (N, 1) of one file of records (label, R, G, B)."""
    limit = CIFAR10.files[0].size
    content = np.frombuffer(_files.read_bytes(path, limit), np.uint8)
    if len(content) == 0 or len(content) % _RECORD or len(content) > limit:
        raise DatasetError(
            f"{path}: expected up to 10,000 records of {_RECORD} bytes, got {len(content)} bytes"
        )
    records = content.reshape(-1, _RECORD)
    labels = records[:, :1].copy()
    if labels.max() > 9:
        raise DatasetError(f"{path}: expected labels 0..9, got {int(labels.max())}")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels
