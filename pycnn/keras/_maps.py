"""Feature maps between layers, and where dropout's seeds come from.

*Maps.* The core works on images in N, C, H, W order, a Keras user sees N, H, W, C. Between
two layers of a model a 4-D value therefore travels as `Maps`: a core tensor in core order
that stands for the same numbers channels-last. Convolution, pooling, batch normalisation,
dropout and elementwise activations take and return Maps and never transpose; a layer that
wants the user's order asks for `channels_last()`, which records one transpose.

*Seeds.* A dropout's random numbers are a function of (seed, stream, call). Outside a
training step each call's triple is a constant made on the spot. A training step is recorded
once and run many times, so there the triple must be an input: the recorder puts a `SeedFeed`
in place (``with seed_feed(feed): ...``), each dropout asks it for a placeholder, and every run
supplies ``*feed.arrays()``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

import pycnn._core as _core
from pycnn import ops
from pycnn._core import Tensor

__all__ = [
    "Maps",
    "SeedFeed",
    "SeedSource",
    "channels_last",
    "current_feed",
    "maps_axis",
    "seed_feed",
    "to_core_order",
    "to_keras_order",
]

TO_CORE = (0, 3, 1, 2)
TO_KERAS = (0, 2, 3, 1)


def to_core_order(tensor: Tensor) -> Tensor:
    """[N,H,W,C] -> [N,C,H,W]. With one channel or one pixel a reshape does it."""
    n, h, w, c = tensor.shape
    if c == 1 or h * w == 1:
        moved: Tensor = ops.reshape(tensor, shape=(n, c, h, w))
    else:
        moved = ops.transpose(tensor, perm=TO_CORE)
    return moved


def to_keras_order(tensor: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,H,W,C]. With one channel or one pixel a reshape does it."""
    n, c, h, w = tensor.shape
    if c == 1 or h * w == 1:
        moved: Tensor = ops.reshape(tensor, shape=(n, h, w, c))
    else:
        moved = ops.transpose(tensor, perm=TO_KERAS)
    return moved


def maps_axis(axis: int) -> int:
    """The core axis (N,C,H,W) of an axis counted as the user counts (N,H,W,C)."""
    return (0, 2, 3, 1)[axis]


class Maps:
    """A core tensor in N,C,H,W order that the Keras user sees as N,H,W,C.

    Attributes
    ----------
    tensor : Tensor
        The numbers, [N,C,H,W].
    """

    __slots__ = ("tensor", "_last")

    def __init__(self, tensor: Tensor, last: Tensor | None = None) -> None:
        self.tensor = tensor
        self._last = last

    @classmethod
    def of(cls, value: Tensor | Maps) -> Maps:
        """Wrap a tensor in N,H,W,C order; Maps pass through."""
        if isinstance(value, Maps):
            return value
        return cls(to_core_order(value), value)

    def channels_last(self) -> Tensor:
        """The same numbers as a tensor in N,H,W,C order, logits kept."""
        if self._last is None:
            last = to_keras_order(self.tensor)
            logits = getattr(self.tensor, "_keras_logits", None)
            if logits is not None:
                last._keras_logits = to_keras_order(logits)
            self._last = last
        return self._last

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape the user sees, (N, H, W, C)."""
        n, c, h, w = self.tensor.shape
        return (n, h, w, c)

    @property
    def ndim(self) -> int:
        """Always 4."""
        return 4

    @property
    def dtype(self) -> Any:
        """The tensor's dtype."""
        return self.tensor.dtype

    def __repr__(self) -> str:
        return f"<Maps shape={self.shape}, dtype={self.dtype}>"


def channels_last(value: Any) -> Any:
    """A value as the user sees it: Maps become N,H,W,C tensors, all else passes."""
    return value.channels_last() if isinstance(value, Maps) else value


class SeedSource(Protocol):
    """What dropout needs of a `pycnn.keras.random.SeedGenerator`."""

    seed: int
    stream: int

    def next_call(self) -> int:
        """The number of the next draw."""

    def take_back(self, draws: int) -> None:
        """Uncount the last draws."""


class _Immediate:
    """Outside a recorded step: each draw gets its triple as a constant."""

    def seed_tensor(self, generator: SeedSource) -> Tensor:
        triple = [generator.seed, generator.stream, generator.next_call()]
        return _core.tensor(np.array(triple, np.int64))


class SeedFeed:
    """Placeholders for the seeds of a recorded step, and their values for each run.

    Parameters
    ----------
    tape : pycnn._core.capture
        The capture in which the step is recorded.

    Notes
    -----
    Placeholders are created as layers ask for them, hence after those that exist before
    the model runs. ``plan.run(x, y, index, *feed.arrays())`` matches that order.
    """

    def __init__(self, tape: Any) -> None:
        self._tape = tape
        self.generators: list[SeedSource] = []

    def seed_tensor(self, generator: SeedSource) -> Tensor:
        """A new placeholder int64[3] for one draw of this generator."""
        name = f"seed_{len(self.generators)}"
        seed: Tensor = self._tape.placeholder((3,), "int64", name)
        self.generators.append(generator)
        return seed

    def arrays(self) -> list[np.ndarray]:
        """The next (seed, stream, call) of every draw, in the order of the placeholders."""
        return [np.array([g.seed, g.stream, g.next_call()], np.int64) for g in self.generators]

    def take_back(self, steps: int) -> None:
        """Uncount the draws of the last steps, which were not made."""
        for generator in self.generators:
            generator.take_back(steps)


_state = threading.local()
_immediate = _Immediate()


def current_feed() -> SeedFeed | _Immediate:
    """Where a random layer gets its seed from in this thread, now."""
    return getattr(_state, "feed", _immediate)


@contextmanager
def seed_feed(feed: SeedFeed) -> Iterator[SeedFeed]:
    """Let `feed` supply the seeds of all layers run inside the block."""
    before = getattr(_state, "feed", None)
    _state.feed = feed
    try:
        yield feed
    finally:
        if before is None:
            del _state.feed
        else:
            _state.feed = before
