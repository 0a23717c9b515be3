"""Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 28 x 28, grey.

H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms", 2017 (MIT).
"""

from __future__ import annotations

from pycnn.datasets import _files
from pycnn.datasets._sources import FASHION_MNIST

__all__ = ["load_data"]


def load_data() -> _files.Splits:
    """Fashion-MNIST as NumPy arrays.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        uint8.  Shapes: pictures (N, 28, 28) with values 0..255, labels (N,) with values 0..9
        (T-shirt/top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot);
        N is 60,000 and 10,000.

    Raises
    ------
    DatasetNotFoundError
        The data set is not on this machine and cannot be downloaded.
    DatasetError
        A file is damaged.

    Notes
    -----
    Signature and result are those of ``keras.datasets.fashion_mnist.load_data``.
    """
    if _files.mode() == "sample":
        raise _files.no_sample(FASHION_MNIST)
    found = _files.find(FASHION_MNIST)
    if found is None:
        from pycnn.datasets._download import download

        found = download(FASHION_MNIST)
    return _files.read_splits(found)
