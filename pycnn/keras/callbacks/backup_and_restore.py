"""Continue a training that was cut off."""

from __future__ import annotations

import json
import os
import shutil

from pycnn.keras.callbacks.arguments import path_text, save_frequency
from pycnn.keras.callbacks.callback import Callback, Logs, batch_hook_if

__all__ = ["BackupAndRestore"]


class BackupAndRestore(Callback):
    """Save the state of a training, and continue from it when `fit` is called again.

    Parameters
    ----------
    backup_dir : str or PathLike
        A directory of its own; it is deleted after the training.
    save_freq : "epoch", int or False
        After every epoch, or after so many batches.
    double_checkpoint : bool
        Keep the state before the last one, too.
    delete_checkpoint : bool
        Delete ``backup_dir`` when the training has ended.

    Raises
    ------
    TypeError, ValueError
        For a ``backup_dir`` that is empty or no path, or an unknown ``save_freq``.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.BackupAndRestore``.
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int | bool = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.backup_dir = path_text(owner, "backup_dir", backup_dir, "backup")
        self.save_freq = save_frequency(owner, save_freq, or_false=True)
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._batches = 0
        self._last_batch_seen = 0
        self._current_epoch = 0
        self._weights = os.path.join(self.backup_dir, "latest.weights.h5")
        self._metadata = os.path.join(self.backup_dir, "training_metadata.json")

    @property
    def _saves_by_batch(self) -> bool:
        return self.save_freq != "epoch" and self.save_freq is not False

    def on_train_begin(self, logs: Logs = None) -> None:
        """Load the saved state, where there is one."""
        if not self.model.built:
            raise ValueError(
                "BackupAndRestore needs a model that knows its input's shape: put an Input layer "
                "first, or call model.build(...) before fit()"
            )
        try:
            self._load(self._weights, self._metadata)
        except OSError:
            if not os.path.exists(self._previous(self._weights)):
                raise
            self._load(self._previous(self._weights), self._previous(self._metadata))

    @staticmethod
    def _previous(path: str) -> str:
        # The weights' file must keep its ending to be recognised.
        directory, name = os.path.split(path)
        return os.path.join(directory, f"previous_{name}")

    def _load(self, weights: str, metadata: str) -> None:
        if os.path.exists(weights):
            optimizer = self.model.optimizer
            if optimizer is not None and not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            self.model.load_weights(weights)
        if os.path.exists(metadata):
            with open(metadata) as file:
                self.model._initial_epoch = int(json.load(file)["epoch"])

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Save after the epoch."""
        self._current_epoch = epoch + 1
        self._last_batch_seen = 0
        if self.save_freq == "epoch":
            self._save()

    @batch_hook_if("_saves_by_batch")
    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Save after ``save_freq`` batches."""
        if not self._saves_by_batch:
            return
        seen = self._last_batch_seen
        self._batches += batch + 1 if batch <= seen else batch - seen
        self._last_batch_seen = batch
        if self._batches >= int(self.save_freq):
            self._batches = 0
            self._save()

    def _save(self) -> None:
        os.makedirs(self.backup_dir, exist_ok=True)
        if self.double_checkpoint:
            for path in (self._weights, self._metadata):
                if os.path.exists(path):
                    shutil.copyfile(path, self._previous(path))
        self.model.save_weights(self._weights, overwrite=True)
        with open(self._metadata, "w") as file:
            json.dump({"epoch": self._current_epoch, "batch": self._last_batch_seen}, file)

    def on_train_end(self, logs: Logs = None) -> None:
        """Delete the saved state: the training is complete."""
        if self.delete_checkpoint and os.path.isdir(self.backup_dir):
            shutil.rmtree(self.backup_dir)
