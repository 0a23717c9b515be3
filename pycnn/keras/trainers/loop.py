"""The loops over batches: as little Python as possible between two steps.

Where no callback looks at single batches, nothing is read from the engine but the loss of the
step (to notice NaN), and the metrics when the progress bar is about to be drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np

from pycnn.keras.layers._tree import flatten, pack_like
from pycnn.keras.trainers.checks import warn_not_finite
from pycnn.keras.trainers.data import ArrayData, Data
from pycnn.keras.trainers.interrupts import Interrupts
from pycnn.keras.trainers.slices import bind_predict
from pycnn.keras.trainers.step import Step, StepCache, StepData

__all__ = ["LossWatch", "predict_batches", "test_batches", "train_batches"]

# A call of many steps lasts this long, about: Ctrl-C and the progress bar wait for its end.
_CALL_SECONDS = 0.1
_MOST_STEPS = 64

_Call = tuple[Callable[..., Any], tuple[np.ndarray, ...], Any]


def _calls(model: Any, mode: str, data: Data, cache: StepCache) -> Iterator[_Call]:
    """Yield (run, indices, x) for every batch of an epoch."""
    steps: dict[tuple[str, int | None], Step] = {}  # of this epoch: no look-up in the model

    def bind(inputs: StepData, size: int | None) -> Callable[..., Any]:
        if mode == "predict":
            return bind_predict(model, cache, inputs, size)
        key = (inputs.key, size)
        step = steps.get(key)
        if step is None:
            step = steps[key] = cache.get(model, mode, inputs, size)
        if mode == "train":
            return step.bind_training(inputs.leaves, model.optimizer)
        return step.bind(inputs.leaves)

    if isinstance(data, ArrayData):
        inputs = data.step_data(mode)
        if data.is_one_batch and mode != "train":
            yield bind(inputs, None), (), data.x
            return
        bound: dict[int, Callable[..., Any]] = {}
        x = data.x
        for index in data.epoch():
            size = len(index)
            run = bound.get(size)
            if run is None:
                run = bound[size] = bind(inputs, size)
            yield run, (index,), x
        return
    for x, y, sample_weight in data.epoch():
        if mode == "predict":
            inputs = StepData(x)
        else:
            inputs = StepData(x, y, sample_weight)
        call = bind(inputs, None)
        if mode != "predict":
            model._check_labels(y)
        yield call, (), x


class LossWatch:
    """Warn once when the loss is no longer finite.

    Parameters
    ----------
    model : Model
        For its learning rate.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.warned = False

    def tell(self, loss: float, step: int, epoch: int, x: Any) -> None:
        """Give the warning, at the first call."""
        if self.warned:
            return
        self.warned = True
        rate = getattr(self._model.optimizer, "learning_rate", None)
        number = None if rate is None else float(np.asarray(rate))
        warn_not_finite(loss, step, epoch, x, number)


def train_batches(
    model: Any,
    data: Data,
    cache: StepCache,
    callbacks: Any,
    epoch: int,
    watch: LossWatch,
    interrupts: Interrupts,
) -> int:
    """Run one epoch of training; returns the number of steps."""
    group = model.steps_per_execution
    looking = callbacks.wants_batches("train")
    if not looking and isinstance(data, ArrayData) and not data.cycles:
        return _train_many(model, data, cache, callbacks.progbar, epoch, watch, interrupts)
    bar = callbacks.progbar
    step = -1
    for run, index, x in _calls(model, "train", data, cache):
        step += 1
        if looking and step % group == 0:
            callbacks.on_train_batch_begin(step)
        interrupts.busy = True
        loss = run(*index).item()
        interrupts.busy = False
        if interrupts.pending:
            interrupts.check()
        if loss - loss != 0.0:  # NaN or infinite
            watch.tell(loss, step + 1, epoch + 1, x)
        if looking:
            if (step + 1) % group == 0 or step + 1 == data.steps:
                end = step - step % group + group - 1
                callbacks.on_train_batch_end(end, model._logs())
        elif bar is not None and bar.wants_update(perf_counter()):
            bar.on_train_batch_end(step, model._sorted_logs())
        if model.stop_training:
            break
    return step + 1


def _train_many(
    model: Any,
    data: ArrayData,
    cache: StepCache,
    bar: Any,
    epoch: int,
    watch: LossWatch,
    interrupts: Interrupts,
) -> int:
    """Run one epoch of training where nobody looks at single batches: many steps in a call.

    After milliseconds of computing, a line of Python finds the caches empty: what costs 10
    microseconds in a tight loop costs 100 between two steps.
    """
    inputs = data.step_data("train")
    order, size = data.next_order(), data.batch_size
    done, count, run = 0, 1, None
    while done < data.batches:
        whole = data.size // size - done
        if whole > 0:
            count = min(count, whole)
            indices = order[done * size : (done + count) * size].reshape(count, size)
        else:
            indices, run = order[done * size :][np.newaxis], None
        if run is None:
            step = cache.get(model, "train", inputs, indices.shape[1])
            run = step.bind_steps(inputs.leaves, model.optimizer)
        start = perf_counter()
        interrupts.busy = True
        losses = run(indices)
        interrupts.busy = False
        now = perf_counter()
        done += len(losses)
        if interrupts.pending:
            interrupts.check()
        if not np.isfinite(losses).all():
            first = int(np.argmin(np.isfinite(losses)))
            watch.tell(losses[first].item(), done - len(losses) + first + 1, epoch + 1, data.x)
        if bar is not None and bar.wants_update(now):
            bar.on_train_batch_end(done - 1, model._sorted_logs())
        if model.stop_training:
            break
        count = int(_CALL_SECONDS * len(losses) / max(now - start, 1e-6))
        count = max(1, min(count, _MOST_STEPS))
    return done


def test_batches(
    model: Any, data: Data, cache: StepCache, callbacks: Any, interrupts: Interrupts
) -> None:
    """Run one evaluation."""
    group = model.steps_per_execution
    looking = callbacks.wants_batches("test")
    bar = callbacks.progbar
    for step, (run, index, _) in enumerate(_calls(model, "test", data, cache)):
        if looking and step % group == 0:
            callbacks.on_test_batch_begin(step)
        interrupts.busy = True
        run(*index)
        interrupts.busy = False
        if interrupts.pending:
            interrupts.check()
        if looking:
            if (step + 1) % group == 0 or step + 1 == data.steps:
                callbacks.on_test_batch_end(step - step % group + group - 1, model._logs())
        elif bar is not None and bar.wants_update(perf_counter()):
            bar.on_test_batch_end(step, model._sorted_logs())
        if model.stop_evaluating:
            break


class _Outputs:
    """Predictions put together: into one array where the number of samples is known."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._filled = 0
        self._arrays: list[np.ndarray] = []
        self._parts: list[list[np.ndarray]] = []

    def add(self, batch: list[np.ndarray]) -> None:
        if self._size is None:
            self._parts.append([np.array(part) for part in batch])
            return
        if not self._arrays:
            self._arrays = [np.empty((self._size, *p.shape[1:]), p.dtype) for p in batch]
        high = self._filled + len(batch[0])
        for whole, part in zip(self._arrays, batch, strict=True):
            whole[self._filled : high] = part
        self._filled = high

    def leaves(self) -> list[np.ndarray]:
        if self._size is None:
            return [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        return [whole[: self._filled] for whole in self._arrays]


def predict_batches(model: Any, data: Data, cache: StepCache, callbacks: Any) -> Any:
    """Run one prediction; returns the outputs of all samples in the model's structure."""
    group = model.steps_per_execution
    looking = callbacks.wants_batches("predict")
    bar = callbacks.progbar
    collected = _Outputs(data.size if isinstance(data, ArrayData) and not data.cycles else None)
    structure: Any = None
    for step, (run, index, _) in enumerate(_calls(model, "predict", data, cache)):
        if looking and step % group == 0:
            callbacks.on_predict_batch_begin(step)
        collected.add(batch := run(*index))  # nothing to keep together: Ctrl-C ends it at once
        if structure is None:
            structure = cache.last_outputs
        if looking:
            if (step + 1) % group == 0 or step + 1 == data.steps:
                shown = pack_like(structure, [np.array(part) for part in batch])
                end = step - step % group + group - 1
                callbacks.on_predict_batch_end(end, {"outputs": shown})
        elif bar is not None and bar.wants_update(perf_counter()):
            bar.on_predict_batch_end(step)
        if model.stop_predicting:
            break
    leaves = collected.leaves()
    return pack_like(structure, leaves) if flatten(structure) else leaves
