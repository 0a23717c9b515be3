#!/usr/bin/env python3
"""Make the sample of MNIST that lies inside the package, from the original IDX files.

Usage: tools/make_sample.py MNIST_FOLDER

Takes every sixth training picture (10,000) and every fifth test picture (2,000), with their labels,
and writes four gzipped IDX files into ``pycnn/datasets/_sample/``.  The result depends on the input
alone: no time stamps, no names.
"""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np

from pycnn.datasets import _files
from pycnn.datasets._sources import MNIST

OUT = Path(__file__).resolve().parent.parent / "pycnn" / "datasets" / "_sample"
STEPS = {"train": 6, "t10k": 5}


def write_idx(path: Path, array: _files.Arrays) -> None:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(header + np.ascontiguousarray(array).tobytes())


def main(folder: str) -> None:
    files = _files.locate(Path(folder), MNIST)
    if files is None:
        sys.exit(f"{folder} does not have the four files of MNIST")
    OUT.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        step = STEPS[name.partition("-")[0]]
        write_idx(OUT / f"{name}.gz", _files.read_idx(path)[::step])
    total = sum(path.stat().st_size for path in OUT.iterdir())
    print(f"{OUT}: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
