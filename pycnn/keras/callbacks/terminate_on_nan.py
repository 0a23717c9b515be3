"""Stop when the loss is no longer a number."""

from __future__ import annotations

import math

from pycnn.keras.callbacks.callback import Callback, Logs
from pycnn.keras.trainers.progress import print_msg

__all__ = ["TerminateOnNaN"]


class TerminateOnNaN(Callback):
    """Stop training when the loss is NaN or infinite.

    Parameters
    ----------
    raise_error : bool
        Raise RuntimeError at once instead of ending the training in order.

    Raises
    ------
    RuntimeError
        With ``raise_error=True``, when the loss is NaN or infinite.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.TerminateOnNaN``.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look at the loss of the epoch so far."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(
                f"TerminateOnNaN: the loss is {loss} at batch {batch}; training is stopped"
            )
        print_msg(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True
