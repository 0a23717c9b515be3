"""Set the learning rate by epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn.keras.callbacks.callback import Callback, Logs
from pycnn.keras.trainers.progress import print_msg

__all__ = ["LearningRateScheduler", "learning_rate_of"]


def learning_rate_of(optimizer: Any) -> float:
    """Return the present learning rate of ``optimizer`` as a Python float."""
    if not hasattr(optimizer, "learning_rate"):
        raise ValueError(
            f"the optimizer {type(optimizer).__name__} has no learning_rate: compile the model "
            "with one of pycnn.keras.optimizers"
        )
    return float(np.asarray(optimizer.learning_rate))


class LearningRateScheduler(Callback):
    """Set the learning rate at the start of every epoch.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, lr) -> float``, the epoch counted from 0; ``schedule(epoch)`` works too.
    verbose : int
        1 prints the rate of every epoch.

    Raises
    ------
    ValueError
        If ``schedule`` returns something that is no float.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.LearningRateScheduler``.

    Examples
    --------
    >>> halve = LearningRateScheduler(lambda epoch, lr: lr * (0.5 if epoch % 5 == 4 else 1.0))
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(
                "LearningRateScheduler: schedule must be a function of (epoch, lr), got "
                f"{schedule!r}"
            )
        self.schedule = schedule
        self.verbose = verbose

    def _next_rate(self, epoch: int, rate: float) -> float:
        try:
            inspect.signature(self.schedule).bind(epoch, rate)
            both = True
        except TypeError:
            both = False
        except ValueError:  # no signature to be had
            both = True
        value = self.schedule(epoch, rate) if both else self.schedule(epoch)
        if hasattr(value, "numpy"):
            value = float(np.asarray(value))
        if not isinstance(value, (float, np.floating)):
            raise ValueError(
                "LearningRateScheduler: schedule must return a float, got "
                f"{value!r} of type {type(value).__name__} for epoch {epoch}"
            )
        return float(value)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Ask the schedule and set the rate."""
        optimizer = self.model.optimizer
        rate = self._next_rate(epoch, learning_rate_of(optimizer))
        optimizer.learning_rate = rate
        if self.verbose > 0:
            print_msg(
                f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}."
            )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Add ``learning_rate`` to the metrics of the epoch."""
        if isinstance(logs, dict):
            logs["learning_rate"] = learning_rate_of(self.model.optimizer)
