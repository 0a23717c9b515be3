"""The progress bar of `fit`, `evaluate` and `predict`."""

from __future__ import annotations

from typing import Any

from pycnn.keras.callbacks.callback import Callback, Logs
from pycnn.keras.trainers.progress import Progbar, print_msg

__all__ = ["ProgbarLogger"]


class ProgbarLogger(Callback):
    """Print metrics while the model trains, as Keras prints them.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.ProgbarLogger``. Where the output does not go to a terminal
    or a notebook, only the last line of an epoch is printed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.progbar: Progbar | None = None
        self.target: int | None = None
        self.verbose: int = 1
        self.epochs = 1
        self._called_in_fit = False

    def set_params(self, params: dict[str, Any]) -> None:
        """Receive ``verbose``, ``epochs`` and ``steps``."""
        super().set_params(params)
        verbose = params["verbose"]
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self.epochs = params["epochs"]
        self.target = params["steps"]

    def on_train_begin(self, logs: Logs = None) -> None:
        """Remember that validations within `fit` are silent."""
        self._called_in_fit = True

    def on_test_begin(self, logs: Logs = None) -> None:
        """Start the bar of `evaluate`."""
        if not self._called_in_fit:
            self._start()

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Start the bar of `predict`."""
        self._start()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Print the epoch's number and start its bar."""
        self._start()
        if self.verbose and self.epochs > 1:
            print_msg(f"Epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Move the bar."""
        self._update(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Move the bar of `evaluate`."""
        if not self._called_in_fit:
            self._update(batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Move the bar of `predict`."""
        self._update(batch, None)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Print the last line of the epoch."""
        self._finish(logs)

    def on_test_end(self, logs: Logs = None) -> None:
        """Print the last line of `evaluate`."""
        if not self._called_in_fit:
            self._finish(logs)

    def on_predict_end(self, logs: Logs = None) -> None:
        """Print the last line of `predict`."""
        self._finish(logs)

    def wants_update(self, now: float) -> bool:
        """Tell whether the bar would be redrawn at the time ``now``."""
        return self.progbar is None or self.progbar.wants_update(now)

    def break_line(self) -> None:
        """End a half-drawn line, so that a traceback starts on its own."""
        if self.progbar is not None:
            self.progbar.break_line()

    def _start(self) -> None:
        self.seen = 0
        self.progbar = Progbar(
            self.target, verbose=self.verbose, unit_name="step", stateless_metrics=set()
        )

    def _update(self, batch: int, logs: Logs) -> None:
        self.seen = batch + 1
        if self.progbar is None:
            self._start()
        assert self.progbar is not None
        if self.verbose == 1:
            self.progbar.update(self.seen, list((logs or {}).items()), finalize=False)

    def _finish(self, logs: Logs) -> None:
        if self.progbar is None:
            return
        if self.target is None:
            self.target = self.seen
            self.progbar.target = self.target
        self.progbar.update(self.target, list((logs or {}).items()), finalize=True)
