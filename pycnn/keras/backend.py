"""Global settings of the Keras vocabulary: float type, epsilon, image data format.

The names are those of ``keras.backend``; `pycnn.keras.config` holds the same functions.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np

from pycnn.keras._naming import get_uid, reset_names

__all__ = [
    "backend",
    "clear_session",
    "epsilon",
    "floatx",
    "get_uid",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "is_keras_tensor",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_dtype",
]

_settings: dict[str, Any] = {"floatx": "float32", "epsilon": 1e-7}

_FLOATS = ("float32", "float64")
_INTS = ("int32", "int64", "uint8")


def backend() -> str:
    """The name of the engine: always ``"pycnn"``."""
    return "pycnn"


def floatx() -> str:
    """The float type of new layers, losses and metrics: ``"float32"`` or ``"float64"``."""
    return str(_settings["floatx"])


def set_floatx(value: str) -> None:
    """Set the float type of what is created from now on.

    Raises
    ------
    NotImplementedError
        For Keras's half precision types.
    ValueError
        For any other name.
    """
    if value in ("float16", "bfloat16"):
        raise NotImplementedError(
            f"set_floatx: {value!r} is not supported; use 'float32' or 'float64'."
        )
    if value not in _FLOATS:
        raise ValueError(f"set_floatx: expected 'float32' or 'float64', got {value!r}.")
    _settings["floatx"] = str(value)


def epsilon() -> float:
    """The small constant that keeps logarithms and divisions finite (1e-7 by default)."""
    return float(_settings["epsilon"])


def set_epsilon(value: float) -> None:
    """Set the small constant of `epsilon`.

    Raises
    ------
    TypeError, ValueError
        If `value` is no positive finite number.
    """
    from pycnn.keras._config import check_number

    _settings["epsilon"] = check_number("set_epsilon", "value", value, 0.0, low_open=True)


def image_data_format() -> str:
    """The order of the axes of pictures: always ``"channels_last"``, (N, H, W, C)."""
    return "channels_last"


def set_image_data_format(data_format: str) -> None:
    """Accept ``"channels_last"``.

    Raises
    ------
    NotImplementedError
        For ``"channels_first"``.
    ValueError
        For any other name.
    """
    wanted = str(data_format).lower()
    if wanted == "channels_first":
        raise NotImplementedError(
            "set_image_data_format: 'channels_first' is not supported; keep pictures as "
            "(N, height, width, channels), for instance by np.moveaxis(x, 1, -1)."
        )
    if wanted != "channels_last":
        raise ValueError(
            "set_image_data_format: expected 'channels_last' or 'channels_first', "
            f"got {data_format!r}."
        )


def standardize_dtype(dtype: Any) -> str:
    """Return the name of a dtype; None gives `floatx()`.

    Raises
    ------
    ValueError
        If it is no dtype.
    """
    if dtype is None:
        return floatx()
    if isinstance(dtype, str) and dtype in ("float", "int"):
        return "float32" if dtype == "float" else "int64"
    if isinstance(dtype, str) and dtype == "bfloat16":
        return dtype
    try:
        return str(np.dtype(dtype).name)
    except TypeError as error:
        raise ValueError(
            f"Invalid dtype: {dtype!r}; expected a name such as 'float32' or a NumPy dtype."
        ) from error


def is_float_dtype(dtype: Any) -> bool:
    """Whether a dtype is one of floating point numbers."""
    return "float" in standardize_dtype(dtype)


def is_int_dtype(dtype: Any) -> bool:
    """Whether a dtype is one of whole numbers."""
    return "int" in standardize_dtype(dtype)


def is_keras_tensor(x: Any) -> bool:
    """Whether `x` is a symbolic tensor of the functional API."""
    from pycnn.keras.keras_tensor import KerasTensor

    return isinstance(x, KerasTensor)


def result_type(*dtypes: Any) -> str:
    """The type that an operation on these types gives; floats win over whole numbers."""
    if not dtypes:
        raise ValueError("result_type: expected at least one dtype.")
    names = [standardize_dtype(d) for d in dtypes]
    floats = [n for n in names if "float" in n]
    return str(np.result_type(*(np.dtype(n) for n in floats or names)))


def clear_session(free_memory: bool = True) -> None:
    """Forget automatic names, the global seed generator and cached plans.

    Models and layers that are still referenced keep working.

    Parameters
    ----------
    free_memory : bool
        Whether to run Python's garbage collector too.
    """
    from pycnn import _core
    from pycnn.keras.random import reset_global_generator

    reset_names()
    reset_global_generator()
    if free_memory:
        gc.collect()
    _core.clear_plans()


def float_dtype(owner: str, dtype: Any) -> str:
    """Return the float type an object computes in: `dtype`, or `floatx()` for None.

    Raises
    ------
    NotImplementedError
        For any type but float32 and float64.
    """
    name = standardize_dtype(getattr(dtype, "compute_dtype", dtype))
    if name not in _FLOATS:
        raise NotImplementedError(
            f"{owner}: dtype={dtype!r} is not supported; use 'float32' or 'float64'."
        )
    return name
