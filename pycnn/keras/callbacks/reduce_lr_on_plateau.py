"""Reduce the learning rate when a metric no longer improves."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.keras._config import check_number
from pycnn.keras.callbacks.arguments import epoch_count
from pycnn.keras.callbacks.callback import Logs
from pycnn.keras.callbacks.learning_rate_scheduler import learning_rate_of
from pycnn.keras.callbacks.monitor import MonitorCallback
from pycnn.keras.trainers.progress import print_msg

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(MonitorCallback):
    """Multiply the learning rate by a factor when a metric has stopped improving.

    Parameters
    ----------
    monitor : str
        Name of the metric to watch.
    factor : float
        The new rate is ``rate * factor``; below 1.
    patience : int
        Epochs without improvement after which the rate is reduced.
    verbose : int
        1 prints when it happens.
    mode : str
        ``"min"``, ``"max"`` or ``"auto"``.
    min_delta : float
        Smaller changes are no improvement.
    cooldown : int
        Epochs to wait after a reduction.
    min_lr : float
        The lowest rate.

    Raises
    ------
    TypeError, ValueError
        For a number that is none, is NaN, or out of bounds: ``factor`` from 0 to below 1.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.ReduceLROnPlateau``.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        if kwargs:
            raise TypeError(
                f"ReduceLROnPlateau: unknown argument {next(iter(kwargs))!r}"
                + ("; min_delta= is today's name of epsilon=" if "epsilon" in kwargs else "")
            )
        owner = type(self).__name__
        if check_number(owner, "factor", factor, 0.0) >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got factor={factor}")
        self.factor = factor
        self.min_lr = check_number(owner, "min_lr", min_lr)
        self.patience = epoch_count(owner, "patience", patience)
        self.verbose = verbose
        self.cooldown = epoch_count(owner, "cooldown", cooldown)
        self.cooldown_counter = 0
        self.wait = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget an earlier training."""
        self.best = None
        self.cooldown_counter = 0
        self.wait = 0
        self._warned_missing = False

    def in_cooldown(self) -> bool:
        """Tell whether a reduction was made less than ``cooldown`` epochs ago."""
        return self.cooldown_counter > 0

    def _reduce(self, epoch: int) -> bool:
        optimizer = self.model.optimizer
        old = learning_rate_of(optimizer)
        if old <= float(np.float32(self.min_lr)):
            return False
        new = max(old * self.factor, self.min_lr)
        optimizer.learning_rate = new
        if self.verbose > 0:
            print_msg(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {new}.")
        return True

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Compare the metric with its best value and reduce the rate where due."""
        if isinstance(logs, dict):
            logs["learning_rate"] = learning_rate_of(self.model.optimizer)
        current = self._monitored(logs)
        if current is None:
            return
        if self.monitor_op is None:
            self._set_monitor_op()
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_improvement(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch):
                self.cooldown_counter = self.cooldown
                self.wait = 0
