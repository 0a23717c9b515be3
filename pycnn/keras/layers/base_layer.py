"""`Layer`, the base of all layers and models.

A layer is built when it first meets an input shape (`build` makes the weights), computes in
`call`, and can be called on arrays and Tensors (computes) or on KerasTensors (records a node
of the functional API). Inside a model images travel as `Maps` (channels first, see
`pycnn.keras._maps`): a layer class with ``_takes_maps = True`` gets and may return them, every
other layer, a user's for instance, gets channels-last Tensors as in Keras.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import pycnn._core as _core
from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._errors import accepted_arguments, unknown_arguments
from pycnn.keras._maps import Maps, SeedFeed, channels_last, seed_feed
from pycnn.keras._naming import auto_name, current_path, name_scope
from pycnn.keras.keras_tensor import KerasTensor, dtype_name, is_float
from pycnn.keras.layers._tree import flatten, map_shapes, map_structure
from pycnn.keras.layers.call_errors import explain_missing, note_call
from pycnn.keras.layers.call_state import call_state
from pycnn.keras.layers.dtype_policy import DTypePolicy, get_policy
from pycnn.keras.layers.input_spec import check_inputs
from pycnn.keras.layers.node import Node, has_symbolic
from pycnn.keras.layers.state import LayerState
from pycnn.keras.variables import Variable

__all__ = ["Layer", "open_shape", "to_tensor"]


def _wrap_build(build: Callable[..., Any]) -> Callable[..., Any]:
    """`build` under the layer's name, remembering the shapes it was called with."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def wrapper(self: Layer, *args: Any, **kwargs: Any) -> None:
        with name_scope(self.name, self):
            self._path = current_path()
            build(self, *args, **kwargs)
        shapes = dict(signature.bind(self, *args, **kwargs).arguments)
        shapes.pop(next(iter(shapes)))
        self._build_shapes_dict = shapes
        self.built = True

    wrapper._is_wrapped = True  # type: ignore[attr-defined]
    return wrapper


class Layer(LayerState):
    """A computation with weights.

    Parameters
    ----------
    activity_regularizer : optional
        Penalty on the layer's output, added to the model's loss.
    trainable : bool
        Whether the weights are trained.
    dtype : optional
        "float32" or "float64"; ``floatx()`` when absent.
    autocast : bool
        Whether floating point inputs are converted to the layer's dtype.
    name : str, optional
        Made automatically when absent.

    Raises
    ------
    ValueError
        For keyword arguments that do not exist; the message names the likely one.
    """

    # Whether `call` works on Maps. A subclass that overrides `call` gets plain Tensors.
    _takes_maps = False
    _keras_module = "keras.layers"
    _call_parameters: dict[str, inspect.Parameter] = {}
    _overrides_output_shape = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__
        if "build" in own and not getattr(own["build"], "_is_wrapped", False):
            cls.build = _wrap_build(own["build"])  # type: ignore[method-assign]
        if "call" in own:
            cls._call_parameters = dict(inspect.signature(own["call"]).parameters)
            cls._call_parameters.pop("self", None)
            if "_takes_maps" not in own:
                cls._takes_maps = False
            if "compute_output_shape" not in own:
                cls._overrides_output_shape = False
        if "compute_output_shape" in own:
            cls._overrides_output_shape = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        layer = super().__new__(cls)
        layer._init_state()
        if kwargs:
            explain_missing(cls, args, kwargs)
        layer._remember_arguments(args, kwargs)
        return layer

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        input_shape = kwargs.pop("input_shape", None)
        input_dim = kwargs.pop("input_dim", None)
        if input_dim is not None:
            input_shape = (input_dim,)
        if kwargs:
            known = accepted_arguments(type(self))
            raise ValueError(unknown_arguments(type(self).__name__, kwargs, known))
        if name is None:
            name = auto_name(type(self).__name__)
        elif not isinstance(name, str) or "/" in name:
            raise ValueError(
                "Argument `name` must be a string and cannot contain the character `/`. "
                f"Received: name={name!r} (of type {type(name).__name__})."
            )
        if not isinstance(trainable, bool):
            raise ValueError(
                f"Expected `trainable` to be a boolean. Received: trainable={trainable!r} "
                f"(of type {type(trainable).__name__})."
            )
        self.name = name
        self._dtype_policy = get_policy(dtype)
        self.autocast = autocast
        self._trainable = trainable
        self.activity_regularizer = None
        if activity_regularizer is not None:
            from pycnn.keras import regularizers

            self.activity_regularizer = regularizers.get(activity_regularizer)
        if input_shape is not None:
            warnings.warn(
                "Do not pass an `input_shape`/`input_dim` argument to a layer. When using "
                "Sequential models, prefer an `Input(shape)` object as the first layer.",
                stacklevel=3,
            )
            self._input_shape_arg = tuple(input_shape)
        self._super_called = True

    # ---- what a subclass writes ----

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of this shape; the default has none to make."""
        with name_scope(self.name, self):
            self._path = current_path()
        self._build_shapes_dict = {"input_shape": input_shape}
        self.built = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the layer's output."""
        raise NotImplementedError(
            f"Layer {type(self).__name__} does not have a `call()` method implemented."
        )

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The shape of the output for inputs of the given shape.

        The default runs `call` on symbolic values.
        """
        shapes = args[0] if args else next(iter(kwargs.values()))
        inputs = map_shapes(lambda s: KerasTensor(s, self.compute_dtype), shapes)
        return map_structure(lambda t: t.shape, self.compute_output_spec(inputs))

    def _build_at_init(self) -> None:
        """Mark a layer without weights as built, as Keras does in such constructors."""
        if type(self).build is Layer.build:
            self.built = True

    # ---- calling ----

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer.

        Parameters
        ----------
        *args, **kwargs
            As `call` takes them: arrays or Tensors (channels-last), KerasTensors, or lists
            and dictionaries of them. ``training`` is handed on to the layers within.

        Returns
        -------
        Tensor or KerasTensor
            Or a structure of them.
        """
        return self._invoke(args, kwargs, keep_maps=False)

    def _invoke(self, args: tuple[Any, ...], kwargs: dict[str, Any], keep_maps: bool) -> Any:
        """Run the layer; with `keep_maps` images come back as Maps."""
        self._check_constructed()
        # Most calls have one tensor and no more: no structure to walk.
        single = len(args) == 1 and not kwargs and isinstance(args[0], (Tensor, Maps))
        if not single and has_symbolic(args, kwargs):
            return self._symbolic(args, kwargs)
        if kwargs.get("mask", 0) is None and "mask" not in self._call_parameters:
            kwargs = {key: value for key, value in kwargs.items() if key != "mask"}
        if self._convert_input_args:
            args = (self._convert_leaf(args[0]),) if single else self._convert(args)
            if kwargs:
                kwargs = self._convert(kwargs)
        given_maps = keep_maps or any(isinstance(leaf, Maps) for leaf in flatten(args))
        first = self._first_argument(args, kwargs)
        self._check_inputs(first)
        if not self.built:
            self._build_for(args, kwargs)
        arrange = _as_maps if self._takes_maps else channels_last
        args = (arrange(args[0]),) if single else map_structure(arrange, args)
        if kwargs:
            kwargs = map_structure(channels_last, kwargs)
        training_before = call_state.training
        kwargs = self._resolve_training(args, kwargs)
        outermost = call_state.depth == 0
        if outermost:
            self._clear_losses()
        call_state.depth += 1
        _core._push_label(self.name)  # what profiles call the ops recorded now
        try:
            with name_scope(self.name, self):
                outputs = self.call(*args, **kwargs)
            self.built = True
            if self.activity_regularizer is not None:
                self._add_activity_loss(outputs)
        except Exception as error:
            note_call(error, self, args)
            raise
        finally:
            _core._pop_label()
            call_state.depth -= 1
            call_state.training = training_before
        return outputs if given_maps else map_structure(channels_last, outputs)

    def _check_inputs(self, first: Any) -> None:
        """Check the first argument of a call against what the layer accepts."""
        if self.input_spec is not None:
            check_inputs(self.input_spec, first, self.name)

    def _convert(self, structure: Any) -> Any:
        return map_structure(self._convert_leaf, structure)

    def _convert_leaf(self, leaf: Any) -> Any:
        """Arrays become Tensors; floating point values get the layer's dtype."""
        if isinstance(leaf, Maps):
            if self.autocast and leaf.dtype != self._numpy_dtype and is_float(leaf.dtype):
                return Maps(ops.cast(leaf.tensor, dtype=self.compute_dtype))
            return leaf
        if isinstance(leaf, Variable):
            leaf = leaf.value
        elif isinstance(leaf, (np.ndarray, np.generic, float)):
            leaf = to_tensor(np.asanyarray(leaf))  # a mask is seen
        if isinstance(leaf, Tensor) and self.autocast and leaf.dtype != self._numpy_dtype:
            if is_float(leaf.dtype):
                return ops.cast(leaf, dtype=self.compute_dtype)
        return leaf

    def _floats(self, x: Tensor) -> Tensor:
        """`x` in the layer's dtype, whatever it holds."""
        return x if x.dtype == self._numpy_dtype else ops.cast(x, dtype=self.compute_dtype)

    def _first_argument(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return args[0]
        for name in self._call_parameters:
            if name in kwargs:
                return kwargs[name]
        return None

    def _resolve_training(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """`training` from the call, else from the layer around this one, else the default."""
        parameter = self._call_parameters.get("training")
        training = kwargs.get("training")
        if parameter is None and "training" in kwargs:
            kwargs = {k: v for k, v in kwargs.items() if k != "training"}
        elif parameter is not None and "training" not in kwargs:
            position = list(self._call_parameters).index("training")
            if len(args) > position:
                call_state.training = bool(args[position])
                return kwargs
        if training is None:
            training = call_state.training
        if training is None and parameter is not None:
            default = parameter.default
            training = default if isinstance(default, bool) else None
        if training is not None:
            call_state.training = bool(training)
            if parameter is not None:
                kwargs = {**kwargs, "training": bool(training)}
        return kwargs

    def _build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Build for the shapes of these arguments; the batch size is left open."""
        first = self._first_argument(args, kwargs)
        if first is None:
            self.built = True
            return
        with name_scope(self.name, self):
            self._path = current_path()
            parameters = list(inspect.signature(self.build).parameters)
            if len(parameters) > 1:
                names = [n for n in parameters if n.endswith("_shape")]
                bound = inspect.signature(self.call).bind(*args, **kwargs).arguments
                shapes = {
                    n: map_structure(open_shape, bound[n[:-6]])
                    for n in names
                    if n[:-6] in bound and bound[n[:-6]] is not None
                }
                self.build(**shapes)
            else:
                self.build(map_structure(open_shape, first))
        self.built = True

    # ---- symbolic calls ----

    def _symbolic(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = self._first_argument(args, kwargs)
        self._check_inputs(first)
        for leaf in flatten(first):
            if leaf is not None and not hasattr(leaf, "shape"):
                raise ValueError(
                    f'Input 0 of layer "{self.name}" should be a tensor, got {leaf!r} (of type '
                    f"{type(leaf).__name__})."
                )
        if not self.built:
            self._build_for(args, kwargs)
        outputs = self._output_spec(args, kwargs)
        self.built = True
        Node(self, args, kwargs, outputs)
        return outputs

    def _output_spec(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        spec = type(self).compute_output_spec
        if spec is not Layer.compute_output_spec or not self._overrides_output_shape:
            return self.compute_output_spec(*args, **kwargs)
        first = self._first_argument(args, kwargs)
        shapes = map_structure(lambda t: t.shape, first)
        dtype = self._output_dtype([dtype_name(t.dtype) for t in flatten(first)])
        return map_shapes(
            lambda shape: KerasTensor(shape, dtype), self.compute_output_shape(shapes)
        )

    def _output_dtype(self, dtypes: list[str]) -> str:
        """The dtype of the output for inputs of these dtypes."""
        return self.compute_dtype

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The symbolic output for symbolic inputs, found by recording `call` twice.

        Unknown sizes get two different values; a size of the output that follows them is
        unknown too. Nothing is computed.
        """
        first = self._trace(args, kwargs, 4, 32)
        second = self._trace(args, kwargs, 6, 48)
        self._clear_losses()
        flat = iter(flatten(second))

        def merge(a: Any) -> KerasTensor:
            b = next(flat)
            shape = tuple(i if i == j else None for i, j in zip(a.shape, b.shape, strict=True))
            return KerasTensor(shape, dtype_name(a.dtype))

        return map_structure(merge, first)

    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any], batch: int, size: int) -> Any:
        with _core.capture() as tape, seed_feed(SeedFeed(tape)):

            def stand_in(leaf: Any) -> Any:
                if not isinstance(leaf, KerasTensor):
                    return leaf
                sizes = [size if s is None else s for s in leaf.shape]
                if leaf.shape and leaf.shape[0] is None:
                    sizes[0] = batch
                return tape.placeholder(tuple(sizes), leaf.dtype)

            outputs = self._invoke(
                map_structure(stand_in, args), map_structure(stand_in, kwargs), keep_maps=False
            )
        for leaf in flatten(outputs):
            if not isinstance(leaf, Tensor):
                raise TypeError(
                    f'Layer "{self.name}" returned {leaf!r} (of type {type(leaf).__name__}); '
                    "`call` must return a Tensor or a list, tuple or dictionary of Tensors."
                )
        return outputs

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask that goes with the output; by default that of the input."""
        return previous_mask

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """The symbolic output, without recording a node."""
        return self._output_spec(args, kwargs)

    def _node_tensors(self, attribute: str, word: str) -> Any:
        if not self._inbound_nodes:
            raise AttributeError(
                f"The layer {self.name} has never been called and thus has no defined {word}."
            )
        tensors = getattr(self._inbound_nodes[0], attribute)
        return tensors[0] if len(tensors) == 1 else tensors

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's first call."""
        return self._node_tensors("input_tensors", "input")

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's first call."""
        return self._node_tensors("output_tensors", "output")

    # ---- dtype ----

    @property
    def dtype_policy(self) -> DTypePolicy:
        """The dtype of computation and weights."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        self._dtype_policy = get_policy(value)

    @property
    def dtype(self) -> str:
        """Name of the weights' dtype."""
        return self._dtype_policy.variable_dtype

    @property
    def compute_dtype(self) -> str:
        """Name of the computation's dtype."""
        return self._dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:  # type: ignore[override]
        """Name of the weights' dtype."""
        return self._dtype_policy.variable_dtype

    @property
    def input_dtype(self) -> str:
        """Name of the dtype that inputs are converted to."""
        return self.compute_dtype

    @property
    def quantization_mode(self) -> None:
        """Always None."""
        return None

    @property
    def _numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(self._dtype_policy.compute_dtype)

    # ---- configuration ----

    def _remember_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep plain constructor arguments, for the default `get_config`."""
        if type(self).get_config is not Layer.get_config:
            return
        try:
            bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs).arguments
        except TypeError:
            return  # __init__ itself is about to say what is wrong
        values = dict(bound)
        values.pop(next(iter(values)))
        for parameter in inspect.signature(type(self).__init__).parameters.values():
            if parameter.kind == parameter.VAR_KEYWORD:
                values.update(values.pop(parameter.name, {}))
            elif parameter.kind == parameter.VAR_POSITIONAL and values.pop(parameter.name, ()):
                return
        self._init_arguments = values

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON.

        Raises
        ------
        NotImplementedError
            If the class takes arguments that are not plain values and has no `get_config`.
        """
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self._dtype_policy.serialize(),
        }
        if self.activity_regularizer is not None:
            from pycnn.keras import regularizers

            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        cls = type(self)
        if cls.get_config is not Layer.get_config or cls.__init__ is Layer.__init__:
            return config
        plain = (int, float, str, bool, type(None))
        for key, value in (self._init_arguments or {}).items():
            if not all(isinstance(leaf, plain) for leaf in flatten(value)):
                raise NotImplementedError(
                    f"Layer {cls.__name__} was created with {key}={value!r}, which cannot be "
                    "saved automatically: give the class a `get_config()` method that returns "
                    "all arguments of its constructor."
                )
            config.setdefault(key, value)
        if not any(
            p.kind == p.VAR_KEYWORD for p in inspect.signature(cls.__init__).parameters.values()
        ):
            accepted = accepted_arguments(cls)
            config = {key: value for key, value in config.items() if key in accepted}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A layer from the result of `get_config`."""
        try:
            return cls(**config)
        except TypeError as error:
            raise TypeError(
                f"Error when making {cls.__name__} from its config: {error}. If the class is "
                "yours, make sure that `get_config()` returns the arguments of `__init__`.\n"
                f"config={config}"
            ) from error

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes the layer was built with, or None."""
        shapes = self._build_shapes_dict
        if shapes is None:
            return None
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": shapes}

    def build_from_config(self, config: dict[str, Any] | None) -> None:
        """Build the layer from the result of `get_build_config`."""
        if not config:
            return
        if "input_shape" in config:
            self.build(_tuples(config["input_shape"]))
        elif "shapes_dict" in config:
            self.build(**{k: _tuples(v) for k, v in config["shapes_dict"].items()})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{type(self).__name__} object is not iterable")


def _as_maps(leaf: Any) -> Any:
    return Maps.of(leaf) if isinstance(leaf, Tensor) and leaf.ndim == 4 else leaf


def to_tensor(array: np.ndarray) -> Tensor:
    """An array as a Tensor; dtypes the engine lacks are widened first."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ValueError(
            "Layers take whole arrays, got one with masked values: fill them first, for instance "
            "with `x.filled(0)`."
        )
    if kind == "u" and size == 8 and array.size and array.max() >= 2**63:
        raise ValueError("Layers take numbers up to 2**63 - 1, got a greater uint64.")
    if kind == "f" and size not in (4, 8):
        array = array.astype(np.float32 if size < 4 else np.float64)
    elif kind == "b":
        array = array.astype(np.uint8)
    elif kind in "iu" and array.dtype not in (np.uint8, np.int32, np.int64):
        array = array.astype(np.int32 if size < 4 else np.int64)
    elif kind not in "fiu":
        raise TypeError(
            f"Layers take arrays of numbers, got an array of dtype {array.dtype}: convert it "
            "with `np.asarray(x, dtype='float32')`."
        )
    return _core.tensor(array)


def open_shape(leaf: Any) -> Any:
    """The shape of a tensor with the batch size left open."""
    shape = tuple(leaf.shape)
    return (None, *shape[1:]) if shape else shape


def _tuples(shape: Any) -> Any:
    return map_shapes(tuple, shape) if shape is not None else None
