"""Checks of what the user hands to `compile`, `fit`, `evaluate` and `predict`.

Each is done once over the whole data, before anything is computed, and says which argument or
layer it is about, what came, what was expected, and how to mend it.
"""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from pycnn._core import ShapeError
from pycnn.keras.layers._tree import flatten
from pycnn.keras.losses._checks import check_targets
from pycnn.keras.optimizers import Optimizer

__all__ = [
    "check_count",
    "check_label_shapes",
    "check_label_values",
    "check_optimizer",
    "check_output_activation",
    "check_shuffle",
    "check_validation_freq",
    "looks_at_values",
    "loss_kind",
    "output_layer_names",
    "renamed_arguments",
    "today_spelling",
    "warn_not_finite",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])

_CROSSENTROPIES = (
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "binary_crossentropy",
)
# Losses that pair labels and outputs number by number.
_ELEMENTWISE = (
    "categorical_hinge",
    "cosine_similarity",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "squared_hinge",
)
# Activations whose results may be negative, hence are no probabilities.
_MAY_BE_NEGATIVE = ("linear", "tanh", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "mish")

_OLD_ARGUMENTS = {
    "epoch": "epochs",
    "nb_epoch": "epochs",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "batchsize": "batch_size",
    "batch": "batch_size",
    "callback": "callbacks",
    "metric": "metrics",
    "validation": "validation_data",
    "val_data": "validation_data",
    "val_split": "validation_split",
    "samples_per_epoch": "steps_per_epoch",
    "nb_val_samples": "validation_steps",
    "sample_weights": "sample_weight",
    "class_weights": "class_weight",
    "optimiser": "optimizer",
    "X": "x",
    "Y": "y",
    "workers": "",
    "use_multiprocessing": "",
    "max_queue_size": "",
}
_OLD_METHODS = {
    "predict_classes": "np.argmax(model.predict(x), axis=-1)",
    "predict_proba": "model.predict(x)",
    "fit_generator": "model.fit(generator, steps_per_epoch=...)",
    "evaluate_generator": "model.evaluate(generator, steps=...)",
    "predict_generator": "model.predict(generator, steps=...)",
    "train": "model.fit(x, y)",
}


def renamed_arguments(method: _Method) -> _Method:
    """Let a method name today's spelling of an argument that does not exist."""
    known = [name for name in inspect.signature(method).parameters if name != "self"]

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known and not name.startswith("_"):
                raise TypeError(_unknown_argument(method.__name__, name, kwargs[name], known))
        return method(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def _unknown_argument(method: str, name: str, value: Any, known: Sequence[str]) -> str:
    import difflib

    text = f"{method}() has no argument {name!r}"
    if _OLD_ARGUMENTS.get(name) == "":
        return f"{text}: leave it out, it is no longer needed"
    near = _OLD_ARGUMENTS.get(name)
    if near not in known:
        near = next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), None)
    if near is None:
        return f"{text}; it takes {', '.join(known)}"
    shown = repr(value) if isinstance(value, (int, float, str)) else "..."
    return f"{text}: did you mean {near}={shown}?"


def today_spelling(name: str) -> str | None:
    """Return how a method of older versions of Keras is written today."""
    return _OLD_METHODS.get(name)


def check_count(
    method: str, name: str, value: Any, low: int = 1, optional: bool = True
) -> int | None:
    """Return a whole number of at least ``low``, or None where that is allowed.

    Raises
    ------
    TypeError
        If it is no whole number.
    ValueError
        If it is too small.
    """
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        hint = ""
        if isinstance(value, float) and math.isfinite(value):
            hint = f"; {name}={max(int(value), low)} would do"
        raise TypeError(
            f"{method}: {name} must be a whole number, got {value!r} of type "
            f"{type(value).__name__}{hint}"
        )
    if value < low:
        raise ValueError(f"{method}: {name} must be at least {low}, got {value}")
    return int(value)


def check_verbose(method: str, verbose: Any) -> int:
    """Return 0, 1 or 2 for what `verbose` says."""
    from pycnn.keras import config

    if isinstance(verbose, str) and verbose == "auto":
        return 1 if config.is_interactive_logging_enabled() else 2
    if verbose in (0, 1, 2):  # True and False count as 1 and 0
        return int(verbose)
    raise ValueError(f"{method}: verbose must be 'auto', 0, 1 or 2, got {verbose!r}")


def check_validation_freq(freq: Any) -> None:
    """Refuse what is neither a number of epochs nor a list of them."""
    if isinstance(freq, (list, tuple, set)):
        return
    if isinstance(freq, bool) or not isinstance(freq, (int, np.integer)) or freq < 1:
        raise ValueError(
            f"fit: validation_freq must be a number of epochs or a list of them, got {freq!r}"
        )


def check_optimizer(optimizer: Any) -> None:
    """Check that what a model holds as its optimizer is one.

    Raises
    ------
    ValueError
        If there is none.
    TypeError
        If it is something else, which an assignment to ``model.optimizer`` can bring.
    """
    if optimizer is None:
        raise ValueError(
            "fit: the model has no optimizer (compile was told optimizer=None): set one, as in "
            'model.optimizer = "adam", or call compile(optimizer="adam", ...)'
        )
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            "fit: model.optimizer must be a name or an optimizer of pycnn.keras.optimizers, got "
            f"{optimizer!r} of type {type(optimizer).__name__}"
        )


def check_shuffle(shuffle: Any) -> bool:
    """Return whether to shuffle, of True, False, None or "batch".

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if shuffle is None or (isinstance(shuffle, str) and shuffle == "batch"):
        return shuffle is not None
    if isinstance(shuffle, (bool, np.bool_)) or (isinstance(shuffle, int) and shuffle in (0, 1)):
        return bool(shuffle)
    raise TypeError(
        f"fit: shuffle must be True or False, got {shuffle!r} of type {type(shuffle).__name__}"
    )


def check_validation_split(fraction: Any) -> float:
    """Return the share of the data to hold out, from 0 up to but not 1."""
    if fraction is None:
        return 0.0
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float, np.number)):
        raise TypeError(f"fit: validation_split must be a number, got {fraction!r}")
    if not 0.0 <= fraction < 1.0:
        hint = f"; for {fraction:g} % write {fraction / 100:g}" if 1 < fraction < 100 else ""
        raise ValueError(
            f"fit: validation_split must be at least 0 and below 1, got {fraction!r}{hint}"
        )
    return float(fraction)


def loss_kind(loss: Any) -> str | None:
    """Return which cross-entropy a Loss object computes, or None."""
    name = getattr(getattr(loss, "fn", None), "__name__", None)
    return name if name in _CROSSENTROPIES else None


def from_logits(loss: Any) -> bool:
    """Tell whether a Loss object takes the outputs for logits."""
    return bool(getattr(loss, "_fn_kwargs", {}).get("from_logits", False))


def output_layers(model: Any) -> list[Any]:
    """Return the layer of every output, None where it is not known."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return []
    return [
        getattr(getattr(o, "_keras_history", None), "operation", None) for o in flatten(outputs)
    ]


def output_layer_names(model: Any, count: int) -> list[str]:
    """Return names of the layers of the outputs, for messages."""
    layers = output_layers(model)
    names = [getattr(layer, "name", None) or model.name for layer in layers]
    return names if len(names) == count else [model.name] * count


def check_label_shapes(loss: Any, y: Any, output_shape: Sequence[Any], layer: str) -> None:
    """Check the shape of labels against a loss of the package and its output.

    Parameters
    ----------
    loss : Loss
        The output's loss.
    y : array or Tensor
        Labels, samples first.
    output_shape : sequence
        The output's shape, (None, ..., C).
    layer : str
        The output's layer.

    Raises
    ------
    ShapeError
        If they do not fit.
    """
    kind = loss_kind(loss)
    if None in output_shape[1:]:
        return
    shape = tuple(y.shape)
    full = (shape[0], *output_shape[1:])
    if kind is None:
        _check_elementwise(loss, shape, full, layer)
        return
    if kind == "binary_crossentropy" and (*shape, 1) == full:
        return  # (N,) for (N, 1) is accepted, as in Keras
    check_targets(kind, shape, full, layer)


def _check_elementwise(loss: Any, true: tuple[int, ...], pred: tuple[int, ...], layer: str) -> None:
    """Check shapes against a loss such as the mean squared error; sizes of 1 are stretched."""
    function = getattr(loss, "fn", None)
    name = getattr(function, "__name__", None)
    if name not in _ELEMENTWISE or not str(function.__module__).startswith("pycnn."):
        return
    one, other = true, pred
    if len(one) == len(other) + 1 and one[-1] == 1:
        one = one[:-1]
    elif len(other) == len(one) + 1 and other[-1] == 1:
        other = other[:-1]
    if all(t == p or 1 in (t, p) for t, p in zip(reversed(one), reversed(other), strict=False)):
        return
    fix = ""
    if true[:-1] == pred[:-1]:
        fix = f": give the layer {true[-1]} units, or y {pred[-1]} columns"
    raise ShapeError(
        f"{name} expects targets of the shape of the output of layer {layer!r}, {pred}, got "
        f"{true}{fix}"
    )


def check_label_values(loss: Any, y: np.ndarray, output_shape: Sequence[Any], layer: str) -> None:
    """Check the numbers of labels against a cross-entropy.

    Raises
    ------
    ValueError
        If class numbers are no whole numbers or beyond the layer's units.
    """
    kind = loss_kind(loss)
    if kind == "sparse_categorical_crossentropy":
        _check_class_numbers(y, int(output_shape[-1]), layer)
    elif kind == "binary_crossentropy" and y.size:
        low, high = float(y.min()), float(y.max())
        if low < 0.0 or high > 1.0:
            warnings.warn(
                f"binary_crossentropy of layer {layer!r} expects labels from 0 to 1, got labels "
                f"from {low:g} to {high:g}" + _binary_fix(y),
                stacklevel=5,
            )


def _binary_fix(y: np.ndarray) -> str:
    values = np.unique(y)
    if len(values) == 2:
        return f": use (y == {values[1]:g}).astype('float32')"
    return ""


def looks_at_values(loss: Any) -> bool:
    """Tell whether `check_label_values` has anything to check for a loss."""
    return loss_kind(loss) in ("sparse_categorical_crossentropy", "binary_crossentropy")


def _are_class_numbers(y: np.ndarray, classes: int) -> bool:
    """Tell quickly, in one pass, whether whole numbers are classes; False where it must be seen."""
    if y.dtype.kind not in "iu" or not y.flags.c_contiguous or not y.dtype.isnative:
        return False
    if y.dtype.kind == "i" and classes > 1 << (8 * y.itemsize - 1):
        return False
    # Without its sign a negative number is larger than all with one.
    return bool(np.maximum.reduce(y.view(f"u{y.itemsize}"), axis=None) < classes)


def _check_class_numbers(y: np.ndarray, classes: int, layer: str) -> None:
    if y.size == 0 or _are_class_numbers(y, classes):
        return
    flat = y.reshape(-1)
    if y.dtype.kind == "f":
        wrong = np.flatnonzero(flat != np.round(flat))  # NaN differs from itself
        if wrong.size:
            row = int(wrong[0]) * len(y) // y.size
            raise ValueError(
                f"sparse_categorical_crossentropy expects whole class numbers, got label "
                f"{flat[wrong[0]]} at row {row}; layer {layer!r} has classes 0..{classes - 1}"
            )
    low, high = int(flat.min()), int(flat.max())
    if low >= 0 and high < classes:
        return
    bad = high if high >= classes else low
    row = int(np.argmax(flat == bad)) * len(y) // y.size
    text = (
        f"label {bad} at row {row} is out of range: layer {layer!r} has classes "
        f"0..{classes - 1} ({classes} units), got labels from {low} to {high}"
    )
    if low == 1 and high == classes:
        text += ": subtract 1, as in y - 1"
    elif classes == 1:
        text += (
            ": for two classes use binary_crossentropy with one unit and sigmoid, or two units "
            "and softmax"
        )
    elif low >= 0:
        text += f": give the layer {high + 1} units"
    else:
        text += ": number the classes from 0, as np.unique(y, return_inverse=True)[1] does"
    raise ValueError(text)


def check_output_activation(model: Any, index: int, loss: Any) -> None:
    """Warn where the activation of an output and `from_logits` of its loss contradict."""
    kind = loss_kind(loss)
    layers = output_layers(model)
    if kind is None or index >= len(layers) or layers[index] is None:
        return
    layer = layers[index]
    activation = _activation_name(layer)
    if activation is None:
        return
    right = "sigmoid" if kind == "binary_crossentropy" else "softmax"
    class_name = "".join(word.capitalize() for word in kind.split("_"))
    if from_logits(loss):
        if activation in ("softmax", "sigmoid"):
            warnings.warn(
                f"{class_name}(from_logits=True) expects outputs without activation, but layer "
                f"{layer.name!r} ends in {activation}: leave out from_logits=True, or the "
                f"activation of the layer",
                stacklevel=5,
            )
        return
    if activation in _MAY_BE_NEGATIVE:
        warnings.warn(
            f"{class_name} expects probabilities, but layer {layer.name!r} has the activation "
            f"{activation!r}, whose outputs may be negative: give it activation={right!r}, or use "
            f"loss={class_name}(from_logits=True)",
            stacklevel=5,
        )
    units = model.outputs[index].shape[-1] if index < len(model.outputs) else None
    if activation == "softmax" and units == 1:
        warnings.warn(
            f"layer {layer.name!r} has softmax over one unit, which is always 1: use "
            "activation='sigmoid' and binary_crossentropy, or one unit per class",
            stacklevel=5,
        )


def _activation_name(layer: Any) -> str | None:
    """Return the name of the activation that ends a layer, or None where it is not known."""
    kind = type(layer).__name__
    if kind == "Softmax":
        return "softmax"
    function = getattr(layer, "activation", None)
    if kind in ("Dense", "Conv2D", "Activation"):
        return "linear" if function is None else getattr(function, "__name__", None)
    return None


def warn_not_finite(
    loss: float, step: int, epoch: int, x: Any, learning_rate: float | None
) -> None:
    """Warn that the loss is NaN or infinite, with what is most likely the reason.

    Parameters
    ----------
    loss : float
        The loss.
    step, epoch : int
        Where, from 1.
    x : structure of arrays
        The inputs.
    learning_rate : float, optional
        The optimizer's rate.
    """
    reasons = []
    for leaf in flatten(x):
        if not isinstance(leaf, np.ndarray) or leaf.size == 0:
            continue
        low, high = float(leaf.min()), float(leaf.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            rows = ~np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)
            reasons.append(
                f"the input has NaN or infinite numbers, first in row {int(np.argmax(rows))}: "
                "remove or fill them"
            )
            continue
        text = f"the input ranges from {low:g} to {high:g}"
        if max(abs(low), abs(high)) > 20:
            by = "255" if 0 <= low and 100 < high <= 255 else f"{max(abs(low), abs(high)):g}"
            text += f": divide by {by}, as in x = x.astype('float32') / {by}"
        reasons.append(text)
    if learning_rate is not None:
        reasons.append(
            f"the learning rate is {learning_rate:g}: try a smaller one such as "
            f"{min(learning_rate / 10, 0.01):g}"
        )
    warnings.warn(
        f"the loss became {'NaN' if math.isnan(loss) else loss} at step {step} of epoch {epoch}; "
        + "; ".join(reasons),
        RuntimeWarning,
        stacklevel=4,
    )


def check_weights_mapping(value: Any) -> None:
    """Refuse class weights that are no dict, before any data is touched."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(
            "class_weight: expected a dict such as {0: 1.0, 1: 5.0}, got "
            f"{value!r} of type {type(value).__name__}"
        )
