"""`Model`: layers put together, with training, saving and a summary."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from pycnn.keras._errors import did_you_mean
from pycnn.keras._maps import channels_last
from pycnn.keras.layers._tree import map_shapes, map_structure
from pycnn.keras.layers.base_layer import Layer, open_shape
from pycnn.keras.trainers.trainer import Trainer

__all__ = ["Model"]


def _gives_graph(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether constructor arguments are (inputs, outputs)."""
    return (
        len(args) == 2
        or (len(args) == 1 and "outputs" in kwargs)
        or ("inputs" in kwargs and "outputs" in kwargs)
    )


def _insert_functional(cls: type) -> type:
    """Replace `Model` by `Functional` among the bases of a subclass, as Keras does."""
    from pycnn.keras.models.functional import Functional

    if cls is Model:
        return Functional
    if not issubclass(cls, Model) or issubclass(cls, Functional):
        return cls
    cls.__bases__ = tuple(_insert_functional(base) for base in cls.__bases__)
    return cls


class Model(Trainer, Layer):
    """Layers put together.

    Three ways lead to a model: ``Model(inputs, outputs)`` with symbolic tensors, `Sequential`,
    or a subclass that makes layers in ``__init__`` and calls them in ``call``.

    Parameters
    ----------
    inputs, outputs : KerasTensor, or list, tuple or dictionary of them
        For a model given by its graph; a subclass with its own `call` takes none.
    name : str, optional
        Made automatically when absent.

    Source: keras.Model.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and _gives_graph(args, kwargs):
            from pycnn.keras.models.functional import Functional

            return super().__new__(Functional, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if _gives_graph(args, kwargs):
            from pycnn.keras.models.functional import Functional

            _insert_functional(type(self))
            Functional.__init__(self, *args, **kwargs)  # type: ignore[arg-type]
            return
        if "inputs" in kwargs or "outputs" in kwargs:
            absent = "outputs" if "inputs" in kwargs else "inputs"
            raise TypeError(f"Model(inputs=..., outputs=...) needs both; `{absent}` is missing.")
        if args:
            raise TypeError(
                f"{type(self).__name__} takes no positional arguments but (inputs, outputs), got "
                f"{len(args)}."
            )
        for old, new in (("input", "inputs"), ("output", "outputs")):
            if old in kwargs:
                raise TypeError(
                    f"{type(self).__name__} has no argument `{old}`: did you mean `{new}`, as in "
                    "Model(inputs=..., outputs=...)?"
                )
        self._start(**kwargs)

    def _start(self, **kwargs: Any) -> None:
        """What every constructor does first."""
        Trainer.__init__(self)
        Layer.__init__(self, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; a subclass defines it."""
        raise NotImplementedError(
            f"Model {type(self).__name__} does not have a `call()` method implemented."
        )

    def _run(self, inputs: Any, training: bool = False) -> Any:
        """Run the model on core values; see `pycnn.keras.models.functional` for the rules."""
        outputs = self._invoke((inputs,), {"training": bool(training)}, keep_maps=True)
        return map_structure(channels_last, outputs)

    def _check_input_shapes(self, inputs: Any) -> bool:
        """Check whole arrays by shape; False if they are not of the shapes the model is made for.

        A model given by code has nothing to check against.
        """
        return True

    # ---- layers ----

    @property
    def layers(self) -> list[Any]:
        """The model's own layers."""
        return list(self._layers)

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """The layer of this name, or at this position.

        Raises
        ------
        ValueError
            If there is none, or both or neither are given.
        """
        if index is not None and name is not None:
            raise ValueError(
                f"Provide only a layer name or a layer index. Received: index={index}, name={name}."
            )
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(
                    f"Was asked to retrieve layer at index {index} but model only has "
                    f"{len(layers)} layers."
                )
            return layers[index]
        if name is None:
            raise ValueError("Provide either a layer name or layer index at `get_layer`.")
        for layer in layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in layers]
        hint = did_you_mean(name, names) if isinstance(name, str) else ""
        raise ValueError(f"No such layer: {name}. Existing layers are: {names}.{hint}")

    def summary(
        self,
        line_length: int | None = None,
        positions: list[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
    ) -> None:
        """Print the layers, their output shapes and numbers of parameters.

        Parameters
        ----------
        line_length : int, optional
            Width of the table; the terminal's, at most 88 or 108, when absent.
        positions : list of float, optional
            Where the columns end, as parts of the width.
        print_fn : callable, optional
            Gets the text instead of the standard output.
        expand_nested : bool
            Whether layers of models within are listed too.
        show_trainable : bool
            Whether a column tells which layers are trained.
        layer_range : pair of str, optional
            Names, or patterns, of the first and the last layer to list.
        """
        from pycnn.keras.models.summary import print_summary

        print_summary(
            self,
            line_length=line_length,
            positions=positions,
            print_fn=print_fn,
            expand_nested=expand_nested,
            show_trainable=show_trainable,
            layer_range=layer_range,
        )

    # ---- files ----

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """Save the model as a `.keras` file: layers, weights, optimizer.

        Parameters
        ----------
        filepath : str or path
            Ends in ``.keras``.
        overwrite : bool
            Whether an existing file is replaced without asking.
        zipped : bool, optional
            Only the default, a zip archive, is supported.
        """
        from pycnn.keras.saving import saving_api

        saving_api.save_model(self, filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(
        self, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None
    ) -> None:
        """Save the weights as a ``.weights.h5`` file."""
        from pycnn.keras.saving import saving_api

        saving_api.save_weights(self, filepath, overwrite=overwrite, max_shard_size=max_shard_size)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Load the weights from a file written by `save_weights` or `save`."""
        from pycnn.keras.saving import saving_api

        saving_api.load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    def to_json(self, **kwargs: Any) -> str:
        """The model's configuration as JSON; `kwargs` go to ``json.dumps``."""
        from pycnn.keras._registry import serialize_object

        return json.dumps(serialize_object(self), **kwargs)

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Not available: there is no TensorFlow or ONNX here.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            f"Model.export(format={format!r}) is not available; use `model.save('x.keras')`, "
            "which Keras opens."
        )

    # ---- copies and pickles ----

    def __getstate__(self) -> dict[str, Any]:
        """Layers with their weights, how they are put together, and what `compile` was told.

        Plans are left out: a copy records its own.
        """
        state = super().__getstate__()
        for name in ("_trainer_state", "loss", "history"):
            state.pop(name, None)
        state["_compiled_state"] = self._compiled_state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        compiled = state.pop("_compiled_state", None)
        graph = state.pop("_graph_state", None)
        super().__setstate__(state)
        self._restore_graph(graph)
        if compiled is not None:
            self._restore_compiled(compiled)

    def _restore_graph(self, graph: Any) -> None:
        """Put the layers together again; those of a model given by code are not."""
        if graph is not None:
            # A subclass of Model that is a graph becomes Functional with its first object.
            _insert_functional(type(self))
            self._restore_graph(graph)

    # ---- configuration ----

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """A model from the result of `get_config`."""
        from pycnn.keras.models.functional import Functional
        from pycnn.keras.models.functional_config import functional_from_config

        keys = ("name", "layers", "input_layers", "output_layers")
        if all(key in config for key in keys):
            parameters = list(inspect.signature(cls.__init__).parameters)[1:]
            kinds = [p.kind for p in inspect.signature(cls.__init__).parameters.values()][1:]
            open_ended = (
                inspect.Parameter.VAR_POSITIONAL in kinds and inspect.Parameter.VAR_KEYWORD in kinds
            )
            if cls in (Functional, Model) or parameters[:2] == ["inputs", "outputs"] or open_ended:
                return functional_from_config(cls, config, custom_objects)
        try:
            return cls(**config)
        except TypeError as error:
            raise TypeError(
                f"Unable to make a {cls.__name__} from its config: {error}. If the class is "
                "yours, `get_config()` must return the arguments of its constructor, or the class "
                f"must define `from_config`.\nconfig={config}"
            ) from error

    def build(self, input_shape: Any) -> None:
        """Make the weights by running `call` symbolically on inputs of these shapes."""
        if type(self).call is Model.call or input_shape is None:
            return
        from pycnn.keras.keras_tensor import KerasTensor

        inputs = map_shapes(lambda shape: KerasTensor(shape, self.compute_dtype), input_shape)
        self.built = True
        self.compute_output_spec(inputs)

    def _build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Building is left to the layers, which build themselves when `call` runs them."""
        if type(self).build is not Model.build:
            super()._build_for(args, kwargs)
            return
        self._path = self.name
        first = self._first_argument(args, kwargs)
        self._build_shapes_dict = {"input_shape": map_structure(open_shape, first)}
        self.built = True

    def build_from_config(self, config: dict[str, Any] | None) -> None:
        """Build the model from the result of `get_build_config`."""
        if config and config.get("input_shape") is not None and not self.built:
            self.build(map_shapes(tuple, config["input_shape"]))
