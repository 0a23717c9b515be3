"""The user's data as arrays that a step can read: conversion, splitting, weights, batches.

Data comes whole (arrays, lists, data frames) or batch by batch (generators, sequences, loaders).
Whole arrays are never copied where the engine can read them: a step gathers its batch by index
and converts it on the way, so that uint8 pictures stay uint8 in memory.
"""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from pycnn._core import Tensor
from pycnn.keras.layers._tree import flatten, map_structure
from pycnn.keras.trainers.arrays import class_weights, sample_count, to_array, weight_arrays
from pycnn.keras.trainers.step import StepData

__all__ = [
    "ArrayData",
    "Data",
    "Form",
    "StreamData",
    "make_data",
    "split_validation",
    "unpack",
]

Batch = tuple[Any, Any, Any]

_RAN_OUT = (
    "the data ran out: it gave {got} of the {wanted} batches that steps_per_epoch (or steps) asks "
    "for; ask for fewer, or let the generator yield batches without end"
)

_USED_UP = (
    "{name}: the generator is used up after one epoch; write one that yields without end and give "
    "steps_per_epoch, or pass a sequence of batches with __len__ and __getitem__"
)


class Data:
    """Batches of (x, y, sample_weight).

    Attributes
    ----------
    steps : int or None
        Batches in an epoch; None while not known.
    """

    steps: int | None = None

    def epoch(self) -> Iterator[Any]:
        """Yield the batches of the next epoch, in the form that the step of the data takes."""
        raise NotImplementedError

    def example(self) -> Batch:
        """Return arrays of one batch, for building and checking; nothing is used up."""
        raise NotImplementedError


class ArrayData(Data):
    """Whole arrays, cut into batches by index.

    Parameters
    ----------
    x, y, sample_weight : structure of arrays or None
        Converted by :func:`to_array`; equal first sizes.
    batch_size : int, optional
        Default 32, or what ``steps`` implies.
    steps : int, optional
        Batches that make an epoch, where it shall not be one pass over the data.
    shuffle : bool
        A new order every pass.
    seed : callable, optional
        Returns the seed of the order; called once, when first needed.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool = False,
        seed: Callable[[], int] | None = None,
    ) -> None:
        self.x, self.y, self.sample_weight = x, y, sample_weight
        self.size = sample_count(x, y, sample_weight)
        if batch_size is None:
            batch_size = math.ceil(self.size / steps) if steps else 32
        self.batch_size = min(batch_size, self.size)
        self.batches = math.ceil(self.size / self.batch_size)
        self.steps = steps or self.batches
        self.cycles = steps is not None
        self._shuffle = shuffle
        self._seed = seed
        self._key: int | None = None
        self._passes = 0
        self._position = 0
        self._order = np.arange(self.size, dtype=np.int64)

    @property
    def is_one_batch(self) -> bool:
        """Whether the arrays are the only batch, in their order."""
        return self.batches == 1 and not self._shuffle and not self.cycles

    def step_data(self, mode: str) -> StepData:
        """Return what a step of this mode reads."""
        if mode == "predict":
            return StepData(self.x)
        return StepData(self.x, self.y, self.sample_weight)

    def example(self) -> Batch:
        """Return the first batch's slices."""
        return self._slice(self.x), self._slice(self.y), self._slice(self.sample_weight)

    def _slice(self, structure: Any) -> Any:
        return map_structure(lambda a: None if a is None else a[: self.batch_size], structure)

    def next_order(self) -> np.ndarray:
        """Draw the order of the next pass: a function of the seed and of the pass's number.

        Returns
        -------
        array
            int64 indices of all samples.
        """
        self._position = 0
        if not self._shuffle:
            return self._order
        if self._key is None:
            self._key = self._seed() if self._seed is not None else 0
        bits = np.random.Philox(key=np.array([self._key, self._passes], np.uint64))
        self._order = np.random.Generator(bits).permutation(self.size)
        self._passes += 1
        return self._order

    def epoch(self) -> Iterator[np.ndarray]:
        """Yield int64 indices, [batch]; views of one array."""
        if not self.cycles:
            order, size = self.next_order(), self.batch_size
            for low in range(0, self.size, size):
                yield order[low : low + size]
            return
        if self._position == 0:
            self.next_order()
        for step in range(self.steps or 0):
            if self._position >= self.batches:
                warnings.warn(_RAN_OUT.format(got=step, wanted=self.steps), stacklevel=4)
                break
            low = self._position * self.batch_size
            self._position += 1
            yield self._order[low : low + self.batch_size]
        if self._position >= self.batches:
            self._position = 0


class StreamData(Data):
    """Data that comes batch by batch: generators, sequences of batches, loaders.

    Parameters
    ----------
    source : iterable or sequence
        Of ``x``, ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``.
    steps : int, optional
        Batches that make an epoch.
    shuffle : bool
        A new order of the batches every epoch; only where they have indices.
    seed : callable, optional
        Returns the seed of the order.
    class_weight : dict, optional
        Weight by class.
    name : str
        The argument's name for messages.
    """

    def __init__(
        self,
        source: Any,
        steps: int | None = None,
        shuffle: bool = False,
        seed: Callable[[], int] | None = None,
        class_weight: Mapping[int, float] | None = None,
        name: str = "x",
    ) -> None:
        self._source = source
        self._name = name
        self._class_weight = class_weight
        self._wanted = steps
        self._shuffle = shuffle
        self._seed = seed
        self._key: int | None = None
        self._passes = 0
        self._first: Batch | None = None
        self._iterator: Iterator[Any] | None = None
        self._indexed = is_batch_sequence(source)
        self._one_pass = isinstance(source, Iterator)
        self.steps = steps
        if steps is None:
            self.steps = _length(source)
            if self._indexed and self.steps == 0:
                raise ValueError(f"{name}: {type(source).__name__} has no batches (length 0)")

    def example(self) -> Batch:
        """Return the first batch; it is kept for the epoch."""
        if self._first is None:
            if self._iterator is None:
                self._iterator = self._raw()
            try:
                self._first = self._convert(next(self._iterator))
            except StopIteration:
                raise ValueError(
                    f"{self._name}: {type(self._source).__name__} gave no batch at all"
                ) from None
        return self._first

    def _raw(self) -> Iterator[Any]:
        """Return an iterator over one pass of the source."""
        if not self._indexed:
            return iter(self._source)
        count = _length(self._source) or 0
        order = np.arange(count)
        if self._shuffle:
            if self._key is None:
                self._key = self._seed() if self._seed is not None else 0
            bits = np.random.Philox(key=np.array([self._key, self._passes], np.uint64))
            order = np.random.Generator(bits).permutation(count)
        self._passes += 1
        return (self._source[int(index)] for index in order)

    def epoch(self) -> Iterator[Batch]:
        """Yield (x, y, sample_weight) of arrays."""
        notify = getattr(self._source, "on_epoch_begin", None)
        if callable(notify):
            notify()
        if self._iterator is None:
            self._iterator = self._raw()
        given = 0
        while self._wanted is None or given < self._wanted:
            if self._first is not None:
                batch, self._first = self._first, None
            else:
                try:
                    batch = self._convert(next(self._iterator))
                except StopIteration:
                    self._iterator = self._source if self._one_pass else None
                    if self._wanted is None:
                        if given == 0:
                            warnings.warn(_USED_UP.format(name=self._name), stacklevel=4)
                        break
                    if given == 0 and not self._one_pass:
                        self._iterator = self._raw()
                        continue
                    warnings.warn(_RAN_OUT.format(got=given, wanted=self._wanted), stacklevel=4)
                    break
            given += 1
            yield batch
        if self.steps is None:
            self.steps = given
        notify = getattr(self._source, "on_epoch_end", None)
        if callable(notify):
            notify()

    def _convert(self, item: Any) -> Batch:
        x, y, sample_weight = unpack(item, f"a batch of {self._name}")
        x = map_structure(lambda a: to_array(a, self._name), x)
        y = map_structure(lambda a: None if a is None else to_array(a, "y"), y)
        sample_weight = combine_weights(y, sample_weight, self._class_weight)
        sample_count(x, y, sample_weight)
        return x, y, sample_weight


def unpack(data: Any, name: str) -> Batch:
    """Return (x, y, sample_weight) of ``x``, ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``.

    Raises
    ------
    ValueError
        For a tuple of more than three parts.
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"{name}: expected (x,), (x, y) or (x, y, sample_weight), got {len(data)} parts"
        )
    return (*data, None, None)[:3]


def _length(source: Any) -> int | None:
    """Return the number of batches of a source, or None."""
    number = getattr(source, "num_batches", None)
    if isinstance(number, int):
        return number
    try:
        return len(source)
    except (TypeError, NotImplementedError, AttributeError):
        return None


def is_batch_sequence(value: Any) -> bool:
    """Tell whether ``value`` gives batches by index, as Keras's ``PyDataset`` does."""
    return (
        hasattr(value, "__getitem__")
        and hasattr(value, "__len__")
        and not isinstance(value, (np.ndarray, Tensor, list, tuple, Mapping, str, bytes))
        and not hasattr(value, "__array__")
        and not hasattr(value, "shape")
        and not type(value).__module__.startswith(("torch.utils.data", "pandas"))
    )


def is_stream(value: Any) -> bool:
    """Tell whether ``value`` gives batches, one after the other or by index."""
    if isinstance(value, (np.ndarray, Tensor, list, tuple, Mapping, Set, str, bytes)):
        return False
    if isinstance(value, (types.GeneratorType, Iterator)) or is_batch_sequence(value):
        return True
    if hasattr(value, "__array__") or hasattr(value, "shape"):
        return False
    return hasattr(value, "__iter__")


def combine_weights(y: Any, sample_weight: Any, class_weight: Mapping[int, float] | None) -> Any:
    """Return the weights of the samples: ``sample_weight`` times ``class_weight``, or None."""
    weights = weight_arrays(sample_weight)
    if class_weight is None:
        return weights
    if y is None:
        raise ValueError("class_weight: needs the labels y, which are missing")
    if isinstance(y, (list, tuple, Mapping)) and len(flatten(y)) > 1:
        raise ValueError(
            "class_weight: only for models with one output; give sample_weight by output instead"
        )
    by_class = class_weights(flatten(y)[0], class_weight)
    if weights is None:
        return by_class
    (only,) = flatten(weights)
    return by_class.reshape((-1,) + (1,) * (only.ndim - 1)) * only


def make_data(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    shuffle: Any = False,
    seed: Callable[[], int] | None = None,
    class_weight: Mapping[int, float] | None = None,
    name: str = "x",
    form: Form | None = None,
) -> Data:
    """Return the data behind the arguments of `fit`, `evaluate` and `predict`.

    Parameters
    ----------
    x, y, sample_weight : object
        As the user gave them.
    batch_size, steps : int, optional
        As the user gave them.
    shuffle : bool
        Whether the order changes every pass.
    seed : callable, optional
        Returns the seed of the order.
    class_weight : dict, optional
        Weight by class.
    name : str
        The argument's name for messages.
    form : Form, optional
        What the model takes, for lists; by default one input and one output.
    """
    if x is None:
        raise ValueError(f"{name}: expected data, got None")
    if is_stream(x):
        for given, argument in ((y, "y"), (sample_weight, "sample_weight")):
            if given is not None:
                raise ValueError(
                    f"{argument}: must not be given when {name} is a "
                    f"{type(x).__name__}, which yields (x, y) or (x, y, sample_weight) itself"
                )
        return StreamData(x, steps, bool(shuffle), seed, class_weight, name)
    form = form or Form()
    arrays = form.inputs_as_arrays(x, name)
    targets = form.labels_as_arrays(y)
    weights = combine_weights(targets, sample_weight, class_weight)
    return ArrayData(arrays, targets, weights, batch_size, steps, bool(shuffle), seed)


class Form:
    """What a model takes, to tell a list of inputs from a list of rows.

    Parameters
    ----------
    several_inputs, several_outputs : bool
        Whether there may be more than one.
    shape : tuple, optional
        The shape of the one input, samples first.
    """

    def __init__(
        self,
        several_inputs: bool = False,
        several_outputs: bool = False,
        shape: Sequence[int | None] | None = None,
    ) -> None:
        self._several_inputs = several_inputs
        self._several_outputs = several_outputs
        self._shape = shape

    def inputs_as_arrays(self, x: Any, name: str = "x") -> Any:
        """Return the inputs as arrays, in their structure."""
        if self._shape is not None and isinstance(x, (list, tuple)) and len(x) == 1:
            shape = getattr(x[0], "shape", ())
            flat = (*shape[1:], 1) == tuple(self._shape[1:])  # the channel axis left out
            if len(shape) == len(self._shape) or flat:
                return to_array(x[0], name)  # [x], a list of the one input
        return _as_arrays(x, name, self._several_inputs)

    def labels_as_arrays(self, y: Any) -> Any:
        """Return the labels as arrays, in their structure."""
        if y is None:
            return None
        alone = isinstance(y, (list, tuple)) and len(y) == 1 and getattr(y[0], "ndim", 0) > 0
        return _as_arrays(y, "y", self._several_outputs or alone)


def _as_arrays(value: Any, name: str, several: bool) -> Any:
    """Return ``value`` with its leaves as arrays; a list is rows where not ``several``."""
    if isinstance(value, Mapping):
        return {key: _as_arrays(part, f"{name}[{key!r}]", several) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and several and _holds_arrays(value):
        parts = [
            None if part is None else _as_arrays(part, f"{name}[{i}]", False)
            for i, part in enumerate(value)
        ]
        return tuple(parts) if isinstance(value, tuple) else parts
    return to_array(value, name)


def _holds_arrays(value: Sequence[Any]) -> bool:
    """Tell whether a list's items look like arrays or lists of samples, not like numbers."""
    return any(getattr(part, "ndim", 0) > 0 for part in value) and all(
        part is None or isinstance(part, list) or getattr(part, "ndim", 0) > 0 for part in value
    )


def split_validation(
    x: Any, y: Any, sample_weight: Any, fraction: float, form: Form
) -> tuple[Batch, Batch]:
    """Cut the last ``fraction`` of the samples off, before any shuffling.

    Raises
    ------
    ValueError
        If the data comes in batches, or one part would be empty.
    """
    if is_stream(x):
        raise ValueError(
            f"validation_split={fraction}: needs arrays, x is a {type(x).__name__}; give "
            "validation_data instead"
        )
    arrays = form.inputs_as_arrays(x)
    targets = form.labels_as_arrays(y)
    weights = weight_arrays(sample_weight)
    size = sample_count(arrays, targets, weights)
    at = math.floor(size * (1.0 - fraction))
    if at in (0, size):
        raise ValueError(
            f"validation_split={fraction}: {size} samples cannot be split so that both parts have "
            "some; give more data or another fraction"
        )

    def cut(low: int, high: int) -> Batch:
        parts = (
            map_structure(lambda a: None if a is None else a[low:high], part)
            for part in (arrays, targets, weights)
        )
        return tuple(parts)

    return cut(0, at), cut(at, size)
