"""Predictions of large batches in slices, where no sample looks at another.

The maps of a slice stay in the processor's outer caches from one layer to the next; those of a
batch of a thousand go through memory at every layer, and the arena grows with them. Training and
evaluation are not cut: there a batch is what losses and statistics are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pycnn.keras import activations, layers
from pycnn.keras.trainers.step import StepCache, StepData

__all__ = ["SLICE", "bind_predict", "samples_are_independent"]

# Pictures: four blocks of sixteen. Of 16 to 256, fastest or nearly so on the labs' networks.
SLICE = 64

_SAMPLE_BY_SAMPLE = frozenset(
    {
        layers.AveragePooling2D,
        layers.Conv2D,
        layers.Dense,
        layers.Dropout,
        layers.ELU,
        layers.Flatten,
        layers.GlobalAveragePooling2D,
        layers.GlobalMaxPooling2D,
        layers.Identity,
        layers.InputLayer,
        layers.LeakyReLU,
        layers.MaxPooling2D,
        layers.ReLU,
        layers.SpatialDropout2D,
        layers.ZeroPadding2D,
    }
)

_Arrays = list[np.ndarray]


def samples_are_independent(model: Any) -> bool:
    """Tell whether the model is a plain graph of layers that compute each sample by itself."""
    from pycnn.keras.models import Functional, Sequential

    if type(model) not in (Functional, Sequential) or "call" in model.__dict__:
        return False
    if type(model) is Functional and any(node.kwargs for node in model._graph.nodes):
        return False
    return all(_is_plain(layer) for layer in model._layers)


def _is_plain(layer: Any) -> bool:
    kind = type(layer)
    if "call" in layer.__dict__:
        return False
    if kind is layers.BatchNormalization:
        return layer.axis not in (0, -4)
    function = getattr(layer, "activation", None)
    ours = function is None or getattr(function, "__module__", "") == activations.__name__
    return ours and (kind in _SAMPLE_BY_SAMPLE or kind is layers.Activation)


def bind_predict(
    model: Any, cache: StepCache, inputs: StepData, size: int | None
) -> Callable[..., _Arrays]:
    """Return ``run(*index) -> arrays``, the flat outputs; they may be views of the engine's memory.

    Parameters
    ----------
    model : Model
        What predicts.
    cache : StepCache
        Where its steps are.
    inputs : StepData
        Whole arrays, or the batch.
    size : int, optional
        The number of indices; None where the arrays are the batch.
    """
    rows = inputs.leaves[0].shape[0] if size is None else size
    if rows >= 2 * SLICE and samples_are_independent(model):
        return _in_slices(model, cache, inputs, rows)
    step = cache.get(model, "predict", inputs, size)
    compute = step.bind(inputs.leaves)

    def run(*index: np.ndarray) -> _Arrays:
        return [output.numpy() for output in compute(*index)]

    return run


def _in_slices(model: Any, cache: StepCache, inputs: StepData, rows: int) -> Callable[..., _Arrays]:
    bound: dict[int, Any] = {}

    def slices(index: tuple[np.ndarray, ...]) -> Iterator[tuple[int, int, Any]]:
        for low in range(0, rows, SLICE):
            high = min(low + SLICE, rows)
            size = high - low
            if index:
                if size not in bound:
                    step = cache.get(model, "predict", inputs, size)
                    bound[size] = step.bind(inputs.leaves)
                yield low, high, bound[size](index[0][low:high])
                continue
            leaves = [leaf[low:high] for leaf in inputs.leaves]
            if size not in bound:
                part = StepData(inputs.packed(leaves)[0])
                bound[size] = cache.get(model, "predict", part, None)
            yield low, high, bound[size].bind(leaves)()

    def run(*index: np.ndarray) -> _Arrays:
        whole: _Arrays = []
        for low, high, outputs in slices(index):
            parts = [output.numpy() for output in outputs]
            if not whole:
                whole = [np.empty((rows, *part.shape[1:]), part.dtype) for part in parts]
            for array, part in zip(whole, parts, strict=True):
                array[low:high] = part
        return whole

    return run
