"""A list of callbacks that is called like one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycnn.keras.callbacks.callback import Callback, Logs, wants_batches
from pycnn.keras.callbacks.history import History
from pycnn.keras.callbacks.progbar_logger import ProgbarLogger

__all__ = ["CallbackList", "python_logs"]


def python_logs(logs: Logs) -> dict[str, Any]:
    """Return ``logs`` as a new dict of Python numbers, sorted by name as Keras sorts it."""
    result: dict[str, Any] = {}
    for name, value in sorted((logs or {}).items()):
        if isinstance(value, dict):
            result.update(python_logs(value))
            continue
        try:
            result[name] = float(value)
        except (TypeError, ValueError):
            result[name] = value
    return result


def _flatten(callbacks: Any) -> list[Any]:
    """Return the callbacks of a callback, a list, or nested lists of them."""
    if callbacks is None:
        return []
    if isinstance(callbacks, dict):
        callbacks = list(callbacks.values())
    if isinstance(callbacks, Iterable) and not isinstance(callbacks, (str, Callback)):
        return [one for item in callbacks for one in _flatten(item)]
    if isinstance(callbacks, type):
        raise TypeError(
            f"callbacks: got the class {callbacks.__name__}, expected an object: write "
            f"callbacks=[{callbacks.__name__}(...)]"
        )
    if not hasattr(callbacks, "set_model") or not hasattr(callbacks, "on_epoch_end"):
        raise TypeError(
            "callbacks: expected Callback objects such as callbacks=[EarlyStopping()], got "
            f"{callbacks!r} of type {type(callbacks).__name__}"
        )
    return [callbacks]


class CallbackList(Callback):
    """Call several callbacks in their order.

    Parameters
    ----------
    callbacks : list of Callback, optional
        The user's callbacks.
    add_history : bool
        Append a :class:`History` where none is in the list.
    add_progbar : bool
        Append a :class:`ProgbarLogger` where none is in the list.
    model : Model, optional
        Handed to every callback.
    **params
        ``verbose``, ``epochs`` and ``steps``; handed to every callback.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.CallbackList``. Hooks always run in the caller's thread.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ) -> None:
        super().__init__()
        self.callbacks: list[Any] = _flatten(callbacks)
        self._history: History | None = None
        self._progbar: ProgbarLogger | None = None
        for callback in self.callbacks:
            if isinstance(callback, ProgbarLogger):
                self._progbar = callback
            elif isinstance(callback, History):
                self._history = callback
        if self._history is None and add_history:
            self._history = History()
            self.callbacks.append(self._history)
        if self._progbar is None and add_progbar:
            self._progbar = ProgbarLogger()
            self.callbacks.append(self._progbar)
        self.set_model(model)
        self.set_params(params)

    @property
    def progbar(self) -> ProgbarLogger | None:
        """The progress bar among the callbacks."""
        return self._progbar

    def append(self, callback: Any) -> None:
        """Add a callback at the end."""
        self.callbacks.extend(_flatten(callback))

    def set_params(self, params: dict[str, Any]) -> None:
        """Hand the settings of the call to every callback."""
        self.params = params
        if params:
            for callback in self.callbacks:
                callback.set_params(params)

    def set_model(self, model: Any) -> None:
        """Hand the model to every callback."""
        if model is None:
            return
        super().set_model(model)
        if self._history is not None:
            model.history = self._history
        for callback in self.callbacks:
            callback.set_model(model)

    def wants_batches(self, mode: str) -> bool:
        """Tell whether a callback other than the progress bar looks at single batches."""
        return any(
            wants_batches(callback, mode)
            for callback in self.callbacks
            if type(callback) is not ProgbarLogger
        )

    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Call ``on_batch_begin`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_batch_begin(batch, logs=values)

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Call ``on_batch_end`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_batch_end(batch, logs=values)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Call ``on_epoch_begin`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, values)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Call ``on_epoch_end`` of every callback; they share one dict of logs."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, values)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Call ``on_train_batch_begin`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_train_batch_begin(batch, logs=values)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Call ``on_train_batch_end`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs=values)

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Call ``on_test_batch_begin`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_test_batch_begin(batch, logs=values)

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Call ``on_test_batch_end`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_test_batch_end(batch, logs=values)

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Call ``on_predict_batch_begin`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_predict_batch_begin(batch, logs=values)

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Call ``on_predict_batch_end`` of every callback."""
        values = dict(logs or {})
        for callback in self.callbacks:
            callback.on_predict_batch_end(batch, logs=values)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Call ``on_train_begin`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_train_begin(values)

    def on_train_end(self, logs: Logs = None) -> None:
        """Call ``on_train_end`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_train_end(values)

    def on_test_begin(self, logs: Logs = None) -> None:
        """Call ``on_test_begin`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_test_begin(values)

    def on_test_end(self, logs: Logs = None) -> None:
        """Call ``on_test_end`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_test_end(values)

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Call ``on_predict_begin`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_predict_begin(values)

    def on_predict_end(self, logs: Logs = None) -> None:
        """Call ``on_predict_end`` of every callback."""
        values = python_logs(logs)
        for callback in self.callbacks:
            callback.on_predict_end(values)
