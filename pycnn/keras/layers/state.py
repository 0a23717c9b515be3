"""The part of a layer that owns things: weights, sublayers, seeds, metrics and losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._errors import not_supported
from pycnn.keras._maps import channels_last
from pycnn.keras._naming import name_scope
from pycnn.keras.keras_tensor import dtype_name
from pycnn.keras.layers._tree import flatten
from pycnn.keras.layers.tracking import tracked
from pycnn.keras.variables import Variable

__all__ = ["LayerState"]


class LayerState:
    """Weights, sublayers, seed generators, metrics and losses of a layer."""

    name: str
    variable_dtype: str
    activity_regularizer: Any
    # Attributes that are bookkeeping: nothing in them is owned.
    _untracked = frozenset(
        {
            "_inbound_nodes",
            "_outbound_nodes",
            "_build_shapes_dict",
            "_init_arguments",
            "_losses",
            "_functional",
            "_graph",
            "_inputs_struct",
            "_outputs_struct",
            "_input_spec",
        }
    )

    # Lists of what is owned; they need not be searched for owned things.
    _bookkeeping = frozenset(
        {
            "_trainable_variables",
            "_non_trainable_variables",
            "_layers",
            "_metrics",
            "_own_seed_generators",
        }
    )

    def _init_state(self) -> None:
        """Make the bookkeeping, before a subclass's constructor runs."""
        own = self.__dict__
        own["_trainable_variables"] = []
        own["_non_trainable_variables"] = []
        own["_layers"] = []
        own["_metrics"] = []
        own["_own_seed_generators"] = []
        own["_losses"] = []
        own["_inbound_nodes"] = []
        own["_outbound_nodes"] = []
        own["_build_shapes_dict"] = None
        own["_init_arguments"] = None
        own["_path"] = None
        own["_input_spec"] = None
        own["_trainable"] = True
        own["_convert_input_args"] = True
        own["built"] = False
        own["supports_masking"] = False

    def _check_constructed(self) -> None:
        if not getattr(self, "_super_called", False):
            raise RuntimeError(
                f"In layer {type(self).__name__}, you forgot to call `super().__init__()` as the "
                "first statement in the `__init__()` method."
            )

    # ---- ownership ----

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._untracked and not isinstance(
            value, (str, int, float, bool, type(None))
        ):
            value = tracked(value, self._notice)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        value = getattr(self, name, None)
        for leaf in flatten(value):
            for owned in (
                self._trainable_variables,
                self._non_trainable_variables,
                self._layers,
                self._metrics,
                self._own_seed_generators,
            ):
                owned[:] = [item for item in owned if item is not leaf]
        super().__delattr__(name)

    def _notice(self, value: Any) -> None:
        """Take ownership of a variable, layer, seed generator or metric."""
        owned: list[Any]
        if isinstance(value, Variable):
            if any(value is v for v in self._non_trainable_variables + self._trainable_variables):
                return
            owned = self._trainable_variables if value.trainable else self._non_trainable_variables
            if not self._trainable:
                value.trainable = False  # of a layer made with trainable=False
        elif isinstance(value, LayerState):
            owned = self._layers
        elif hasattr(value, "next_call") and hasattr(value, "stream"):
            owned = self._own_seed_generators
        elif hasattr(value, "update_state") and hasattr(value, "reset_state"):
            owned = self._metrics
        else:
            return
        if not any(value is item for item in owned):
            owned.append(value)

    # ---- copies and pickles ----

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: all but the calls that were made of the layer."""
        state = dict(self.__dict__)
        for name in ("_losses", "_inbound_nodes", "_outbound_nodes"):
            state[name] = []
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = self.__dict__
        own.update(state)
        for name, value in state.items():
            # Lists and dictionaries of layers come back as plain ones, which track nothing.
            if name not in self._untracked and name not in self._bookkeeping:
                own[name] = tracked(value, self._notice)

    def __copy__(self) -> Any:
        """A copy with weights of its own, as Keras makes it."""
        return copy.deepcopy(self)

    _trainable_variables: list[Variable]
    _non_trainable_variables: list[Variable]
    _layers: list[Any]
    _metrics: list[Any]
    _own_seed_generators: list[Any]
    _losses: list[Any]
    _inbound_nodes: list[Any]
    _outbound_nodes: list[Any]
    _build_shapes_dict: dict[str, Any] | None
    _init_arguments: dict[str, Any] | None
    _path: str | None
    _input_spec: Any
    _trainable: bool
    _convert_input_args: bool
    built: bool
    supports_masking: bool

    def add_weight(
        self,
        *args: Any,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Variable:
        """Make a weight of the layer.

        Parameters
        ----------
        shape : tuple
            In Keras's order; () when absent.
        initializer : optional
            A name, an initializer or a callable; "glorot_uniform" for floats when absent.
        dtype : optional
            The layer's when absent.
        trainable : bool
            Whether an optimizer updates it.
        regularizer : optional
            Penalty added to the model's loss.
        name : str, optional
            Name of the weight, without its layer's.

        Returns
        -------
        Variable
        """
        if args and isinstance(args[0], str):
            raise ValueError(
                f"`name` must be passed as a keyword argument: add_weight(shape=..., "
                f"name={args[0]!r})."
            )
        if len(args) > 3:
            raise TypeError(
                f"add_weight() takes at most 3 positional arguments but {len(args)} were given."
            )
        given = dict(zip(("shape", "initializer", "dtype"), args, strict=False))
        for key, value in (("shape", shape), ("initializer", initializer), ("dtype", dtype)):
            if key in given and value is not None:
                raise ValueError(f"`{key}` was passed both positionally and as a keyword.")
        variable = self._make_weight(
            given.get("shape", shape),
            given.get("initializer", initializer),
            given.get("dtype", dtype),
            trainable=trainable,
            regularizer=regularizer,
            constraint=constraint,
            name=name,
        )
        variable.autocast = autocast
        variable.aggregation = aggregation
        variable.overwrite_with_gradient = overwrite_with_gradient
        return variable

    def _make_weight(
        self,
        shape: Any,
        initializer: Any,
        dtype: Any = None,
        *,
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
        order: Sequence[int] | None = None,
    ) -> Variable:
        """`add_weight`, with the permutation from Keras's order to the core's."""
        from pycnn.keras import initializers, regularizers

        if constraint is not None:
            raise not_supported(
                self.name, "constraint", constraint, "constraints on weights are not available"
            )
        kind = dtype_name(self.variable_dtype if dtype is None else dtype)
        if dtype is None and "float" not in kind:
            raise ValueError(
                f"Layer '{self.name}': its weights need dtype 'float32' or 'float64', got "
                f"dtype={kind!r}."
            )
        if initializer is None:
            initializer = "glorot_uniform" if "float" in kind else "zeros"
        too_large = (
            f"Layer '{self.name}': there is no memory for the weight {name!r} of shape {shape}."
        )
        if math.prod(size for size in shape or () if size) >= 2**59:
            raise MemoryError(too_large)
        try:
            with name_scope(self.name, self):
                variable = Variable(
                    initializers.get(initializer),
                    shape=() if shape is None else shape,
                    dtype=kind,
                    trainable=trainable,
                    name=name,
                    order=order,
                )
        except MemoryError as error:
            raise MemoryError(too_large) from error
        variable.regularizer = regularizers.get(regularizer)
        self._notice(variable)
        return variable

    def add_variable(
        self,
        shape: Any,
        initializer: Any,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> Variable:
        """The same as `add_weight`."""
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            dtype=dtype,
            trainable=trainable,
            autocast=autocast,
            regularizer=regularizer,
            constraint=constraint,
            name=name,
        )

    # ---- weights ----

    @property
    def path(self) -> str | None:
        """Names of the layers around this one and its own, joined by slashes."""
        return self._path

    @property
    def input_spec(self) -> Any:
        """What the layer accepts, an InputSpec or a structure of them."""
        return self._input_spec

    @input_spec.setter
    def input_spec(self, value: Any) -> None:
        self._input_spec = value

    @property
    def trainable(self) -> bool:
        """Whether the weights are trained; setting it sets the layers within too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for variable in self._trainable_variables:
            variable.trainable = bool(value)
        for layer in self._layers:
            layer.trainable = value

    @property
    def weights(self) -> list[Variable]:
        """All weights, own ones first (trained before others), then those of the layers within."""
        found = {id(v): v for v in self._trainable_variables + self._non_trainable_variables}
        for layer in self._layers:
            for variable in layer.weights:
                found.setdefault(id(variable), variable)
        return list(found.values())

    @property
    def variables(self) -> list[Any]:
        """The weights and the states of the seed generators."""
        own = self._trainable_variables + self._non_trainable_variables
        found: dict[int, Any] = {id(v): v for v in own}
        for generator in self._own_seed_generators:
            state = getattr(generator, "state", None)
            if state is not None:
                found.setdefault(id(state), state)
        for layer in self._layers:
            for variable in layer.variables:
                found.setdefault(id(variable), variable)
        return list(found.values())

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that an optimizer updates."""
        return [v for v in self.weights if v.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that no optimizer updates."""
        return [v for v in self.weights if not v.trainable] if self.trainable else self.weights

    @property
    def trainable_variables(self) -> list[Variable]:
        """The same as `trainable_weights`."""
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Any]:
        """The non-trainable weights and the states of the seed generators."""
        if not self.trainable:
            return self.variables
        return [v for v in self.variables if not getattr(v, "trainable", False)]

    @property
    def metrics(self) -> list[Any]:
        """All metrics kept by the layer and the layers within."""
        return list(self._metrics) + [m for layer in self._layers for m in layer.metrics]

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of all metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    def count_params(self) -> int:
        """Number of weights' elements.

        Raises
        ------
        ValueError
            If the layer has not been built.
        """
        if not self.built:
            raise ValueError(
                f"You tried to call `count_params` on layer '{self.name}', but the layer isn't "
                "built. You can build it manually via: `layer.build(input_shape)`."
            )
        return int(sum(math.prod(v.shape) for v in self.weights))

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in the order of `weights` and in Keras's layout."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weights from a list of arrays as `get_weights` returns it.

        Raises
        ------
        ValueError
            If the number of arrays or a shape differs; no weight is changed then.
        TypeError
            If it is no list, or holds an array of something else than real numbers.
        """
        own = self.weights
        if not isinstance(weights, (list, tuple)) and np.ndim(weights) == 0:
            raise TypeError(
                f"Layer '{self.name}': set_weights expects a list of arrays as get_weights() "
                f"returns it, got {weights!r} of type {type(weights).__name__}."
            )
        if len(own) != len(weights):
            raise ValueError(
                f"You called `set_weights(weights)` on layer '{self.name}' with a weight list of "
                f"length {len(weights)}, but the layer was expecting {len(own)} weights."
            )
        for variable, value in zip(own, weights, strict=True):
            if variable.shape != np.shape(value):
                raise ValueError(
                    f"Layer '{self.name}': weight {variable.path} has shape {variable.shape}, "
                    f"got an array of shape {np.shape(value)}."
                )
            if not isinstance(value, Tensor) and np.asarray(value).dtype.kind not in "fiub":
                raise TypeError(
                    f"Layer '{self.name}': weight {variable.path} takes real numbers, got an array "
                    f"of dtype {np.asarray(value).dtype}."
                )
        for variable, value in zip(own, weights, strict=True):
            variable.assign(value)

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> Iterator[Any]:
        """This layer and all layers within, each once."""
        seen: set[int] = set()
        todo: list[Any] = [self] if include_self else list(self._layers)
        while todo:
            layer = todo.pop(0)
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            yield layer
            if recursive or layer is self:
                todo[:0] = layer._layers

    def _seed_generators(self) -> list[Any]:
        """All seed generators of this layer and the layers within, each once."""
        found: dict[int, Any] = {}
        for layer in self._flatten_layers():
            for generator in layer._own_seed_generators:
                found.setdefault(id(generator), generator)
        return list(found.values())

    # ---- losses ----

    def add_loss(self, loss: Any) -> None:
        """Add a scalar Tensor, computed in `call`, to the model's loss."""
        for value in flatten(loss):
            self._losses.append(value)

    def _add_activity_loss(self, outputs: Any) -> None:
        for output in flatten(outputs):
            value = channels_last(output)
            if isinstance(value, Tensor):
                penalty = self.activity_regularizer(value)
                if value.ndim > 0:
                    # As Keras: independent of the batch size.
                    penalty = ops.div(penalty, float(max(value.shape[0], 1)))
                self.add_loss(penalty)

    def _clear_losses(self) -> None:
        if self._losses:
            self._losses.clear()
        for layer in self._layers:
            layer._clear_losses()

    @property
    def losses(self) -> list[Any]:
        """Scalar Tensors: losses added by the last call, then the weights' penalties."""
        found: list[Any] = []
        for layer in self._flatten_layers():
            found.extend(layer._losses)
        for variable in self.trainable_weights:
            if variable.regularizer is not None:
                found.append(_penalty(variable))
        return found

    def _regularization_losses(self) -> list[Any]:
        """The same as `losses`; call it after `_run`, inside the same capture."""
        return self.losses

    # ---- files ----

    def save_own_variables(self, store: Any) -> None:
        """Write the layer's own weights into a store, under the keys "0", "1", ..."""
        own = self._trainable_variables + self._non_trainable_variables
        for index, variable in enumerate(own):
            store[str(index)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Read the layer's own weights from a store written by `save_own_variables`."""
        own = self._trainable_variables + self._non_trainable_variables
        if len(store.keys()) != len(own):
            if not own and not self.built:
                raise ValueError(
                    f"Layer '{self.name}' was never built and thus has no variables, but the "
                    f"file lists {len(store.keys())} variables for it: build the model before "
                    "loading, or create all layers' state in `build()`."
                )
            raise ValueError(
                f"Layer '{self.name}' expected {len(own)} variables, but received "
                f"{len(store.keys())} variables during loading. "
                f"Expected: {[v.name for v in own]}"
            )
        for index, variable in enumerate(own):
            variable.assign(np.asarray(store[str(index)]))


def _penalty(variable: Variable) -> Any:
    """A weight's penalty; ours do not depend on the order of the elements."""
    regularizer = variable.regularizer
    assert regularizer is not None
    if type(regularizer).__module__.startswith("pycnn."):
        return regularizer(variable.tensor)
    return regularizer(variable.value)
