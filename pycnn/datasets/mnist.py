"""MNIST: 60,000 + 10,000 handwritten digits, 28 x 28, grey.

Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".  The sample inside
this package (CC BY-SA 3.0) has every sixth training and every fifth test picture.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from pycnn.datasets import _files
from pycnn.datasets._sources import MNIST, DatasetError

__all__ = ["load_data"]


def load_data(path: str = "mnist.npz") -> _files.Splits:
    """MNIST as NumPy arrays.

    Parameters
    ----------
    path : str
        Name of Keras's file below its ``datasets`` folder, or an absolute path.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        uint8.  Shapes: pictures (N, 28, 28) with values 0..255, labels (N,) with values 0..9;
        N is 60,000 and 10,000 (10,000 and 2,000 with ``PYCNN_DATASETS=sample``).

    Raises
    ------
    DatasetNotFoundError
        The data set is not on this machine and cannot be downloaded.
    DatasetError
        A file is damaged.

    Notes
    -----
    Signature and result are those of ``keras.datasets.mnist.load_data``.
    """
    if _files.mode() == "sample":
        sample = _files.locate(_files.SAMPLE_FOLDER, MNIST)
        if sample is None:
            raise DatasetError(f"the sample of MNIST is missing from {_files.SAMPLE_FOLDER}")
        return _files.read_splits(sample)
    # Keras's own file comes after PYCNN_DATA_HOME and before every other place.
    found = _files.find_in_home(MNIST)
    if found is None:
        npz = _files.keras_folder() / path
        if npz.is_file():
            return _read_npz(npz)
        found = _files.find(MNIST)
    if found is None:
        from pycnn.datasets._download import download

        found = download(MNIST)
    return _files.read_splits(found)


def _read_npz(path: Path) -> _files.Splits:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x_train, y_train = arrays["x_train"], arrays["y_train"]
            x_test, y_test = arrays["x_test"], arrays["y_test"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path} is not Keras's file of MNIST ({error}): remove it, and it is fetched again"
        ) from error
    return (x_train, y_train), (x_test, y_test)
