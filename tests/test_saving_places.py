"""Where files may lie, what they may be called, and what is said when it is another file."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn.keras import layers
from pycnn.keras.saving import SavedFileError, files, load_model, weights_h5


def sequential() -> Any:
    return pycnn.Sequential(
        [
            pycnn.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


# --- names, places, and what happens on the way ---------------------------------------------


def test_missing_folder_is_named(tmp_path: Path) -> None:
    model = sequential()
    for save, name in ((model.save, "m.keras"), (model.save_weights, "m.weights.h5")):
        with pytest.raises(FileNotFoundError, match=r"models.*makedirs"):
            save(tmp_path / "models" / name)
    assert not (tmp_path / "models").exists()


def test_missing_file_is_named(tmp_path: Path) -> None:
    sequential().save(tmp_path / "other.keras")
    with pytest.raises(FileNotFoundError, match=r"m\.keras.*other\.keras"):
        load_model(tmp_path / "m.keras")
    with pytest.raises(FileNotFoundError, match=r"m\.weights\.h5"):
        sequential().load_weights(tmp_path / "m.weights.h5")
    with pytest.raises(FileNotFoundError, match="folder"):
        load_model(tmp_path / "nowhere" / "m.keras")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("m.h5", NotImplementedError, r"m\.keras"),
        ("m.hdf5", NotImplementedError, r"m\.keras"),
        ("m", ValueError, r"m\.keras"),
        ("m.pth", ValueError, r"\.keras"),
        ("m.weights.h5", ValueError, "save_weights"),
        ("hf://me/m.keras", NotImplementedError, "address"),
        ("m\0.keras", ValueError, "zero byte"),
    ],
)
def test_wrong_ending_for_a_model(
    name: str, error: type[Exception], words: str, tmp_path: Path
) -> None:
    path = name if "://" in name else f"{tmp_path}/{name}"
    with pytest.raises(error, match=words):
        sequential().save(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m", "m.hdf5"])
def test_wrong_ending_for_weights(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"m\.weights\.h5"):
        sequential().save_weights(tmp_path / name)


def test_path_of_the_wrong_type() -> None:
    for call in (sequential().save, load_model, sequential().load_weights):
        with pytest.raises(TypeError, match="filepath"):
            call(3)


def test_arguments_not_offered(tmp_path: Path) -> None:
    model, path = sequential(), tmp_path / "m.keras"
    with pytest.raises(NotImplementedError, match="zipped"):
        model.save(path, zipped=False)
    with pytest.raises(NotImplementedError, match="include_optimizer"):
        model.save(path, include_optimizer=False)
    with pytest.raises((TypeError, ValueError), match="signatures"):
        model.save(path, signatures=1)
    with pytest.raises(NotImplementedError, match="max_shard_size"):
        model.save_weights(tmp_path / "m.weights.h5", max_shard_size=1)


def test_unbuilt_model_has_no_weights_to_save(tmp_path: Path) -> None:
    model = pycnn.Sequential([layers.Flatten(), layers.Dense(3)])
    with pytest.raises(ValueError, match="not been built"):
        model.save_weights(tmp_path / "m.weights.h5")
    sequential().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="not been built"):
        model.load_weights(tmp_path / "m.weights.h5")


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def _pth() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


class _Bomb:
    def __reduce__(self) -> Any:
        return (os.system, ("touch /tmp/pycnn-unpickled",))


WRONG_KINDS: dict[str, tuple[bytes, str]] = {
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG picture"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), "JPEG picture"),
    "pth": (_pth(), "PyTorch file"),
    "pickle": (pickle.dumps(_Bomb()), "Python pickle"),
    "npz": (_npz(), r"NumPy archive \(.npz\)"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(100), "NumPy array"),
    "text": ("Übung 1: Faltung\n".encode() * 400, "text file beginning with 'Übung 1"),
    "html": (b"<!DOCTYPE html><html>404</html>", "DOCTYPE"),
    "json": (b'{"class_name": "Sequential"}', "text file"),
    "empty": (b"", "empty file"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(50), "gzip"),
    "pdf": (b"%PDF-1.4" + bytes(50), "PDF"),
    "zip": (b"PK\x05\x06" + bytes(18), "zip archive"),
    "half a zip": (b"PK\x03\x04" + bytes(60), "truncated zip"),
    "safetensors": ((64).to_bytes(8, "little") + b'{"a":{}}' + bytes(60), "safetensors"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "noise": (bytes(range(7, 256)) * 20, "unknown kind"),
}


@pytest.mark.parametrize("kind", WRONG_KINDS)
def test_another_kind_of_file_is_named(kind: str, tmp_path: Path) -> None:
    content, words = WRONG_KINDS[kind]
    model = sequential()
    for name in ("m.keras", "m.weights.h5"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(SavedFileError, match=words):
            model.load_weights(path)
    with pytest.raises(SavedFileError, match=words):
        load_model(tmp_path / "m.keras")
    assert not os.path.exists("/tmp/pycnn-unpickled")


def test_each_others_files_are_told_apart(tmp_path: Path) -> None:
    model = sequential()
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match=r"load_weights"):
        load_model(tmp_path / "m.weights.h5")
    os.rename(tmp_path / "m.keras", tmp_path / "n.weights.h5")
    with pytest.raises(ValueError, match=r"Keras model file.*\.keras"):
        model.load_weights(tmp_path / "n.weights.h5")
    os.rename(tmp_path / "m.weights.h5", tmp_path / "m.h5")
    with pytest.raises(NotImplementedError, match=r"\.keras"):
        load_model(tmp_path / "m.h5")
    with pytest.raises(NotImplementedError, match=r"\.weights\.h5"):
        model.load_weights(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="directory"):
        load_model(tmp_path)


def test_overwrite_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = sequential(), tmp_path / "m.keras"
    path.write_bytes(b"old")
    answers = iter(["what?", "n", "y"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    model.save(path, overwrite=False)
    assert path.read_bytes() == b"old"
    model.save(path, overwrite=False)
    assert zipfile.is_zipfile(path)

    def nobody(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(path, overwrite=False)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = sequential(), tmp_path / "m.keras"
    model.save(path)
    old = path.read_bytes()

    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights_h5, "write_weights", broken)
    with pytest.raises(KeyboardInterrupt):
        model.save(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_and_links(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        model = sequential()
        model.save(tmp_path / "real.keras")
        assert stat.S_IMODE((tmp_path / "real.keras").stat().st_mode) == 0o644
        os.chmod(tmp_path / "real.keras", 0o640)
        os.symlink("real.keras", tmp_path / "link.keras")
        model.save(tmp_path / "link.keras")
        assert (tmp_path / "link.keras").is_symlink()
        assert stat.S_IMODE((tmp_path / "real.keras").stat().st_mode) == 0o640
    finally:
        os.umask(mask)


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * (255 - len(".keras")) + ".keras")
    sequential().save(path)
    assert load_model(path).built


def test_temporary_file_is_in_the_same_folder(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(file: Any) -> None:
        seen.extend(p.name for p in tmp_path.iterdir())
        file.write(b"x")

    files.write_atomically(str(tmp_path / "m.keras"), write)
    assert len(seen) == 1 and seen[0].endswith(".tmp")
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


def test_archive_has_keras_members_uncompressed(tmp_path: Path) -> None:
    sequential().save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        metadata = json.loads(archive.read("metadata.json"))
        config = json.loads(archive.read("config.json"))
    assert metadata["keras_version"].startswith("3.")
    assert config["module"] == "keras"
    assert config["class_name"] == "Sequential"
    assert config["registered_name"] is None
    assert config["config"]["layers"][1]["module"] == "keras.layers"


def test_h5py_is_imported_only_for_files() -> None:
    code = "import sys, pycnn, pycnn.keras.saving; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
