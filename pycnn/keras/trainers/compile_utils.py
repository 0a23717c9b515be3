"""The losses and metrics of `compile`, resolved for the outputs of a model.

What the user wrote (a name, an object, a function, a list, a dict by output) becomes one loss
and some metrics per output once the shapes of labels and predictions are known. Names are those
that Keras reports.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pycnn import ops
from pycnn.keras import losses as losses_module
from pycnn.keras import metrics as metrics_module
from pycnn.keras._errors import did_you_mean
from pycnn.keras.layers._tree import flatten
from pycnn.keras.losses.loss import LossFunctionWrapper

__all__ = ["CompileLoss", "CompileMetrics", "OutputLoss", "is_binary_or_sparse", "order_by_output"]


# Names whose meaning depends on the shapes of labels and outputs.
_CHOSEN_LATER = ("crossentropy", "ce", "accuracy", "acc")
_NUMBER = (int, float, np.integer, np.floating)
# What a trainer calls the one output of a model whose outputs have no names.
_NO_NAMES = ["output"]


def is_binary_or_sparse(y_true: Any, y_pred: Any) -> tuple[bool, bool]:
    """Tell from the shapes whether labels are binary, and whether they are class numbers."""
    binary = y_pred.shape[-1] == 1
    sparse = len(y_true.shape) < len(y_pred.shape) or (
        y_true.shape[-1] == 1 and y_pred.shape[-1] > 1
    )
    return binary, sparse


def order_by_output(value: Any, names: Sequence[str], argument: str) -> list[Any]:
    """Return one item per output of a list or a dict by output name.

    Raises
    ------
    ValueError
        If the number or the names do not fit.
    """
    if isinstance(value, Mapping):
        unknown = [key for key in value if key not in names]
        if unknown:
            raise ValueError(
                f"{argument}: the model has no output {unknown[0]!r}; its outputs are "
                f"{', '.join(map(repr, names))}.{did_you_mean(str(unknown[0]), names)}"
            )
        return [value.get(name) for name in names]
    items = flatten(value) if len(names) > 1 else list(value)
    if len(items) != len(names):
        raise ValueError(
            f"{argument}: the model has {len(names)} outputs ({', '.join(names)}), got "
            f"{len(items)} items"
        )
    return items


def _object_name(thing: Any) -> str:
    """Return the name Keras reports for a function or object without a name of its own."""
    name = getattr(thing, "name", None) or getattr(thing, "__name__", None)
    return str(name or type(thing).__name__.lower())


def _resolve_loss(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """Return the Loss object for one output."""
    if str(identifier).lower() in ("crossentropy", "ce"):
        binary, sparse = is_binary_or_sparse(y_true, y_pred)
        if binary:
            return losses_module.BinaryCrossentropy()
        if sparse:
            return losses_module.SparseCategoricalCrossentropy()
        return losses_module.CategoricalCrossentropy()
    found = losses_module.get(identifier)
    if isinstance(found, losses_module.Loss):
        return found
    # As objects these keep class numbers whole and refuse labels of another form.
    if found is losses_module.binary_crossentropy:
        return losses_module.BinaryCrossentropy()
    if found is losses_module.categorical_crossentropy:
        return losses_module.CategoricalCrossentropy()
    if found is losses_module.sparse_categorical_crossentropy:
        return losses_module.SparseCategoricalCrossentropy()
    name = identifier if isinstance(identifier, str) else _object_name(found)
    return LossFunctionWrapper(found, name=name)


def _resolve_metric(identifier: Any, y_true: Any, y_pred: Any) -> Any:
    """Return the Metric object for one output."""
    if isinstance(identifier, str):
        chosen = metrics_module.choose_metric(identifier, y_true.shape, y_pred.shape)
        if chosen is not None:
            return chosen
    found = metrics_module.get(identifier)
    name = identifier if isinstance(identifier, str) else _object_name(found)
    if not isinstance(found, metrics_module.Metric):
        found = metrics_module.MeanMetricWrapper(found, name=name)
    found.name = name
    return found


def check_names(kind: str, value: Any) -> None:
    """Look every name up, so that a misspelt one is told at `compile`.

    Parameters
    ----------
    kind : str
        ``"loss"`` or ``"metrics"``.
    value : structure of str, objects and None
        What the user gave.
    """
    for item in flatten(value):
        if item is None or (isinstance(item, str) and item.lower() in _CHOSEN_LATER):
            continue
        try:
            if kind == "loss":
                losses_module.get(item)
            else:
                metrics_module.get(item)
        except TypeError as error:
            if not inspect.isclass(item):
                raise
            raise TypeError(
                f"{kind}: got the class {item.__name__}, expected an object such as "
                f"{item.__name__}(...): {error}"
            ) from None


class OutputLoss:
    """The loss of one output.

    Attributes
    ----------
    index : int
        The output.
    loss : Loss
        Its loss.
    weight : float or None
        Its share of the total.
    name : str
        The output's name.
    tracker : Metric or None
        The mean of the loss, where the model has several.
    """

    def __init__(self, index: int, loss: Any, weight: float | None, name: str) -> None:
        self.index = index
        self.loss = loss
        self.weight = weight
        self.name = name
        self.tracker: Any = None


class CompileLoss:
    """The losses of all outputs.

    Parameters
    ----------
    loss : str, Loss, callable, list or dict
        As given to `compile`.
    loss_weights : float, list or dict, optional
        As given to `compile`.
    output_names : list of str
        The model's outputs; empty where not known yet.
    """

    def __init__(self, loss: Any, loss_weights: Any, output_names: Sequence[str] = ()) -> None:
        if loss_weights is not None and not isinstance(
            loss_weights, (list, tuple, Mapping, *_NUMBER)
        ):
            raise ValueError(
                "loss_weights: expected a number (one output), or a list or dict of numbers, got "
                f"{loss_weights!r} of type {type(loss_weights).__name__}"
            )
        self._user_loss = loss
        self._user_weights = loss_weights
        check_names("loss", loss)
        for weight in flatten(loss_weights):
            if weight is not None and not isinstance(weight, _NUMBER):
                raise ValueError(f"loss_weights: expected numbers, got {weight!r}")
            if weight is not None and not np.isfinite(weight):
                raise ValueError(f"loss_weights: expected finite numbers, got {weight!r}")
        if output_names:
            self._specs(output_names)
        self.losses: list[OutputLoss] = []
        self.built = False

    def _specs(self, names: Sequence[str]) -> tuple[list[Any], list[Any]]:
        """Return what the user wants for every output: losses and weights."""
        loss, weights = self._user_loss, self._user_weights
        if isinstance(loss, (list, tuple, Mapping)):
            specs = order_by_output(loss, names, "loss")
        else:
            specs = [loss] * len(names)
        if weights is None:
            shares: list[Any] = [None] * len(names)
        elif isinstance(weights, _NUMBER):
            if len(names) > 1:
                raise ValueError(
                    f"loss_weights: the model has {len(names)} outputs, give a list or dict of "
                    f"weights, got {weights!r}"
                )
            shares = [weights]
        else:
            shares = order_by_output(weights, names, "loss_weights")
        return specs, shares

    def wanted(self, names: Sequence[str]) -> list[bool]:
        """Tell which outputs have a loss, hence labels."""
        return [spec is not None for spec in self._specs(names)[0]]

    def build(self, names: Sequence[str], y_true: Sequence[Any], y_pred: Sequence[Any]) -> None:
        """Make the Loss objects; labels and predictions are looked at for their shapes."""
        specs, shares = self._specs(names)
        self.losses = []
        for index, (spec, share) in enumerate(zip(specs, shares, strict=True)):
            if spec is None:
                continue
            if y_true[index] is None:
                raise ValueError(
                    f"y: no labels were given for the output {names[index]!r}, which has a loss"
                )
            loss = _resolve_loss(spec, y_true[index], y_pred[index])
            self.losses.append(OutputLoss(index, loss, share, names[index]))
        if len(self.losses) > 1:
            for one in self.losses:
                one.tracker = metrics_module.Mean(name=f"{one.name}_loss")
        self.built = True

    def metrics(self, outputs: Any) -> list[Any]:
        """The means of the single losses, where there are several.

        Parameters
        ----------
        outputs : structure
            The model's outputs. Where it is a dict, the order is that of the dict of losses, or
            else that of the outputs, as Keras has it.
        """
        found = [one for one in self.losses if one.tracker is not None]
        if found and isinstance(outputs, Mapping):
            order = list(self._user_loss if isinstance(self._user_loss, Mapping) else outputs)
            found.sort(key=lambda one: order.index(one.name))
        return [one.tracker for one in found]

    def __call__(
        self,
        y_true: Sequence[Any],
        y_pred: Sequence[Any],
        sample_weight: Sequence[Any],
    ) -> Any:
        """Record the weighted sum of all losses, and the means of the single ones."""
        total: Any = None
        for one in self.losses:
            prediction = y_pred[one.index]
            value = one.loss(y_true[one.index], prediction, sample_weight[one.index])
            if one.tracker is not None:
                one.tracker.update_state(value, sample_weight=float(prediction.shape[0]))
            if one.weight is not None:
                value = ops.mul(value, float(one.weight))
            total = value if total is None else ops.add(total, value)
        return total


class CompileMetrics:
    """The metrics of all outputs.

    Parameters
    ----------
    metrics, weighted_metrics : list, tuple or dict, optional
        As given to `compile`.
    output_names : list of str
        The model's outputs; empty where not known yet.
    """

    name = "compile_metrics"

    def __init__(
        self, metrics: Any, weighted_metrics: Any, output_names: Sequence[str] = ()
    ) -> None:
        for argument, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value is not None and not isinstance(value, (list, tuple, Mapping)):
                raise ValueError(
                    f"{argument}: expected a list such as [{value!r}], got {value!r} of type "
                    f"{type(value).__name__}"
                )
            check_names("metrics", value)
            if value and output_names:
                _metrics_by_output(value, output_names, argument)
        self._user = metrics
        self._user_weighted = weighted_metrics
        # (output, Metric, the output's name where it is part of the metric's)
        self._plain: list[tuple[int, Any, str | None]] = []
        self._weighted: list[tuple[int, Any, str | None]] = []
        self.built = False

    def build(self, names: Sequence[str], y_true: Sequence[Any], y_pred: Sequence[Any]) -> None:
        """Make the Metric objects; labels and predictions are looked at for their shapes."""
        self._plain = self._make(self._user, names, y_true, y_pred, "metrics")
        self._weighted = self._make(self._user_weighted, names, y_true, y_pred, "weighted_metrics")
        self.built = True

    @staticmethod
    def _make(
        wanted: Any,
        names: Sequence[str],
        y_true: Sequence[Any],
        y_pred: Sequence[Any],
        argument: str,
    ) -> list[tuple[int, Any, str | None]]:
        if not wanted:
            return []
        if list(names) == _NO_NAMES and isinstance(wanted, Mapping):
            per_output: list[Any] = list(wanted.values())[:1]
        else:
            per_output = _metrics_by_output(wanted, names, argument)
        made = []
        for index, some in enumerate(per_output):
            for identifier in flatten(some):
                if identifier is None:
                    continue
                if y_true[index] is None:
                    raise ValueError(
                        f"{argument}: no labels were given for the output {names[index]!r}"
                    )
                metric = _resolve_metric(identifier, y_true[index], y_pred[index])
                made.append((index, metric, names[index] if len(names) > 1 else None))
        return made

    @property
    def metrics(self) -> list[Any]:
        """All Metric objects."""
        return [metric for _, metric, _ in self._plain + self._weighted]

    @property
    def variables(self) -> list[Any]:
        """The variables of all metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def update_state(
        self, y_true: Sequence[Any], y_pred: Sequence[Any], sample_weight: Sequence[Any]
    ) -> None:
        """Record the update of every metric."""
        for index, metric, _ in self._plain:
            metric.update_state(y_true[index], y_pred[index])
        for index, metric, _ in self._weighted:
            metric.update_state(y_true[index], y_pred[index], sample_weight[index])

    def reset_state(self) -> None:
        """Start all metrics anew."""
        for metric in self.metrics:
            metric.reset_state()

    def result(self) -> dict[str, Any]:
        """Return the results by their reported names."""
        return {name: metric.result() for name, metric in self.named().items()}

    def named(self) -> dict[str, Any]:
        """Return the metrics by their reported names, no name twice."""
        named: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for weighted, group in ((False, self._plain), (True, self._weighted)):
            for _, metric, output in group:
                name = f"{output}_{metric.name}" if output else metric.name
                if weighted and name in seen:
                    name = f"weighted_{metric.name}"
                    name = f"{output}_{name}" if output else name
                count = seen.get(name, 0)
                seen[name] = count + 1
                named[f"{name}_{count}" if count else name] = metric
        return named


def _metrics_by_output(wanted: Any, names: Sequence[str], argument: str) -> list[Any]:
    """Return the metrics of every output.

    Raises
    ------
    ValueError
        If the number or the names do not fit the outputs.
    """
    if isinstance(wanted, Mapping):
        return order_by_output(wanted, names, argument)
    if len(names) == 1:
        lists = sum(isinstance(item, (list, tuple, Mapping)) for item in wanted)
        if lists and len(wanted) > 1:
            raise ValueError(
                f"{argument}: the model has one output ({names[0]}), expected one list such as "
                f"{flatten(wanted)!r}, got {wanted!r}"
            )
        return [flatten(wanted)]
    if len(wanted) == len(names):
        return list(wanted)
    raise ValueError(
        f"{argument}: the model has {len(names)} outputs ({', '.join(names)}); give one item per "
        f"output, as in [['accuracy'], ['accuracy']], or a dict by output name; got {wanted!r}"
    )
