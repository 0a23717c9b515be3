"""Models, with Keras's names, arguments and behaviour."""

from pycnn.keras.models.cloning import clone_model, model_from_json
from pycnn.keras.models.functional import Functional
from pycnn.keras.models.model import Model
from pycnn.keras.models.sequential import Sequential
from pycnn.keras.saving.saving_api import load_model, save_model

__all__ = [
    "Functional",
    "Model",
    "Sequential",
    "clone_model",
    "load_model",
    "model_from_json",
    "save_model",
]
