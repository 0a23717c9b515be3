"""Helpers around models and data."""

from __future__ import annotations

from pycnn.keras.backend import clear_session, is_keras_tensor, standardize_dtype
from pycnn.keras.config import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from pycnn.keras.random import set_random_seed
from pycnn.keras.trainers.progress import Progbar
from pycnn.keras.utils.dataset import PyDataset
from pycnn.keras.utils.numerical import normalize, to_categorical
from pycnn.keras.utils.registration import (
    CustomObjectScope,
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)

Sequence = PyDataset  # its name in earlier versions of Keras

__all__ = [
    "CustomObjectScope",
    "Progbar",
    "PyDataset",
    "Sequence",
    "clear_session",
    "custom_object_scope",
    "disable_interactive_logging",
    "enable_interactive_logging",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "is_interactive_logging_enabled",
    "is_keras_tensor",
    "normalize",
    "register_keras_serializable",
    "set_random_seed",
    "standardize_dtype",
    "to_categorical",
]
