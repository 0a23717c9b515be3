"""Data sets, under Keras's path; `pycnn.datasets` has the same objects."""

from __future__ import annotations

import sys

from pycnn.datasets import cifar10, fashion_mnist, mnist

__all__ = ["cifar10", "fashion_mnist", "mnist"]

# `import pycnn.keras.datasets.mnist` must not load a second copy.
for _name in __all__:
    sys.modules[f"{__name__}.{_name}"] = sys.modules[f"pycnn.datasets.{_name}"]
