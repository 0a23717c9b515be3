"""Files made to harm are refused, by an error that names the part, and change nothing."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostile_files import (
    CONFIG,
    METADATA,
    WEIGHTS,
    changed_config,
    honest_parts,
    make_model,
    pack,
)
from pycnn.keras.saving import load_model, safety
from pycnn.keras.saving.safety import SavedFileError, UnsafeFileError


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of an honest file."""
    return honest_parts(tmp_path_factory.mktemp("honest"))


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
