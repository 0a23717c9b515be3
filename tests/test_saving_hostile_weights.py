"""Weights files made to harm, or damaged: refused, and the model in hand keeps its numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import pycnn
from hostile_files import (
    WEIGHTS,
    changed_weights,
    honest_parts,
    make_model,
    pack,
)
from pycnn.keras import layers
from pycnn.keras.saving import h5_checks, load_model
from pycnn.keras.saving.safety import SavedFileError, UnsafeFileError


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of an honest file."""
    return honest_parts(tmp_path_factory.mktemp("honest"))


# --- the weights ----------------------------------------------------------------------------

KERNEL = "layers/dense/vars/0"


def _external_link(file: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("/etc/passwd", "/x")


def _soft_link(file: Any) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/layers/dense/vars/1")


def _soft_group(file: Any) -> None:
    del file["layers/dense"]
    file["layers/dense"] = h5py.SoftLink("/layers/conv2d")


def _external_group(file: Any) -> None:
    del file["layers/dense"]
    file["layers/dense"] = h5py.ExternalLink("other.h5", "/")


def _external_storage(file: Any) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    size = int(np.prod(shape)) * 4
    file.create_dataset(KERNEL, shape, "f4", external=[("/etc/passwd", 0, size)])


def _virtual(file: Any) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", shape)
    file.create_virtual_dataset(KERNEL, layout)


def _replace(make: Callable[[tuple[int, ...]], Any]) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        shape = file[KERNEL].shape
        del file[KERNEL]
        file.create_dataset(KERNEL, **make(shape))

    return change


def _dataset_for_group(file: Any) -> None:
    del file["layers/dense/vars"]
    file["layers/dense/vars"] = np.zeros(2, np.float32)


def _group_for_dataset(file: Any) -> None:
    del file[KERNEL]
    file.create_group(KERNEL)


def _loop(file: Any) -> None:
    del file["layers/dense/vars"]
    file["layers/dense/vars"] = file["layers"]


def _unknown_filter(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"data": np.zeros(shape, "f4"), "chunks": shape, "compression": "gzip"}


HOSTILE_WEIGHTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "external link": (_external_link, "external link"),
    "soft link": (_soft_link, "soft link"),
    "soft group": (_soft_group, "soft link"),
    "external group": (_external_group, "external link"),
    "external storage": (_external_storage, "another file"),
    "virtual": (_virtual, "virtual"),
    "group for dataset": (_group_for_dataset, "should be a dataset"),
    "dataset for group": (_dataset_for_group, "should be a group"),
    "loop": (_loop, "layers/dense"),
    "object dtype": (
        _replace(lambda shape: {"shape": shape, "dtype": h5py.special_dtype(vlen=np.uint8)}),
        "dtype",
    ),
    "strings": (_replace(lambda shape: {"shape": shape, "dtype": h5py.string_dtype()}), "dtype"),
    "fixed strings": (_replace(lambda shape: {"shape": shape, "dtype": "S8"}), "dtype"),
    "compound": (
        _replace(lambda shape: {"shape": shape, "dtype": [("a", "f4"), ("b", "f4")]}),
        "dtype",
    ),
    "references": (_replace(lambda shape: {"shape": shape, "dtype": h5py.ref_dtype}), "dtype"),
    "complex": (_replace(lambda shape: {"data": np.zeros(shape, "c8")}), "dtype"),
    "no shape": (_replace(lambda shape: {"data": h5py.Empty("f4")}), "shape"),
    "nothing stored": (_replace(lambda shape: {"shape": shape, "dtype": "f4"}), "stores none"),
    "fill value only": (
        _replace(
            lambda shape: {"shape": shape, "dtype": "f4", "chunks": shape, "compression": "gzip"}
        ),
        "stores none",
    ),
    "huge shape": (
        _replace(lambda shape: {"shape": (1 << 40, 3), "dtype": "f4", "chunks": (1 << 10, 3)}),
        "stores none",
    ),
    "wrong shape": (
        _replace(lambda shape: {"data": np.zeros((shape[0] + 1, shape[1]), "f4")}),
        "expected shape",
    ),
    "transposed": (
        _replace(lambda shape: {"data": np.zeros(shape[::-1], "f4")}),
        "expected shape",
    ),
    "missing": (lambda file: file.pop(KERNEL), "variables"),
    "one too many": (
        lambda file: file.create_dataset("layers/dense/vars/2", data=np.zeros(1)),
        "variables",
    ),
    "missing layer": (lambda file: file.pop("layers/dense"), "variables"),
    "missing all": (lambda file: file.pop("layers"), "variables"),
}


@pytest.mark.parametrize("case", HOSTILE_WEIGHTS)
def test_hostile_weights(parts: dict[str, bytes], tmp_path: Path, case: str) -> None:
    """Refused in whole models and in weights files; the model in hand keeps its numbers."""
    change, words = HOSTILE_WEIGHTS[case]
    members = changed_weights(parts, change)
    archive = pack(tmp_path / "m.keras", members)
    bare = tmp_path / "m.weights.h5"
    bare.write_bytes(members[WEIGHTS])
    model = make_model()
    before = model.get_weights()
    for path, load in (
        (archive, load_model),
        (archive, model.load_weights),
        (bare, model.load_weights),
    ):
        with pytest.raises(SavedFileError) as caught:
            load(path)
        assert words in str(caught.value)
        assert path.name in str(caught.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_compression_bomb_in_a_dataset(parts: dict[str, bytes], tmp_path: Path) -> None:
    """Zeros compress a thousandfold; a dataset of the right shape made of them is a bomb."""
    data = np.zeros((1 << 10, 1 << 10), np.float32)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, compression="gzip", chunks=data.shape)
    with h5py.File(path) as file, pytest.raises(UnsafeFileError, match="bomb"):
        h5_checks.open_dataset(file, "x", "x")


def test_oversized_chunks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.ones(4, np.float32), maxshape=(None,), chunks=(1 << 20,))
    with h5py.File(path) as file, pytest.raises(UnsafeFileError, match="chunks"):
        h5_checks.open_dataset(file, "x", "x")


def test_foreign_filter_is_refused(tmp_path: Path) -> None:
    """Only filters that h5py brings along: others would load a plug-in from a search path."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((64,))
        plist.set_filter(4, h5py.h5z.FLAG_OPTIONAL, (4, 16))
        space = h5py.h5s.create_simple((64,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, plist)
    with h5py.File(path) as file, pytest.raises(UnsafeFileError, match="filter 4"):
        h5_checks.open_dataset(file, "x", "x")


def test_groups_nested_deeply_are_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    def change(file: Any) -> None:
        group = file
        for _ in range(h5_checks.MAX_H5_DEPTH + 2):
            group = group.create_group("g")

    path = pack(tmp_path / "m.keras", changed_weights(parts, change))
    with pytest.raises(UnsafeFileError, match="nested"):
        load_model(path)


def test_endless_free_list_is_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    """The HDF5 library would follow it until memory is full."""
    data = bytearray(parts[WEIGHTS])
    start = data.find(b"HEAP\0\0\0\0")
    length, _, address = struct.unpack_from("<QQQ", data, start + 8)
    struct.pack_into("<Q", data, start + 16, length - 16)
    struct.pack_into("<Q", data, address + length - 16, length - 16)
    path = tmp_path / "m.weights.h5"
    path.write_bytes(data)
    with pytest.raises(SavedFileError, match="free list"):
        make_model().load_weights(path)
    path = pack(tmp_path / "m.keras", {**parts, WEIGHTS: bytes(data)})
    with pytest.raises(SavedFileError, match="free list"):
        load_model(path)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_truncated_weights(parts: dict[str, bytes], tmp_path: Path, keep: float) -> None:
    path = tmp_path / "m.weights.h5"
    path.write_bytes(parts[WEIGHTS][: int(len(parts[WEIGHTS]) * keep)])
    model = make_model()
    before = model.get_weights()
    with pytest.raises(SavedFileError, match="m.weights.h5"):
        model.load_weights(path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.filterwarnings("ignore:The state of optimizer")
def test_damaged_weights_never_crash(parts: dict[str, bytes], tmp_path: Path) -> None:
    """Random damage is refused or, where it hits a number, loaded; nothing else happens."""
    rng = np.random.default_rng(7)
    data = np.frombuffer(parts[WEIGHTS], np.uint8)
    path = tmp_path / "m.weights.h5"
    model = make_model()
    refused = 0
    for _ in range(150):
        broken = data.copy()
        broken[rng.integers(0, data.size, 8)] = rng.integers(0, 256, 8)
        path.write_bytes(broken.tobytes())
        try:
            model.load_weights(path)
        except SavedFileError:
            refused += 1
    assert refused > 10


def test_mismatched_weights_name_layer_variable_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    make_model().save_weights(path)
    other = pycnn.Sequential(
        [
            pycnn.Input((6, 6, 1)),
            layers.Conv2D(2, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(5, name="answer"),
        ]
    )
    before = other.get_weights()
    with pytest.raises(ValueError, match="answer") as caught:
        other.load_weights(path)
    text = str(caught.value)
    for words in ("'kernel'", "(32, 5)", "(32, 3)", "'bias'", "(5,)", "(3,)", "skip_mismatch"):
        assert words in text
    for old, new in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
