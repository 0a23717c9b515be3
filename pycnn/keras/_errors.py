"""Words for error messages: nearest names, shapes, unknown and unsupported arguments.

Every message of the Keras vocabulary says which layer or argument is concerned, what came,
what was expected and, where it can be told, the fix in code. These helpers keep the wording
of the recurring parts the same everywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "accepted_arguments",
    "did_you_mean",
    "nearest",
    "not_supported",
    "quoted_list",
    "shape_text",
    "unknown_arguments",
    "unknown_name",
]

# Spellings of other days and other libraries; difflib alone would not find these.
_RENAMED = {
    "nb_epoch": "epochs",
    "epoch": "epochs",
    "nb_filter": "filters",
    "n_filters": "filters",
    "num_filters": "filters",
    "out_channels": "filters",
    "border_mode": "padding",
    "subsample": "strides",
    "stride": "strides",
    "kernel": "kernel_size",
    "filter_size": "kernel_size",
    "init": "kernel_initializer",
    "bias": "use_bias",
    "output_dim": "units",
    "out_features": "units",
    "p": "rate",
    "eps": "epsilon",
    "lr": "learning_rate",
    "alpha": "negative_slope",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "weight_regularizer": "kernel_regularizer",
    "dim_ordering": "data_format",
    "input": "inputs",
    "output": "outputs",
    "dilation": "dilation_rate",
    "pool_length": "pool_size",
}


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """The candidates most like `name`, best first (at most `count`, often none).

    Upper and lower case and underscores are ignored in the comparison.
    """
    # Only a message needs it; the import of the package should not wait for it.
    import difflib

    names = list(dict.fromkeys(candidates))
    plain: dict[str, list[str]] = {}
    for candidate in names:
        plain.setdefault(candidate.replace("_", "").lower(), []).append(candidate)
    wanted = name.replace("_", "").lower()
    found: list[str] = []
    for match in difflib.get_close_matches(wanted, list(plain), n=count, cutoff=0.6):
        found.extend(plain[match])
    if not found and len(wanted) >= 3:
        found = [n for n in names if wanted in n.replace("_", "").lower()]
    return found[:count]


def quoted_list(names: Iterable[str], last: str = "or") -> str:
    """``"a", "b" or "c"``."""
    words = [f'"{name}"' for name in names]
    if len(words) <= 1:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A sentence with the nearest names, starting with a space; empty if there is none."""
    names = nearest(name, candidates)
    return f" Did you mean {quoted_list(names)}?" if names else ""


def unknown_name(kind: str, name: object, candidates: Iterable[str]) -> ValueError:
    """The error for a misspelt activation, loss, optimizer, metric, initializer, ...

    Parameters
    ----------
    kind : str
        What the name should be, with its article left out: ``"activation"``.
    name : object
        What came.
    candidates : iterable of str
        All valid names; the nearest are suggested, or all listed when none is near.
    """
    names = sorted(dict.fromkeys(candidates))
    if not isinstance(name, str):
        return ValueError(
            f"Could not interpret {kind} {name!r} (of type {type(name).__name__}): expected "
            f"a name, a config dictionary or a callable."
        )
    hint = did_you_mean(name, names)
    if not hint:
        hint = f" Known names: {', '.join(names)}."
    return ValueError(f'Unknown {kind} "{name}".{hint}')


def accepted_arguments(cls: type) -> list[str]:
    """Names of the arguments that the constructors of `cls` and its bases take."""
    names: list[str] = []
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is None or base is object:
            continue
        parameters = inspect.signature(init).parameters.values()
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                if parameter.name != "self" and parameter.name not in names:
                    names.append(parameter.name)
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names


def unknown_arguments(where: str, unknown: Mapping[str, Any], known: Iterable[str]) -> str:
    """The message for keyword arguments that do not exist, with today's spelling.

    >>> unknown_arguments("Conv2D", {"stride": 2}, ["filters", "strides"])
    'Unrecognized keyword arguments passed to Conv2D: stride=2. Did you mean "strides"?'
    """
    names = list(known)
    given = ", ".join(f"{key}={value!r}" for key, value in unknown.items())
    hints: list[str] = []
    for key in unknown:
        renamed = _RENAMED.get(key)
        near = [renamed] if renamed in names and renamed is not None else nearest(key, names, 1)
        hints.extend(near)
    if hints:
        hint = f"Did you mean {quoted_list(dict.fromkeys(hints), 'and')}?"
    else:
        hint = f"Accepted arguments: {', '.join(names)}."
    return f"Unrecognized keyword arguments passed to {where}: {given}. {hint}"


def not_supported(where: str, argument: str, value: object, instead: str) -> NotImplementedError:
    """The error for an argument of Keras that this library does not offer (yet)."""
    return NotImplementedError(f"{where}: {argument}={value!r} is not supported here; {instead}.")


def shape_text(shape: Iterable[int | None], batch: str | None = None) -> str:
    """``(None, 28, 28, 1)``; with ``batch="N"`` an unknown first size is written N."""
    sizes = list(shape)
    words = [str(size) for size in sizes]
    if batch is not None and sizes and sizes[0] is None:
        words[0] = batch
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"
