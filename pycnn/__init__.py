"""pycnn: convolutional networks on the CPU, a C engine under Python.

Two ways in:

* Keras's vocabulary: ``pycnn.Sequential``, ``pycnn.layers.Conv2D``, ``model.fit``, ... All names of
  ``pycnn.keras`` are found here too and are the same objects.
* Tensors: ``pycnn.Tensor`` and ``pycnn.ops``, for code that computes step by step and calls
  ``backward()``.

``pycnn.ops`` holds the engine's operations (axes N, C, H, W), not those of ``pycnn.keras.ops``.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from pycnn._version import __version__


def _explain_missing_core(error: ImportError) -> ImportError:
    """Say why the compiled part cannot be imported, and what to do."""
    if str(error).startswith("PYCNN_"):
        return error  # a setting it does not know: nothing is wrong with the build
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(here)
    built = [f for f in os.listdir(here) if f.startswith("_core.") and f.endswith((".so", ".pyd"))]
    if built:
        return ImportError(
            f"pycnn's compiled part ({', '.join(sorted(built))} in {here}) does not load in this "
            f"Python {sys.version.split()[0]}: {error}. Build it anew with `pip install "
            "--force-reinstall .` in the source folder."
        )
    if os.path.isdir(os.path.join(root, "csrc")):
        return ImportError(
            f"pycnn is not built in the source folder {root}, from which it was imported. "
            "Install it with `pip install .` and start Python in another folder; to work on "
            "pycnn itself, run `python setup.py build_ext --inplace` in the source folder."
        )
    return ImportError(
        f"pycnn's compiled part is missing from {here}; the installation is incomplete. Install "
        "it again: `pip install --force-reinstall pycnn`."
    )


def _load_core() -> None:
    """Load the compiled part, with OpenBLAS told what it reads once, while it is loaded.

    One thread: the engine shares the work out itself. ``PYCNN_ISA`` forces BLAS's kernels too, but
    for the widest set: there BLAS's own choice is right, and knows more processors.
    NumPy comes first, because its own OpenBLAS reads the same variables.
    """
    import numpy  # noqa: F401

    threads = os.environ.get("PYCNN_NUM_THREADS", "")
    if threads and not (threads.isdecimal() and int(threads) > 0):
        raise ImportError(f"PYCNN_NUM_THREADS={threads} is not a number from 1 on")
    told = {"OPENBLAS_NUM_THREADS": "1"}
    core = {"baseline": "Prescott", "avx2": "Haswell"}.get(os.environ.get("PYCNN_ISA", ""))
    if core is not None:
        told["OPENBLAS_CORETYPE"] = core
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        import pycnn._core  # noqa: F401
    except ImportError as error:
        raise _explain_missing_core(error) from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_load_core()

from pycnn import _copying, keras, ops  # noqa: E402, F401
from pycnn._core import (  # noqa: E402
    Plan,
    ShapeError,
    Tensor,
    capture,
    clear_plans,
    from_numpy,
    get_num_threads,
    gradients,
    is_grad_enabled,
    no_grad,
    plan_cache_info,
    set_grad_enabled,
    set_num_threads,
    show_config,
    tensor,
)
from pycnn.keras import (  # noqa: E402
    Initializer,
    Input,
    InputSpec,
    KerasTensor,
    Layer,
    Loss,
    Metric,
    Model,
    Optimizer,
    Regularizer,
    Sequential,
    Variable,
    activations,
    backend,
    callbacks,
    config,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    random,
    regularizers,
    saving,
    utils,
    version,
)
from pycnn.keras._absent import explain_missing_names  # noqa: E402
from pycnn.profiling import profile, start_verbose  # noqa: E402

start_verbose(os.environ.get("PYCNN_VERBOSE"))
del start_verbose

__all__ = [
    "Initializer",
    "Input",
    "InputSpec",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Plan",
    "Regularizer",
    "Sequential",
    "ShapeError",
    "Tensor",
    "Variable",
    "__version__",
    "activations",
    "backend",
    "callbacks",
    "capture",
    "clear_plans",
    "config",
    "from_numpy",
    "get_num_threads",
    "gradients",
    "initializers",
    "is_grad_enabled",
    "keras",
    "layers",
    "losses",
    "metrics",
    "models",
    "no_grad",
    "ops",
    "optimizers",
    "plan_cache_info",
    "profile",
    "random",
    "regularizers",
    "saving",
    "set_grad_enabled",
    "set_num_threads",
    "show_config",
    "tensor",
    "utils",
    "version",
]

# Packages that need more than NumPy, or time: imported when first named.
_LAZY = ("datasets", "labs", "torch", "torchvision", "viz")


def __getattr__(name: str) -> Any:
    """Import a package of `_LAZY` on first use."""
    if name in _LAZY:
        from importlib import import_module
        from importlib.util import find_spec

        if find_spec(f"pycnn.{name}") is not None:
            return import_module(f"pycnn.{name}")
    raise AttributeError(f"module 'pycnn' has no attribute {name!r}")


def _mirror(modules: dict[str, ModuleType]) -> None:
    """Let ``from pycnn.layers import Dense`` find the modules of ``pycnn.keras``.

    The modules are entered under both names, not imported twice, so that the classes are the same
    objects whichever path leads to them. `pycnn.ops` and `pycnn.datasets` are their own.
    """
    for path, module in list(modules.items()):
        name = path.removeprefix("pycnn.keras.")
        own = name.startswith("_") or name.split(".")[0] in ("ops", "datasets")
        if name != path and not own:
            modules.setdefault(f"pycnn.{name}", module)


_mirror(sys.modules)
explain_missing_names(sys.modules[__name__])
