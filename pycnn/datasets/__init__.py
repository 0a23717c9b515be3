"""Data sets for image classification: MNIST, Fashion-MNIST and CIFAR-10, as Keras returns them.

``load_data()`` reads the files of a data set from the first place that has them:

1. ``$PYCNN_DATA_HOME``, in ``mnist/``, ``fashion-mnist/``, ``cifar10/`` (may be read-only),
2. Keras's folder, ``$KERAS_HOME/datasets`` or ``~/.keras/datasets``,
3. ``./data``, as torchvision lays it out (``data/MNIST/raw``),
4. ``~/.cache/pycnn`` (``$XDG_CACHE_HOME/pycnn``), where a download is kept,

and downloads it otherwise.  ``PYCNN_DATASETS=sample`` chooses the sample of MNIST inside the
package, ``PYCNN_DATASETS=full`` insists on the whole data set.
"""

from __future__ import annotations

from pycnn.datasets import cifar10, fashion_mnist, mnist
from pycnn.datasets._sources import DatasetError, DatasetNotFoundError

__all__ = ["DatasetError", "DatasetNotFoundError", "cifar10", "fashion_mnist", "mnist"]
