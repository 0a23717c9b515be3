"""Signatures and defaults of every public name against Keras's, method by method.

What differs stands in `DIFFERENCES`, what a class lacks in `ABSENT`, what only exists here in
`EXTRA`, each with its reason; an entry that no longer holds fails too.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from peers.sides import keras
from pycnn.keras._absent import ABSENT as NOT_HERE

pytestmark = pytest.mark.peers

MODULES = (
    "",
    "activations",
    "backend",
    "callbacks",
    "config",
    "datasets.cifar10",
    "datasets.fashion_mnist",
    "datasets.mnist",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "optimizers.schedules",
    "random",
    "regularizers",
    "saving",
    "utils",
)

# A method stands under the class of Keras that defines it.
DIFFERENCES = {
    "Optimizer": "Keras's is a wrapper (*args, **kwargs) of one backend's class; ours names the "
    "arguments that wrapper takes",
    "optimizers.Optimizer": "the same",
    "Sequential": "Keras's (*args, **kwargs) belongs to its __new__; ours names the arguments of "
    "its __init__, which are the same",
    "models.Sequential": "the same",
    "Variable": "one argument more: the permutation to the engine's order",
    "Adam.build": "all optimizers here call the argument `variables`, as Keras's SGD does",
    "TensorFlowTrainer.loss": "a deprecated method there, the attribute set by compile here",
    "Sequential.call": "a layer's own extra arguments do not travel through a Sequential",
    "Sequential.compute_output_spec": "the same",
    "Merge.compute_output_spec": "inherited here: takes what `call` takes",
    "Flatten.compute_output_spec": "the same",
    "Identity.compute_output_spec": "the same",
    "Permute.compute_output_spec": "the same",
    "Reshape.compute_output_spec": "the same",
    "Merge.compute_mask": "masks do not travel through a model here",
    "Concatenate.compute_mask": "the same",
    "DataLayer.__call__": "preprocessing layers are called as all others here; tf.data, for which "
    "Keras makes the difference, is not supported",
    "Rescaling.from_config": "inherited here",
}

_ATTRIBUTE = "set on each instance here"
_STEPS = "a training step is recorded as one plan; own steps are written over pycnn.Tensor"
_TF = "belongs to TensorFlow"
_QUANTIZATION = "quantization is not supported"
_STATELESS = "stateless calls are Keras's way to JAX"
_DEPRECATED = "deprecated in Keras"
_SLOTS = "an optimizer of one's own cannot be written in this vocabulary yet"
_LORA = "low-rank adapters are not supported"
_SYMBOLIC = "few functions take a KerasTensor here; use a layer"
ABSENT = {
    "KerasTensor.ragged_rank": "ragged tensors are not supported",
    "KerasTensor.row_splits_dtype": "ragged tensors are not supported",
    "KerasTensor.reshape": _SYMBOLIC,
    "KerasTensor.squeeze": _SYMBOLIC,
    "Variable.aggregation": _ATTRIBUTE,
    "Variable.constraint": _ATTRIBUTE,
    "Variable.handle": _TF,
    "Variable.name": _ATTRIBUTE,
    "Variable.overwrite_with_gradient": _ATTRIBUTE,
    "Variable.path": _ATTRIBUTE,
    "Variable.regularizer": _ATTRIBUTE,
    "Variable.synchronization": _ATTRIBUTE,
    "Layer.add_metric": _DEPRECATED,
    "Layer.quantize": _QUANTIZATION,
    "Layer.quantized_build": _QUANTIZATION,
    "Layer.quantized_call": _QUANTIZATION,
    "Layer.rematerialized_call": "rematerialization is not supported",
    "Layer.stateless_call": _STATELESS,
    "Layer.supports_masking": _ATTRIBUTE,
    "BaseConv.convolution_op": "a hook for subclasses; override `call`",
    "BaseConv.enable_lora": _LORA,
    "Dense.enable_lora": _LORA,
    "Dense.quantize": _QUANTIZATION,
    "Dense.quantized_build": _QUANTIZATION,
    "Dense.variable_serialization_spec": _QUANTIZATION,
    "DataLayer.convert_weight": "helps preprocessing inside tf.data",
    "Model.quantize": _QUANTIZATION,
    "Model.get_quantization_layer_structure": _QUANTIZATION,
    "Model.get_state_tree": _STATELESS,
    "Model.set_state_tree": _STATELESS,
    "TensorFlowTrainer.compiled_loss": _DEPRECATED,
    "TensorFlowTrainer.compiled_metrics": _DEPRECATED,
    "TensorFlowTrainer.make_train_function": _STEPS,
    "TensorFlowTrainer.make_test_function": _STEPS,
    "TensorFlowTrainer.make_predict_function": _STEPS,
    "TensorFlowTrainer.train_step": _STEPS,
    "TensorFlowTrainer.test_step": _STEPS,
    "TensorFlowTrainer.predict_step": _STEPS,
    "TensorFlowTrainer.distribute_reduction_method": _TF,
    "TensorFlowTrainer.distribute_strategy": _TF,
    "Trainer.compute_metrics": _STEPS,
    "Trainer.stateless_compute_loss": _STATELESS,
    "BaseOptimizer.add_optimizer_variables": _SLOTS,
    "BaseOptimizer.add_variable": _SLOTS,
    "BaseOptimizer.update_step": _SLOTS,
    "TFOptimizer.add_variable_from_reference": _SLOTS,
    "TFOptimizer.assign": _SLOTS,
    "TFOptimizer.assign_add": _SLOTS,
    "TFOptimizer.assign_sub": _SLOTS,
    "TFOptimizer.stateless_apply": _STATELESS,
    "SGD.update_step": _SLOTS,
    "Adam.update_step": _SLOTS,
    "EarlyStopping.get_monitor_value": "reads the logs itself here",
    "TensorBoard.summary": "belongs to TensorFlow's writers",
}
EXTRA = {
    "models.Functional": "the class of a functional model, which Keras keeps in keras.src",
    "saving.SavedFileError": "one error for files that are damaged",
    "saving.UnsafeFileError": "one error for files that are refused",
}


def module(side: str, name: str) -> Any:
    return importlib.import_module(f"{side}.{name}" if name else side)


def public(name: str) -> list[str]:
    """The names of one of our modules that are not modules themselves."""
    ours = module("pycnn.keras", name)
    return [x for x in ours.__all__ if not inspect.ismodule(getattr(ours, x))]


NAMES = [f"{name}.{x}".lstrip(".") for name in MODULES for x in public(name)]


def parameters(function: Any) -> tuple[tuple[str, str, str], ...] | None:
    """Name, kind and default of each parameter; None if Python cannot tell."""
    bound = inspect.ismethod(function)
    return _parameters(function.__func__, True) if bound else _parameters(function, False)


@functools.cache
def _parameters(function: Any, bound: bool) -> tuple[tuple[str, str, str], ...] | None:
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return tuple((p.name, p.kind.name, repr(p.default)) for p in found)[bound:]


def pair(name: str) -> tuple[Any, Any]:
    place, _, last = name.rpartition(".")
    return getattr(module("pycnn.keras", place), last), getattr(module("keras", place), last, None)


def owner(cls: type, attribute: str) -> type:
    return next(c for c in cls.__mro__ if attribute in vars(c))


def members(cls: type) -> Iterator[tuple[str, str]]:
    """The public attributes of a class of Keras, with the name of the class that defines each."""
    for attribute in dir(cls):
        place = owner(cls, attribute)
        of_keras = place.__module__.partition(".")[0] == "keras"
        if of_keras and (attribute == "__call__" or not attribute.startswith("_")):
            yield attribute, f"{place.__name__}.{attribute}"


def differing(name: str) -> dict[str, str]:
    """What differs at a public name: the key in the lists above and how."""
    ours, theirs = pair(name)
    if theirs is None:
        return {name: "does not exist in Keras"}
    found: dict[str, str] = {}
    if callable(ours) != callable(theirs):
        found[name] = "only one of them can be called"
    elif callable(ours) and parameters(ours) != parameters(theirs):
        found[name] = f"{inspect.signature(ours)} here, {inspect.signature(theirs)} there"
    if not (inspect.isclass(ours) and inspect.isclass(theirs)):
        return found
    for attribute, key in members(theirs):
        if not hasattr(ours, attribute):
            found[key] = "absent"
            continue
        mine, other = getattr(ours, attribute), getattr(theirs, attribute)
        if callable(other) != callable(mine):
            found[key] = f"{mine!r} here, {other!r} there"
        elif callable(other) and parameters(mine) != parameters(other):
            found[key] = f"{inspect.signature(mine)} here, {inspect.signature(other)} there"
    return found


ALLOWED = DIFFERENCES.keys() | ABSENT.keys() | EXTRA.keys()


@pytest.mark.parametrize("name", NAMES)
def test_signature(name: str) -> None:
    assert {key: how for key, how in differing(name).items() if key not in ALLOWED} == {}


def test_no_stale_entries() -> None:
    """Every entry of the lists is still needed, under its own heading."""
    found: dict[str, str] = {}
    for name in NAMES:
        found.update(differing(name))
    kinds = {"absent": ABSENT, "does not exist in Keras": EXTRA}
    for key, how in found.items():
        assert key in kinds.get(how, DIFFERENCES), key
    assert found.keys() == ALLOWED
    assert len(ALLOWED) == len(DIFFERENCES) + len(ABSENT) + len(EXTRA)


def test_walk_meets_what_it_should() -> None:
    """The walk above reaches classes, functions, methods and modules."""
    assert len(NAMES) > 350
    assert {"layers.Conv2D", "Model", "optimizers.schedules.CosineDecay", "ops.pad"} <= set(NAMES)
    keys = dict(members(keras.Model))
    assert keys["fit"] == "TensorFlowTrainer.fit"
    assert keys["add_weight"] == "Layer.add_weight"
    assert parameters(keras.layers.Dense) is not None


def test_dotted_paths() -> None:
    """Modules of Keras that exist here are the same under both roads, `ops` excepted."""
    import pycnn

    for name in MODULES[1:]:
        if name.partition(".")[0] not in ("ops", "datasets"):
            assert importlib.import_module(f"pycnn.{name}") is module("pycnn.keras", name)
    for name in module("pycnn.keras", "").__all__:
        if name != "ops":
            assert getattr(pycnn, name) is getattr(pycnn.keras, name)


@pytest.mark.parametrize("module", sorted(NOT_HERE))
def test_names_said_to_be_absent_are_names_of_keras(module: str) -> None:
    """What `pycnn.keras` says of missing names is true, and complete but for inner names."""
    path = f".{module}" if module else ""
    theirs = importlib.import_module(f"keras{path}")
    ours = importlib.import_module(f"pycnn.keras{path}")
    inner = {"Config", "OptimizerMap", "bounding_boxes", "legacy", "src", "tree"}
    lacking = {n for n in dir(theirs) if n[0] != "_" and not hasattr(ours, n)}
    assert lacking - inner == NOT_HERE[module]
