"""The weights part of a model file, in the layout of Keras 3 (``.weights.h5``).

Layout::

    vars                                  attribute name="sequential"
    layers/conv2d/vars/0                  kernel, (KH, KW, I, O)
    layers/conv2d/vars/1                  bias, (O,)
    layers/conv2d_1/vars/0 ...            the second Conv2D of the model
    layers/sequential/layers/dense/...    a model inside the model
    optimizer/vars/0                      iterations, int64
    optimizer/vars/1 ...                  learning rate (unless a schedule), then the slots

A group is named after the *class* of the layer and a counter in each container, not after
the layer's own name, so that names made automatically do not matter; the layer's name is an
attribute of its ``vars``. Of a layer's variables the trainable ones come first. A layer that
is used twice is written where it is met first. Metrics and the seeds of random layers are not
part of the file (Keras 3.15 does not write them either).

Reading has two halves: everything is located and checked first, then numbers are read, then
assigned. A file that does not fit changes nothing.
"""

from __future__ import annotations

import io
import mmap
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from pycnn.keras._naming import snake_case
from pycnn.keras.saving.h5_checks import (
    H5_DAMAGE,
    check_heaps,
    is_bfloat16,
    open_dataset,
    open_group,
    total_bytes,
)
from pycnn.keras.saving.safety import SavedFileError, UnsafeFileError

__all__ = ["Saveable", "read_weights", "stored_bytes", "walk_model", "write_weights"]

# More members than this in one group of variables is no layer of any model.
_MAX_GROUP = 1 << 20


@dataclass(frozen=True)
class Saveable:
    """One object with variables, and the group its variables are kept in."""

    path: str
    kind: str
    name: str
    variables: tuple[Any, ...]
    owner: Any

    @property
    def group(self) -> str:
        """Path of the group of variables."""
        return f"{self.path}/vars" if self.path else "vars"


@dataclass
class _Loading:
    """What a file would change, collected before anything is changed."""

    assignments: list[tuple[Any, Any, str]] = field(default_factory=list)
    # Layers of users that read their numbers themselves.
    own: list[tuple[Saveable, dict[str, Any]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)


def walk_model(model: Any) -> Iterator[Saveable]:
    """Yield everything of a model that has a place in the file, in the file's order.

    Parameters
    ----------
    model : Model
        Any model; layers are found through ``layers`` (Sequential and functional models)
        and through attributes and lists, tuples and dicts in attributes (classes of users).

    Yields
    ------
    Saveable
    """
    yield from _walk(model, "", set())


def _walk(saveable: Any, path: str, visited: set[int]) -> Iterator[Saveable]:
    if id(saveable) in visited:
        return
    visited.add(id(saveable))
    name = getattr(saveable, "name", None)
    yield Saveable(
        path,
        "optimizer" if _is_optimizer(saveable) else "layer",
        name if isinstance(name, str) else type(saveable).__name__,
        _variables_of(saveable),
        saveable,
    )
    if _is_optimizer(saveable):
        return
    for attribute, child in _children(saveable):
        inner = f"{path}/{attribute}" if path else attribute
        if _is_saveable(child):
            yield from _walk(child, inner, visited)
        else:
            yield from _walk_container(child, inner, visited, set())


def _walk_container(
    container: Any, path: str, visited: set[int], containers: set[int]
) -> Iterator[Saveable]:
    if id(container) in containers:
        return
    containers.add(id(container))
    counts: dict[str, int] = {}
    for item in container.values() if isinstance(container, dict) else container:
        if _is_saveable(item):
            inner = f"{path}/{_counted(_class_word(item), counts)}"
            yield from _walk(item, inner, visited)
        elif isinstance(item, (list, tuple, dict)):
            inner = f"{path}/{_counted('container', counts)}"
            yield from _walk_container(item, inner, visited, containers)


def _counted(word: str, counts: dict[str, int]) -> str:
    if word not in counts:
        counts[word] = 0
        return word
    counts[word] += 1
    return f"{word}_{counts[word]}"


def _class_word(saveable: Any) -> str:
    """Snake case of the class name that Keras uses for this object."""
    cls = type(saveable)
    name = cls.__name__
    if name == "Model" and cls.__module__.startswith("pycnn."):
        # Model(inputs, outputs) makes a Functional in Keras.
        name = "Functional"
    return snake_case(name)


def _is_layer(value: Any) -> bool:
    from pycnn.keras.layers.base_layer import Layer

    return isinstance(value, Layer)


def _is_optimizer(value: Any) -> bool:
    from pycnn.keras.optimizers.optimizer import Optimizer

    return isinstance(value, Optimizer)


def _is_saveable(value: Any) -> bool:
    return _is_layer(value) or _is_optimizer(value)


def _children(saveable: Any) -> Iterator[tuple[str, Any]]:
    """Yield attributes that are, or contain, layers: public ones first, by name.

    A Sequential or functional model lists its layers first, whatever attributes a user's
    subclass adds. Private attributes of our own classes are bookkeeping and hold nothing
    that is not reachable otherwise; those of a user's class may.
    """
    names = {name for name in vars(saveable) if not name.startswith("__")}
    own = type(saveable).__module__.startswith("pycnn.")
    if own:
        names = {name for name in names if not name.startswith("_")}
    is_model = hasattr(type(saveable), "layers")
    if is_model:
        names |= {"layers", "optimizer"}
    ordered = sorted(names, key=lambda name: f"~{name}" if name.startswith("_") else name)
    if is_model and _lists_layers_first(saveable):
        ordered.remove("layers")
        ordered.insert(0, "layers")
    for name in ordered:
        if name in _BOOKKEEPING:
            continue
        child = getattr(saveable, name, None)
        if _is_saveable(child) or (isinstance(child, (list, tuple, dict)) and child):
            yield name, child


# Attributes that Keras's base classes have too, and therefore leaves out.
_BOOKKEEPING = frozenset(
    {
        "input",
        "inputs",
        "output",
        "outputs",
        "variables",
        "weights",
        "metrics",
        "losses",
        "trainable_variables",
        "non_trainable_variables",
        "trainable_weights",
        "non_trainable_weights",
        "_layers",
        "_inbound_nodes",
        "_outbound_nodes",
        "_functional",
        "_operations",
        "operations",
    }
)


def _lists_layers_first(saveable: Any) -> bool:
    return any(cls.__name__ in ("Sequential", "Functional") for cls in type(saveable).__mro__)


def _variables_of(saveable: Any) -> tuple[Any, ...]:
    """Variables of the object itself, without those of its parts, in the file's order."""
    if _is_optimizer(saveable):
        return tuple(saveable.variables)
    # The order is fixed when a variable is made: freezing a layer later does not move it.
    return tuple(saveable._trainable_variables + saveable._non_trainable_variables)


# --- writing --------------------------------------------------------------------------------


def write_weights(model: Any, file: IO[bytes], skip: tuple[Any, ...] = ()) -> None:
    """Write all variables of a model into an open, empty file.

    Parameters
    ----------
    model : Model
        The model; its optimizer is written too, if it is compiled.
    file : binary file
        Open for reading and writing, empty.
    skip : tuple
        Objects to leave out.
    """
    import h5py

    skipped = {id(item) for item in skip}
    with h5py.File(file, "w") as h5:
        for saveable in _walk(model, "", skipped):
            group = h5.create_group(saveable.group)
            group.attrs["name"] = saveable.name
            for key, value in _numbers_of(saveable).items():
                group.create_dataset(key, data=np.asarray(value, order="C"))


def _numbers_of(saveable: Saveable) -> dict[str, Any]:
    if _overrides(saveable, "save_own_variables"):
        store: dict[str, Any] = {}
        saveable.owner.save_own_variables(store)
        return {str(key): np.asarray(value) for key, value in store.items()}
    return {str(index): variable.numpy() for index, variable in enumerate(saveable.variables)}


def _overrides(saveable: Saveable, method: str) -> bool:
    """Tell whether a user's class writes or reads its numbers in its own way."""
    defined = getattr(type(saveable.owner), method, None)
    return defined is not None and not str(defined.__module__).startswith("pycnn.")


# --- reading --------------------------------------------------------------------------------


def read_weights(
    model: Any,
    source: str | bytes,
    filepath: str,
    skip_mismatch: bool = False,
    skip: tuple[Any, ...] = (),
) -> None:
    """Load all variables of a model; on any error nothing of the model has changed.

    Parameters
    ----------
    model : Model
        A model whose variables exist.
    source : str or bytes
        Path of an HDF5 file, or its content.
    filepath : str
        Name for messages.
    skip_mismatch : bool
        Leave variables of layers that do not fit as they are, with a warning.
    skip : tuple
        Objects to leave alone.

    Raises
    ------
    SavedFileError
        If the file is damaged, or does not fit the model.
    UnsafeFileError
        If it contains what no honest file does.
    """
    import h5py

    _check_structure(source, filepath)
    try:
        h5 = h5py.File(io.BytesIO(source) if isinstance(source, bytes) else source, "r")
    except H5_DAMAGE as error:
        raise SavedFileError(f"{filepath!r} is damaged or truncated: {error}") from error
    with h5:
        try:
            loading = _locate(model, h5, skip)
            _report(model, h5, loading, filepath, skip_mismatch)
            stores = [
                (
                    saveable,
                    {key: _read(item, f"{saveable.group}/{key}") for key, item in found.items()},
                )
                for saveable, found in loading.own
            ]
            values = [
                (variable, _read(dataset, where))
                for variable, dataset, where in loading.assignments
            ]
        except SavedFileError as error:
            raise type(error)(f"{filepath!r} was not loaded: {error}") from error
        except H5_DAMAGE as error:
            raise SavedFileError(f"{filepath!r} is damaged or truncated: {error}") from error
    for saveable, store in stores:
        _load_own(saveable, store, filepath)
    for variable, value in values:
        variable.assign(value)


def _load_own(saveable: Saveable, store: dict[str, Any], filepath: str) -> None:
    """Let a user's class read its numbers; if it fails its variables are as before."""
    before = [variable.numpy() for variable in saveable.variables]
    try:
        saveable.owner.load_own_variables(store)
    except Exception as error:
        for variable, value in zip(saveable.variables, before, strict=True):
            variable.assign(value)
        raise SavedFileError(
            f"{filepath!r} was not loaded: load_own_variables of layer {saveable.name!r} raised "
            f"{type(error).__name__}: {error}"
        ) from error


def stored_bytes(content: bytes, filepath: str) -> int:
    """Return the bytes that all datasets of an HDF5 file claim, each of them checked.

    Parameters
    ----------
    content : bytes
        The file.
    filepath : str
        Its name, for messages.

    Raises
    ------
    SavedFileError
        If it is damaged.
    UnsafeFileError
        If a dataset is not made of plain numbers inside the file.
    """
    import h5py

    _check_structure(content, filepath)
    try:
        with h5py.File(io.BytesIO(content), "r") as h5:
            return total_bytes(h5)
    except SavedFileError as error:
        raise type(error)(f"{filepath!r} was not loaded: {error}") from error
    except H5_DAMAGE as error:
        raise SavedFileError(f"{filepath!r} is damaged or truncated: {error}") from error


def _check_structure(source: str | bytes, filepath: str) -> None:
    if isinstance(source, bytes):
        check_heaps(source, filepath)
        return
    with open(source, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise SavedFileError(f"{filepath!r} is empty.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            check_heaps(content, filepath)


def _locate(model: Any, h5: Any, skip: tuple[Any, ...]) -> _Loading:
    loading = _Loading()
    for saveable in _walk(model, "", {id(item) for item in skip}):
        loading.used.add(saveable.path)
        group = open_group(h5, saveable.group)
        count = 0 if group is None else len(group)
        if count > _MAX_GROUP:
            raise UnsafeFileError(f"{saveable.group!r} has {count} members; refused.")
        if saveable.kind == "optimizer":
            _locate_optimizer(saveable, group, count, loading)
        elif _overrides(saveable, "load_own_variables"):
            names = [] if group is None else list(group)
            found = {name: open_dataset(group, name, f"{saveable.group}/{name}") for name in names}
            loading.own.append((saveable, found))
        else:
            _locate_layer(saveable, group, count, loading)
    return loading


def _locate_layer(saveable: Saveable, group: Any, count: int, loading: _Loading) -> None:
    wanted = saveable.variables
    if count != len(wanted):
        names = [variable.name for variable in wanted]
        loading.problems.append(
            f"layer {saveable.name!r} ({saveable.path or 'the model itself'}): expected "
            f"{len(wanted)} variables {names}, got {count} from the file"
        )
        return
    found: list[tuple[Any, Any, str]] = []
    for index, variable in enumerate(wanted):
        where = f"{saveable.group}/{index}"
        dataset = open_dataset(group, str(index), where)
        problem = _mismatch(saveable, variable, dataset, where)
        if problem:
            loading.problems.append(problem)
        else:
            found.append((variable, dataset, where))
    # As in Keras, a layer is taken whole or not at all.
    if len(found) == len(wanted):
        loading.assignments.extend(found)


def _locate_optimizer(saveable: Saveable, group: Any, count: int, loading: _Loading) -> None:
    wanted = saveable.variables
    rate = getattr(saveable.owner, "_learning_rate", None)
    settings = wanted[: 2 if any(v is rate for v in wanted[:2]) else 1]
    if count == len(settings) and not int(wanted[0].numpy()):
        # Written before the first step: the counter and the rate. The slots are zero on both
        # sides.
        wanted = settings
    if count != len(wanted):
        hint = (
            " It has not trained yet, so its state has no place to go: load a whole model with "
            "load_model to continue training."
            if len(wanted) <= 2 < count
            else ""
        )
        warnings.warn(
            f"The state of optimizer {saveable.name!r} was not loaded: it has {len(wanted)} "
            f"variables, the file has {count}.{hint}",
            stacklevel=6,
        )
        return
    found: list[tuple[Any, Any, str]] = []
    for index, variable in enumerate(wanted):
        where = f"{saveable.group}/{index}"
        dataset = open_dataset(group, str(index), where)
        problem = _mismatch(saveable, variable, dataset, where)
        if problem:
            loading.problems.append(problem)
            return
        found.append((variable, dataset, where))
    loading.assignments.extend(found)


def _mismatch(saveable: Saveable, variable: Any, dataset: Any, where: str) -> str:
    """Say how a dataset does not fit a variable; empty if it does. Nothing is read."""
    label = f"{saveable.kind} {saveable.name!r}, variable {variable.name!r} ({where})"
    if dataset is None:
        return f"{label}: not in the file"
    expected = tuple(variable.shape)
    if tuple(dataset.shape) != expected:
        return f"{label}: expected shape {expected}, got {tuple(dataset.shape)} from the file"
    wanted = np.dtype(variable.dtype)
    # A whole number becomes a float without harm; the reverse would drop digits in silence.
    if wanted.kind in "iu" and dataset.dtype.kind not in "iu":
        return f"{label}: expected dtype {wanted}, got {dataset.dtype} from the file"
    if wanted.kind == "f" and dataset.dtype.kind not in "fiu" and not is_bfloat16(dataset):
        return f"{label}: expected dtype {wanted}, got {dataset.dtype} from the file"
    return ""


def _report(model: Any, h5: Any, loading: _Loading, filepath: str, skip_mismatch: bool) -> None:
    """Raise (or warn) if variables do not fit; warn of layers in the file nobody asked for."""
    if loading.problems:
        shown = loading.problems[:10]
        more = len(loading.problems) - len(shown)
        text = "\n  ".join(shown) + (f"\n  and {more} more" if more else "")
        name = getattr(model, "name", "model")
        if not skip_mismatch:
            raise SavedFileError(
                f"it does not fit model {name!r}, which is unchanged:\n  {text}\n"
                f"Build the model exactly as it was when the file was written, or pass "
                f"skip_mismatch=True to load_weights."
            )
        warnings.warn(
            f"{filepath!r}: these keep their values, because the file does not fit "
            f"model {name!r}:\n  {text}",
            stacklevel=5,
        )
    extra = _unused_layers(h5, loading.used)
    if extra:
        warnings.warn(
            f"{filepath!r} holds weights of layers that model {getattr(model, 'name', '?')!r} "
            f"does not have; they were not loaded: {extra[:10]}.",
            stacklevel=5,
        )


def _unused_layers(h5: Any, used: set[str]) -> list[str]:
    layers = open_group(h5, "layers")
    if layers is None or len(layers) > _MAX_GROUP:
        return []
    extra = []
    for name in layers:
        if f"layers/{name}" in used:
            continue
        group = open_group(h5, f"layers/{name}")
        inside = None if group is None else open_group(group, "vars")
        if inside is not None and len(inside):
            extra.append(name)
    return extra


def _read(dataset: Any, where: str) -> np.ndarray[Any, Any]:
    """Read the numbers of a checked dataset."""
    try:
        value = np.asarray(dataset[()])
    except H5_DAMAGE as error:
        raise SavedFileError(f"{where!r} cannot be read, the file is damaged: {error}") from error
    if is_bfloat16(dataset):
        # bfloat16 is the upper half of a float32.
        bits = value.reshape(-1).view(np.uint16).astype(np.uint32) << np.uint32(16)
        value = bits.view(np.float32).reshape(value.shape)
    return value
