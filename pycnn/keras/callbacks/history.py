"""The record of a training: metrics by epoch."""

from __future__ import annotations

from typing import Any, NoReturn

from pycnn.keras.callbacks.callback import Callback, Logs
from pycnn.keras.callbacks.monitor import missing_key_text

__all__ = ["History", "HistoryDict"]


class HistoryDict(dict[str, list[Any]]):
    """A dict of lists by metric whose ``KeyError`` says which metrics there are."""

    def __missing__(self, key: object) -> NoReturn:
        raise KeyError(f"history.history has no {key!r}: {missing_key_text(str(key), self)}")


class History(Callback):
    """Record the metrics of every epoch; `fit` adds one and returns it.

    Attributes
    ----------
    history : dict
        A list with one value an epoch for ``loss``, every metric and every ``val_...``.
    epoch : list of int
        The epochs that were finished.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.History``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: HistoryDict = HistoryDict()
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        """Start a new list of epochs; the metrics of an earlier `fit` are kept."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Append the metrics of the epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self
