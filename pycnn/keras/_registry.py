"""Which class a name in a file or configuration stands for.

The table is fixed: a configuration never names a module to import. A user's own classes are
found only when they are given as `custom_objects` or were registered by the running program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pycnn.keras._config import serialize_value
from pycnn.keras._errors import did_you_mean

__all__ = [
    "REGISTERED",
    "deserialize_layer",
    "deserialize_object",
    "known_classes",
    "register",
    "registered_name",
    "serialize_layer",
    "serialize_object",
]

# "package>Name" -> class, filled by the running program.
REGISTERED: dict[str, Any] = {}

_LAYERS = (
    "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate",
    "Conv2D", "Dense", "Dropout", "ELU", "Flatten", "GlobalAveragePooling2D",
    "GlobalMaxPooling2D", "Identity", "InputLayer", "LeakyReLU", "MaxPooling2D", "Maximum",
    "Minimum", "Multiply", "Permute", "ReLU", "Rescaling", "Reshape", "Softmax",
    "SpatialDropout2D", "Subtract", "ZeroPadding2D",
)  # fmt: skip

# Module and registered name under which Keras writes its own models.
_MODELS = {
    "Sequential": ("keras", None),
    "Model": ("keras", None),
    "Functional": ("keras.src.models.functional", "Functional"),
}

# These hold Python code in the file.
_REFUSED = frozenset({"Lambda", "LambdaLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})


def known_classes() -> dict[str, type]:
    """All layers and models that a configuration may name."""
    from pycnn.keras import layers, models

    table: dict[str, type] = {name: getattr(layers, name) for name in _LAYERS}
    table.update({name: getattr(models, name) for name in _MODELS})
    return table


def register(cls: Any, package: str = "Custom", name: str | None = None) -> None:
    """Let configurations name a class or function of the running program.

    Raises
    ------
    ValueError
        If the class cannot be saved for want of `get_config`, or the name is taken.
    """
    full = f"{package}>{name or cls.__name__}"
    if isinstance(cls, type) and not hasattr(cls, "get_config"):
        raise ValueError(
            f"Cannot register the class {cls.__name__}: it has no `get_config()` method."
        )
    if REGISTERED.get(full, cls) is not cls:
        old = REGISTERED[full]
        same = (old.__module__, old.__qualname__) == (cls.__module__, cls.__qualname__)
        if not same:
            raise ValueError(f"{full!r} has already been registered to {old!r}.")
    REGISTERED[full] = cls


def registered_name(cls: Any) -> str | None:
    """The full name that a class was registered under, or None."""
    for name, value in REGISTERED.items():
        if value is cls:
            return name
    return None


def _is_own(cls: type) -> bool:
    return known_classes().get(cls.__name__) is cls


def _plain(value: Any) -> Any:
    """A configuration's value in a form that JSON can hold; tuples stay tuples."""
    from pycnn.keras.layers.base_layer import Layer

    if isinstance(value, Layer):
        return serialize_object(value)
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, np.dtype):
        return value.name
    return serialize_value(value)


def serialize_object(obj: Any) -> dict[str, Any]:
    """Keras's configuration of a layer or model, with the shapes it was built with."""
    from pycnn.keras.layers.base_layer import Layer

    if not isinstance(obj, Layer):
        config: dict[str, Any] = serialize_value(obj)
        return config
    cls = type(obj)
    registered: str | None
    if _is_own(cls):
        module, registered = _MODELS.get(cls.__name__, ("keras.layers", None))
    else:
        module, registered = cls.__module__, registered_name(cls) or cls.__name__
    config = {
        "module": module,
        "class_name": cls.__name__,
        "config": _plain(obj.get_config()),
        "registered_name": registered,
    }
    build = obj.get_build_config()
    if build is not None:
        config["build_config"] = _plain(build)
    get_compile_config = getattr(obj, "get_compile_config", None)
    if get_compile_config is not None:
        compiled = get_compile_config()
        config["compile_config"] = _plain(compiled if compiled is not None else {})
    return config


def _find_class(config: Mapping[str, Any], custom_objects: Mapping[str, Any]) -> Any:
    """The class that a configuration names.

    Raises
    ------
    ValueError
        If it holds code, or is neither in the table nor given by the user.
    """
    name = str(config["class_name"])
    full = config.get("registered_name")
    for key in (full, name):
        if isinstance(key, str):
            for table in (custom_objects, REGISTERED):
                if key in table:
                    return table[key]
    module = str(config.get("module") or "keras")
    if name in _REFUSED:
        raise ValueError(
            f"The configuration holds a {name} layer, whose Python code would be run on loading. "
            "It is refused; write the layer as a class and pass it as `custom_objects`."
        )
    own = module.split(".")[0] in ("keras", "tensorflow", "tf_keras", "pycnn", "builtins")
    table = known_classes()
    if own and name in table:
        return table[name]
    hint = did_you_mean(name, table) if own else ""
    raise ValueError(
        f"Could not locate the class {name!r} (module {module!r}).{hint} A class of your own must "
        f"be passed as `custom_objects={{{name!r}: {name}}}` or registered with "
        "`@keras.saving.register_keras_serializable()`."
    )


def deserialize_object(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The layer or model that a configuration describes.

    Parameters
    ----------
    config : dict
        As `serialize_object` or Keras writes it.
    custom_objects : dict, optional
        Names and classes of the user's own.

    Raises
    ------
    ValueError
        If the configuration is malformed or names an unknown class.
    """
    if not isinstance(config, Mapping) or "class_name" not in config:
        raise ValueError(
            "The configuration of a layer must be a dict with the keys 'class_name' and "
            f"'config', got {config!r}."
        )
    inner = config.get("config")
    if not isinstance(inner, Mapping):
        raise ValueError(f"The 'config' of {config['class_name']!r} must be a dict, got {inner!r}.")
    custom = dict(custom_objects or {})
    cls = _find_class(config, custom)
    if not isinstance(cls, type):
        raise ValueError(f"{config['class_name']!r} stands for {cls!r}, which is not a class.")
    from pycnn.keras.models import Model

    if issubclass(cls, Model):
        instance = cls.from_config(dict(inner), custom_objects=custom)
    else:
        instance = getattr(cls, "from_config", lambda c: cls(**c))(dict(inner))
    build_config = config.get("build_config")
    if build_config and not getattr(instance, "built", True):
        instance.build_from_config(build_config)
    compile_config = config.get("compile_config")
    if compile_config and hasattr(instance, "compile_from_config"):
        instance.compile_from_config(compile_config)
    return instance


def serialize_layer(layer: Any) -> dict[str, Any]:
    """The configuration of a layer.

    Raises
    ------
    ValueError
        If it is no layer.
    """
    from pycnn.keras.layers.base_layer import Layer

    if not isinstance(layer, Layer):
        raise ValueError(f"Argument `layer` must be a Layer, got {layer!r}.")
    return serialize_object(layer)


def deserialize_layer(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The layer that a configuration describes.

    Raises
    ------
    ValueError
        If the configuration is malformed or does not describe a layer.
    """
    from pycnn.keras.layers.base_layer import Layer

    layer = deserialize_object(config, custom_objects)
    if not isinstance(layer, Layer):
        raise ValueError(f"The configuration does not describe a layer: {config!r}.")
    return layer
