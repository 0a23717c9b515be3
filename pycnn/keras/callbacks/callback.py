"""The base class of callbacks and the questions the training loop asks about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["Callback", "Logs", "batch_hook_if", "is_default", "wants_batches"]

Logs = Mapping[str, Any] | None

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _default(method: _Method) -> _Method:
    """Mark a hook of the base class, so that an override can be told from it."""
    method._is_default = True  # type: ignore[attr-defined]
    return method


def is_default(method: Callable[..., Any]) -> bool:
    """Tell whether ``method`` is a hook that nobody has overridden."""
    return bool(getattr(method, "_is_default", False))


def batch_hook_if(attribute: str) -> Callable[[_Method], _Method]:
    """Mark a per-batch hook that does nothing unless ``attribute`` of its callback is true.

    The training loop computes the running metrics for a batch only when a hook wants to see them.
    """

    def mark(method: _Method) -> _Method:
        method._needed_if = attribute  # type: ignore[attr-defined]
        return method

    return mark


def wants_batches(callback: Any, mode: str) -> bool:
    """Tell whether ``callback`` looks at single batches.

    Parameters
    ----------
    callback : Callback
        Any object with the hooks of :class:`Callback`.
    mode : str
        ``"train"``, ``"test"`` or ``"predict"``.
    """
    names = [f"on_{mode}_batch_begin", f"on_{mode}_batch_end"]
    if mode == "train":
        names += ["on_batch_begin", "on_batch_end"]
    for name in names:
        hook = getattr(callback, name, None)
        if hook is None or is_default(hook):
            continue
        condition = getattr(hook, "_needed_if", None)
        if condition is None or getattr(callback, condition):
            return True
    return False


class Callback:
    """Base class of callbacks: override the hooks you need.

    A hook is called at its moment of `fit`, `evaluate` or `predict`. Overriding a hook of single
    batches makes the loop compute the running metrics after every batch; hooks of epochs cost
    nothing.

    Attributes
    ----------
    params : dict
        ``verbose``, ``epochs`` and ``steps`` of the call.
    model : Model
        The model that is trained.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.Callback``.

    Examples
    --------
    >>> class Stop(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         if logs["accuracy"] > 0.99:
    ...             self.model.stop_training = True
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] | None = None
        self._model: Any = None

    def set_params(self, params: dict[str, Any]) -> None:
        """Receive the settings of the call: ``verbose``, ``epochs``, ``steps``."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Receive the model before anything else is called."""
        self._model = model

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self._model

    @_default
    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """An older name of :meth:`on_train_batch_begin`."""

    @_default
    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """An older name of :meth:`on_train_batch_end`."""

    @_default
    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Called when an epoch of training starts; ``epoch`` counts from 0."""

    @_default
    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Called when an epoch has ended; ``logs`` holds its metrics, ``val_...`` included."""

    @_default
    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a training batch; ``batch`` counts from 0 in its epoch."""
        self.on_batch_begin(batch, logs=logs)

    @_default
    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called after a training batch; ``logs`` holds the metrics of the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    @_default
    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a batch of `evaluate`, or of validation within `fit`."""

    @_default
    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called after a batch of `evaluate`; ``logs`` holds the metrics so far."""

    @_default
    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Called before a batch of `predict`."""

    @_default
    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Called after a batch of `predict`; ``logs["outputs"]`` holds its outputs."""

    @_default
    def on_train_begin(self, logs: Logs = None) -> None:
        """Called once when `fit` starts."""

    @_default
    def on_train_end(self, logs: Logs = None) -> None:
        """Called once when `fit` ends; ``logs`` are those of the last epoch."""

    @_default
    def on_test_begin(self, logs: Logs = None) -> None:
        """Called when `evaluate` or a validation starts."""

    @_default
    def on_test_end(self, logs: Logs = None) -> None:
        """Called when `evaluate` or a validation ends; ``logs`` holds its metrics."""

    @_default
    def on_predict_begin(self, logs: Logs = None) -> None:
        """Called when `predict` starts."""

    @_default
    def on_predict_end(self, logs: Logs = None) -> None:
        """Called when `predict` ends."""
