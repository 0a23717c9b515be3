"""The op cases: one line of data each. The harness (harness.py) gives a case its tests.

A case names an op, its inputs and attributes. An input is a shape (floats, drawn as ``kind``
says), or one of the small classes below. ``batches`` repeats a case for several batch sizes.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Labels:
    """Integer labels below ``classes``, one a row of ``shape``."""

    shape: tuple[int, ...]
    classes: int
    dtype: str = "int64"


@dataclasses.dataclass(frozen=True)
class Fixed:
    """These very numbers."""

    values: Any
    dtype: str = "int64"


@dataclasses.dataclass(frozen=True)
class Dense:
    """Rows that sum to one: dense labels, no gradient asked."""

    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    op: str
    inputs: tuple[Any, ...]
    attrs: dict[str, Any] = dataclasses.field(default_factory=dict)
    kind: str = "normal"  # normal, positive, unit (0..1), apart (no ties, away from zero)
    exact: bool = False  # integer inputs give exact sums in float32
    gradient: bool = True

    @property
    def name(self) -> str:
        parts = [self.op]
        for item in self.inputs:
            shape = item if isinstance(item, tuple) else getattr(item, "shape", None)
            parts.append("x".join(map(str, shape)) if shape is not None else "-")
        parts += [f"{key}{value}" for key, value in self.attrs.items()]
        return "-".join(parts).replace(" ", "")


CASES: list[Case] = []


def add(op: str, *inputs: Any, kind: str = "normal", exact: bool = False, **attrs: Any) -> None:
    gradient = attrs.pop("gradient", True)
    CASES.append(Case(op, inputs, attrs, kind, exact, gradient))


# ---- convolution: every path, every edge ----

_CONVOLUTIONS: list[tuple[tuple[int, int, int], tuple[int, int, int], dict[str, Any]]] = [
    # (C, H, W), (OC, KH, KW), attributes
    ((1, 8, 8), (4, 3, 3), {}),
    ((1, 9, 7), (5, 5, 5), {}),
    ((3, 8, 8), (6, 3, 3), {"padding": (1, 1, 1, 1)}),
    ((2, 7, 6), (3, 2, 2), {"padding": (0, 1, 0, 1)}),
    ((2, 9, 9), (7, 4, 4), {"padding": (1, 2, 1, 2), "stride": (2, 2)}),
    ((4, 6, 6), (8, 1, 1), {}),
    ((5, 7, 1), (3, 3, 1), {}),
    ((3, 1, 9), (2, 1, 3), {"padding": (0, 0, 1, 1)}),
    ((2, 11, 11), (4, 7, 7), {"padding": (3, 3, 3, 3)}),
    ((3, 8, 10), (5, 3, 3), {"stride": (2, 1)}),
    ((3, 10, 8), (4, 3, 2), {"stride": (3, 3), "padding": (2, 0, 0, 1)}),
    ((7, 5, 5), (13, 3, 3), {"padding": (1, 1, 1, 1)}),
    ((2, 4, 4), (3, 4, 4), {}),
    ((1, 3, 3), (2, 3, 3), {"padding": (2, 2, 2, 2)}),
    ((1, 6, 70), (7, 3, 5), {"padding": (1, 1, 2, 2)}),
    ((2, 5, 75), (3, 2, 7), {"padding": (0, 1, 3, 0), "stride": (1, 2)}),
]
for (c, h, w), (oc, kh, kw), attributes in _CONVOLUTIONS:
    for n in (1, 3, 8, 17):
        add("conv2d", (n, c, h, w), (oc, c, kh, kw), (oc,), exact=True, **attributes)
    add("conv2d", (16, c, h, w), (oc, c, kh, kw), None, exact=True, **attributes)
for n in range(1, 34):
    add("conv2d", (n, 2, 5, 6), (3, 2, 3, 3), (3,), exact=True, padding=(1, 1, 1, 1))
add("conv2d", (0, 2, 5, 6), (3, 2, 3, 3), (3,), exact=True)
# Rows of three-column kernels over few channels: every size of tile that there is, narrow maps
# under wide padding, more taps than these tiles are for.
for width in (3, 4, 5, 6, 7, 9, 11, 13, *range(15, 29, 2), 28):
    add("conv2d", (16, 1, 4, width + 2), (3, 1, 3, 3), (3,), exact=True)
    add("conv2d", (9, 2, 3, width), (5, 2, 2, 3), (5,), exact=True, padding=(1, 0, 1, 1))
for width, sides in ((1, 8), (2, 14), (3, 5)):
    add("conv2d", (20, 1, 2, width), (2, 1, 3, 3), (2,), exact=True, padding=(4, 4, sides, sides))
add("conv2d", (24, 3, 5, 16), (7, 3, 3, 3), None, exact=True, stride=(2, 1), padding=(1, 1, 1, 1))
add("conv2d", (16, 3, 5, 16), (7, 3, 4, 3), (7,), exact=True, padding=(1, 1, 1, 1))
# Plain layout cut into strips: wide rows, many pixels with strides, short rows of many channels.
add("conv2d", (1, 1, 3, 300), (2, 1, 3, 3), (2,), exact=True)
add("conv2d", (2, 1, 36, 36), (3, 1, 3, 3), (3,), exact=True, stride=(2, 2))
add("conv2d", (1, 2, 4, 4), (130, 2, 3, 3), (130,), exact=True, padding=(1, 1, 1, 1))
add("conv2d", (1, 2, 30, 31), (9, 2, 5, 5), None, exact=True, padding=(2, 2, 2, 2))

# ---- pooling ----

_POOLS: list[tuple[tuple[int, int, int], dict[str, Any]]] = [
    ((3, 6, 8), {"kernel": (2, 2)}),
    ((2, 7, 5), {"kernel": (2, 2)}),
    ((2, 7, 7), {"kernel": (3, 3), "stride": (2, 2)}),
    ((1, 8, 8), {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1)}),
    ((2, 5, 5), {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 1, 0, 1)}),
    ((3, 6, 1), {"kernel": (3, 1), "stride": (2, 1)}),
    ((1, 4, 4), {"kernel": (4, 4)}),
    ((5, 9, 9), {"kernel": (2, 3), "stride": (3, 2), "padding": (1, 0, 2, 1)}),
]
for (c, h, w), attributes in _POOLS:
    for n in (1, 7, 8, 19):
        add("max_pool2d", (n, c, h, w), kind="apart", exact=True, **attributes)
        add("avg_pool2d", (n, c, h, w), **attributes)
        add("avg_pool2d", (n, c, h, w), count_include_pad=True, **attributes)
for n in range(1, 34):
    add("max_pool2d", (n, 2, 4, 6), kind="apart", exact=True, kernel=(2, 2))
    add("avg_pool2d", (n, 2, 4, 6), exact=True, kernel=(2, 2))

# ---- batch normalisation ----

for n in (2, 8, 16, 21):
    for c, h, w in ((1, 3, 3), (4, 5, 2), (7, 1, 3)):
        add("batch_norm", (n, c, h, w), (c,), (c,))
        add("batch_norm", (n, c, h, w), None, None, eps=1e-2)
        add("batch_norm", (n, c, h, w), (c,), None)
        add("batch_norm_inference", (n, c, h, w), (c,), (c,), (c,), (c,), kind="unit")
        add("batch_norm_inference", (n, c, h, w), (c,), (c,), None, None, kind="unit")
        add("batch_norm_inference", (n, c, h, w), (c,), (c,), (c,), (c,), kind="unit", eps=1e-5)
for n in range(2, 34):
    add("batch_norm", (n, 3, 2, 3), (3,), (3,))
for shape, axis in (((5, 6), 1), ((33, 17), 1), ((4, 5), 0), ((3, 4, 5), 1), ((3, 4, 5), -1)):
    k = shape[axis]
    add("batch_norm", shape, (k,), (k,), axis=axis)
    add("batch_norm_inference", shape, (k,), (k,), (k,), (k,), kind="unit", axis=axis)
add("batch_norm", (2, 3, 4, 2, 2), (3,), (3,), axis=1)
add("batch_norm", (9, 4, 4, 3), (3,), (3,), axis=3)

# ---- elementwise ----

_SHAPES = ((), (1,), (7,), (4, 9), (2, 3, 5), (1, 2, 3, 4), (9, 2, 3, 3), (16, 3, 2, 5), (0, 3))
for shape in _SHAPES:
    for op in ("square", "neg"):
        add(op, shape, exact=True)
    for op in ("relu", "abs"):
        add(op, shape, kind="apart", exact=True)
    for op in ("sign", "floor"):
        add(op, shape, kind="apart", exact=True)
    for op in ("sigmoid", "tanh", "exp", "erf", "softplus"):
        add(op, shape)
    for op in ("log", "sqrt"):
        add(op, shape, kind="positive")
    add("leaky_relu", shape, kind="apart", slope=0.25, exact=True)
    add("leaky_relu", shape, kind="apart")
    add("elu", shape, kind="apart", alpha=0.7)
    add("copy", shape, exact=True)
for n in range(8, 25):
    add("sigmoid", (n, 1, 2, 3))
    add("relu", (n, 2, 1, 3), kind="apart", exact=True)
    add("exp", (n, 1, 3, 1))

_PAIRS = (
    ((), ()),
    ((5,), (5,)),
    ((4, 3), (3,)),
    ((4, 3), (4, 1)),
    ((4, 1), (1, 3)),
    ((2, 3, 4), ()),
    ((), (2, 5)),
    ((8, 3, 2, 4), (8, 3, 2, 4)),
    ((17, 3, 2, 4), (17, 3, 2, 4)),
    ((9, 3, 2, 4), (1, 3, 1, 1)),
    ((9, 3, 2, 4), (3, 1, 1)),
    ((1, 3, 1, 1), (9, 3, 2, 4)),
    ((9, 3, 2, 4), ()),
    ((), (9, 3, 2, 4)),
    ((9, 3, 2, 4), (9, 1, 2, 4)),
    ((3, 1, 5), (2, 1)),
    ((0, 3), (3,)),
)
for a, b in _PAIRS:
    for op in ("add", "sub", "mul"):
        add(op, a, b, exact=True)
    add("div", a, b, kind="positive")
    add("pow", a, b, kind="positive")
    for op in ("maximum", "minimum"):
        add(op, a, b, kind="apart", exact=True)
    for op in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"):
        add(op, a, b, exact=True, gradient=False)
for c, a, b in (
    ((4, 3), (4, 3), (4, 3)),
    ((4, 1), (4, 3), ()),
    ((3,), (2, 1, 3), (2, 4, 1)),
    ((9, 2, 3, 2), (9, 2, 3, 2), (9, 2, 3, 2)),
    ((9, 2, 3, 2), (9, 2, 3, 2), ()),
    ((9, 2, 3, 2), (), (9, 2, 3, 2)),
    ((9, 2, 3, 2), (9, 2, 3, 2), (1, 2, 1, 1)),
    ((9, 2, 3, 2), (1, 2, 1, 1), (9, 2, 3, 2)),
):
    add("where", Fixed(np.indices(c).sum(axis=0) % 2, "float"), a, b, exact=True)

# ---- reductions ----

_AXES: list[tuple[tuple[int, ...], Any]] = [
    ((6,), None),
    ((4, 5), 0),
    ((4, 5), 1),
    ((4, 5), (0, 1)),
    ((3, 4, 5), (0, 2)),
    ((3, 4, 5), -1),
    ((9, 3, 4, 2), (2, 3)),
    ((17, 3, 2, 2), (0, 2, 3)),
    ((9, 3, 4, 2), None),
    ((1, 1), 0),
    ((), None),
]
for (shape, axis), keepdims in itertools.product(_AXES, (False, True)):
    add("sum", shape, exact=True, axis=axis, keepdims=keepdims)
    add("mean", shape, axis=axis, keepdims=keepdims)
    add("max", shape, kind="apart", exact=True, axis=axis, keepdims=keepdims)
for shape, axis in (((5,), 0), ((4, 7), -1), ((4, 7), 0), ((3, 4, 5), 1)):
    add("argmax", shape, kind="apart", exact=True, gradient=False, axis=axis)
for shape in ((), (7,), (3, 4), (9, 2, 3, 3), (40, 37)):
    add("sum_squares", shape, exact=True)
for n in (8, 16, 33):
    add("mean", (n, 5, 3, 3), axis=(2, 3), keepdims=False)

# ---- softmax and losses ----

for shape, axis in (((4, 10), -1), ((4, 10), 0), ((2, 3, 5), 1), ((7,), 0), ((33, 3), 1)):
    add("softmax", shape, axis=axis)
    add("log_softmax", shape, axis=axis)
for n, k in ((1, 2), (5, 10), (16, 3), (33, 10), (128, 10), (0, 4)):
    for dtype in ("int64", "int32", "uint8"):
        add("nll", (n, k), Labels((n,), k, dtype), exact=True)
        add("softmax_cross_entropy", (n, k), Labels((n,), k, dtype))
    add("softmax_cross_entropy", (n, k), Dense((n, k)))

# ---- matrix products ----

_PRODUCTS = (
    (1, 1, 1),
    (3, 5, 2),
    (1, 1100, 70),
    (2, 530, 37),
    (7, 6, 150),
    (8, 16, 10),
    (17, 33, 9),
    (128, 70, 10),
    (5, 1, 4),
    (1, 7, 1),
)
for n, i, o in _PRODUCTS:
    for flag in (False, True):
        w = (o, i) if flag else (i, o)
        add("dense", (n, i), w, (o,), exact=True, transpose_w=flag)
        add("dense", (n, i), w, None, exact=True, transpose_w=flag)
    for ta, tb in itertools.product((False, True), (False, True)):
        a, b = ((i, n) if ta else (n, i)), ((o, i) if tb else (i, o))
        add("matmul", a, b, exact=True, transpose_a=ta, transpose_b=tb)
        add("matmul", (2, *a), (2, *b), exact=True, transpose_a=ta, transpose_b=tb)
add("dense", (0, 4), (4, 3), (3,), exact=True)
add("matmul", (2, 3, 4, 5), (2, 3, 5, 2), exact=True)
for (c, h, w), o in (
    ((1, 1, 1), 1),
    ((3, 2, 2), 5),
    ((5, 3, 1), 16),
    ((2, 4, 3), 23),
    ((7, 5, 5), 10),
    ((31, 5, 5), 17),
    ((64, 5, 5), 33),
):
    for n in (1, 8, 16, 21):
        for flag in (False, True):
            add("dense_maps", (n, c, h, w), (c * h * w, o), (o,), exact=True, channels_last=flag)
    add("dense_maps", (37, c, h, w), (c * h * w, o), None, exact=True, channels_last=True)
for n in range(1, 34):
    add("dense_maps", (n, 3, 3, 2), (18, 7), (7,), exact=True, channels_last=n % 2 == 0)
add("dense_maps", (0, 3, 3, 2), (18, 7), (7,), exact=True)
add("dense_maps", (9, 2, 0, 2), (0, 7), (7,), exact=True)
add("dense_maps", (9, 2, 1, 2), (4, 0), (0,), exact=True)

# ---- movement ----

for shape, to in (
    ((6,), (2, 3)),
    ((2, 3, 4), (6, -1)),
    ((4, 2, 3, 3), (4, 18)),
    ((17, 2, 3, 3), (17, -1)),
    ((16, 4), (16, 2, 2, 1)),
    ((), (1, 1)),
):
    add("reshape", shape, exact=True, shape=to)
for shape in ((5, 7), (2, 3, 4), (3, 4, 5, 2), (9, 4, 5, 3), (16, 2, 3, 5)):
    for perm in itertools.permutations(range(len(shape))):
        add("transpose", shape, exact=True, perm=perm)
for shapes, axis in (
    (((2, 3), (4, 3)), 0),
    (((2, 3), (2, 1), (2, 5)), 1),
    (((9, 2, 3, 3), (9, 4, 3, 3)), 1),
    (((8, 2, 3, 3), (8, 2, 3, 3), (8, 1, 3, 3)), -3),
    (((2, 3, 4), (2, 3, 4)), -1),
    (((3,),), 0),
):
    add("concat", *shapes, exact=True, axis=axis)
for shape, pads in (
    ((4,), (1, 2)),
    ((2, 3), (0, 1, 2, 0)),
    ((9, 2, 3, 3), (0, 0, 0, 0, 2, 2, 1, 3)),
    ((3, 2, 3, 3), (0, 0, 0, 0, 2, 2, 2, 2)),
    ((9, 2, 3, 3), (1, 0, 0, 1, 0, 0, 0, 0)),
):
    add("pad", shape, exact=True, pads=pads)
    add("pad", shape, exact=True, pads=pads, value=-2.0)
for shape, start, part, step in (
    ((7,), (2,), (3,), None),
    ((7,), (0,), (4,), (2,)),
    ((4, 5), (1, 0), (2, 5), None),
    ((4, 5, 6), (0, 1, 2), (4, 2, 2), (1, 3, 2)),
    ((9, 3, 4, 4), (0, 1, 0, 0), (9, 2, 4, 4), None),
):
    add("slice", shape, Fixed(start), exact=True, shape=part, step=step)
for shape, rows in (((5, 3), (4, 0, 0, 2)), ((10, 2, 3, 1), tuple(range(9))), ((3,), ())):
    add("gather", shape, Fixed(rows), exact=True, gradient=False)
for to in ("float32", "float64"):
    add("cast", (4, 5), exact=True, dtype=to)
    add("cast", (9, 2, 2, 3), exact=True, dtype=to)
