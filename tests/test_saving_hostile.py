"""Files made to harm are refused, by an error that names the part, and change nothing."""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import pycnn
from pycnn.keras import layers
from pycnn.keras.saving import h5_checks, load_model, safety
from pycnn.keras.saving.safety import SavedFileError, UnsafeFileError

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


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of an honest file."""
    path = tmp_path_factory.mktemp("honest") / "m.keras"
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


# --- the archive ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "a/../../b", "..\\evil", "C:/evil", "a/..", "\\\\host\\share"],
)
def test_climbing_member_is_refused(parts: dict[str, bytes], tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "m.keras", {**parts, name: b"x"})
    with pytest.raises(UnsafeFileError, match="leaves the archive"):
        load_model(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.keras"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, METADATA])
def test_duplicate_member_is_refused(parts: dict[str, bytes], tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "m.keras", parts)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, parts[name])
    with pytest.raises(UnsafeFileError, match="occurs twice"):
        load_model(path)


def test_symbolic_link_member_is_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    path = pack(tmp_path / "m.keras", parts)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("assets/link")
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        load_model(path)


def test_unusual_compression_is_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    path = pack(tmp_path / "m.keras", parts, zipfile.ZIP_BZIP2)
    with pytest.raises(UnsafeFileError, match="compression method 12"):
        load_model(path)


def test_deflated_archive_is_accepted(parts: dict[str, bytes], tmp_path: Path) -> None:
    path = pack(tmp_path / "m.keras", parts, zipfile.ZIP_DEFLATED)
    assert load_model(path).count_params() == make_model().count_params()


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, METADATA, "assets/other"])
def test_zip_bomb_is_refused(parts: dict[str, bytes], tmp_path: Path, name: str) -> None:
    bomb = {**parts, name: bytes(8 << 20)}
    path = pack(tmp_path / "m.keras", bomb, zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeFileError, match="decompression bomb") as caught:
        load_model(path)
    assert name in str(caught.value)


def test_encrypted_member_is_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    path = pack(tmp_path / "m.keras", parts)
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\x01\x02")
    data[entry + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsafeFileError, match="encrypted"):
        load_model(path)


@pytest.mark.parametrize("declared", [1, 1 << 40])
def test_lying_size_is_refused(parts: dict[str, bytes], tmp_path: Path, declared: int) -> None:
    path = pack(tmp_path / "m.keras", parts)
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\x01\x02")
    struct.pack_into("<I", data, entry + 24, declared & 0xFFFFFFFE | 1)
    path.write_bytes(data)
    with pytest.raises(SavedFileError):
        load_model(path)


def test_overlapping_members_are_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    path = pack(tmp_path / "m.keras", {**parts, "a": b"1", "b": b"1"})
    data = bytearray(path.read_bytes())
    first = data.find(b"PK\x01\x02")
    entries = []
    while first >= 0:
        entries.append(first)
        first = data.find(b"PK\x01\x02", first + 4)
    data[entries[-1] + 42 : entries[-1] + 46] = data[entries[-2] + 42 : entries[-2] + 46]
    path.write_bytes(data)
    with pytest.raises(SavedFileError, match="overlap"):
        load_model(path)


def test_too_many_members_are_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    many = {f"assets/{i}": b"" for i in range(safety.MAX_MEMBERS + 1)}
    path = pack(tmp_path / "m.keras", {**parts, **many})
    with pytest.raises(UnsafeFileError, match="members"):
        load_model(path)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.01, 0.2, 0.5, 0.9, 0.99, 0.999])
def test_truncated_archive(parts: dict[str, bytes], tmp_path: Path, keep: float) -> None:
    path = pack(tmp_path / "m.keras", parts)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(SavedFileError, match="m.keras"):
        load_model(path)


def test_flipped_bytes_never_load_in_silence(parts: dict[str, bytes], tmp_path: Path) -> None:
    """Every member has a checksum: a changed byte of content is noticed."""
    path = pack(tmp_path / "m.keras", parts)
    data = path.read_bytes()
    start = data.find(parts[WEIGHTS][:64])
    for offset in range(start + 100, start + len(parts[WEIGHTS]), 4001):
        broken = bytearray(data)
        broken[offset] ^= 0xFF
        path.write_bytes(broken)
        with pytest.raises(SavedFileError, match="damaged"):
            load_model(path)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_missing_member(parts: dict[str, bytes], tmp_path: Path, name: str) -> None:
    rest = {key: value for key, value in parts.items() if key != name}
    path = pack(tmp_path / "m.keras", rest)
    with pytest.raises(SavedFileError, match=r"m\.keras"):
        load_model(path)


# --- the configuration ----------------------------------------------------------------------


def _deep(depth: int) -> bytes:
    return b'{"a": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_deep(300), "nested"),
        (_deep(100_000), "nested"),
        (b"[" * 1_000_000, "nested"),
        (b'{"a":[' + b"0," * 1_100_000 + b"0]}", "values"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[]", "JSON object"),
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b'"' * 100_001, "not valid JSON"),
        (b'{"' + b"\\" * 100_001, "not valid JSON"),
    ],
)
def test_bad_json(parts: dict[str, bytes], tmp_path: Path, text: bytes, words: str) -> None:
    path = pack(tmp_path / "m.keras", {**parts, CONFIG: text})
    with pytest.raises(SavedFileError, match=words):
        load_model(path)


def test_brackets_in_strings_do_not_count() -> None:
    text = json.dumps({"name": '"[[[{' * 300, "b": '\\"[' * 300, "c": "[" * 999}).encode()
    assert safety.parse_json(text, "text")["c"] == "[" * 999


def test_too_large_json_is_refused() -> None:
    with pytest.raises(UnsafeFileError, match="at most"):
        safety.parse_json(b'{"a": "' + b"x" * 2000 + b'"}', "text", limit=1000)


def _layer(config: Any, index: int = -1) -> Any:
    return config["config"]["layers"][index]


def _add_lambda(config: Any) -> None:
    _layer(config).update(
        module="keras.layers",
        class_name="Lambda",
        config={
            "name": "x",
            "function": {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
        },
    )


def _index(step: str) -> Any:
    return int(step) if step.lstrip("-").isdigit() else step


def _set(path: str, value: Any) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        *steps, last = path.split(".")
        for step in steps:
            config = config[_index(step)]
        config[_index(last)] = value

    return change


CODE = {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}}
HOSTILE_CONFIGS: dict[str, tuple[Callable[[Any], None], str]] = {
    "lambda layer": (_add_lambda, "Lambda"),
    "lambda activation": (_set("config.layers.-1.config.activation", CODE), "__lambda__"),
    "lambda loss": (_set("compile_config.loss", CODE), "__lambda__"),
    "lambda metric": (_set("compile_config.metrics", [CODE]), "__lambda__"),
    "os.system": (
        _set(
            "config.layers.-1.config.activation",
            {
                "module": "os",
                "class_name": "function",
                "config": "system",
                "registered_name": "system",
            },
        ),
        "os",
    ),
    "builtins.eval": (
        _set(
            "config.layers.-1.config.activation",
            {
                "module": "builtins",
                "class_name": "function",
                "config": "eval",
                "registered_name": "function",
            },
        ),
        "eval",
    ),
    "foreign module": (_set("config.layers.-1.module", "subprocess"), "subprocess"),
    "foreign class": (
        _set("config.layers.-1", {"module": "subprocess", "class_name": "Popen", "config": {}}),
        "Popen",
    ),
    "climbing module": (_set("config.layers.-1.module", "keras.../os"), "module"),
    "registered name": (_set("config.layers.-1.registered_name", "Evil>Dense"), "Evil>Dense"),
    "foreign optimizer": (_set("compile_config.optimizer.module", "evil"), "evil"),
    "unknown layer": (_set("config.layers.-1.class_name", "Dens"), "Dens"),
    "class name no string": (_set("config.layers.-1.class_name", ["Dense"]), "class_name"),
    "model is no model": (_set("class_name", "Dense"), "Dense"),
    "typespec": (
        _set("config.layers.0.config.dtype", {"class_name": "__typespec__", "config": []}),
        "__typespec__",
    ),
    "no layers": (_set("config.layers", None), "layers"),
    "layers a dict": (_set("config.layers", {"a": 1}), "layers"),
    "layer a string": (_set("config.layers.-1", "Dense"), "Dense"),
    "config a list": (_set("config.layers.-1.config", [1]), "config"),
    "negative units": (_set("config.layers.-1.config.units", -3), "units"),
    "units a string": (_set("config.layers.-1.config.units", "3"), "units"),
    "unknown argument": (_set("config.layers.-1.config.evil", 1), "evil"),
}


@pytest.mark.parametrize("case", HOSTILE_CONFIGS)
def test_hostile_config(parts: dict[str, bytes], tmp_path: Path, case: str) -> None:
    change, words = HOSTILE_CONFIGS[case]
    path = pack(tmp_path / "m.keras", changed_config(parts, change))
    for safe_mode in (True, False):
        with pytest.raises(SavedFileError) as caught:
            load_model(path, safe_mode=safe_mode)
        assert words in str(caught.value)
        assert "m.keras" in str(caught.value)


@pytest.mark.parametrize("units", [10**9, 10**12, 2**31, 2**63, 10**30])
def test_size_bomb_in_the_configuration(
    parts: dict[str, bytes], tmp_path: Path, units: int
) -> None:
    """A layer that would need terabytes is refused before memory is asked for."""
    changed = changed_config(parts, _set("config.layers.-1.config.units", units))
    path = pack(tmp_path / "m.keras", changed)
    with pytest.raises(SavedFileError, match="m.keras"):
        load_model(path)


@pytest.mark.parametrize("units", [100_000, 10**6])
def test_layers_may_not_outgrow_the_weights_in_the_file(
    parts: dict[str, bytes], tmp_path: Path, units: int
) -> None:
    """Sizes that memory would bear are refused too: the file does not hold the numbers."""
    changed = changed_config(parts, _set("config.layers.-1.config.units", units))
    with pytest.raises(UnsafeFileError, match="far more than the weights"):
        load_model(pack(tmp_path / "m.keras", changed))


def test_size_bomb_by_padding(parts: dict[str, bytes], tmp_path: Path) -> None:
    def change(config: Any) -> None:
        padding = {
            "module": "keras.layers",
            "class_name": "ZeroPadding2D",
            "config": {"name": "p", "padding": [[0, 60_000], [0, 60_000]]},
            "registered_name": None,
        }
        config["config"]["layers"].insert(2, padding)

    path = pack(tmp_path / "m.keras", changed_config(parts, change))
    with pytest.raises(SavedFileError, match="m.keras"):
        load_model(path)


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
