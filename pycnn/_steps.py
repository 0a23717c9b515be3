"""The words and the work of a plan's steps: shared by profiles and the verbose mode.

A step is a dictionary as `Plan.steps` gives it.  Its *case* is a name such as
``conv2d-128x64x13x13-64x64x3x3-64-activationrelu``: the op, the shapes of its inputs (``-`` where
one is absent), then the attributes that differ from their defaults.  The op cases of the tests are
named the same way, and ``benchmarks/ops.py`` times a case by its name.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pycnn import _core

__all__ = [
    "case_of",
    "chained",
    "flops_of",
    "grouped",
    "layers_of",
    "layouts_of",
    "refusals_of",
    "title_of",
]

Step = Mapping[str, Any]
Shape = tuple[int, ...] | None


def chained(step: Step) -> list[Step]:
    """The steps inside a step that runs several ops together; empty for ordinary ones."""
    return list(step.get("steps", ()))


def grouped(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put steps that run as one, those with the same ``chain``, into one step with their sum.

    Its pass is that of the last of them: a chain may begin with steps of an earlier pass, which are
    made again there.
    """
    found: list[dict[str, Any]] = []
    before: Any = None
    for step in steps:
        chain = step.get("chain")
        if chain is None:
            found.append(step)
        elif found and chain == before:
            whole = found[-1]
            whole["steps"].append(step)
            whole["pass"] = step["pass"]
            whole["impl"] = ", ".join(dict.fromkeys(one["impl"] for one in whole["steps"]))
            whole["ns"] += step["ns"]
            whole["last_ns"] += step["last_ns"]
        else:
            # Operands are those of the steps inside.
            whole = {**step, "steps": [step], "inputs": [], "outputs": [], "attrs": {}}
            found.append({**whole, "op": "chain", "refused": []})
        before = chain
    return found


@functools.lru_cache(maxsize=4096)
def shape_of(text: str) -> Shape:
    """``"(2, 3)"`` as a tuple; None where the operand is absent."""
    return None if text == "-" else tuple(ast.literal_eval(text))


def _shapes(step: Step, side: str) -> list[Shape]:
    return [shape_of(text) for text, _ in step.get(side, ())]


@functools.cache
def _defaults() -> dict[str, dict[str, Any]]:
    """Of each op the attributes' defaults; an attribute without one is left out."""
    found: dict[str, dict[str, Any]] = {}
    for op in _core._op_info():
        values = {}
        for name, initial in op["attrs"].items():
            if initial is None:
                continue
            try:
                values[name] = ast.literal_eval(initial)
            except (ValueError, SyntaxError):
                values[name] = initial  # a choice's name
        found[op["name"]] = values
    return found


def case_of(step: Step) -> str:
    """The step's name, in the words of the op cases."""
    inner = chained(step)
    if inner:
        return "+".join(case_of(one) for one in inner)
    parts = [step["op"]]
    for shape in _shapes(step, "inputs"):
        parts.append("-" if shape is None else "x".join(map(str, shape)))
    while parts[-1] == "-":  # absent inputs at the end
        parts.pop()
    defaults = _defaults().get(step["op"], {})
    for name, value in step.get("attrs", {}).items():
        if name not in defaults or defaults[name] != value:
            parts.append(f"{name}{value}")
    return "-".join(parts).replace(" ", "")


def title_of(step: Step) -> str:
    """The op, with what was fused into it: ``conv2d+relu``; several as ``conv2d > adam_ x3``."""
    inner = chained(step)
    if inner:
        runs = [(title, len(list(same))) for title, same in itertools.groupby(map(title_of, inner))]
        return " > ".join(title if n == 1 else f"{title} x{n}" for title, n in runs)
    title = str(step["op"])
    attrs = step.get("attrs", {})
    activation = attrs.get("activation", step.get("activation", "none"))
    if activation != "none":
        title += f"+{activation}"
    if attrs.get("relu_input"):
        title += "+relu_grad"
    if attrs.get("clip", "none") != "none":
        title += "+clip"
    if step["op"] == "load_images":
        taken = [attrs[name] for name in ("first", "second") if attrs.get(name, "none") != "none"]
        title = "+".join([title, *taken, *["pad"] * any(attrs.get("padding", ()))])
    return title


def layers_of(step: Step) -> str:
    """The layer's name, or several; empty where none was told."""
    names = [one.get("layer") for one in chained(step)] or [step.get("layer")]
    return ", ".join(dict.fromkeys(name for name in names if name))


def layouts_of(step: Step) -> str:
    """Layouts of the operands: ``n16,plain->n16``."""
    sides = [",".join(layout for _, layout in step.get(side, ())) for side in ("inputs", "outputs")]
    return "->".join(sides)


def refusals_of(step: Step) -> str:
    """Why faster implementations did not take the call: ``winograd: stride above 1; ...``."""
    pairs: Sequence[tuple[str, str]] = step.get("refused", ())
    return "; ".join(f"{name}: {reason}" for name, reason in pairs)


def flops_of(step: Step) -> float | None:
    """Operations of a step, two a multiply-add, as direct convolution or a plain product does them.

    None for ops that are neither convolutions nor matrix products.
    """
    inner = chained(step)
    if inner:
        known = [flops for flops in map(flops_of, inner) if flops is not None]
        return sum(known) if known else None
    ins, outs = _shapes(step, "inputs"), _shapes(step, "outputs")
    operands: dict[str, tuple[Shape, Shape]] = {}
    if len(ins) > 1 and outs:
        # A convolution is told by the maps on its filters' side, and by its filters.
        operands = {
            "conv2d": (outs[0], ins[1]),
            "conv2d_dx": (ins[0], ins[1]),
            "conv2d_dw": (ins[1], outs[0]),
        }
    maps, filters = operands.get(step["op"], (None, None))
    if maps is not None and filters is not None:
        return 2.0 * math.prod(maps) * math.prod(filters[1:])
    if step["op"].startswith("dense_maps") and len(ins) > 1 and outs:
        weights = outs[0] if step["op"] == "dense_maps_dw" else ins[1]
        if ins[0] is None or weights is None:
            return None
        return 2.0 * ins[0][0] * math.prod(weights)
    if step["op"] in ("dense", "matmul") and ins and outs:
        a, result = ins[0], outs[0]
        if a is None or result is None or len(a) < 2:
            return None
        swapped = bool(step.get("attrs", {}).get("transpose_a"))
        return 2.0 * math.prod(result) * a[-2 if swapped else -1]
    return None
