"""Metrics: numbers that describe a model, gathered over many batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycnn.keras._config import deserialize_object, get_object, serialize_object
from pycnn.keras._naming import snake_case
from pycnn.keras.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from pycnn.keras.metrics._choose import choose_metric as choose_metric
from pycnn.keras.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from pycnn.keras.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)
from pycnn.keras.metrics.metric import Metric
from pycnn.keras.metrics.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    Poisson,
    SparseCategoricalCrossentropy,
)
from pycnn.keras.metrics.reduction import Mean, MeanMetricWrapper, Sum
from pycnn.keras.metrics.regression import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    RootMeanSquaredError,
    SquaredHinge,
)

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "FalseNegatives",
    "FalsePositives",
    "Hinge",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "Poisson",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "binary_accuracy",
    "binary_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_hinge",
    "deserialize",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "serialize",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
]

_NO_METRICS = ("Metric", "deserialize", "get", "serialize")
_CLASSES: dict[str, Any] = {
    name: globals()[name] for name in __all__ if name[0].isupper() and name not in _NO_METRICS
}
_FUNCTIONS: dict[str, Any] = {
    name: globals()[name] for name in __all__ if name[0].islower() and name not in _NO_METRICS
}
# As in Keras a name in small letters means the class too, not the function.
_TABLE: dict[str, Any] = {**_FUNCTIONS, **_CLASSES}
_TABLE.update({snake_case(name): cls for name, cls in _CLASSES.items()})
for _short, _class in (
    ("acc", Accuracy),
    ("bce", BinaryCrossentropy),
    ("mse", MeanSquaredError),
    ("mae", MeanAbsoluteError),
    ("mape", MeanAbsolutePercentageError),
    ("msle", MeanSquaredLogarithmicError),
):
    _TABLE[_short] = _TABLE[_short.upper()] = _class
_ABSENT = (
    "AUC",
    "BinaryIoU",
    "ConcordanceCorrelation",
    "F1Score",
    "FBetaScore",
    "IoU",
    "MeanIoU",
    "OneHotIoU",
    "OneHotMeanIoU",
    "PearsonCorrelation",
    "PrecisionAtRecall",
    "R2Score",
    "RecallAtPrecision",
    "SensitivityAtSpecificity",
    "SpecificityAtSensitivity",
)


def function_for(identifier: Any) -> Any:
    """Return the metric function that a name or configuration describes."""
    return deserialize_object("metric function", identifier, _FUNCTIONS)


def serialize(metric: Any) -> Any:
    """Return the configuration of a metric or metric function."""
    return serialize_object(metric)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Return the metric that a configuration or name describes."""
    if isinstance(config, Mapping) and config.get("class_name") == "function":
        return deserialize_object("metric", config, _FUNCTIONS, custom_objects, _ABSENT)
    made = deserialize_object("metric", config, _TABLE, custom_objects, _ABSENT)
    return made() if isinstance(made, type) else made


def get(identifier: Any) -> Any:
    """Return a metric for a name, configuration, class, function or instance.

    Raises
    ------
    ValueError
        If the name is unknown (the nearest ones are told) or the value is none of these.
    """
    return get_object("metric", identifier, _TABLE, _ABSENT, deserialize)
