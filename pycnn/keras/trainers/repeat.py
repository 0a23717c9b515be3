"""The same call again: a batch of the shapes and dtypes of the last one goes straight to its step.

`train_on_batch`, `test_on_batch` and `predict_on_batch` are called in loops. What the first call
found out (what the arrays mean, whether they fit the model, which step computes them, which metrics
there are and in which order they are returned) holds for the next one if the arrays are described
by the same words and the model is unchanged. Only the numbers of labels are checked anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn.keras.trainers import checks
from pycnn.keras.trainers.step import Step, StepData, signature

__all__ = ["Repeat", "remember", "repeated"]


class Repeat:
    """What is known about calls with plain arrays: one x, and one y or none.

    Parameters
    ----------
    model : Model
        The model called.
    step : Step
        What computes the batch.
    inputs : StepData
        The arrays of the first call, for their shapes and dtypes.
    losses : sequence of (Loss, output shape, layer name)
        What the labels' numbers are checked against.
    metrics : dict
        The metrics by the names of their results.
    reset : sequence of Metric
        All that start anew with a call: of metrics of one name only the last has results.
    """

    def __init__(
        self,
        model: Any,
        step: Step,
        inputs: StepData,
        losses: Any,
        metrics: dict[str, Any],
        reset: Sequence[Any],
    ) -> None:
        x, y, _ = inputs.structures
        self.step = step
        self._known = signature(model)
        self._x = (x.shape, x.dtype)
        self._y = None if y is None else (y.shape, y.dtype)
        self._losses = losses
        self._metrics = metrics
        self._reset = reset
        self._names: list[str] = []
        self._order: list[str] = []

    def takes(self, model: Any, x: Any, y: Any) -> bool:
        """Tell whether a call is like the first.

        Raises
        ------
        ValueError
            If labels do not fit the loss.
        """
        if type(x) is not np.ndarray or (x.shape, x.dtype) != self._x or not _readable(x):
            return False
        if self._y is None:
            if y is not None:
                return False
        elif type(y) is not np.ndarray or (y.shape, y.dtype) != self._y or not _readable(y):
            return False
        if signature(model) != self._known or not self.step.updates_by(model.optimizer):
            return False
        for loss, shape, layer in self._losses:
            checks.check_label_values(loss, y, shape, layer)
        return True

    def reset_metrics(self) -> None:
        """Start all metrics anew."""
        for metric in self._reset:
            metric.reset_state()

    def results(self, model: Any, return_dict: bool) -> Any:
        """Return the results of all metrics, as the model's methods do."""
        logs = model._logs(self._metrics)
        if return_dict:
            return dict(sorted(logs.items()))
        names = list(logs)
        if names != self._names:
            self._names, self._order = names, model._order_of_results(names)
        values = [logs[name] for name in self._order]
        return values[0] if len(values) == 1 else values


def _readable(array: np.ndarray) -> bool:
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def repeated(model: Any, mode: str, x: Any, y: Any) -> Repeat | None:
    """Return what is known of the last call of this kind, if this one is like it."""
    known: Repeat | None = model._fit_state.repeats.get(mode)
    return known if known is not None and known.takes(model, x, y) else None


def remember(model: Any, mode: str, x: Any, y: Any, inputs: StepData, step: Step) -> None:
    """Keep what was found out about a call, for the next one like it."""
    given, labels, weights = inputs.structures
    if given is not x or labels is not y or type(x) is not np.ndarray or weights is not None:
        return  # the step reads something made of the user's arrays, or weights beside them
    predicts = mode == "predict"
    if not predicts and model._has_own("metrics", "reset_metrics", "get_metrics_result"):
        return
    losses = [
        (loss, shape, layer)
        for loss, _, shape, layer in ([] if predicts else model._label_checks(labels))
        if checks.looks_at_values(loss)
    ]
    metrics = {} if predicts else model._named_metrics()
    reset = [] if predicts else model.metrics
    model._fit_state.repeats[mode] = Repeat(model, step, inputs, losses, metrics, reset)
