"""Which metric the names "accuracy" and "crossentropy" mean, told from shapes."""

from __future__ import annotations

from collections.abc import Sequence

from pycnn.keras.metrics.accuracy import (
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
)
from pycnn.keras.metrics.metric import Metric
from pycnn.keras.metrics.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)

__all__ = ["choose_metric"]


def choose_metric(
    name: str, y_true_shape: Sequence[int], y_pred_shape: Sequence[int]
) -> Metric | None:
    """Return the metric that a general name means for targets and outputs of these shapes.

    One output column means binary, targets without or with one column class numbers, others
    one-hot. The metric keeps the name given, so that ``history["accuracy"]`` is found.

    Returns
    -------
    Metric or None
        None if `name` is no general name.
    """
    lowered = name.lower()
    if lowered not in ("accuracy", "acc", "crossentropy", "ce"):
        return None
    binary = bool(y_pred_shape) and y_pred_shape[-1] == 1
    sparse = len(y_true_shape) < len(y_pred_shape) or (
        bool(y_true_shape) and y_true_shape[-1] == 1 and y_pred_shape[-1] > 1
    )
    if lowered in ("accuracy", "acc"):
        if binary:
            return BinaryAccuracy(name=name)
        return SparseCategoricalAccuracy(name=name) if sparse else CategoricalAccuracy(name=name)
    if binary:
        return BinaryCrossentropy(name=name)
    if sparse:
        return SparseCategoricalCrossentropy(name=name)
    return CategoricalCrossentropy(name=name)
