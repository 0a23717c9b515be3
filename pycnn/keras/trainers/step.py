"""Recorded steps: a whole training, test or prediction step as one plan.

A step is recorded once for a batch size and for the shapes and dtypes of the data, then run with
one call per batch. Its inputs are the user's whole arrays, the indices of the batch, the seeds of
dropout and the optimizer's numbers of the step:

    gather -> layers -> loss -> gradients -> optimizer;  means of loss and metrics by assignment

Metrics live in variables inside the plan and are read only when somebody looks. Where a batch is
all there is (`train_on_batch`, generators), the arrays are the batch and nothing is gathered.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pycnn import _core, ops
from pycnn._core import Tensor
from pycnn.keras._convert import cast
from pycnn.keras._label import label
from pycnn.keras._maps import SeedFeed, channels_last, seed_feed
from pycnn.keras.layers._tree import flatten, map_structure, pack_like
from pycnn.keras.layers.call_errors import note_step

__all__ = ["Step", "StepCache", "StepData", "signature"]

# Bounds the memory of plans: one model trains, validates and predicts with full and last batches.
MAX_STEPS = 16


class StepData:
    """The arrays of a step: x, y and sample_weight in the user's structure.

    Parameters
    ----------
    x, y, sample_weight : structure of arrays
        Whole arrays, or one batch.
    """

    def __init__(self, x: Any, y: Any = None, sample_weight: Any = None) -> None:
        self.structures = (x, y, sample_weight)
        self.leaves = [a for s in self.structures for a in flatten(s) if a is not None]
        self.inputs = sum(a is not None for a in flatten(x))
        self.key = str(map_structure(_describe, self.structures))

    def packed(self, leaves: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Return the structures with ``leaves`` in place of the arrays."""
        rest = iter(leaves)
        parts = []
        for structure in self.structures:
            flat = [None if a is None else next(rest) for a in flatten(structure)]
            parts.append(pack_like(structure, flat))
        return parts[0], parts[1], parts[2]


def _describe(array: Any) -> Any:
    return None if array is None else (array.shape, array.dtype.name)


class Step:
    """A recorded step.

    Attributes
    ----------
    plan : Plan
        What runs.
    outputs : structure
        The model's symbolic outputs, for their shapes.
    optimizer : Optimizer or None
        Whose updates the plan makes.
    """

    def __init__(self, plan: Any, feed: SeedFeed, outputs: Any, optimizer: Any = None) -> None:
        self.plan = plan
        self.feed = feed
        self.outputs = outputs
        self.optimizer = optimizer
        self.parts: list[Any] = []  # of the signature: no other object takes their addresses

    def updates_by(self, optimizer: Any) -> bool:
        """Tell whether the plan makes this optimizer's updates, or none."""
        return self.optimizer is None or self.optimizer is optimizer

    def bind_training(self, leaves: Sequence[Any], optimizer: Any) -> Callable[..., Tensor]:
        """Return ``run(*index) -> loss`` for the given arrays.

        An error leaves weights and counters unchanged, Ctrl-C together: it comes before the plan
        runs or after, and a step that was made is counted. Numbers drawn for dropout stay drawn.
        """
        plan, seeds = self.plan, self.feed.arrays
        hyper, advance, counted = optimizer.hyper, optimizer.advance, optimizer.counted

        def train(*index: np.ndarray) -> Tensor:
            runs, steps = plan.runs, counted()
            try:
                result = plan.run(*leaves, *index, *seeds(), hyper())
                advance()
            except BaseException:
                if plan.runs > runs and counted() == steps:
                    advance()
                raise
            return result[0]  # type: ignore[no-any-return]

        return train

    def bind_steps(self, leaves: Sequence[Any], optimizer: Any) -> Callable[..., np.ndarray]:
        """Return ``run(indices) -> losses``: one step for each row of indices, in one call.

        Fewer are made, and fewer losses returned, where the optimizer has no numbers for the next
        step; the error is then raised by the next call. After an error the optimizer has counted
        the steps that were completed, and the generators of random numbers have drawn for them.
        """
        plan, feed = self.plan, self.feed

        def train(indices: np.ndarray) -> np.ndarray:
            numbers = []
            for _ in range(len(indices)):
                try:
                    numbers.append(optimizer.hyper())
                except Exception:
                    if not numbers:
                        raise
                    break
                optimizer.advance()
            count, before = len(numbers), plan.runs
            draws = [feed.arrays() for _ in range(count)]
            seeds = [np.array(rows) for rows in zip(*draws, strict=True)]
            arrays = [*leaves, indices[:count], *seeds, np.array(numbers)]
            try:
                losses = plan.run_many(count, *arrays)
            except BaseException:
                undone = count - (plan.runs - before)
                optimizer.take_back(undone)
                feed.take_back(undone)
                raise
            return losses[0].numpy()  # type: ignore[no-any-return]

        return train

    def bind(self, leaves: Sequence[Any]) -> Callable[..., tuple[Tensor, ...]]:
        """Return ``run(*index) -> outputs`` for the given arrays."""
        run, seeds = self.plan.run, self.feed.arrays

        def compute(*index: np.ndarray) -> tuple[Tensor, ...]:
            return run(*leaves, *index, *seeds())  # type: ignore[no-any-return]

        return compute


class StepCache:
    """The recorded steps of one model, the least recently used dropped first."""

    def __init__(self) -> None:
        self._steps: OrderedDict[tuple[Any, ...], Step] = OrderedDict()
        self.last_outputs: Any = None

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()

    def __len__(self) -> int:
        return len(self._steps)

    def get(self, model: Any, mode: str, data: StepData, size: int | None) -> Step:
        """Return the step for ``mode``, recorded where it is new.

        Parameters
        ----------
        model : Model
            Whose step it is.
        mode : str
            ``"train"``, ``"test"`` or ``"predict"``.
        data : StepData
            The arrays, for their shapes and dtypes.
        size : int, optional
            The number of indices; None where the arrays are the batch.
        """
        key = (mode, size, data.key, tuple(signature(model)))
        step = self._steps.get(key)
        if step is None or not step.updates_by(model.optimizer):
            step = record(model, mode, data, size)
            # Recording may have built the model.
            key = (mode, size, data.key, tuple(signature(model)))
            step.parts = _parts(model)
            self._steps[key] = step
            while len(self._steps) > MAX_STEPS:
                self._steps.popitem(last=False)
        else:
            self._steps.move_to_end(key)
        self.last_outputs = step.outputs
        return step


def signature(model: Any) -> list[int]:
    """Tell whether a model still has the layers and the memory it had when a step was recorded.

    Asked for at every batch, hence short: a layer used twice counts twice.
    """
    return list(map(id, _parts(model)))


def _parts(model: Any) -> list[Any]:
    """Return the layers within a model, their metrics, and the memory of all variables."""
    todo = [model]
    variables: list[Any] = []
    metrics: list[Any] = []
    for layer in todo:  # grows on the way
        own = layer.__dict__
        variables += own["_trainable_variables"]
        variables += own["_non_trainable_variables"]
        metrics += own["_metrics"]
        todo += own["_layers"]
    return [*todo[1:], *metrics, *[variable.tensor for variable in variables]]


def record(model: Any, mode: str, data: StepData, size: int | None) -> Step:
    """Record a step; nothing is computed.

    Returns
    -------
    Step
        Its plan gives the loss (train, test) or the flat outputs (predict).
    """
    # Before the capture: a schedule may compute with tensors and look at them.
    numbers = model.optimizer.hyper() if mode == "train" else None
    tape = _core.capture()
    with tape, warnings.catch_warnings():
        # The same contradiction is told before, with the name of the layer.
        warnings.filterwarnings("ignore", message=".*from_logits=True, but the output comes from")
        whole = [tape.placeholder(a.shape, a.dtype.name, "data") for a in data.leaves]
        batch: list[Tensor] = whole
        # Inputs are floats for the layers; labels that are whole numbers stay so.
        types = [
            model.compute_dtype if i < data.inputs or leaf.dtype.kind == "f" else leaf.dtype.name
            for i, leaf in enumerate(whole)
        ]
        with label("(batch)"):
            if size is not None:
                index = tape.placeholder((size,), "int64", "index")
                pairs = zip(whole, types, strict=True)
                batch = [ops.gather(leaf, index, dtype=dtype) for leaf, dtype in pairs]
            else:
                batch = [cast(leaf, dtype) for leaf, dtype in zip(whole, types, strict=True)]
        x, y, sample_weight = data.packed(batch)
        feed = SeedFeed(tape)
        with seed_feed(feed):
            outputs = map_structure(channels_last, model._run(x, training=mode == "train"))
            if mode == "predict":
                return Step(tape.compile(flatten(outputs)), feed, outputs)
            with label("(loss)"):
                try:
                    loss = model._record_losses(x, y, outputs, sample_weight, mode == "train")
                except RuntimeError as error:
                    note_step(error)
                    raise
        if numbers is not None:
            _record_update(model, tape, loss, numbers.shape)
        optimizer = model.optimizer if mode == "train" else None
        return Step(tape.compile([loss]), feed, outputs, optimizer)


def _record_update(model: Any, tape: Any, loss: Tensor, shape: Sequence[int]) -> None:
    """Record gradients and the optimizer's effects; its numbers are an input of this shape."""
    variables = model._trained_variables()
    optimizer = model.optimizer
    if not variables:
        warnings.warn("The model does not have any trainable weights.", stacklevel=2)
    if not optimizer.built:
        optimizer.build(variables)
    gradients = _core.gradients(loss, [variable.tensor for variable in variables])
    hyper = tape.placeholder(tuple(shape), "float64", "hyper")
    with label(optimizer.name, "update"):
        optimizer.record(gradients, variables, hyper)
