"""What callbacks that watch one metric have in common."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from pycnn.keras._config import check_number
from pycnn.keras.callbacks.arguments import level
from pycnn.keras.callbacks.callback import Callback, Logs

__all__ = ["MonitorCallback", "missing_key_text"]

_LARGER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "r2")
_SMALLER_IS_BETTER = ("loss", "error", "mse", "mae", "mape", "msle", "crossentropy", "hinge")
_MISSING_VALIDATION = (
    "no validation data was given: pass validation_data=(x_val, y_val) or validation_split=0.1 "
    "to fit()"
)


def missing_key_text(key: str, keys: Iterable[str], validation: bool | None = None) -> str:
    """Return what there is instead of the metric ``key``, and what was probably meant.

    Parameters
    ----------
    key : str
        The name that was asked for.
    keys : iterable of str
        The names there are.
    validation : bool, optional
        Whether `fit` was given validation data; by default told from the names.
    """
    names = list(keys)
    text = f"the keys are {', '.join(map(repr, names))}" if names else "it is still empty"
    if validation is None:
        validation = any(name.startswith("val_") for name in names)
    if key.startswith("val_") and not validation:
        if names:
            text += f"; {_MISSING_VALIDATION}"
        key, names = key, [f"val_{name}" for name in names]
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    stem = key.removeprefix("val_")
    if not near:
        near = [n for n in names if stem and stem in n and n.startswith("val_") == (stem != key)]
    if near and near[0] != key:
        text += f"; did you mean {near[0]!r}?"
    return text


class MonitorCallback(Callback):
    """Base of callbacks that watch one metric.

    Parameters
    ----------
    monitor : str
        Name of the metric, as `fit` prints it.
    mode : str
        ``"min"``, ``"max"`` or ``"auto"``: chosen by the metric.
    baseline : float, optional
        The first value to beat.
    min_delta : float
        Smaller changes are no improvement.

    Raises
    ------
    TypeError, ValueError
        For a number that is none, or NaN.

    Notes
    -----
    Source: Keras 3 ``MonitorCallback``. Where Keras refuses a metric whose direction it does not
    know, the name is also looked at.
    """

    # The argument that a class gives as ``baseline``, for messages.
    _baseline_name = "baseline"

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        baseline: float | None = None,
        min_delta: float = 0,
    ) -> None:
        super().__init__()
        if not isinstance(monitor, str):
            raise TypeError(
                f"{type(self).__name__}: monitor must be the name of a metric such as 'val_loss', "
                f"got {monitor!r}"
            )
        if mode not in ("auto", "min", "max"):
            warnings.warn(
                f"{type(self).__name__}: mode must be 'auto', 'min' or 'max', got {mode!r}; "
                "using 'auto'",
                stacklevel=3,
            )
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        owner = type(self).__name__
        self.best: float | None = None
        if baseline is not None:
            self.best = level(owner, self._baseline_name, baseline)
        self.min_delta = abs(check_number(owner, "min_delta", min_delta))
        self.monitor_op: Any = None
        self._warned_missing = False

    def _set_monitor_op(self) -> None:
        """Choose the comparison; called when the model's metrics are known."""
        mode = self.mode if self.mode != "auto" else self._direction()
        if mode == "max":
            self.monitor_op = np.greater
        else:
            self.monitor_op = np.less
            self.min_delta *= -1

    def _direction(self) -> str:
        """Return ``"min"`` or ``"max"`` for the monitored metric."""
        name = self.monitor.removeprefix("val_")
        if name == "loss" or name.endswith("_loss"):
            return "min"
        for metric in getattr(self.model, "metrics", []):
            for one in getattr(metric, "metrics", [metric]):
                direction = getattr(one, "_direction", None)
                if one.name == name and direction is not None:
                    return "max" if direction == "up" else "min"
        lowered = name.lower()
        if any(word in lowered for word in _SMALLER_IS_BETTER):
            return "min"
        if any(word in lowered for word in _LARGER_IS_BETTER):
            return "max"
        raise ValueError(
            f"{type(self).__name__}: cannot tell whether monitor={self.monitor!r} should become "
            "large or small: pass mode='max' or mode='min'"
        )

    def _is_improvement(self, value: float, reference: float | None) -> bool:
        """Tell whether ``value`` beats ``reference`` by more than ``min_delta``."""
        if reference is None:
            return True
        return bool(self.monitor_op(value - self.min_delta, reference))

    def _monitored(self, logs: Logs) -> float | None:
        """Return the monitored value, or warn once with the names there are."""
        logs = logs or {}
        value: float | None = logs.get(self.monitor)
        if value is None and not self._warned_missing:
            given = bool(getattr(self.model, "_validation_given", False))
            has_validation = any(name.startswith("val_") for name in logs)
            if self.monitor.startswith("val_") and given and not has_validation:
                return None  # validation_freq leaves this epoch out
            self._warned_missing = True
            warnings.warn(
                f"{type(self).__name__}: the metric monitor={self.monitor!r} is not available: "
                + missing_key_text(self.monitor, logs, given or has_validation),
                stacklevel=3,
            )
        return value
