"""Callbacks: what happens between epochs and batches (Keras 3 ``keras.callbacks``)."""

from __future__ import annotations

from pycnn.keras.callbacks.backup_and_restore import BackupAndRestore
from pycnn.keras.callbacks.callback import Callback
from pycnn.keras.callbacks.callback_list import CallbackList
from pycnn.keras.callbacks.csv_logger import CSVLogger
from pycnn.keras.callbacks.early_stopping import EarlyStopping
from pycnn.keras.callbacks.history import History
from pycnn.keras.callbacks.lambda_callback import LambdaCallback
from pycnn.keras.callbacks.learning_rate_scheduler import LearningRateScheduler
from pycnn.keras.callbacks.model_checkpoint import ModelCheckpoint
from pycnn.keras.callbacks.progbar_logger import ProgbarLogger
from pycnn.keras.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau
from pycnn.keras.callbacks.tensorboard import TensorBoard
from pycnn.keras.callbacks.terminate_on_nan import TerminateOnNaN

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
