"""Checks on files that come from somewhere else.

A saved model is data, and it may have been made to harm: an archive that unpacks to
terabytes, a weights file that points at ``/etc/passwd``, a configuration that names a class
nobody listed. Every check of that kind lives here, so that the code that reads a file can be
read without them, and so that they can be read in one sitting.

The rules:

* nothing is imported, unpickled or run because a file says so;
* a size is compared with a limit *before* memory is asked for;
* what is not understood is refused, by an error that names the part of the file.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import zipfile

__all__ = [
    "SavedFileError",
    "UnsafeFileError",
    "check_archive",
    "check_config",
    "check_expansion",
    "parse_json",
    "read_member",
    "readable",
]

MAX_MEMBERS = 1000
MAX_CONFIG_BYTES = 32 << 20
MAX_METADATA_BYTES = 1 << 20
MAX_JSON_DEPTH = 200
MAX_JSON_VALUES = 1_000_000
# Keras stores members and datasets uncompressed. Deflate cannot exceed about 1032 : 1 and
# trained weights hardly compress at all, so that 100 : 1 is a bomb and nothing else.
MAX_EXPANSION = 100
EXPANSION_FLOOR_BYTES = 1 << 20


class SavedFileError(ValueError):
    """A file cannot be read as what it should be: damaged, of another kind, or not matching."""


class UnsafeFileError(SavedFileError):
    """A file contains something that no honest model file needs, and was refused."""


def readable(size: int) -> str:
    """Return a number of bytes as a person would say it."""
    value = float(size)
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def check_expansion(what: str, declared: int, stored: int) -> None:
    """Refuse a part that claims far more bytes than the file holds for it.

    Parameters
    ----------
    what : str
        The part, for the message.
    declared : int
        Bytes it claims to have once unpacked.
    stored : int
        Bytes it occupies in the file.

    Raises
    ------
    UnsafeFileError
        If `declared` is above one megabyte and more than 100 times `stored`.
    """
    if declared > EXPANSION_FLOOR_BYTES and declared > MAX_EXPANSION * stored:
        raise UnsafeFileError(
            f"{what} claims {readable(declared)} but only {readable(stored)} are stored for "
            f"it; refused as a decompression bomb."
        )


# --- zip archives ---------------------------------------------------------------------------


def check_archive(archive: zipfile.ZipFile, filepath: str, total_bytes: int) -> None:
    """Check the table of contents of an archive before any member is read.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The open archive.
    filepath : str
        Its name, for the message.
    total_bytes : int
        Size of the whole file on disk.

    Raises
    ------
    UnsafeFileError
        For absolute or climbing paths, duplicate names, links, encryption, unusual
        compression, members that overlap, or sizes that only a bomb declares.
    """
    # Imported here and below, because every program imports this module for its errors.
    import zipfile

    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise UnsafeFileError(
            f"{filepath!r} has {len(members)} members; a model file has three, "
            f"and at most {MAX_MEMBERS} are accepted."
        )
    seen: set[str] = set()
    offsets: set[int] = set()
    stored = 0
    for info in members:
        where = f"member {info.filename!r} of {filepath!r}"
        # orig_filename keeps what zipfile repairs on the way in: a zero byte, a backslash.
        for name in {info.filename, info.orig_filename}:
            _check_member_name(name, where)
        if info.filename in seen:
            raise UnsafeFileError(f"{where} occurs twice; refused.")
        seen.add(info.filename)
        if info.flag_bits & 0x1:
            raise UnsafeFileError(f"{where} is encrypted; model files are not.")
        if info.create_system == 3 and stat.S_ISLNK(info.external_attr >> 16):
            raise UnsafeFileError(f"{where} is a symbolic link; refused.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeFileError(
                f"{where} uses compression method {info.compress_type}; expected 'stored' "
                f"(0) or 'deflated' (8)."
            )
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise UnsafeFileError(
                f"{where} is stored without compression, yet declares {info.file_size} bytes "
                f"and occupies {info.compress_size}; refused."
            )
        if info.header_offset in offsets:
            raise UnsafeFileError(f"{where} overlaps another member; refused.")
        offsets.add(info.header_offset)
        check_expansion(where, info.file_size, info.compress_size)
        stored += info.compress_size
    if stored > total_bytes:
        raise UnsafeFileError(
            f"the members of {filepath!r} add up to {readable(stored)}, more than the file's "
            f"{readable(total_bytes)}: they overlap, or the file was cut off."
        )


def _check_member_name(name: str, where: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if (
        not name
        or name.startswith(("/", "\\"))
        or "\\" in name
        or "\x00" in name
        or ".." in parts
        or (len(name) > 1 and name[1] == ":")
    ):
        raise UnsafeFileError(f"{where} has a path that leaves the archive; refused.")


def read_member(archive: zipfile.ZipFile, name: str, filepath: str, limit: int) -> bytes:
    """Read one member whole, its checksum verified.

    Parameters
    ----------
    archive : zipfile.ZipFile
        An archive that passed `check_archive`.
    name : str
        The member.
    filepath : str
        Name of the archive, for messages.
    limit : int
        The most bytes it may have.

    Returns
    -------
    bytes

    Raises
    ------
    SavedFileError
        If the member is missing, damaged or above the limit.
    """
    import zipfile

    try:
        info = archive.getinfo(name)
    except KeyError:
        raise SavedFileError(
            f"{filepath!r} is a zip archive without {name!r}, so it is not a Keras model file. "
            f"It holds: {sorted(archive.namelist())[:8]}."
        ) from None
    if info.file_size > limit:
        raise UnsafeFileError(
            f"{name!r} in {filepath!r} has {readable(info.file_size)}; at most "
            f"{readable(limit)} are accepted."
        )
    try:
        with archive.open(info) as member:
            return _read_exactly(member, info.file_size)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise SavedFileError(f"{name!r} in {filepath!r} is damaged: {error}") from error
    except Exception as error:
        # zlib.error derives from Exception alone.
        if type(error).__module__ != "zlib":
            raise
        raise SavedFileError(f"{name!r} in {filepath!r} is damaged: {error}") from error


def _read_exactly(member: IO[bytes], size: int) -> bytes:
    # One byte more than declared: reading up to the end is what makes zipfile verify the CRC.
    data = member.read(size + 1)
    if len(data) != size:
        raise EOFError(f"expected {size} bytes, got {len(data)}")
    return data


# --- JSON -----------------------------------------------------------------------------------


def parse_json(data: bytes, where: str, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Parse a JSON object of bounded size, depth and number of values.

    Parameters
    ----------
    data : bytes
        UTF-8 text.
    where : str
        Where it came from, for messages.
    limit : int
        The most bytes accepted.

    Returns
    -------
    dict

    Raises
    ------
    SavedFileError
        If it is not a JSON object.
    UnsafeFileError
        If it is larger or nested deeper than any model needs, or has a key twice.
    """
    import json

    if len(data) > limit:
        raise UnsafeFileError(
            f"{where} has {readable(len(data))}; at most {readable(limit)} are accepted."
        )
    # Depth is measured before parsing: a parser that recurses would exhaust its stack.
    depth, values = _json_extent(data)
    if depth > MAX_JSON_DEPTH:
        raise UnsafeFileError(
            f"{where} is nested {depth} deep; at most {MAX_JSON_DEPTH} levels are accepted."
        )
    if values > MAX_JSON_VALUES:
        raise UnsafeFileError(
            f"{where} has about {values} values; at most {MAX_JSON_VALUES} are accepted."
        )
    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise SavedFileError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise SavedFileError(f"{where} should be a JSON object, got a {type(parsed).__name__}.")
    return parsed


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnsafeFileError(f"the key {twice!r} occurs twice in one object; refused.")
    return result


def _json_extent(data: bytes) -> tuple[int, int]:
    """Return the depth of nesting and (about) the number of values, in one pass over bytes."""
    codes = np.frombuffer(data, dtype=np.uint8)
    outside = _outside_strings(codes)
    opening = ((codes == ord("[")) | (codes == ord("{"))) & outside
    closing = ((codes == ord("]")) | (codes == ord("}"))) & outside
    level = np.cumsum(opening.astype(np.int32) - closing.astype(np.int32))
    values = int(np.count_nonzero((codes == ord(",")) & outside) + np.count_nonzero(opening))
    return (int(level.max()) if level.size else 0), values


def _outside_strings(codes: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, Any]:
    """Mark the bytes that are not inside a quoted string."""
    # A quote counts unless an odd run of backslashes stands before it.
    index = np.arange(codes.size)
    last_other = np.maximum.accumulate(np.where(codes != ord("\\"), index, -1))
    before = np.concatenate(([-1], last_other[:-1])) if codes.size else last_other
    escaped = (index - 1 - before) % 2 == 1
    quote = (codes == ord('"')) & ~escaped
    result: np.ndarray[Any, Any] = np.cumsum(quote) % 2 == 0
    return result


# --- configurations -------------------------------------------------------------------------

_RUNS_CODE = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer"})
_PLAIN_FORMS = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
)


def walk_objects(config: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ``(where, dict)`` for every dict with a ``class_name`` inside a configuration."""
    stack = [(path, config)]
    while stack:
        where, value = stack.pop()
        if isinstance(value, Mapping):
            if "class_name" in value:
                yield where, value
            inner = f"{where}." if where else ""
            stack.extend((f"{inner}{key}", item) for key, item in value.items())
        elif isinstance(value, (list, tuple)):
            stack.extend((f"{where}[{i}]", item) for i, item in enumerate(value))


def check_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any]) -> None:
    """Check every object of a configuration before the first of them is made.

    Which classes exist is decided by the fixed tables of each family; here is refused what
    no table should be asked for.

    Parameters
    ----------
    config : mapping
        The whole configuration of a model.
    custom_objects : mapping
        Names that the caller of ``load_model`` gave a meaning to.

    Raises
    ------
    UnsafeFileError
        For code in the file (Lambda layers, pickled functions), modules outside Keras, and
        registered names that nobody registered.
    """
    for where, item in walk_objects(config):
        where = where or "the model"
        name = item["class_name"]
        if not isinstance(name, str):
            raise UnsafeFileError(f"{where}: class_name should be a string, got {name!r}.")
        registered = item.get("registered_name")
        if name in custom_objects or registered in custom_objects:
            continue
        if name == "function" and item.get("config") in custom_objects:
            continue
        if name in _RUNS_CODE:
            raise UnsafeFileError(
                f"{where} is a {name!r}, which carries program code in the file. Code from a "
                f"file is never run here, with safe_mode=False neither. Write the function as a "
                f"layer class and pass it in custom_objects, or build the model in code and use "
                f"load_weights."
            )
        if name.startswith("__"):
            if name not in _PLAIN_FORMS:
                raise UnsafeFileError(f"{where}: objects of the form {name!r} are not accepted.")
            continue
        _check_origin(where, name, item, registered)


def _check_origin(where: str, name: str, item: Mapping[str, Any], registered: Any) -> None:
    module = item.get("module")
    known = module is None or (
        isinstance(module, str)
        and (module in ("keras", "builtins") or module.startswith("keras."))
        and all(part.isidentifier() for part in module.split("."))
    )
    if not known:
        raise UnsafeFileError(
            f"{where}: {name!r} comes from the module {module!r}. Modules are never imported "
            f"because a file names them; pass the class: custom_objects={{{name!r}: ...}}."
        )
    inner = item.get("config")
    if registered not in (None, name) and not (name == "function" and registered == inner):
        raise UnsafeFileError(
            f"{where}: {name!r} has the registered name {registered!r}, which is not known here; "
            f"pass the class: custom_objects={{{registered!r}: ...}}."
        )
