"""Batches by number: the base class that Keras has for them."""

from __future__ import annotations

from typing import Any

__all__ = ["PyDataset"]


class PyDataset:
    """Batches that are made one by one, when they are needed.

    A subclass defines ``__len__``, the number of batches, and ``__getitem__(index)``, which
    returns ``(x, y)`` or ``(x, y, sample_weight)``; ``on_epoch_begin`` and ``on_epoch_end`` are
    called around every epoch. `fit`, `evaluate` and `predict` take any object with the first two
    methods; this class is for programs written for Keras.

    Parameters
    ----------
    workers : int
        Only 1: batches are made in the calling thread, one after the other.
    use_multiprocessing : bool
        Only False.
    max_queue_size : int
        Without effect with one worker.

    Notes
    -----
    Source: Keras 3 ``keras.utils.PyDataset``, which was ``Sequence`` before.
    """

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        kind = type(self).__name__
        if workers not in (0, 1):
            raise NotImplementedError(
                f"{kind}: workers={workers!r} is not supported: batches are made one after the "
                "other, while no step runs; leave it out"
            )
        if use_multiprocessing:
            raise NotImplementedError(
                f"{kind}: use_multiprocessing=True is not supported; leave it out"
            )
        self._workers = workers
        self._max_queue_size = max_queue_size

    @property
    def workers(self) -> int:
        """As given, 0 or 1."""
        return self._workers

    @property
    def use_multiprocessing(self) -> bool:
        """Always False."""
        return False

    @property
    def max_queue_size(self) -> int:
        """As given."""
        return self._max_queue_size

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__(self)")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(self, index)")

    @property
    def num_batches(self) -> int | None:
        """The number of batches in an epoch."""
        return len(self)

    def on_epoch_begin(self) -> None:
        """Called before every epoch."""

    def on_epoch_end(self) -> None:
        """Called after every epoch."""
