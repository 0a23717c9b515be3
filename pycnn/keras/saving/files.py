"""What a file is, by its first bytes, and how a file is written so that it is never half there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pycnn.keras.saving.safety import SavedFileError

__all__ = ["confirm_overwrite", "describe_file", "path_of", "require_file", "write_atomically"]

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"%PDF", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x1f\x8b", "a gzip-compressed file"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run `git lfs pull`"),
)
# A pickle begins with its protocol: 0x80 and 2 to 5.
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))


def path_of(filepath: str | os.PathLike[str], argument: str = "filepath") -> str:
    """Return a path argument as a string.

    Raises
    ------
    TypeError
        If it is neither a string nor a path.
    NotImplementedError
        For addresses such as ``gs://`` and ``hf://``.
    """
    if not isinstance(filepath, (str, os.PathLike)):
        raise TypeError(
            f"`{argument}` should be a string or a pathlib.Path, got {filepath!r} of type "
            f"{type(filepath).__name__}."
        )
    path = os.fspath(filepath)
    if not isinstance(path, str):
        raise TypeError(f"`{argument}` should be text, got {path!r}.")
    if "\x00" in path:
        raise ValueError(f"`{argument}` contains a zero byte: {path!r}.")
    if "://" in path:
        raise NotImplementedError(
            f"`{argument}`={path!r} is an address; only local files are read and written. "
            f"Download the file first."
        )
    return path


def describe_file(filepath: str) -> str:
    """Say in a few words what kind of file lies at `filepath`, judged by its content."""
    if os.path.isdir(filepath):
        if os.path.exists(os.path.join(filepath, "saved_model.pb")):
            return "a TensorFlow SavedModel directory"
        return "a directory"
    with open(filepath, "rb") as file:
        head = file.read(4096)
    if not head:
        return "an empty file"
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return words
    if head.startswith(_PICKLES):
        return "a Python pickle (an old PyTorch .pth file, perhaps), which is never unpickled here"
    if head.startswith(b"PK"):
        return _describe_zip(filepath)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length < 1 << 30:
        return "a safetensors file"
    if _is_text(head):
        text = " ".join(head.decode("utf-8", errors="ignore").split())
        return f"a text file beginning with {text[:40]!r}"
    return "a file of an unknown kind"


def _describe_zip(filepath: str) -> str:
    import zipfile

    try:
        with zipfile.ZipFile(filepath) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged or truncated zip archive"
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file (.pth or .pt)"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)"
    if "config.json" in names and "model.weights.h5" in names:
        return "a Keras model file (.keras)"
    return "a zip archive"


def _is_text(head: bytes) -> bool:
    if b"\x00" in head:
        return False
    try:
        # The last character may have been cut by the 4096 bytes read.
        head[:-3].decode("utf-8") if len(head) == 4096 else head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def require_file(filepath: str, argument: str = "filepath") -> None:
    """Raise if there is no ordinary file at `filepath`.

    Raises
    ------
    FileNotFoundError
        If nothing is there; the message names the nearest things that are.
    SavedFileError
        If it is a directory, a device or a pipe.
    """
    if not os.path.exists(filepath):
        folder = os.path.dirname(filepath) or "."
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"`{argument}`={filepath!r}: the folder {folder!r} does not exist "
                f"(working directory: {os.getcwd()!r})."
            )
        ending = os.path.splitext(filepath)[1]
        near = sorted(name for name in os.listdir(folder) if ending and name.endswith(ending))
        hint = f" Files ending in {ending!r} there: {near[:5]}." if near else ""
        raise FileNotFoundError(f"`{argument}`={filepath!r}: no such file.{hint}")
    if not os.path.isfile(filepath):
        raise SavedFileError(
            f"`{argument}`={filepath!r} should be a file, got {describe_file(filepath)}."
            if os.path.isdir(filepath)
            else f"`{argument}`={filepath!r} is not an ordinary file."
        )


def confirm_overwrite(filepath: str) -> bool:
    """Ask on the terminal whether an existing file may be replaced, as Keras does.

    Raises
    ------
    FileExistsError
        If nobody can be asked.
    """
    try:
        answer = input(f"{filepath} already exists - overwrite? [y/n] ").strip().lower()
        while answer not in ("y", "n"):
            answer = input("Enter y (overwrite) or n (cancel). ").strip().lower()
    except (EOFError, OSError):
        raise FileExistsError(
            f"{filepath!r} exists and overwrite=False, and there is no terminal to ask on: "
            f"choose another name or pass overwrite=True."
        ) from None
    return answer == "y"


def write_atomically(filepath: str, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file under a temporary name in the same folder, sync it and rename it.

    Whoever opens `filepath` finds the old file or the new one, whole, even if the
    machine stops in between; an error in `write` leaves the old file and no other.

    Parameters
    ----------
    filepath : str
        The final name. A symbolic link is followed.
    write : callable
        Gets the open binary file and writes it.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist (it is not made, as in Keras).
    """
    import tempfile

    target = Path(os.path.realpath(filepath))
    if not target.parent.is_dir():
        folder = os.path.dirname(filepath) or str(target.parent)
        raise FileNotFoundError(
            f"cannot write {filepath!r}: the folder {folder!r} does not exist. "
            f"Make it first: os.makedirs({folder!r}, exist_ok=True)."
        )
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {filepath!r}: it is a directory.")
    mode = _mode_of(target)
    # A short prefix: the final name may already be as long as the file system allows.
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".saving-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            os.chmod(temporary, mode)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        # Ctrl-C included: no half-written file stays behind.
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise
    _sync_folder(target.parent)


def _mode_of(target: Path) -> int:
    """Permissions of the file to replace, or those a plain open() would give a new one."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    # The rename is durable once the folder is; some file systems cannot sync folders.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
