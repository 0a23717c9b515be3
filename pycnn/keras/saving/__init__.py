"""Saving and loading models, in Keras's own files."""

from pycnn.keras.saving.safety import SavedFileError, UnsafeFileError
from pycnn.keras.saving.saving_api import load_model, load_weights, save_model, save_weights

__all__ = [
    "SavedFileError",
    "UnsafeFileError",
    "load_model",
    "load_weights",
    "save_model",
    "save_weights",
]
