"""Random calls of the core: `python fuzz_ops.py SEED COUNT` must not crash.

Ops are drawn at random; inputs from arrays of odd layouts and dtypes, tensors of earlier calls and
objects that are no arrays; attributes from sensible and senseless numbers. Every second result is
looked at, some are differentiated, some calls happen inside captures. Any Python exception is fine.
Prints "right N refused N guards N"; the last counts writes beyond memory (with PYCNN_POISON=1).
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn import Tensor, _core, capture, gradients, ops, tensor

RANDOM = random.Random(int(sys.argv[1]))
NUMBERS = [0, 1, 2, 3, 5, 8, 17, -1, -2, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1, 2**64]
ODD = [None, "a", 1.5, [], {}, float("nan"), float("inf"), -1.0, "none", "relu", "float32", "keras"]
OBJECTS = [
    None, 1.0, 2, True, "a", [1.0, 2], [[1, 2], [3]], object(), float("nan"), 10**30,
    np.float32(1), np.int64(2), np.array([1, 2, 3]), np.array([0.1, 0, 0, 0]), np.array([0, 1]),
    np.array([0.1, 0.9, 0.99, 1e-7, 0, 1]),
]  # fmt: skip
FLAGS = ("transpose_w", "transpose_a", "transpose_b", "keepdims", "spatial", "count_include_pad")
pool: list[Tensor] = []
counts = {"right": 0, "refused": 0}


def signature(name: str) -> tuple[list[str], list[str]]:
    """Names of an op's inputs and attributes."""
    if name == "concat":
        return ["xs", "xs"], ["axis"]
    body = getattr(ops, name).__text_signature__.replace("($module, ", "").rstrip(")")
    inputs, _, attributes = body.partition("*, ")
    return (
        [part.split("=")[0].strip() for part in inputs.split(",") if part.strip()],
        [part.split("=")[0].strip() for part in re.split(r", (?=[a-z])", attributes) if part],
    )


SIGNATURES = {name: signature(name) for name in _core.ops._names if not name.startswith("_")}


def small() -> int:
    return RANDOM.choice([0, 1, 1, 2, 2, 3, 4, -1])


def shape() -> tuple[int, ...]:
    ndim = RANDOM.choice([0, 1, 2, 2, 3, 4, 4, 4, 5, 8])
    sizes = [0, 1, 1, 2, 3, 4, 5, 7, 8, 17] if ndim < 6 else [0, 1, 2]
    return tuple(RANDOM.choice(sizes) for _ in range(ndim))


def array() -> np.ndarray:
    kind = RANDOM.choice(["f4"] * 8 + ["f8", "i8", "i4", "u1", "?", "f2", ">f4", "i2", "u4"])
    numbers = np.random.default_rng(RANDOM.randrange(1000)).integers(-3, 6, shape())
    made = numbers.astype(kind)
    if made.ndim:
        made = RANDOM.choice(
            [made] * 6
            + [made[::-1], made[..., ::2], np.asfortranarray(made)]
            + [np.broadcast_to(made[..., :1], made.shape)]
        )
    return made


def value() -> Any:
    choice = RANDOM.randrange(20)
    if choice < 9:
        made = array()
        wants = made.dtype.kind == "f" and RANDOM.random() < 0.6
        return tensor(made, requires_grad=wants) if choice < 4 else made
    return RANDOM.choice(pool) if choice < 17 and pool else RANDOM.choice(OBJECTS)


def related(first: Any) -> Any:
    """An array whose shape may go with that of the first input."""
    sizes = first.shape
    shapes = [sizes, sizes[1:2], sizes[:1], (3,)]
    if len(sizes) == 4:
        kernel = (RANDOM.choice([1, 2, 3]), RANDOM.choice([1, 2, 3]))
        shapes += [(RANDOM.choice([1, 2, 5]), sizes[1], *kernel)] * 3
    if len(sizes) == 2:
        shapes += [(sizes[1], RANDOM.choice([1, 3, 16]))] * 2
    return np.ones(RANDOM.choice(shapes), first.dtype if RANDOM.random() < 0.8 else "i8")


def attribute(name: str) -> Any:
    choice = RANDOM.randrange(12)
    if choice == 0:
        return RANDOM.choice([*ODD, RANDOM.choice(NUMBERS), (RANDOM.choice(NUMBERS),) * 2])
    if name in ("stride", "kernel"):
        return RANDOM.choice([small(), (small(), small()), (2, 2), (1, 3)])
    if name == "padding":
        return RANDOM.choice([small(), tuple(RANDOM.choice([0, 1, 2, 3]) for _ in range(4))])
    if name in ("eps", "slope", "alpha", "value", "rate"):
        return RANDOM.choice([0.0, 0.5, 1e-3, 1.0, -1.0])
    if name == "axis":
        return RANDOM.choice([0, 1, -1, 2, (0,), (0, 1), None, (0, 2, 3)])
    if name in ("shape", "step", "perm", "pads"):
        some = tuple(small() for _ in range(RANDOM.randrange(6)))
        return RANDOM.choice([some, (-1,), shape(), (1, 0), (0, 2, 3, 1), (1, 1, 1, 1)])
    if name in FLAGS:
        return RANDOM.choice([True, False])
    if name == "activation":
        return RANDOM.choice(["none", "relu", "sigmoid", "tanh"])
    if name == "dtype":
        return RANDOM.choice(["float32", "float64", "int64", "int32", "uint8", "bool", None])
    return RANDOM.choice([small(), "keras", "torch", True])


def call() -> list[Tensor]:
    name = RANDOM.choice(list(SIGNATURES))
    inputs, attributes = SIGNATURES[name]
    count = len(inputs) + (RANDOM.choice([-1, 1]) if RANDOM.random() < 0.05 else 0)
    given = [value() for _ in range(count)]
    if given and isinstance(given[0], (np.ndarray, Tensor)):
        for i in range(1, count):
            if RANDOM.random() < 0.5:
                given[i] = related(given[0])
    keywords = {key: attribute(key) for key in attributes if RANDOM.random() < 0.7}
    result = getattr(ops, name)(*given, **keywords)
    made = [t for t in (result if isinstance(result, tuple) else (result,)) if t is not None]
    pool.extend(t for t in made if t.size < 100_000)
    del pool[: max(len(pool) - 60, 0)]
    return made


def look() -> None:
    for t in call():
        if t.size < 1_000_000:
            t.numpy()


def differentiate() -> None:
    t = RANDOM.choice(pool)
    if RANDOM.random() < 0.5:
        ops.sum(t).backward(retain_graph=RANDOM.random() < 0.3)
    else:
        gradients(ops.sum(t), [RANDOM.choice(pool) for _ in range(2)])


def recorded() -> None:
    before = list(pool)
    try:
        with capture() as tape:
            inputs = [tape.placeholder(shape(), "float32") for _ in range(2)]
            pool.extend(inputs)
            made: list[Tensor] = []
            for _ in range(RANDOM.randrange(1, 6)):
                with contextlib.suppress(Exception):
                    made += call()
            plan = tape.compile(made[-1:])
    finally:
        pool[:] = before
    for _ in range(2):
        plan.run(*[np.ones(t.shape, t.dtype) for t in inputs])


def other() -> None:
    t = RANDOM.choice(pool)
    RANDOM.choice(
        [
            lambda: t[RANDOM.choice([0, -1, slice(None, None, 2), ..., (0, 0), None])],
            lambda: t.detach(),
            lambda: t.reshape(-1),
            lambda: t.T,
            lambda: t.assign(np.zeros(t.shape)),
            lambda: repr(t),
            lambda: memoryview(t),
            lambda: setattr(t, "requires_grad", RANDOM.random() < 0.5),
            lambda: setattr(t, "grad", RANDOM.choice(pool)),
            lambda: t.item(),
            _core.synchronize,
            _core.clear_plans,
        ]
    )()


def main() -> None:
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    pool.append(tensor([1.0, 2.0], requires_grad=True))
    steps: list[Callable[[], Any]] = [call] * 9 + [look] * 5 + [differentiate] * 2
    steps += [recorded, other]
    for _ in range(int(sys.argv[2])):
        try:
            RANDOM.choice(steps)()
            counts["right"] += 1
        except Exception:
            counts["refused"] += 1
    with contextlib.suppress(Exception):
        _core.synchronize()
    pool.clear()
    guards = _core._guard_errors()
    print("right", counts["right"], "refused", counts["refused"], "guards", guards)


if __name__ == "__main__":
    main()
