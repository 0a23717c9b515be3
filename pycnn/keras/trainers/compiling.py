"""The half of a trainer that `compile` sets up: losses, metrics, optimizer and their numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras import losses as losses_module
from pycnn.keras import metrics as metrics_module
from pycnn.keras import optimizers as optimizers_module
from pycnn.keras._config import serialize_value
from pycnn.keras.callbacks.callback_list import python_logs
from pycnn.keras.layers._tree import flatten
from pycnn.keras.trainers import checks
from pycnn.keras.trainers.compile_utils import CompileLoss, CompileMetrics, order_by_output
from pycnn.keras.trainers.repeat import Repeat
from pycnn.keras.trainers.step import StepCache

__all__ = ["CompiledModel", "TrainingState"]


class TrainingState:
    """What `compile` makes, and what the steps recorded since then need."""

    def __init__(self) -> None:
        self.compile_loss: CompileLoss | None = None
        self.compile_metrics: CompileMetrics | None = None
        self.optimizer: Any = None
        self.loss_tracker: Any = None
        self.steps = StepCache()
        self.predict_steps = StepCache()
        self.repeats: dict[str, Repeat] = {}
        self.config: dict[str, Any] = {}
        self.trained: list[Any] | None = None
        self.weights: set[int] = set()
        self.trainable: dict[int, bool] = {}
        self.checked_activations = False
        self.validation_given = False
        self.initial_epoch: int | None = None


class CompiledModel:
    """`compile`, and everything that is known after it."""

    # Given by Layer and Model, the classes this one is mixed with.
    name: str
    built: bool
    weights: list[Any]
    compute_dtype: str
    trainable_variables: list[Any]
    build: Callable[..., None]
    _check_input_shapes: Callable[[Any], bool]
    _flatten_layers: Callable[..., Any]
    _regularization_losses: Callable[[], list[Any]]

    compiled: bool = False
    loss: Any = None
    history: Any = None
    run_eagerly: bool = False
    jit_compile: bool = False
    steps_per_execution: int = 1
    stop_training: bool = False
    stop_evaluating: bool = False
    stop_predicting: bool = False

    @property
    def _fit_state(self) -> TrainingState:
        """The trainer's own attributes, apart from those that a layer tracks."""
        state: TrainingState | None = self.__dict__.get("_trainer_state")
        if state is None:
            state = self.__dict__["_trainer_state"] = TrainingState()
        return state

    @property
    def optimizer(self) -> Any:
        """What updates the weights; another one takes over with the next step."""
        return self._fit_state.optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        if isinstance(value, (str, type, Mapping)):
            value = optimizers_module.get(value)
        state = self._fit_state
        state.optimizer = value
        if self.compiled:
            state.config["optimizer"] = value  # for files and copies

    @property
    def _validation_given(self) -> bool:
        return self._fit_state.validation_given

    @property
    def _initial_epoch(self) -> int | None:
        return self._fit_state.initial_epoch

    @_initial_epoch.setter
    def _initial_epoch(self, value: int | None) -> None:
        self._fit_state.initial_epoch = value

    def __getattr__(self, name: str) -> Any:
        if isinstance(getattr(type(self), name, None), property):
            return object.__getattribute__(self, name)  # raises the property's own error
        today = checks.today_spelling(name)
        if today is not None:
            raise AttributeError(f"model.{name} is of an older Keras: today write {today}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @checks.renamed_arguments
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Say how the model is trained.

        Parameters
        ----------
        optimizer : str or Optimizer
            A name such as ``"adam"``, or an object.
        loss : str, Loss, callable, list or dict, optional
            The loss; for several outputs one each, in a list or a dict by output name.
        loss_weights : float, list or dict, optional
            Shares of the losses in the total.
        metrics : list or dict, optional
            Names, objects or functions, not weighted by ``sample_weight``. ``"accuracy"`` is
            chosen by the shapes: binary, class numbers or one-hot.
        weighted_metrics : list or dict, optional
            The same, weighted by ``sample_weight`` and ``class_weight``.
        run_eagerly : bool
            Only False: a step always runs as one plan. Call ``model(x)`` to look at values.
        steps_per_execution : int
            Callbacks' hooks of batches are called every so many batches.
        jit_compile : bool or "auto"
            Accepted and without effect: every step is compiled into a plan by the engine.
        auto_scale_loss : bool
            Without effect: there is no half precision.

        Raises
        ------
        ValueError
            For unknown names (the nearest are told) and settings that do not fit the outputs.
        NotImplementedError
            For ``run_eagerly=True``; for Keras's default optimizer, RMSprop, and others that are
            not there.

        Notes
        -----
        Source: Keras 3 ``Model.compile``. Names are looked up here, so that a misspelt one is
        told at once. Nothing is changed when an error is raised.
        """
        if run_eagerly:
            raise NotImplementedError(
                "compile: run_eagerly=True is not supported: a step runs as one plan. To look at "
                "values call the model or a layer on an array: model(x[:2])"
            )
        count = checks.check_count("compile", "steps_per_execution", steps_per_execution, 1, False)
        if jit_compile not in (True, False, "auto", None):
            raise ValueError(
                f"compile: jit_compile must be True, False or 'auto', got {jit_compile!r}"
            )
        made = _optimizer_of(optimizer)
        names = self._output_keys()
        state = TrainingState()
        if loss is not None:
            state.compile_loss = CompileLoss(loss, loss_weights, names)
        elif loss_weights is not None:
            raise ValueError(f"compile: loss_weights={loss_weights!r} needs a loss")
        if metrics is not None or weighted_metrics is not None:
            state.compile_metrics = CompileMetrics(metrics, weighted_metrics, names)
        state.loss_tracker = metrics_module.Mean(name="loss")
        state.trainable = {id(layer): layer.trainable for layer in self._flatten_layers()}
        state.config = {
            "optimizer": made,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": False,
            "steps_per_execution": count,
            "jit_compile": False,
        }
        if made is not None and self.built:
            self._check_optimizer(made)
        state.predict_steps = self._fit_state.predict_steps
        state.optimizer = made
        self.__dict__["_trainer_state"] = state
        self.__dict__["loss"] = loss
        self.run_eagerly = False
        self.jit_compile = False
        self.steps_per_execution = count or 1
        self.stop_training = False
        self.compiled = True

    def _check_optimizer(self, optimizer: Any) -> None:
        """Refuse an optimizer that was made for the weights of another model."""
        if not getattr(optimizer, "built", False):
            return
        known = {id(variable) for variable in getattr(optimizer, "_trainable_variables", [])}
        strange = [v for v in self.trainable_variables if id(v) not in known]
        if known and strange:
            kind = type(optimizer).__name__
            raise ValueError(
                f"the optimizer {kind} already trains other weights (another model, or this one "
                f"before it was changed) and does not know {strange[0].path!r} of model "
                f"{self.name!r}: create a new one for each model, and after layers were added, as "
                f"in model.compile(optimizer={kind}(...), ...)"
            )

    def _refuse_own_steps(self) -> None:
        """Refuse a model whose class defines steps of its own; they would not be called."""
        for name in ("train_step", "test_step", "predict_step", "compute_metrics"):
            if hasattr(type(self), name):
                raise NotImplementedError(
                    f"{type(self).__name__}.{name}: steps are recorded as a whole, so that a "
                    f"{name} of your own is not called; override compute_loss, or write the loop "
                    "with pycnn.Tensor and pycnn.ops"
                )

    def _require_compiled(self, method: str) -> None:
        self._refuse_own_steps()
        if self.compiled:
            return
        layers = checks.output_layers(self)
        loss = "sparse_categorical_crossentropy"
        if len(layers) == 1 and layers[0] is not None:
            shape = getattr(self, "output_shape", None)
            if isinstance(shape, tuple) and shape and shape[-1] == 1:
                loss = "binary_crossentropy"
        raise ValueError(
            f"You must call compile() before {method}(), for instance: model.compile("
            f'optimizer="adam", loss="{loss}", metrics=["accuracy"])'
        )

    # ---- metrics ----

    @property
    def metrics(self) -> list[Any]:
        """The mean of the loss, the metrics of `compile`, the means of single losses."""
        state = self._fit_state
        found: list[Any] = []
        if self.compiled:
            found.append(state.loss_tracker)
            if state.compile_metrics is not None:
                found.append(state.compile_metrics)
            if state.compile_loss is not None:
                found.extend(state.compile_loss.metrics(state.steps.last_outputs))
        if _holds_metrics(self):
            for layer in self._flatten_layers():
                found.extend(layer._metrics)
        return found

    @property
    def metrics_names(self) -> list[str]:
        """The names of :attr:`metrics`."""
        return [metric.name for metric in self.metrics]

    def reset_metrics(self) -> None:
        """Start all metrics anew."""
        for metric in self.metrics:
            metric.reset_state()

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the present values of all metrics by name."""
        results: dict[str, Any] = {}
        for name, metric in self._named_metrics().items():
            value = metric.result()
            results.update(value if isinstance(value, dict) else {name: value})
        return results

    def _named_metrics(self) -> dict[str, Any]:
        """Return all metrics by the names of their results."""
        named: dict[str, Any] = {}
        for metric in self.metrics:
            named.update(
                metric.named() if isinstance(metric, CompileMetrics) else {metric.name: metric}
            )
        return named

    def _logs(self, named: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the present values of metrics, or of all, as Python numbers (or arrays)."""
        if self._has_own("get_metrics_result"):
            return python_logs(self.get_metrics_result())
        logs: dict[str, Any] = {}
        for name, metric in (self._named_metrics() if named is None else named).items():
            value = metric.plain_result()
            if isinstance(value, dict):
                logs.update(value)
            else:
                logs[name] = value
        return logs

    def _has_own(self, *names: str) -> bool:
        """Tell whether a subclass, or somebody later, defined one of these anew."""
        return any(
            name in self.__dict__ or getattr(type(self), name) is not getattr(CompiledModel, name)
            for name in names
        )

    def _sorted_logs(self) -> dict[str, Any]:
        return dict(sorted(self._logs().items()))

    def _values_in_order(self, logs: Mapping[str, Any]) -> Any:
        """Return `evaluate`'s list: the loss first, then the metrics; a lone loss as a number."""
        values = [logs[name] for name in self._order_of_results(logs)]
        return values[0] if len(values) == 1 else values

    def _order_of_results(self, reported: Iterable[str]) -> list[str]:
        names: list[str] = []
        for metric in self.metrics:
            names += [m.name for m in getattr(metric, "metrics", [metric])]
        ordered = [name for name in dict.fromkeys(names) if name in reported]
        return ordered + sorted(name for name in reported if name not in names)

    # ---- losses ----

    def _output_keys(self) -> list[str]:
        """Return what losses and labels call the outputs: a dict's keys, or the layers' names."""
        outputs = self.__dict__.get("_outputs_struct")
        if isinstance(outputs, Mapping):
            return sorted(outputs)
        return list(getattr(self, "output_names", None) or [])

    def _output_list(self, outputs: Any) -> tuple[list[str], list[Any]]:
        """Return names and values of the outputs."""
        if isinstance(outputs, Mapping):
            names = sorted(outputs)
            return names, [outputs[name] for name in names]
        known = self._output_keys()
        flat = flatten(outputs)
        if len(known) != len(flat):
            known = ["output"] if len(flat) == 1 else [f"output_{i + 1}" for i in range(len(flat))]
        return known, flat

    def _by_output(self, value: Any, names: Sequence[str], argument: str) -> list[Any]:
        """Return labels or weights as a list by output."""
        if value is None:
            return [None] * len(names)
        if isinstance(value, Mapping):
            return order_by_output(value, names, argument)
        if not isinstance(value, (list, tuple)):
            if len(names) > 1 and argument == "y":
                raise ValueError(
                    f"y: the model has {len(names)} outputs ({', '.join(names)}), expected a "
                    "list or a dict of arrays, got one array"
                )
            return [value] * len(names)
        items = flatten(value)
        loss = self._fit_state.compile_loss
        if len(items) < len(names) and loss is not None:
            wanted = loss.wanted(names)
            if sum(wanted) == len(items):  # labels only for the outputs that have a loss
                rest = iter(items)
                return [next(rest) if has else None for has in wanted]
        return order_by_output(items, names, argument)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the total loss of a batch, regularisation included; may be overridden.

        Parameters
        ----------
        x, y, y_pred, sample_weight : Tensor or structure
            Inputs, labels, outputs and weights of the batch.
        training : bool
            Whether the loss is that of a training step.

        Raises
        ------
        ValueError
            If there is no loss at all.
        """
        del x, training
        state = self._fit_state
        names, predictions = self._output_list(y_pred)
        total: Any = None
        if state.compile_loss is not None:
            labels = self._by_output(y, names, "y")
            weights = self._by_output(sample_weight, names, "sample_weight")
            if not state.compile_loss.built:
                state.compile_loss.build(names, labels, predictions)
            total = state.compile_loss(labels, predictions, weights)
        for penalty in self._regularization_losses():
            value = ops.sum(penalty) if getattr(penalty, "ndim", 0) else penalty
            total = value if total is None else ops.add(total, value)
        if total is None:
            raise ValueError(
                "there is no loss to compute: give compile() one, as in "
                'model.compile(loss="categorical_crossentropy")'
            )
        return total

    def _record_losses(
        self, x: Any, y: Any, outputs: Any, sample_weight: Any, training: bool
    ) -> Tensor:
        """Record the loss of a batch and the update of all metrics; returns the loss."""
        state = self._fit_state
        resolved = [c for c in (state.compile_loss, state.compile_metrics) if c is not None]
        fresh = [c for c in resolved if not c.built]
        try:
            return self._record_checked(x, y, outputs, sample_weight, training)
        except BaseException:
            for one in fresh:  # chosen by labels that do not fit
                one.built = False
            raise

    def _record_checked(
        self, x: Any, y: Any, outputs: Any, sample_weight: Any, training: bool
    ) -> Tensor:
        state = self._fit_state
        names, predictions = self._output_list(outputs)
        labels = self._by_output(y, names, "y")
        weights = self._by_output(sample_weight, names, "sample_weight")
        if state.compile_loss is not None:
            if not state.compile_loss.built:
                state.compile_loss.build(names, labels, predictions)
            layers = checks.output_layer_names(self, len(names))
            for one in state.compile_loss.losses:
                shape = predictions[one.index].shape
                checks.check_label_shapes(one.loss, labels[one.index], shape, layers[one.index])
        loss: Tensor = self.compute_loss(x, y, outputs, sample_weight, training=training)
        if loss.ndim:
            raise ValueError(
                f"the loss must be one number, got the shape {loss.shape}: a loss object's "
                "reduction must not be None, and compute_loss must return a scalar"
            )
        batch = next(leaf for leaf in flatten(x) if leaf is not None).shape[0]
        state.loss_tracker.update_state(loss, sample_weight=float(batch))
        if state.compile_metrics is not None:
            if not state.compile_metrics.built:
                state.compile_metrics.build(names, labels, predictions)
            state.compile_metrics.update_state(labels, predictions, weights)
        return loss

    def _trained_variables(self) -> list[Any]:
        """Return the variables the optimizer updates: those trainable since `compile`."""
        state = self._fit_state
        present = {id(variable) for variable in self.weights}
        if state.trained is None or present != state.weights:
            state.trained = list(self.trainable_variables)
            state.weights = present
            self._check_optimizer(self.optimizer)
        return state.trained

    def _warn_if_trainable_changed(self) -> None:
        """Say that freezing a layer takes effect with the next `compile`."""
        state = self._fit_state
        changed = [
            layer.name
            for layer in self._flatten_layers()
            if state.trainable.get(id(layer), layer.trainable) != layer.trainable
        ]
        if changed and state.trained is not None:
            state.trainable = {id(layer): layer.trainable for layer in self._flatten_layers()}
            warnings.warn(
                f"`trainable` of the layers {', '.join(changed)} was changed after compile(); "
                "call compile() again for it to take effect",
                stacklevel=4,
            )

    # ---- copies and pickles ----

    def _compiled_state(self) -> dict[str, Any] | None:
        """What a copy needs to be compiled as this model is; None if it is not compiled."""
        if not self.compiled:
            return None
        arguments = dict(self._fit_state.config)
        made = self.optimizer
        state: dict[str, Any] = {"arguments": arguments, "variables": None}
        if made is not None:
            arguments["optimizer"] = made.without_state()
            state["no_decay"] = made._no_decay  # the model's own, copied with it
            if made.built:
                state["variables"] = list(made._trainable_variables)
                state["numbers"] = [variable.numpy() for variable in made.variables]
        return state

    def _restore_compiled(self, state: dict[str, Any]) -> None:
        """Compile from the result of `_compiled_state`; the optimizer goes on where it was."""
        CompiledModel.compile(self, **state["arguments"])
        if self.optimizer is not None:
            self.optimizer._no_decay = state.get("no_decay", [])
        if state["variables"] is not None:
            self.optimizer.build(state["variables"])
            for variable, value in zip(self.optimizer.variables, state["numbers"], strict=True):
                variable.assign(value)

    # ---- files ----

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of `compile` in a form that files hold; empty if not compiled."""
        if not self.compiled:
            return {}
        return {name: serialize_value(value) for name, value in self._fit_state.config.items()}

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile with the arguments that :meth:`get_compile_config` returned."""
        arguments = dict(config)
        arguments["optimizer"] = _restore(arguments.get("optimizer"), optimizers_module.deserialize)
        arguments["loss"] = _restore(arguments.get("loss"), losses_module.deserialize)
        for name in ("metrics", "weighted_metrics"):
            arguments[name] = _restore(arguments.get(name), metrics_module.deserialize)
        self.compile(**arguments)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)


def _optimizer_of(identifier: Any) -> Any:
    try:
        return optimizers_module.get(identifier)
    except NotImplementedError as error:
        if not isinstance(identifier, str) or identifier.lower() != "rmsprop":
            raise
        raise NotImplementedError(
            f"{error} It is what compile() takes where none is named: name one, as in "
            'compile(optimizer="adam", ...)'
        ) from None


def _holds_metrics(model: Any) -> bool:
    """Tell, quickly, whether a layer has metrics of its own."""
    todo = [model]
    while todo:
        own = todo.pop().__dict__
        if own["_metrics"]:
            return True
        todo += own["_layers"]
    return False


def _restore(value: Any, deserialize: Callable[[Any], Any]) -> Any:
    """Make objects of configurations in a structure; names stay names."""
    if isinstance(value, Mapping):
        if "class_name" in value:
            return deserialize(value)
        return {key: _restore(part, deserialize) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_restore(part, deserialize) for part in value]
    return value
