"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn.keras.callbacks.callback import Callback

__all__ = ["LambdaCallback"]


class LambdaCallback(Callback):
    """Make a callback of functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        Functions of ``(epoch, logs)``.
    on_train_begin, on_train_end : callable, optional
        Functions of ``(logs)``.
    on_train_batch_begin, on_train_batch_end : callable, optional
        Functions of ``(batch, logs)``.
    **kwargs
        Any other hook of :class:`Callback`, by its name.

    Notes
    -----
    Source: Keras 3 ``keras.callbacks.LambdaCallback``.

    Examples
    --------
    >>> shout = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, function in hooks.items():
            if function is not None and not callable(function):
                raise TypeError(f"LambdaCallback: {name} must be a function, got {function!r}")
        self.__dict__.update(kwargs)
        self.__dict__.update({n: f for n, f in hooks.items() if f is not None})
