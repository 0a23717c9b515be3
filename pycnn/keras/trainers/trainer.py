"""`fit`, `evaluate`, `predict` and their relatives for one batch, mixed into every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pycnn.keras.callbacks.callback_list import CallbackList
from pycnn.keras.layers._tree import flatten, pack_like
from pycnn.keras.trainers import checks, loop
from pycnn.keras.trainers.arrays import sample_count
from pycnn.keras.trainers.compiling import CompiledModel
from pycnn.keras.trainers.data import (
    ArrayData,
    Data,
    Form,
    combine_weights,
    is_stream,
    make_data,
    split_validation,
    unpack,
)
from pycnn.keras.trainers.interrupts import Interrupts
from pycnn.keras.trainers.repeat import remember, repeated
from pycnn.keras.trainers.slices import SLICE, bind_predict, samples_are_independent
from pycnn.keras.trainers.step import Step, StepData

__all__ = ["Trainer"]


class Trainer(CompiledModel):
    """Training, evaluation and prediction.

    A model mixes this in and offers ``_run(inputs, training)``, which records its layers.
    """

    @checks.renamed_arguments
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | list[int] = 1,
    ) -> Any:
        """Train the model.

        Parameters
        ----------
        x : array, list or dict of arrays, generator, sequence of batches
            The inputs, samples first. What yields batches yields ``(x, y)`` or
            ``(x, y, sample_weight)``.
        y : array, list or dict of arrays, optional
            The labels.
        batch_size : int, optional
            Samples in a step, 32 where not given.
        epochs : int
            The number of the last epoch.
        verbose : "auto", 0, 1 or 2
            Nothing, a progress bar, or a line an epoch.
        callbacks : list of Callback, optional
            Called at their moments.
        validation_split : float
            The last share of the data that is held out for validation, before any shuffling.
        validation_data : tuple or what yields batches, optional
            ``(x, y)`` or ``(x, y, sample_weight)``; takes the place of ``validation_split``.
        shuffle : bool
            Whether the order changes every epoch; it follows from `set_random_seed`.
        class_weight : dict, optional
            Weight of the samples by class; multiplied by ``sample_weight``.
        sample_weight : array, optional
            Weight of every sample in the loss and in ``weighted_metrics``.
        initial_epoch : int
            Where to start counting epochs.
        steps_per_epoch : int, optional
            Steps in an epoch, where it is not one pass over the data.
        validation_steps : int, optional
            Steps of a validation.
        validation_batch_size : int, optional
            As ``batch_size``, for the validation.
        validation_freq : int or list of int
            After how many epochs, or after which, validation runs.

        Returns
        -------
        History
            Its ``history`` holds the metrics by epoch.

        Raises
        ------
        ValueError, TypeError
            If data, labels and model do not fit; the weights are unchanged then.
        KeyboardInterrupt
            After Ctrl-C, when the step under way is complete; weights and ``model.history`` hold
            what was reached.

        Notes
        -----
        Source: Keras 3 ``Model.fit``.
        """
        self._require_compiled("fit")
        self._warn_if_trainable_changed()
        size = checks.check_count("fit", "batch_size", batch_size)
        last = checks.check_count("fit", "epochs", epochs, 0, False) or 0
        first = checks.check_count("fit", "initial_epoch", initial_epoch, 0, False) or 0
        steps = checks.check_count("fit", "steps_per_epoch", steps_per_epoch)
        val_steps = checks.check_count("fit", "validation_steps", validation_steps)
        val_size = checks.check_count("fit", "validation_batch_size", validation_batch_size)
        shown = checks.check_verbose("fit", verbose)
        checks.check_validation_freq(validation_freq)
        checks.check_weights_mapping(class_weight)
        fraction = checks.check_validation_split(validation_split)

        held_out: Any = None
        if validation_data is not None:
            held_out = _validation_parts(validation_data)
        elif fraction:
            (x, y, sample_weight), held_out = split_validation(
                x, y, sample_weight, fraction, self._data_form
            )
        data = make_data(
            x,
            y,
            sample_weight,
            batch_size=size,
            steps=steps,
            shuffle=checks.check_shuffle(shuffle),
            seed=_shuffle_seed,
            class_weight=class_weight,
            form=self._data_form,
        )
        validation: Data | None = None
        if held_out is not None:
            validation = make_data(
                *held_out,
                batch_size=val_size or size,
                steps=val_steps,
                name="validation_data",
                form=self._data_form,
            )
        self._prepare(data, "train")
        if validation is not None:
            self._prepare(validation, "test", record=False)

        self._fit_state.validation_given = validation is not None
        self.stop_training = False
        calls = CallbackList(
            callbacks,
            add_history=True,
            add_progbar=shown != 0,
            model=self,
            verbose=shown,
            epochs=last,
            steps=data.steps,
        )
        with Interrupts() as interrupts:
            try:
                return self._fit_epochs(
                    data, validation, calls, (first, last), validation_freq, interrupts
                )
            except BaseException:
                if calls.progbar is not None:
                    calls.progbar.break_line()
                raise

    def _fit_epochs(
        self,
        data: Data,
        validation: Data | None,
        callbacks: CallbackList,
        epochs: tuple[int, int],
        validation_freq: Any,
        interrupts: Interrupts,
    ) -> Any:
        state = self._fit_state
        watch = loop.LossWatch(self)
        callbacks.on_train_begin()
        logs: dict[str, Any] = {}
        first = self._initial_epoch or epochs[0]
        self._initial_epoch = None
        for epoch in range(first, epochs[1]):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            done = loop.train_batches(self, data, state.steps, callbacks, epoch, watch, interrupts)
            if done == 0:
                break  # the data ran out, as was warned
            logs = self._logs()
            if validation is not None and _is_due(epoch, validation_freq):
                found = self._evaluate_data(validation, callbacks, interrupts)
                logs.update({f"val_{name}": value for name, value in found.items()})
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        callbacks.on_train_end(logs)
        return self.history

    @checks.renamed_arguments
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Compute the loss and the metrics on data.

        Parameters
        ----------
        x, y, batch_size, sample_weight, callbacks
            As for :meth:`fit`.
        verbose : "auto", 0, 1 or 2
            Nothing, a progress bar, or one line.
        steps : int, optional
            Batches to use.
        return_dict : bool
            Return a dict by name instead of a list.

        Returns
        -------
        float, list or dict
            The loss, and the metrics where there are any.

        Notes
        -----
        Source: Keras 3 ``Model.evaluate``.
        """
        if kwargs:
            raise ValueError(f"evaluate: arguments not recognized: {kwargs}")
        self._require_compiled("evaluate")
        size = checks.check_count("evaluate", "batch_size", batch_size)
        count = checks.check_count("evaluate", "steps", steps)
        shown = checks.check_verbose("evaluate", verbose)
        data = make_data(
            x,
            y,
            sample_weight,
            batch_size=size,
            steps=count,
            form=self._data_form,
        )
        self._prepare(data, "test")
        calls = CallbackList(
            callbacks,
            add_progbar=shown != 0,
            model=self,
            verbose=shown,
            epochs=1,
            steps=data.steps,
        )
        with Interrupts() as interrupts:
            logs = self._evaluate_data(data, calls, interrupts)
        return logs if return_dict else self._values_in_order(logs)

    def _evaluate_data(
        self, data: Data, callbacks: CallbackList, interrupts: Interrupts
    ) -> dict[str, Any]:
        self.stop_evaluating = False
        callbacks.on_test_begin()
        self.reset_metrics()
        loop.test_batches(self, data, self._fit_state.steps, callbacks, interrupts)
        logs = self._sorted_logs()
        callbacks.on_test_end(logs)
        return logs

    @checks.renamed_arguments
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Compute the outputs for data; the model need not be compiled.

        Parameters
        ----------
        x, batch_size, callbacks
            As for :meth:`fit`.
        verbose : "auto", 0, 1 or 2
            Nothing, a progress bar, or one line.
        steps : int, optional
            Batches to use.

        Returns
        -------
        array, or list or dict of arrays
            The outputs of all samples, in NumPy arrays.

        Notes
        -----
        Source: Keras 3 ``Model.predict``.
        """
        self._refuse_own_steps()
        size = checks.check_count("predict", "batch_size", batch_size)
        count = checks.check_count("predict", "steps", steps)
        shown = checks.check_verbose("predict", verbose)
        data = make_data(x, batch_size=size, steps=count, form=self._data_form)
        self._prepare(data, "predict")
        calls = CallbackList(
            callbacks,
            add_progbar=shown != 0,
            model=self,
            verbose=shown,
            epochs=1,
            steps=data.steps,
        )
        self.stop_predicting = False
        calls.on_predict_begin()
        outputs = loop.predict_batches(self, data, self._fit_state.predict_steps, calls)
        calls.on_predict_end()
        return outputs

    @checks.renamed_arguments
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Run one step of training on one batch.

        Parameters
        ----------
        x, y, sample_weight, class_weight
            The batch, as for :meth:`fit`.
        return_dict : bool
            Return a dict by name instead of a list.

        Returns
        -------
        float, list or dict
            The loss and the metrics of this batch.

        Notes
        -----
        Source: Keras 3 ``Model.train_on_batch``.
        """
        weighted = sample_weight is not None or class_weight is not None
        known = None if weighted else repeated(self, "train", x, y)
        if known is not None:
            known.reset_metrics()
            known.step.bind_training([x] if y is None else [x, y], self.optimizer)()
            return known.results(self, return_dict)
        self._require_compiled("train_on_batch")
        checks.check_weights_mapping(class_weight)
        inputs = self._batch(x, y, sample_weight, class_weight)
        step = self._prepare_batch(inputs, "train")
        self.reset_metrics()
        step.bind_training(inputs.leaves, self.optimizer)()
        remember(self, "train", x, y, inputs, step)
        return self._batch_results(return_dict)

    @checks.renamed_arguments
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Compute the loss and the metrics of one batch.

        Parameters
        ----------
        x, y, sample_weight
            The batch.
        return_dict : bool
            Return a dict by name instead of a list.

        Notes
        -----
        Source: Keras 3 ``Model.test_on_batch``.
        """
        known = None if sample_weight is not None else repeated(self, "test", x, y)
        if known is not None:
            known.reset_metrics()
            known.step.bind([x] if y is None else [x, y])()
            return known.results(self, return_dict)
        self._require_compiled("test_on_batch")
        inputs = self._batch(x, y, sample_weight, None)
        step = self._prepare_batch(inputs, "test")
        self.reset_metrics()
        step.bind(inputs.leaves)()
        remember(self, "test", x, y, inputs, step)
        return self._batch_results(return_dict)

    @checks.renamed_arguments
    def predict_on_batch(self, x: Any) -> Any:
        """Compute the outputs of one batch, as NumPy arrays.

        Notes
        -----
        Source: Keras 3 ``Model.predict_on_batch``.
        """
        known = repeated(self, "predict", x, None)
        if known is not None:
            step, leaves = known.step, [x]
        else:
            self._refuse_own_steps()
            inputs = self._batch(x, None, None, None)
            self._check_data(inputs, "predict")
            cache = self._fit_state.predict_steps
            if len(inputs.leaves[0]) >= 2 * SLICE and samples_are_independent(self):
                arrays = bind_predict(self, cache, inputs, None)()
                return pack_like(cache.last_outputs, arrays)
            step = cache.get(self, "predict", inputs, None)
            leaves = inputs.leaves
            remember(self, "predict", x, None, inputs, step)
        outputs = [np.array(output.numpy()) for output in step.bind(leaves)()]
        return pack_like(step.outputs, outputs)

    def _batch_results(self, return_dict: bool) -> Any:
        return self._sorted_logs() if return_dict else self._values_in_order(self._logs())

    # ---- preparation ----

    @property
    def _data_form(self) -> Form:
        """What a list as x or y means for this model."""
        inputs = flatten(getattr(self, "inputs", None))
        outputs = flatten(getattr(self, "outputs", None))
        known = inputs != [None]
        shape = inputs[0].shape if known and len(inputs) == 1 else None
        if self._is_sequential:
            return Form(shape=shape)
        return Form(not known or len(inputs) > 1, outputs == [None] or len(outputs) > 1, shape)

    @property
    def _is_sequential(self) -> bool:
        from pycnn.keras.models.sequential import Sequential

        return isinstance(self, Sequential)

    def _batch(self, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> StepData:
        if is_stream(x):
            raise TypeError(
                f"x: expected the arrays of one batch, got a {type(x).__name__}; fit() takes it"
            )
        form = self._data_form
        arrays, targets = form.inputs_as_arrays(x), form.labels_as_arrays(y)
        weights = combine_weights(targets, sample_weight, class_weight)
        sample_count(arrays, targets, weights)
        return StepData(arrays, targets, weights)

    def _prepare_batch(self, inputs: StepData, mode: str) -> Step:
        self._check_data(inputs, mode)
        step = self._fit_state.steps.get(self, mode, inputs, None)
        self._check_labels(inputs.structures[1])
        return step

    def _prepare(self, data: Data, mode: str, record: bool = True) -> None:
        """Check data against the model and record the step of its first batch.

        The model is built by the way; its weights and the optimizer's numbers stay.
        """
        if isinstance(data, ArrayData):
            inputs = data.step_data(mode)
            size: int | None = data.batch_size
            if data.is_one_batch and mode != "train":
                size = None
        else:
            inputs = StepData(*data.example())
            if mode == "predict":
                inputs = StepData(inputs.structures[0])
            size = None
        self._check_data(inputs, mode)
        state = self._fit_state
        if record:
            cache = state.predict_steps if mode == "predict" else state.steps
            cache.get(self, mode, inputs, size)
        if mode != "predict":
            self._check_labels(inputs.structures[1])
            self._check_activations()

    def _check_data(self, inputs: StepData, mode: str) -> None:
        """Check the shapes of whole arrays, as far as the model knows its own."""
        x, y, _ = inputs.structures
        if not self.built and isinstance(x, np.ndarray) and self._is_sequential:
            self.build((None, *x.shape[1:]))
        as_made = self._check_input_shapes(x)
        if mode == "predict":
            return
        if mode == "train":
            checks.check_optimizer(self.optimizer)
        loss = self._fit_state.compile_loss
        if loss is not None and y is None:
            raise ValueError(
                f"y: labels are missing: the model was compiled with the loss {self.loss!r}"
            )
        outputs = getattr(self, "outputs", None)
        if loss is None or outputs is None or not as_made:
            return  # labels are checked when the step is recorded
        flat = flatten(outputs)
        names, _ = self._output_list(flat)
        labels = self._by_output(y, names, "y")
        fresh = not loss.built
        if fresh:
            loss.build(names, labels, flat)
        layers = checks.output_layer_names(self, len(flat))
        for one in loss.losses:
            if labels[one.index] is None:
                raise ValueError(
                    f"y: no labels were given for the output {one.name!r}, which has a loss"
                )
            shape = flat[one.index].shape
            try:
                checks.check_label_shapes(one.loss, labels[one.index], shape, layers[one.index])
            except ValueError:
                loss.built = not fresh  # chosen by labels that do not fit
                raise

    def _check_labels(self, y: Any) -> None:
        """Check the numbers of labels, once the outputs' shapes are known."""
        for loss, labels, shape, layer in self._label_checks(y):
            checks.check_label_values(loss, labels, shape, layer)

    def _label_checks(self, y: Any) -> list[tuple[Any, Any, Any, str]]:
        """Return (loss, labels, shape of the output, its layer's name) of every loss."""
        state = self._fit_state
        if state.compile_loss is None or state.steps.last_outputs is None:
            return []
        names, outputs = self._output_list(state.steps.last_outputs)
        layers = checks.output_layer_names(self, len(names))
        labels = self._by_output(y, names, "y")
        return [
            (one.loss, labels[one.index], outputs[one.index].shape, layers[one.index])
            for one in state.compile_loss.losses
        ]

    def _check_activations(self) -> None:
        """Warn, once after `compile`, of activations that do not fit their loss."""
        state = self._fit_state
        if state.checked_activations or state.compile_loss is None:
            return
        state.checked_activations = True
        for one in state.compile_loss.losses:
            checks.check_output_activation(self, one.index, one.loss)


def _shuffle_seed() -> int:
    """Return the seed of the order of a `fit`, the next of the global sequence."""
    from pycnn.keras.random import make_default_seed

    return make_default_seed()


def _is_due(epoch: int, freq: Any) -> bool:
    """Tell whether validation runs after this epoch, counted from 0."""
    if isinstance(freq, (list, tuple, set)):
        return epoch + 1 in freq
    return bool((epoch + 1) % int(freq) == 0)


def _validation_parts(value: Any) -> tuple[Any, Any, Any]:
    """Return (x, y, sample_weight) of what was given as validation data."""
    if isinstance(value, (tuple, list)):
        parts = unpack(value, "validation_data")
        if len(value) == 1:
            raise ValueError("validation_data: expected (x, y), got only one part")
        return parts
    if not is_stream(value):
        raise ValueError(
            "validation_data: expected (x, y) or what yields batches, got "
            f"{type(value).__name__}: write validation_data=(x_val, y_val)"
        )
    return value, None, None
