"""Stop when a metric no longer improves."""

from __future__ import annotations

from typing import Any

from pycnn.keras.callbacks.arguments import epoch_count, level
from pycnn.keras.callbacks.callback import Logs
from pycnn.keras.callbacks.monitor import MonitorCallback
from pycnn.keras.trainers.progress import print_msg

__all__ = ["EarlyStopping"]


class EarlyStopping(MonitorCallback):
    """Stop training when a metric has stopped improving.

    Parameters
    ----------
    monitor : str
        Name of the metric to watch.
    min_delta : float
        Smaller changes are no improvement.
    patience : int
        Epochs without improvement after which training stops.
    verbose : int
        1 prints when it stops.
    mode : str
        ``"min"``, ``"max"`` or ``"auto"``.
    baseline : float, optional
        Training stops if the model does not beat this value within ``patience`` epochs.
    restore_best_weights : bool
        Go back to the weights of the best epoch at the end.
    start_from_epoch : int
        Epochs to wait before watching.

    Raises
    ------
    TypeError, ValueError
        For a number that is none, is NaN, or a negative number of epochs.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.EarlyStopping``.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        owner = type(self).__name__
        self.patience = epoch_count(owner, "patience", patience)
        self.verbose = verbose
        self.baseline = None if baseline is None else level(owner, "baseline", baseline)
        self.wait = 0
        self.stopped_epoch = 0
        self.restore_best_weights = restore_best_weights
        self.best_weights: list[Any] | None = None
        self.best_epoch = 0
        self.start_from_epoch = epoch_count(owner, "start_from_epoch", start_from_epoch)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget an earlier training, so that the object can be used again."""
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_weights = None
        self.best_epoch = 0
        self._warned_missing = False

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Compare the metric with its best value."""
        current = self._monitored(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        if self.monitor_op is None:
            self._set_monitor_op()
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if self._is_improvement(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._is_improvement(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Say that it stopped, and restore the best weights where asked."""
        if self.stopped_epoch > 0 and self.verbose > 0:
            print_msg(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print_msg(
                    "Restoring model weights from the end of the best epoch: "
                    f"{self.best_epoch + 1}."
                )
            self.model.set_weights(self.best_weights)
