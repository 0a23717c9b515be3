"""Arrays of any kind as arrays that the engine reads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pycnn._core import Tensor
from pycnn.keras.backend import floatx
from pycnn.keras.layers._tree import flatten

__all__ = [
    "class_weights",
    "sample_count",
    "to_array",
    "weight_array",
    "weight_arrays",
]

# What the engine reads as it is; everything else is converted once.
_READ_AS = {
    "float16": "float32",
    "bool": "uint8",
    "int8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
    "longdouble": "float64",
    "float128": "float64",
}
_AS_IT_IS = ("float32", "float64", "int32", "int64", "uint8")


def to_array(value: Any, name: str) -> np.ndarray:
    """Return a row-major array of a dtype that the engine reads, copied only where it must be.

    Parameters
    ----------
    value : array_like
        A NumPy array of any kind, a tensor, a list, or what NumPy can make an array of.
    name : str
        The argument's name for messages.

    Raises
    ------
    ValueError, TypeError
        For ragged lists, masked values, text, objects, sparse matrices and single numbers.
    """
    if isinstance(value, Tensor):
        array = value.numpy()
    elif value is None:
        raise ValueError(f"{name}: expected an array, got None")
    elif hasattr(value, "toarray") and not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name}: sparse matrices are not supported, got {type(value).__name__}: use "
            f"{name}.toarray()"
        )
    elif inspect.isgeneratorfunction(value):
        raise TypeError(
            f"{name}: got the function {value.__name__}, expected data or a generator: call it, "
            f"{value.__name__}(...)"
        )
    else:
        array = _numpy_array(value, name)
    if array.ndim == 0:
        what = "the single number" if array.dtype.kind in "biuf" else type(value).__name__
        raise ValueError(
            f"{name}: expected an array whose first axis counts the samples, got {what} {value!r}"
        )
    dtype = _engine_dtype(array, name)
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size:
        if int(array.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{name}: holds numbers above 2**63 - 1, which int64 cannot hold")
    if array.dtype == np.bool_ and array.flags.c_contiguous:
        array = array.view(np.uint8)
    # require() also copies misaligned, byte-swapped and strided memory.
    return np.require(array, dtype=np.dtype(dtype), requirements=["C", "A"])


def _numpy_array(value: Any, name: str) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise ValueError(
                f"{name}: has masked values; fill them first, for instance with {name}.filled(0)"
            )
        return np.asarray(value.data)
    try:
        return np.asarray(value)
    except ValueError as error:
        if isinstance(value, (list, tuple)):
            raise _ragged(value, name) from None
        raise ValueError(f"{name}: cannot be made an array: {error}") from error


def _ragged(value: Sequence[Any], name: str) -> ValueError:
    """The error for a list or tuple that is no array, with the most likely meaning."""
    kind = type(value).__name__
    arrays = [part for part in value if isinstance(part, (np.ndarray, Tensor))]
    if name == "x" and len(value) in (2, 3) and len(arrays) == len(value):
        if len({len(part) if part.ndim else 0 for part in arrays}) == 1:
            shapes = " and ".join(str(tuple(part.shape)) for part in arrays)
            return ValueError(
                f"x: a {kind} of arrays of shape {shapes} is no array; inputs and labels are two "
                "arguments, as in fit(x, y)"
            )
    if value and all(isinstance(part, tuple) for part in value):
        return ValueError(
            f"{name}: a {kind} of {len(value)} tuples is no array; for batches (x, y) give an "
            f"iterator of them, iter({name}), or one array of all samples and one of all labels"
        )
    found = sorted({_shape_text(part) for part in value})
    return ValueError(
        f"{name}: a {kind} of {len(value)} items of different shapes {', '.join(found[:3])} is "
        "no array; all samples need one shape"
    )


def _shape_text(part: Any) -> str:
    try:
        return str(np.shape(part))
    except ValueError:
        return "(ragged)"


def _engine_dtype(array: np.ndarray, name: str) -> str:
    dtype = array.dtype.name
    if dtype in _AS_IT_IS:
        return dtype
    if dtype in _READ_AS:
        return _READ_AS[dtype]
    if array.dtype.kind == "f":
        return "float64" if array.dtype.itemsize > 8 else floatx()
    if array.dtype.kind in "US":
        raise TypeError(
            f"{name}: holds text (dtype {array.dtype}), expected numbers; turn names of classes "
            f"into numbers with np.unique({name}, return_inverse=True)[1]"
        )
    hint = f"; {name}.astype('float32') converts it where every value is a number"
    raise TypeError(f"{name}: expected numbers, got an array of dtype {dtype}{hint}")


def weight_array(value: Any) -> np.ndarray:
    """Return sample weights as an array of the float type.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite.
    """
    array = to_array(value, "sample_weight")
    array = array.astype(floatx(), copy=False)
    if not np.isfinite(array).all():
        raise ValueError("sample_weight: holds NaN or infinite weights")
    return array


def weight_arrays(value: Any) -> Any:
    """Return sample weights as arrays in their structure; a list of numbers is one array."""
    if isinstance(value, Mapping):
        return {key: weight_arrays(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not all(_is_scalar(part) for part in value):
        parts = [weight_arrays(part) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return None if value is None else weight_array(value)


def _is_scalar(value: Any) -> bool:
    return np.isscalar(value) or getattr(value, "ndim", None) == 0


def class_weights(y: np.ndarray, weights: Any) -> np.ndarray:
    """Return the weight of every sample by its class, [N].

    Parameters
    ----------
    y : array
        Labels [N] or [N,1], or one-hot rows [N,C].
    weights : dict
        Weight by class; 1 for a class that is missing.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(
            "class_weight: expected a dict such as {0: 1.0, 1: 5.0}, got "
            f"{weights!r} of type {type(weights).__name__}"
        )
    for label, weight in weights.items():
        if isinstance(label, str) or int(label) != label or not np.isfinite(float(weight)):
            raise ValueError(
                "class_weight: expected whole numbers for classes and finite weights, got "
                f"{{{label!r}: {weight!r}}}"
            )
    if y.ndim > 1:
        y = np.argmax(y, axis=-1) if y.shape[-1] != 1 else np.squeeze(y, axis=-1)
    labels = np.round(y).astype(np.int64)
    found, inverse = np.unique(labels.ravel(), return_inverse=True)
    table = np.array([float(weights.get(int(label), 1.0)) for label in found], floatx())
    return table[inverse].reshape(labels.shape)


def sample_count(x: Any, y: Any, sample_weight: Any) -> int:
    """Return the number of samples that all arrays share.

    Raises
    ------
    ValueError
        If they differ, or there are none.
    """
    sizes: dict[str, int] = {}
    for name, structure in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        leaves = [leaf for leaf in flatten(structure) if leaf is not None]
        for i, leaf in enumerate(leaves):
            sizes[name if len(leaves) == 1 else f"{name}[{i}]"] = int(leaf.shape[0])
    if not sizes:
        raise ValueError("x: expected data, got none")
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"all arrays must hold the same number of samples: {listed}")
    size = next(iter(sizes.values()))
    if size == 0:
        raise ValueError("x: holds no samples (its first axis has size 0)")
    return size
