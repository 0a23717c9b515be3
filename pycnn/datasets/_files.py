"""Finding the files of a data set on this machine, and reading the IDX format."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pycnn.datasets._sources import DatasetError, DatasetNotFoundError, Source

__all__ = [
    "SAMPLE_FOLDER",
    "Arrays",
    "Splits",
    "cache_folder",
    "find",
    "find_in_home",
    "keras_folder",
    "locate",
    "mode",
    "no_sample",
    "read_bytes",
    "read_idx",
    "read_splits",
]

Arrays = NDArray[np.uint8]
Splits = tuple[tuple[Arrays, Arrays], tuple[Arrays, Arrays]]

SAMPLE_FOLDER = Path(__file__).resolve().parent / "_sample"
_IDX_UINT8 = 0x08


def mode() -> str:
    """The user's choice in ``PYCNN_DATASETS``: "", "sample" or "full"."""
    chosen = os.environ.get("PYCNN_DATASETS", "")
    if chosen not in ("", "sample", "full"):
        raise DatasetError(f"PYCNN_DATASETS={chosen!r}: expected 'sample' or 'full'")
    return chosen


def keras_folder() -> Path:
    """Keras's folder of data sets."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def cache_folder(source: Source) -> Path:
    """Where a downloaded data set is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pycnn" / source.home


def _spellings(name: str) -> Iterator[str]:
    # Unpackers disagree about the dash before "idx"; torchvision leaves both forms lying about.
    for spelt in dict.fromkeys((name, name.replace("-idx", ".idx"))):
        yield spelt
        yield f"{spelt}.gz"


def locate(folder: Path, source: Source) -> dict[str, Path] | None:
    """The data set's files in a folder, by name; None unless all are there.

    Some people keep the archive's own folder inside: that counts as the folder itself.
    """
    folders = [folder]
    if source.archive is not None:
        folders.append(folder / source.archive.folder)
    for place in folders:
        found = {}
        for file in source.files:
            for spelt in _spellings(file.name):
                if (place / spelt).is_file():
                    found[file.name] = place / spelt
                    break
        if len(found) == len(source.files):
            return found
    return None


def find_in_home(source: Source) -> dict[str, Path] | None:
    """The data set's files below ``$PYCNN_DATA_HOME``."""
    home = os.environ.get("PYCNN_DATA_HOME")
    return locate(Path(home) / source.home, source) if home else None


def find(source: Source) -> dict[str, Path] | None:
    """The data set's files in the first place on this machine that has them all."""
    found = find_in_home(source)
    places = [keras_folder() / name for name in source.keras]
    places += [Path("data") / name for name in source.data]
    places.append(cache_folder(source))
    for place in places:
        found = found or locate(place, source)
    return found


def read_bytes(path: Path, limit: int) -> bytes:
    """At most ``limit + 1`` bytes of a file, unpacked if gzipped: a bomb stays small."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as packed:
                return packed.read(limit + 1)
        with path.open("rb") as plain:
            return plain.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(
            f"{path} is damaged ({error}): remove it, and it is fetched again"
        ) from error


def read_idx(path: Path) -> Arrays:
    """The array in an IDX file of bytes, gzipped or not.

    The format (Y. LeCun, MNIST's page): two zero bytes, a type code, the number of dimensions,
    each dimension as a big-endian 32-bit number, then the elements, last dimension fastest.

    Raises
    ------
    DatasetError
        The file is no IDX file of bytes, or is shorter or longer than its own header says.
    """
    limit = 1 << 30
    content = read_bytes(path, limit)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _IDX_UINT8:
        raise DatasetError(f"{path} is not an IDX file of bytes (it begins {content[:4].hex()!r})")
    ndim = content[3]
    start = 4 + 4 * ndim
    if not 1 <= ndim <= 4 or len(content) < start:
        raise DatasetError(f"{path}: expected an IDX header of 1 to 4 dimensions, got {ndim}")
    shape = [int(n) for n in np.frombuffer(content, ">u4", count=ndim, offset=4)]
    size = 1
    for n in shape:
        size *= n
    if len(content) != start + size:
        raise DatasetError(
            f"{path}: its header promises {size} bytes of shape {tuple(shape)}, "
            f"got {len(content) - start}: remove it, and it is fetched again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def read_splits(files: dict[str, Path]) -> Splits:
    """Training and test pictures with their labels, from four IDX files."""
    splits = []
    for prefix in ("train", "t10k"):
        images = read_idx(files[f"{prefix}-images-idx3-ubyte"])
        labels = read_idx(files[f"{prefix}-labels-idx1-ubyte"])
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DatasetError(
                f"{files[f'{prefix}-images-idx3-ubyte']}: expected pictures (N, H, W) and labels "
                f"(N,), got {images.shape} and {labels.shape}"
            )
        splits.append((images, labels))
    return splits[0], splits[1]


def no_sample(source: Source) -> DatasetNotFoundError:
    """The error for PYCNN_DATASETS=sample with a data set that has none."""
    return DatasetNotFoundError(
        f"PYCNN_DATASETS=sample: there is a sample of MNIST only, none of {source.title}; "
        "unset PYCNN_DATASETS to use the whole data set"
    )
