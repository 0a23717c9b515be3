"""Save the model while it trains."""

from __future__ import annotations

import os
import warnings
from typing import Any

from pycnn.keras.callbacks.arguments import path_text, placeholders, save_frequency
from pycnn.keras.callbacks.callback import Logs, batch_hook_if
from pycnn.keras.callbacks.monitor import MonitorCallback, missing_key_text
from pycnn.keras.trainers.progress import print_msg

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(MonitorCallback):
    """Save the model, or its weights, after epochs or batches.

    Parameters
    ----------
    filepath : str or PathLike
        Where to save; may hold ``{epoch:02d}`` and the names of metrics as in
        ``"{val_loss:.2f}.keras"``. Ends in ``.keras``, or in ``.weights.h5`` with
        ``save_weights_only=True``.
    monitor : str
        The metric that tells the best model.
    verbose : int
        1 prints what is saved.
    save_best_only : bool
        Save only when the metric improves.
    save_weights_only : bool
        Save the weights instead of the whole model.
    mode : str
        ``"min"``, ``"max"`` or ``"auto"``.
    save_freq : "epoch" or int
        After every epoch, or after so many batches.
    initial_value_threshold : float, optional
        The first value to beat.

    Raises
    ------
    TypeError, ValueError
        For a file name of another ending or with braces that hold no name, a wrong ``save_freq``
        or ``initial_value_threshold``.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.ModelCheckpoint``.
    """

    _baseline_name = "initial_value_threshold"

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, initial_value_threshold)
        self.verbose = verbose
        owner = type(self).__name__
        self.filepath = path_text(owner, "filepath", filepath, "best.keras")
        self._placeholders = placeholders(owner, "filepath", self.filepath)
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_frequency(owner, save_freq)
        self._batches_seen_since_last_saving = 0
        self._last_batch_seen: int | None = None
        self._current_epoch = 0
        if save_weights_only:
            if not self.filepath.endswith(".weights.h5"):
                raise ValueError(
                    "ModelCheckpoint: with save_weights_only=True filepath must end in "
                    f"'.weights.h5', got {self.filepath!r}"
                )
        elif not self.filepath.endswith((".keras", ".h5")):
            raise ValueError(
                f"ModelCheckpoint: filepath must end in '.keras', got {self.filepath!r}"
            )

    @property
    def _saves_by_batch(self) -> bool:
        return self.save_freq != "epoch"

    def on_train_begin(self, logs: Logs = None) -> None:
        """Warn of names in ``filepath`` that are no metric, before an epoch is spent.

        A warning only: another callback may add to the logs.
        """
        present = getattr(self.model, "get_metrics_result", None)
        wanted = [n for n in self._placeholders if n not in ("epoch", "batch", "learning_rate")]
        if not wanted or present is None:
            return
        names = list(present())
        if getattr(self.model, "_validation_given", False) and not self._saves_by_batch:
            names += [f"val_{name}" for name in names]
        for name in wanted:
            if name not in names:
                warnings.warn(
                    f"ModelCheckpoint: filepath {self.filepath!r} names {name!r}, which is no "
                    "metric of this training; saving fails unless a callback adds it: "
                    + missing_key_text(name, ["epoch", *names]),
                    stacklevel=5,
                )

    @batch_hook_if("_saves_by_batch")
    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Save after ``save_freq`` batches."""
        if self._should_save_on_batch(batch):
            self._save_model(self._current_epoch, batch, logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Remember the epoch for the file's name."""
        self._current_epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Save after the epoch."""
        if self.save_freq == "epoch":
            self._save_model(epoch, None, logs)

    def _should_save_on_batch(self, batch: int) -> bool:
        """Count batches across epochs; with several steps a call ``batch`` may jump."""
        if not isinstance(self.save_freq, int):
            return False
        if self._last_batch_seen is None or batch <= self._last_batch_seen:
            self._batches_seen_since_last_saving += batch + 1
        else:
            self._batches_seen_since_last_saving += batch - self._last_batch_seen
        self._last_batch_seen = batch
        if self._batches_seen_since_last_saving < self.save_freq:
            return False
        self._batches_seen_since_last_saving = 0
        return True

    def _should_save(self, epoch: int, logs: Logs, path: str) -> bool:
        if not self.save_best_only:
            if self.verbose > 0:
                print_msg(f"\nEpoch {epoch + 1}: saving model to {path}")
            return True
        current: Any = (logs or {}).get(self.monitor)
        if current is None:
            if not self._warned_missing:
                self._warned_missing = True
                given = getattr(self.model, "_validation_given", None)
                warnings.warn(
                    f"ModelCheckpoint: save_best_only=True needs the metric "
                    f"monitor={self.monitor!r}, which is not available, so every epoch is saved: "
                    + missing_key_text(self.monitor, logs or {}, given),
                    stacklevel=4,
                )
            return True
        if self.monitor_op is None:
            self._set_monitor_op()
        best = "None" if self.best is None else f"{self.best:.5f}"
        if self._is_improvement(current, self.best):
            if self.verbose > 0:
                print_msg(
                    f"\nEpoch {epoch + 1}: {self.monitor} improved from {best} to {current:.5f}, "
                    f"saving model to {path}"
                )
            self.best = current
            return True
        if self.verbose > 0:
            print_msg(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {best}")
        return False

    def _save_model(self, epoch: int, batch: int | None, logs: Logs) -> None:
        path = self._file_path(epoch, batch, logs or {})
        if not self._should_save(epoch, logs, path):
            return
        if os.path.isdir(path):
            raise OSError(
                f"ModelCheckpoint: filepath {path!r} is a directory; give the name of a file"
            )
        directory = os.path.dirname(path)
        if directory:
            os.makedirs(directory, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)
        if self.verbose > 0:
            print_msg(f"\nEpoch {epoch + 1}: finished saving model to {path}")

    def _file_path(self, epoch: int, batch: int | None, logs: Any) -> str:
        """Fill the placeholders of ``filepath``."""
        try:
            if batch is None or "batch" in logs:
                return self.filepath.format(epoch=epoch + 1, **logs)
            return self.filepath.format(epoch=epoch + 1, batch=batch + 1, **logs)
        except KeyError as error:
            name = str(error.args[0])
            raise KeyError(
                f"ModelCheckpoint: filepath {self.filepath!r} names {name!r}: "
                + missing_key_text(name, ["epoch", *logs])
            ) from None
