"""Checks on HDF5 files that come from somewhere else, the other half of `safety`.

HDF5 can point out of the file (external links, external storage, virtual datasets), load
plug-ins (filters), hold Python objects, and claim any size. A weights file needs none of it:
groups reached by hard links, and datasets of plain numbers.
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import Any

from pycnn.keras.saving.safety import (
    EXPANSION_FLOOR_BYTES,
    SavedFileError,
    UnsafeFileError,
    check_expansion,
    readable,
)

__all__ = [
    "H5_DAMAGE",
    "check_dataset",
    "check_heaps",
    "is_bfloat16",
    "open_dataset",
    "open_group",
    "total_bytes",
]

# HDF5's own filters: deflate, shuffle, fletcher32, and LZF, which h5py brings along. Any
# other number would make the library look for a plug-in to load.
SAFE_H5_FILTERS = frozenset({1, 2, 3, 32000})
MAX_H5_DEPTH = 200
MAX_H5_OBJECTS = 1_000_000
_H5_KINDS = "fiub"
_HEAP = b"HEAP\x00\x00\x00\x00"
_HEAP_END = 1
# h5py reports a damaged file by any of these, depending on the place of the damage.
H5_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError)


def check_heaps(content: bytes | mmap.mmap, filepath: str) -> None:
    """Check the free lists of an HDF5 file's local heaps.

    The HDF5 library follows these lists without counting, so that a list that leads back
    into itself fills all memory. Every heap begins with ``HEAP`` and four zero bytes, which
    makes them easy to find wherever they are.

    Parameters
    ----------
    content : bytes or mmap
        The whole file.
    filepath : str
        Its name, for messages.

    Raises
    ------
    SavedFileError
        If a free list leaves its heap or does not end.
    """
    size = len(content)
    start = content.find(_HEAP)
    while start >= 0:
        header = content[start + 8 : start + 32]
        if len(header) == 24:
            length, free, address = struct.unpack("<QQQ", header)
            if address + length <= size:
                _check_free_list(content, address, length, free, filepath)
            # else: the library itself refuses an address behind the end of the file.
        start = content.find(_HEAP, start + 1)


def _check_free_list(
    content: bytes | mmap.mmap, address: int, length: int, free: int, filepath: str
) -> None:
    seen: set[int] = set()
    while free != _HEAP_END:
        if free in seen or free + 16 > length:
            raise SavedFileError(
                f"{filepath!r} is damaged: the free list of an HDF5 heap does not end."
            )
        seen.add(free)
        free = struct.unpack_from("<Q", content, address + free)[0]


def _hard_link(parent: Any, name: str, where: str) -> Any:
    """Return the member of a group, or None; links that lead elsewhere are refused."""
    import h5py

    try:
        link = parent.get(name, default=None, getlink=True)
    except H5_DAMAGE as error:
        raise SavedFileError(f"{where} is damaged: {error}") from error
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        kind = {"ExternalLink": "an external link", "SoftLink": "a soft link"}.get(
            type(link).__name__, f"a {type(link).__name__}"
        )
        raise UnsafeFileError(f"{where} is {kind}; refused: weights must lie in the file itself.")
    try:
        return parent[name]
    except H5_DAMAGE as error:
        raise SavedFileError(f"{where} is damaged: {error}") from error


def open_group(parent: Any, path: str) -> Any:
    """Return the group at `path` below `parent`, or None if there is none.

    Parameters
    ----------
    parent : h5py.Group
        Where to start.
    path : str
        Names separated by ``/``; empty for `parent` itself.

    Returns
    -------
    h5py.Group or None

    Raises
    ------
    UnsafeFileError
        If a step on the way is a soft or external link.
    SavedFileError
        If a step is not a group.
    """
    import h5py

    current = parent
    walked = ""
    for name in filter(None, path.split("/")):
        walked = f"{walked}/{name}" if walked else name
        current = _hard_link(current, name, f"{walked!r} in the weights file")
        if current is None:
            return None
        if not isinstance(current, h5py.Group):
            raise SavedFileError(
                f"{walked!r} in the weights file should be a group, got a {type(current).__name__}."
            )
    return current


def open_dataset(group: Any, name: str, where: str) -> Any:
    """Return a dataset of plain numbers that lies wholly inside the file.

    Its shape and type are known to the caller afterwards; nothing has been read yet.

    Parameters
    ----------
    group : h5py.Group
        A group from `open_group`.
    name : str
        The dataset.
    where : str
        Its path, for messages.

    Returns
    -------
    h5py.Dataset or None
        None if there is no member of that name.

    Raises
    ------
    UnsafeFileError
        For links, external or virtual storage, object, string or compound types, unknown
        filters, or a declared size far above what is stored.
    """
    import h5py

    where = f"{where!r} in the weights file"
    dataset = _hard_link(group, name, where)
    if dataset is None:
        return None
    if not isinstance(dataset, h5py.Dataset):
        raise SavedFileError(f"{where} should be a dataset, got a {type(dataset).__name__}.")
    try:
        check_dataset(dataset, where)
    except SavedFileError:
        raise
    except H5_DAMAGE as error:
        raise SavedFileError(f"{where} is damaged: {error}") from error
    return dataset


def check_dataset(dataset: Any, where: str) -> None:
    """Check that a dataset consists of plain numbers stored in the file; nothing is read.

    Raises
    ------
    UnsafeFileError
        As `open_dataset` says.
    """
    if dataset.external:
        raise UnsafeFileError(
            f"{where} keeps its numbers in another file ({dataset.external[0][0]!r}); refused."
        )
    if dataset.is_virtual:
        raise UnsafeFileError(f"{where} is a virtual dataset over other files; refused.")
    dtype = dataset.dtype
    if dtype.kind not in _H5_KINDS and not is_bfloat16(dataset):
        raise UnsafeFileError(f"{where} has dtype {dtype}; expected plain numbers.")
    if dataset.shape is None:
        raise SavedFileError(f"{where} is empty (no shape); expected numbers.")
    filters = dataset.id.get_create_plist()
    numbers = [filters.get_filter(i)[0] for i in range(filters.get_nfilters())]
    unknown = [number for number in numbers if number not in SAFE_H5_FILTERS]
    if unknown:
        raise UnsafeFileError(
            f"{where} needs HDF5 filter {unknown[0]}, which would load foreign code; refused."
        )
    declared = math.prod(dataset.shape) * dtype.itemsize
    stored = int(dataset.id.get_storage_size())
    if declared and not stored:
        raise UnsafeFileError(f"{where} declares {readable(declared)} and stores none; refused.")
    if not numbers and stored < declared:
        raise UnsafeFileError(
            f"{where} declares {readable(declared)} and stores {readable(stored)}; refused."
        )
    check_expansion(where, declared, stored)
    if dataset.chunks is not None:
        # A chunk is unpacked whole, even if only one of its numbers is wanted.
        chunk = math.prod(dataset.chunks) * dtype.itemsize
        if chunk > max(4 * declared, EXPANSION_FLOOR_BYTES):
            raise UnsafeFileError(
                f"{where} has chunks of {readable(chunk)} for {readable(declared)} of numbers; "
                f"refused."
            )


def total_bytes(file: Any) -> int:
    """Return the bytes that all datasets of a file claim together, each of them checked.

    The library's own visitor calls itself for every group inside a group and overflows the
    stack where they are nested deep enough; this walk does not.

    Raises
    ------
    UnsafeFileError
        As `open_dataset` says, and for more or deeper groups than any model has.
    """
    import h5py

    total = 0
    seen: set[int] = set()
    stack = [(file, "", 0)]
    while stack:
        group, path, depth = stack.pop()
        if depth > MAX_H5_DEPTH or len(seen) > MAX_H5_OBJECTS:
            raise UnsafeFileError(
                f"the weights file has groups nested deeper than {MAX_H5_DEPTH}, or more than "
                f"{MAX_H5_OBJECTS} objects; refused."
            )
        for name in group:
            where = f"{path}/{name}" if path else name
            item = _hard_link(group, name, f"{where!r} in the weights file")
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                stack.append((item, where, depth + 1))
            elif isinstance(item, h5py.Dataset):
                check_dataset(item, f"{where!r} in the weights file")
                total += item.size * item.dtype.itemsize
    return total


def is_bfloat16(dataset: Any) -> bool:
    """Tell whether a dataset holds bfloat16 as Keras writes it: two opaque bytes and a note."""
    if dataset.dtype.kind != "V" or dataset.dtype.itemsize != 2 or dataset.dtype.names:
        return False
    note = dataset.attrs.get("dtype")
    return note in ("bfloat16", b"bfloat16")
