"""The ``.keras`` file: a zip archive of three members, as Keras 3 writes it.

* ``metadata.json``: the version of the format and the date;
* ``config.json``: classes and arguments of the layers, how they are connected, and what
  ``compile`` was given;
* ``model.weights.h5``: the numbers, see `pycnn.keras.saving.weights_h5`.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from pycnn._version import __version__
from pycnn.keras import _registry
from pycnn.keras.saving import safety, weights_h5
from pycnn.keras.saving.limits import allocation_limit
from pycnn.keras.saving.safety import SavedFileError

__all__ = [
    "load_archive",
    "model_config",
    "model_from_config",
    "read_weights_member",
    "write_archive",
]

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"

# The release of Keras whose layout is written.
KERAS_VERSION = "3.15.1"

# Variables made while loading: those in the file, perhaps stored in a narrower type, and an
# optimizer's slots, which an optimizer that never took a step does not store.
_VARIABLES_PER_STORED_BYTE = 8
_VARIABLES_FLOOR_BYTES = 1 << 20

_BAD_CONFIG = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


# --- writing --------------------------------------------------------------------------------


def write_archive(model: Any, file: IO[bytes]) -> None:
    """Write a model into an open, empty file."""
    config = model_config(model)
    metadata = {
        "keras_version": KERAS_VERSION,
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "written_by": f"pycnn {__version__}",
    }
    weights = io.BytesIO()
    weights_h5.write_weights(model, weights)
    # Stored, not deflated: weights do not compress, and Keras reads them in place.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(METADATA, json.dumps(metadata))
        archive.writestr(CONFIG, json.dumps(config))
        with archive.open(WEIGHTS, "w", force_zip64=True) as member:
            member.write(weights.getbuffer())


def model_config(model: Any) -> dict[str, Any]:
    """Return the configuration of a model, its compile settings included.

    Parameters
    ----------
    model : Model
        A Sequential or functional model, or one whose class has ``get_config``.

    Returns
    -------
    dict
        What ``config.json`` holds.

    Raises
    ------
    NotImplementedError
        If two models inside the model share a layer.
    """
    _refuse_shared(model)
    config: dict[str, Any] = _registry.serialize_object(model)
    return config


def _refuse_shared(model: Any) -> None:
    """Refuse a layer that stands in two models of one file.

    Within one model a layer may be used any number of times. The format has no place for one
    that two nested models share: Keras writes such a file and cannot read it again.
    """
    owners: dict[int, Any] = {}
    for owner, layer in _layers_within(model):
        first = owners.setdefault(id(layer), owner)
        if first is not owner:
            raise NotImplementedError(
                f"Layer {layer.name!r} belongs to {first.name!r} and to {owner.name!r}; a .keras "
                f"file cannot hold a layer that two nested models share (Keras could not read "
                f"it back). Use model.save_weights and build the model in code."
            )


def _layers_within(model: Any) -> Iterator[tuple[Any, Any]]:
    for layer in getattr(model, "layers", ()):
        yield model, layer
        yield from _layers_within(layer)


# --- reading --------------------------------------------------------------------------------


def load_archive(filepath: str, custom_objects: Mapping[str, Any], compile: bool) -> Any:
    """Read a whole model.

    Parameters
    ----------
    filepath : str
        An existing file.
    custom_objects : mapping
        Names and the caller's classes or functions for them.
    compile : bool
        Whether to compile the model as it was.

    Returns
    -------
    Model

    Raises
    ------
    SavedFileError
        If the file is damaged or describes something that is not known here.
    UnsafeFileError
        If it contains what no honest file does.
    """
    with _open(filepath) as archive:
        where = f"{CONFIG!r} in {filepath!r}"
        text = safety.read_member(archive, CONFIG, filepath, safety.MAX_CONFIG_BYTES)
        config = safety.parse_json(text, where)
        # Not needed to load a model, but a file whose metadata is broken is a broken file.
        note = safety.read_member(archive, METADATA, filepath, safety.MAX_METADATA_BYTES)
        safety.parse_json(note, f"{METADATA!r} in {filepath!r}", safety.MAX_METADATA_BYTES)
        weights = safety.read_member(archive, WEIGHTS, filepath, os.path.getsize(filepath) * 100)
    try:
        safety.check_config(config, {**_registry.REGISTERED, **custom_objects})
    except SavedFileError as error:
        raise type(error)(f"{filepath!r} was not loaded: {error}") from error
    stored = weights_h5.stored_bytes(weights, filepath)
    limit = stored * _VARIABLES_PER_STORED_BYTE + _VARIABLES_FLOOR_BYTES
    model = _make(config, custom_objects, compile, filepath, limit)
    weights_h5.read_weights(model, weights, filepath)
    return model


def read_weights_member(filepath: str) -> bytes:
    """Read the weights part of a ``.keras`` file."""
    with _open(filepath) as archive:
        return safety.read_member(archive, WEIGHTS, filepath, os.path.getsize(filepath) * 100)


def _open(filepath: str) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(filepath, "r")
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise SavedFileError(f"{filepath!r} is damaged or truncated: {error}") from error
    try:
        safety.check_archive(archive, filepath, os.path.getsize(filepath))
    except BaseException:
        archive.close()
        raise
    return archive


def _make(
    config: dict[str, Any],
    custom_objects: Mapping[str, Any],
    compile: bool,
    filepath: str,
    limit: int,
) -> Any:
    try:
        with allocation_limit(limit):
            return model_from_config(config, custom_objects, compile)
    except SavedFileError as error:
        raise type(error)(f"{filepath!r} was not loaded: {error}") from error
    except NotImplementedError as error:
        raise NotImplementedError(f"{filepath!r} was not loaded: {error}") from error
    except _BAD_CONFIG as error:
        words = str(error) if str(error) else type(error).__name__
        if isinstance(error, KeyError):
            words = f"the configuration lacks the key {error}"
        raise SavedFileError(f"{filepath!r} was not loaded: {words}") from error


def model_from_config(
    config: dict[str, Any], custom_objects: Mapping[str, Any], compile: bool
) -> Any:
    """Make a model from a checked configuration.

    Raises
    ------
    SavedFileError
        If the configuration describes something else than a model.
    """
    settings = config.get("compile_config")
    config = {**config, "compile_config": None}
    model = _registry.deserialize_object(config, dict(custom_objects))
    if not hasattr(model, "compile_from_config") or not hasattr(model, "layers"):
        raise SavedFileError(
            f"the configuration describes a {config.get('class_name')!r}, expected a model."
        )
    if compile and settings:
        if not isinstance(settings, Mapping):
            raise SavedFileError(f"compile_config should be a JSON object, got {settings!r}.")
        own = {**_registry.REGISTERED, **custom_objects}
        model.compile_from_config({key: _resolve(item, own) for key, item in settings.items()})
    return model


def _resolve(value: Any, own: Mapping[str, Any]) -> Any:
    """Put the caller's own losses, metrics and optimizers in place of their names."""
    if isinstance(value, str):
        return own.get(value, value)
    if isinstance(value, (list, tuple)):
        return [_resolve(item, own) for item in value]
    if not isinstance(value, Mapping):
        return value
    name, inner = value.get("class_name"), value.get("config")
    if name == "function" and isinstance(inner, str):
        return own.get(inner, value)
    for key in (value.get("registered_name"), name):
        if isinstance(key, str) and key in own:
            made = own[key]
            if not isinstance(made, type):
                return made
            factory: Any = made
            return factory.from_config(dict(inner or {}))
    return {key: _resolve(item, own) for key, item in value.items()}
