"""Whether targets fit a loss and a model's output, and what to do if not.

Shapes are known when a loss is recorded, so these mistakes are told before anything is computed.
`check_targets` may also be called with the shapes of a whole data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycnn._core import ShapeError

__all__ = ["check_axis", "check_smoothing", "check_targets"]


def check_targets(
    loss: str,
    y_true_shape: Sequence[int],
    y_pred_shape: Sequence[int],
    layer: str | None = None,
) -> None:
    """Check the shapes of targets and outputs against a cross-entropy's rule.

    Parameters
    ----------
    loss : str
        ``categorical_crossentropy``, ``sparse_categorical_crossentropy`` or
        ``binary_crossentropy``.
    y_true_shape, y_pred_shape : sequence of int
        The shapes, batch axis first.
    layer : str, optional
        The name of the layer whose output it is, for the message.

    Raises
    ------
    ShapeError
        If they do not fit. The message has both shapes and the fix.
    """
    true, pred = tuple(y_true_shape), tuple(y_pred_shape)
    where = f"the output of layer {layer!r}" if layer else "the model's output"
    if loss == "sparse_categorical_crossentropy":
        _check_sparse(true, pred, where)
    elif loss == "categorical_crossentropy":
        _check_categorical(true, pred, where)
    elif true != pred:
        raise ShapeError(
            f"{loss} expects targets of the shape of {where}, {_n(pred)}, got {_n(true)}."
            + _binary_hint(true, pred)
        )


def _check_sparse(true: tuple[int, ...], pred: tuple[int, ...], where: str) -> None:
    fits = true == pred[:-1] or true == (*pred[:-1], 1)
    if fits and pred:
        return
    hint = ""
    if true == pred:
        hint = (
            " These look one-hot: use categorical_crossentropy, or turn them into class numbers "
            "with np.argmax(y, axis=-1)."
        )
    elif len(true) == len(pred) and true[:-1] == pred[:-1]:
        hint = (
            f" They have {true[-1]} columns and the layer {pred[-1]} units; class numbers have "
            "one column or none: np.argmax(y, axis=-1) if they are one-hot."
        )
    elif len(pred) == 4 and len(true) <= 2:
        hint = _flatten_hint(where)
    raise ShapeError(
        f"sparse_categorical_crossentropy expects class numbers of shape {_n(pred[:-1])} for "
        f"{where} of shape {_n(pred)}, got {_n(true)}.{hint}"
    )


def _flatten_hint(where: str) -> str:
    return (
        f" {where[0].upper()}{where[1:]} still has the axes of a map: put Flatten() or "
        "GlobalAveragePooling2D() between the convolutions and the dense layers."
    )


def _check_categorical(true: tuple[int, ...], pred: tuple[int, ...], where: str) -> None:
    if true == pred and pred:
        return
    classes = pred[-1] if pred else 0
    hint = ""
    if true == pred[:-1] or true == (*pred[:-1], 1):
        hint = (
            " These look like class numbers: use sparse_categorical_crossentropy, or "
            f"to_categorical(y, {classes})."
        )
    elif len(true) == len(pred) + 1:
        hint = " They have one axis too many: was to_categorical applied twice (already one-hot)?"
    elif len(true) == len(pred) and true[:-1] == pred[:-1]:
        hint = (
            f" They have {true[-1]} columns and the layer {classes} units: make them equal, with "
            f"to_categorical(y, {classes}) or a last layer of {true[-1]} units."
        )
    elif len(pred) == 4 and len(true) <= 2:
        hint = _flatten_hint(where)
    raise ShapeError(
        f"categorical_crossentropy expects one-hot targets of shape {_n(pred)} for {where}, got "
        f"{_n(true)}.{hint}"
    )


def _binary_hint(true: tuple[int, ...], pred: tuple[int, ...]) -> str:
    if pred and len(true) == len(pred) - 1 and pred[-1] > 1:
        return (
            f" For class numbers and {pred[-1]} units use sparse_categorical_crossentropy; for "
            "two classes a last layer of one unit with sigmoid."
        )
    return ""


def _n(shape: tuple[int, ...]) -> str:
    sizes = [str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def check_axis(loss: str, axis: Any, ndim: int) -> None:
    """Check that `axis` is the last one.

    Raises
    ------
    ValueError
        If it is no integer.
    NotImplementedError
        If it is another axis.
    """
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ValueError(f"{loss}: `axis` must be an integer, got {axis!r}.")
    if axis not in (-1, ndim - 1):
        raise NotImplementedError(f"{loss}: only axis=-1 is supported, got axis={axis}.")


def check_smoothing(loss: str, label_smoothing: Any) -> float:
    """Return `label_smoothing` as a float in [0, 1], or raise."""
    from pycnn.keras._config import check_fraction

    return check_fraction(loss, "label_smoothing", label_smoothing)
