#!/usr/bin/env python3
"""Time an op and its gradients by the name of its case, each implementation by itself.

    python benchmarks/ops.py conv2d-128x64x13x13-64x64x3x3-64-activationrelu

A name is what ``PYCNN_VERBOSE=1`` prints and what the op cases of the tests are called: the op, the
shapes of its inputs (``-`` for an absent one), then attributes. ``conv2d_dx`` and ``conv2d_dw`` are
understood too; other gradients are timed with their forward op. Inputs are random floats. Prints
Markdown: the least time of each implementation, the one that a plan chooses marked with ``*``. The
plain reference is left out, unless it is chosen or ``--reference`` asks for it: it takes seconds.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from report import table

__all__ = ["Case", "Timed", "parse", "time_case"]


@dataclass(frozen=True)
class Case:
    """An op, the shapes of its inputs (None: absent) and its attributes."""

    op: str
    inputs: tuple[tuple[int, ...] | None, ...]
    attrs: dict[str, Any]


@dataclass(frozen=True)
class Timed:
    """The least time of one implementation of one op of a plan."""

    case: str
    impl: str
    chosen: bool
    ms: float
    gflops: float | None


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a choice's name


def parse(name: str) -> Case:
    """The case of a name.

    Raises
    ------
    ValueError
        For an op or a word that there is not.
    """
    import pycnn._core as core

    infos = {info["name"]: info for info in core._op_info()}
    op, hyphen, rest = name.partition("-")
    if op not in infos:
        raise ValueError(f"{name}: there is no op {op!r}")
    attributes = sorted(infos[op]["attrs"], key=len, reverse=True)
    inputs: list[tuple[int, ...] | None] = []
    attrs: dict[str, str] = {}
    last = ""
    words = rest.split("-") if hyphen else []
    k = 0
    while k < len(words):
        word = words[k]
        found = next((a for a in attributes if word.startswith(a)), None)
        if found is not None:
            last = found
            attrs[found] = word[len(found) :]
        elif last:
            attrs[last] += "-" + word  # a negative number
        elif not word and k + 2 < len(words) and not words[k + 1]:
            inputs.append(None)  # "-" between two hyphens; at the end it would not be told
            k += 1
        elif not word:
            inputs.append(())
        elif re.fullmatch(r"\d+(x\d+)*", word):
            inputs.append(tuple(int(n) for n in word.split("x")))
        else:
            raise ValueError(f"{name}: {word!r} is neither a shape nor an attribute of {op}")
        k += 1
    return Case(op, tuple(inputs), {a: _value(text) for a, text in attrs.items()})


def _forward(case: Case) -> Case:
    """The forward op of a convolution's gradient."""
    if case.op not in ("conv2d_dx", "conv2d_dw"):
        return case
    attrs = {k: v for k, v in case.attrs.items() if k in ("stride", "padding")}
    first, second = (*case.inputs, None, None)[:2]
    needed = "size" if case.op == "conv2d_dx" else "kernel"
    if first is None or second is None or needed not in case.attrs:
        raise ValueError(f"{case.op}: both inputs and {needed} are needed")
    if case.op == "conv2d_dx":
        size = case.attrs["size"]
        return Case("conv2d", ((first[0], second[1], *size), second), attrs)
    return Case("conv2d", (first, (second[1], first[1], *case.attrs["kernel"])), attrs)


def _plan(case: Case, dtype: str) -> Any:
    """A plan of the op and its gradients."""
    import pycnn._core as core
    from pycnn import ops

    rng = np.random.default_rng(1)
    info = next(info for info in core._op_info() if info["name"] == case.op)
    if info["internal"]:
        raise ValueError(f"{case.op} is timed with its forward op: give the name of that")
    tensors = [
        None
        if shape is None
        else core.tensor(rng.standard_normal(shape), dtype, requires_grad=info["differentiable"])
        for shape in case.inputs
    ]
    attrs = dict(case.attrs)
    activation = attrs.pop("activation", "none")
    with core.capture() as tape:
        result = getattr(ops, case.op)(*tensors, **attrs)
        outputs = list(result) if isinstance(result, tuple) else [result]
        if activation != "none":  # fused by the plan, as in a network
            outputs[0] = getattr(ops, activation)(outputs[0])
        gradients = []
        if info["differentiable"]:
            weight = core.tensor(rng.standard_normal(outputs[0].shape), dtype)
            loss = ops.sum(outputs[0] * weight)
            gradients = core.gradients(loss, [t for t in tensors if t is not None])
        return tape.compile(outputs + gradients)


def _least(plan: Any, seconds: float) -> list[float]:
    """The least time of each of a plan's steps, in nanoseconds."""
    import pycnn._core as core

    before = core._set_option("profile", 1)
    least: list[float] = []
    begin = time.perf_counter()
    try:
        while len(least) == 0 or time.perf_counter() - begin < seconds:
            plan.run()
            now = [step["last_ns"] for step in plan.steps]
            least = now if not least else [min(a, b) for a, b in zip(least, now, strict=True)]
    finally:
        core._set_option("profile", before)
    return least


def time_case(
    name: str, dtype: str = "float32", seconds: float = 0.3, reference: bool = False
) -> list[Timed]:
    """Time every implementation of an op and of its gradients.

    Parameters
    ----------
    name : str
        Of the case.
    dtype : str
        ``"float32"`` or ``"float64"``.
    seconds : float
        For each implementation.
    reference : bool
        Whether the plain reference is timed where it is not chosen.
    """
    import pycnn._core as core
    from pycnn._steps import case_of, flops_of

    case = _forward(parse(name))
    chosen = {step["op"]: step["impl"] for step in _plan(case, dtype).steps}
    impls = {info["name"]: info["impls"] for info in core._op_info()}
    wanted = [op for op in chosen if op == case.op or op.startswith(f"{case.op}_")]
    if case.op in ("dense", "matmul"):
        wanted = [op for op in chosen if op in ("dense", "matmul")]
    found: dict[tuple[str, str], Timed] = {}
    for op in wanted:
        for impl in impls[op]:
            if impl == "reference" and chosen[op] != impl and not reference:
                continue
            core._force_impl(op, impl)
            chain = core._set_option("chain", 0)  # a chain's steps have one time
            winograd = core._set_option("winograd", 2 if impl == "winograd" else 1)
            try:
                plan = _plan(case, dtype)
                if not any(s["op"] == op and s["impl"] == impl for s in plan.steps):
                    continue
                least = _least(plan, seconds)
            finally:
                core._set_option("winograd", winograd)
                core._set_option("chain", chain)
                core._force_impl(op, None)
            for step, ns in zip(plan.steps, least, strict=True):
                if step["op"] == op and step["impl"] == impl:
                    flops = flops_of(step)
                    speed = flops / ns if flops is not None and ns > 0 else None
                    words = case_of(step)
                    marked = chosen[op] == impl
                    found[words, impl] = Timed(words, impl, marked, ns / 1e6, speed)
    return list(found.values())


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time ops by the names of their cases.")
    parser.add_argument("cases", nargs="+", metavar="CASE")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each implementation")
    parser.add_argument("--reference", action="store_true", help="the plain reference too")
    args = parser.parse_args(words)
    import pycnn
    import pycnn._core as core

    try:
        if args.threads is not None:
            pycnn.set_num_threads(args.threads)
        timed = [
            one
            for name in args.cases
            for one in time_case(name, args.dtype, args.seconds, args.reference)
        ]
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"ops.py: {error}")
    peak = core.fma_peak(all_threads=True, dtype=args.dtype)
    rows = [
        [
            f"`{one.case}`",
            one.impl + (" *" if one.chosen else ""),
            f"{one.ms:.4f}",
            "-" if one.gflops is None else f"{one.gflops:.1f} ({100 * one.gflops / peak:.0f} %)",
        ]
        for one in timed
    ]
    print(f"{args.dtype}, {pycnn.get_num_threads()} threads, peak {peak:.0f} GFLOP/s\n")
    print(table(["case", "implementation", "least ms", "GFLOP/s (of peak)"], rows))


if __name__ == "__main__":
    main()
