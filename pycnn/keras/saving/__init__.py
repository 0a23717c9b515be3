"""Saving and loading models, in Keras's own files; and classes of one's own in them."""

from pycnn.keras.saving.safety import SavedFileError, UnsafeFileError
from pycnn.keras.saving.saving_api import load_model, load_weights, save_model, save_weights
from pycnn.keras.utils.registration import (
    CustomObjectScope,
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)

__all__ = [
    "CustomObjectScope",
    "SavedFileError",
    "UnsafeFileError",
    "custom_object_scope",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_weights",
    "register_keras_serializable",
    "save_model",
    "save_weights",
]
