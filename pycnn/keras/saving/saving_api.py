"""``save_model``, ``load_model``, ``save_weights`` and ``load_weights``.

The same arguments and endings as in Keras 3 (https://keras.io/api/models/model_saving_apis/).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from pycnn.keras.saving import files
from pycnn.keras.saving.safety import SavedFileError

__all__ = ["load_model", "load_weights", "save_model", "save_weights"]

_LEGACY = (".h5", ".hdf5")


def save_model(
    model: Any,
    filepath: str | os.PathLike[str],
    overwrite: bool = True,
    zipped: bool | None = None,
    **kwargs: Any,
) -> None:
    """Save a model as a ``.keras`` file: structure, weights, compile settings, optimizer.

    The file opens in Keras 3 with the same predictions.

    Parameters
    ----------
    model : Model
        The model.
    filepath : str or path
        A name ending in ``.keras``, in a folder that exists.
    overwrite : bool
        Replace an existing file without asking.
    zipped : bool, optional
        Only the zip archive (True, the default) is offered.

    Raises
    ------
    ValueError
        For another ending.
    FileNotFoundError
        If the folder does not exist.
    NotImplementedError
        For the legacy ``.h5`` format and for ``zipped=False``.

    Notes
    -----
    https://keras.io/api/models/model_saving_apis/model_saving_and_loading/
    """
    path = files.path_of(filepath)
    kwargs.pop("save_format", None)
    if kwargs.pop("include_optimizer", True) is not True:
        raise NotImplementedError(
            "include_optimizer=False belongs to the legacy .h5 format; to leave the optimizer "
            "out, save a model that is not compiled."
        )
    if kwargs:
        raise ValueError(
            f"save_model got unknown arguments {sorted(kwargs)}; it takes filepath, overwrite "
            f"and zipped."
        )
    if zipped is not None and not zipped:
        raise NotImplementedError(
            "zipped=False (a folder instead of a file) is not supported: save to a name ending "
            "in '.keras'."
        )
    if path.endswith(".weights.h5"):
        raise ValueError(
            f"`filepath`={path!r} is the name of a weights file: use model.save_weights({path!r})"
            f", or a name ending in '.keras' for the whole model."
        )
    if path.endswith(_LEGACY):
        raise NotImplementedError(
            f"`filepath`={path!r}: whole models in the legacy .h5 format are not written; use "
            f"{os.path.splitext(path)[0] + '.keras'!r}, which Keras reads too."
        )
    if not path.endswith(".keras"):
        raise ValueError(
            f"`filepath` should end in '.keras', got {path!r}. Use {path + '.keras'!r}."
        )
    if os.path.exists(path) and not overwrite and not files.confirm_overwrite(path):
        return
    if not getattr(model, "built", True):
        warnings.warn(
            f"Model {getattr(model, 'name', '?')!r} has not been built, so that the file will "
            f"hold no weights. Give the model an Input or call it on data before saving.",
            stacklevel=3,
        )
    # What reads and writes zip and HDF5 is imported when a file is at hand.
    from pycnn.keras.saving import keras_archive

    files.write_atomically(path, lambda file: keras_archive.write_archive(model, file))


def load_model(
    filepath: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Load a model from a ``.keras`` file written here or by Keras 3.

    Parameters
    ----------
    filepath : str or path
        The file.
    custom_objects : dict, optional
        Names and the classes or functions of your own that they stand for.
    compile : bool
        Compile the model as it was when saved, optimizer state included.
    safe_mode : bool
        Accepted for Keras's sake. Code in a file is never run here, whatever its value.

    Returns
    -------
    Model

    Raises
    ------
    SavedFileError
        A ValueError: the file is of another kind, damaged, or uses a class that is not known.
    UnsafeFileError
        A SavedFileError: the file contains what no honest model file does.
    NotImplementedError
        For the legacy ``.h5`` format.
    """
    path = files.path_of(filepath)
    if custom_objects is not None and not isinstance(custom_objects, Mapping):
        raise TypeError(
            f"`custom_objects` should be a dict of names and classes, got "
            f"{type(custom_objects).__name__}."
        )
    if os.path.isdir(path) and os.path.exists(os.path.join(path, "config.json")):
        raise NotImplementedError(
            f"`filepath`={path!r} is a model saved as a folder (zipped=False), which is not "
            f"supported: save it as one '.keras' file."
        )
    files.require_file(path)
    if path.endswith(".weights.h5"):
        raise SavedFileError(
            f"`filepath`={path!r} holds weights only. Build the model as it was, then call "
            f"model.load_weights({path!r})."
        )
    found = files.describe_file(path)
    if path.endswith(_LEGACY) and found == "an HDF5 file":
        raise NotImplementedError(
            f"`filepath`={path!r}: whole models in the legacy .h5 format are not read. Open it "
            f"in Keras and save it as {os.path.splitext(path)[0] + '.keras'!r}."
        )
    if not path.endswith(".keras") or found != "a Keras model file (.keras)":
        _refuse_kind(path, found, ".keras")
    from pycnn.keras.saving import keras_archive

    return keras_archive.load_archive(path, dict(custom_objects or {}), compile)


def save_weights(
    model: Any,
    filepath: str | os.PathLike[str],
    overwrite: bool = True,
    max_shard_size: float | None = None,
    **kwargs: Any,
) -> None:
    """Save the variables of a model (and of its optimizer) as a ``.weights.h5`` file.

    Parameters
    ----------
    model : Model
        A model whose variables exist.
    filepath : str or path
        A name ending in ``.weights.h5``, in a folder that exists.
    overwrite : bool
        Replace an existing file without asking.
    max_shard_size : float, optional
        Several files instead of one are not supported.

    Raises
    ------
    ValueError
        For another ending, or a model that is not built.
    """
    path = files.path_of(filepath)
    skip = _objects_to_skip(kwargs)
    if kwargs:
        raise ValueError(f"save_weights got unknown arguments {sorted(kwargs)}.")
    if max_shard_size is not None:
        raise NotImplementedError(
            f"max_shard_size={max_shard_size!r}: weights are written as one file only."
        )
    if not path.endswith(".weights.h5"):
        base = path.removesuffix(".h5").removesuffix(".hdf5").removesuffix(".keras")
        raise ValueError(
            f"`filepath` should end in '.weights.h5', got {path!r}. Use "
            f"{base + '.weights.h5'!r}, or model.save for the whole model."
        )
    _require_built(model, "save")
    if os.path.exists(path) and not overwrite and not files.confirm_overwrite(path):
        return
    from pycnn.keras.saving import weights_h5

    files.write_atomically(path, lambda file: weights_h5.write_weights(model, file, skip))


def load_weights(
    model: Any,
    filepath: str | os.PathLike[str],
    skip_mismatch: bool = False,
    **kwargs: Any,
) -> None:
    """Load the variables of a model from a ``.weights.h5`` or ``.keras`` file.

    Everything is checked before anything is assigned: on an error the model is unchanged.

    Parameters
    ----------
    model : Model
        A model built as it was when the file was written.
    filepath : str or path
        The file.
    skip_mismatch : bool
        Leave layers whose variables do not fit as they are, with a warning.

    Raises
    ------
    SavedFileError
        A ValueError: the file is of another kind, damaged, or does not fit.
    UnsafeFileError
        A SavedFileError: the file contains what no honest weights file does.
    """
    from pycnn.keras.saving import keras_archive, weights_h5

    path = files.path_of(filepath)
    skip = _objects_to_skip(kwargs)
    if kwargs.pop("by_name", None):
        raise NotImplementedError(
            "by_name=True belongs to the legacy .h5 format, which is not read."
        )
    if kwargs:
        raise ValueError(f"load_weights got unknown arguments {sorted(kwargs)}.")
    files.require_file(path)
    _require_built(model, "load")
    found = files.describe_file(path)
    if path.endswith(".keras"):
        if found != "a Keras model file (.keras)":
            _refuse_kind(path, found, ".keras")
        content = keras_archive.read_weights_member(path)
        weights_h5.read_weights(model, content, path, skip_mismatch, skip)
        return
    if found != "an HDF5 file" or not path.endswith(_LEGACY):
        _refuse_kind(path, found, ".weights.h5")
    if not path.endswith(".weights.h5"):
        raise NotImplementedError(
            f"`filepath`={path!r}: weights in the legacy .h5 format are not read; expected a "
            f"file ending in '.weights.h5' (model.save_weights) or '.keras' (model.save). If "
            f"it is one, rename it."
        )
    weights_h5.read_weights(model, path, path, skip_mismatch, skip)


def _objects_to_skip(kwargs: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(kwargs.pop("objects_to_skip", None) or ())


def _require_built(model: Any, verb: str) -> None:
    if not getattr(model, "built", False):
        raise ValueError(
            f"Cannot {verb} weights: model {getattr(model, 'name', '?')!r} has not been built, "
            f"so it has no weights yet. Give it an Input, call it on data, or call "
            f"model.build(input_shape)."
        )


def _refuse_kind(path: str, found: str, ending: str) -> None:
    instead = {
        "a Keras model file (.keras)": " Rename it so that it ends in '.keras'.",
        "a PyTorch file (.pth or .pt)": " PyTorch's files do not open in Keras's vocabulary.",
        "an HDF5 file": (
            " If it was written by save_weights, rename it so that it ends in '.weights.h5' and "
            "use model.load_weights."
        ),
    }.get(found, "")
    raise SavedFileError(
        f"`filepath`={path!r} should be a file ending in {ending!r}, got {found}.{instead}"
    )
