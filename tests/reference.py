"""What every op computes, in float64 NumPy, written to be obviously right rather than fast.

``REFERENCE[op](*inputs, **attributes)`` returns an array or a tuple of arrays. Images are
N, C, H, W. Nothing here shares code or tricks with the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

REFERENCE: dict[str, Callable[..., Any]] = {}

Array = np.ndarray


def reference(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function under its own name (a trailing underscore of the name is kept)."""
    REFERENCE[function.__name__.removeprefix("ref_")] = function
    return function


# ---- convolution and pooling ----


@reference
def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
) -> Array:
    (sh, sw), (top, bottom, left, right) = stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    n, _, height, width = x.shape
    oc, _, kh, kw = w.shape
    oh, ow = (height - kh) // sh + 1, (width - kw) // sw + 1
    y = np.zeros((n, oc, oh, ow))
    for i in range(oh):
        for j in range(ow):
            window = x[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw]
            y[:, :, i, j] = np.einsum("ncij,ocij->no", window, w)
    return y if b is None else y + b[None, :, None, None]


def _windows(
    x: Array, kernel: Sequence[int], stride: Sequence[int] | None, padding: Sequence[int]
) -> list[tuple[int, int, Array, int]]:
    """(i, j, window without padding, number of real plus padded elements inside the padded map)."""
    (kh, kw), (sh, sw) = kernel, stride or kernel
    top, bottom, left, right = padding
    height, width = x.shape[2:]
    oh = (height + top + bottom - kh) // sh + 1
    ow = (width + left + right - kw) // sw + 1
    found = []
    for i in range(oh):
        for j in range(ow):
            h0, w0 = i * sh - top, j * sw - left
            found.append(
                (
                    i,
                    j,
                    x[:, :, max(h0, 0) : min(h0 + kh, height), max(w0, 0) : min(w0 + kw, width)],
                    kh * kw,
                )
            )
    return found


@reference
def max_pool2d(
    x: Array,
    *,
    kernel: Sequence[int],
    stride: Sequence[int] | None = None,
    padding: Sequence[int] = (0, 0, 0, 0),
) -> Array:
    windows = _windows(x, kernel, stride, padding)
    oh, ow = windows[-1][0] + 1, windows[-1][1] + 1
    y = np.zeros((*x.shape[:2], oh, ow))
    for i, j, window, _ in windows:
        y[:, :, i, j] = window.max(axis=(2, 3))
    return y


@reference
def avg_pool2d(
    x: Array,
    *,
    kernel: Sequence[int],
    stride: Sequence[int] | None = None,
    padding: Sequence[int] = (0, 0, 0, 0),
    count_include_pad: bool = False,
) -> Array:
    windows = _windows(x, kernel, stride, padding)
    oh, ow = windows[-1][0] + 1, windows[-1][1] + 1
    y = np.zeros((*x.shape[:2], oh, ow))
    for i, j, window, full in windows:
        count = full if count_include_pad else window.shape[2] * window.shape[3]
        y[:, :, i, j] = window.sum(axis=(2, 3)) / count
    return y


# ---- normalisation ----


def _along(values: Array | None, ndim: int, axis: int, default: float) -> Array:
    if values is None:
        return np.array(default)
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


@reference
def batch_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    *,
    axis: int = 1,
    eps: float = 1e-3,
) -> tuple[Array, Array, Array]:
    axis %= x.ndim
    others = tuple(i for i in range(x.ndim) if i != axis)
    mean, var = x.mean(axis=others), x.var(axis=others)
    return batch_norm_inference(x, mean, var, gamma, beta, axis=axis, eps=eps), mean, var


@reference
def batch_norm_inference(
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    *,
    axis: int = 1,
    eps: float = 1e-3,
) -> Array:
    axis %= x.ndim
    m, v = _along(mean, x.ndim, axis, 0), _along(var, x.ndim, axis, 1)
    g, b = _along(gamma, x.ndim, axis, 1), _along(beta, x.ndim, axis, 0)
    return (x - m) / np.sqrt(v + eps) * g + b


# ---- elementwise ----

_erf = np.vectorize(math.erf, otypes=[float])

REFERENCE.update(
    relu=lambda x: np.maximum(x, 0),
    sigmoid=lambda x: 1 / (1 + np.exp(-x)),
    tanh=np.tanh,
    exp=np.exp,
    log=np.log,
    sqrt=np.sqrt,
    square=np.square,
    neg=np.negative,
    abs=np.abs,
    erf=lambda x: _erf(x) if x.size else x * 1.0,
    sign=np.sign,
    floor=np.floor,
    leaky_relu=lambda x, slope=0.01: np.where(x > 0, x, slope * x),
    elu=lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    softplus=lambda x: np.logaddexp(x, 0),
    add=np.add,
    sub=np.subtract,
    mul=np.multiply,
    div=np.divide,
    maximum=np.maximum,
    minimum=np.minimum,
    pow=np.power,
    equal=lambda a, b: (a == b) * 1.0,
    not_equal=lambda a, b: (a != b) * 1.0,
    greater=lambda a, b: (a > b) * 1.0,
    greater_equal=lambda a, b: (a >= b) * 1.0,
    less=lambda a, b: (a < b) * 1.0,
    less_equal=lambda a, b: (a <= b) * 1.0,
    where=lambda c, a, b: np.where(c != 0, a, b),
)


# ---- reductions, softmax, losses ----


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list | tuple) else axis


REFERENCE.update(
    sum=lambda x, axis=None, keepdims=False: x.sum(axis=_axes(axis), keepdims=keepdims),
    mean=lambda x, axis=None, keepdims=False: x.mean(axis=_axes(axis), keepdims=keepdims),
    max=lambda x, axis=None, keepdims=False: x.max(axis=_axes(axis), keepdims=keepdims),
    argmax=lambda x, axis=-1: x.argmax(axis=axis),
    sum_squares=lambda x: np.sum(x * x),
)


@reference
def log_softmax(x: Array, *, axis: int = -1) -> Array:
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


@reference
def softmax(x: Array, *, axis: int = -1) -> Array:
    return np.exp(log_softmax(x, axis=axis))


@reference
def nll(logp: Array, labels: Array) -> Array:
    return -logp[np.arange(len(logp)), labels.astype(int)]


@reference
def softmax_cross_entropy(logits: Array, labels: Array) -> Array:
    logp = log_softmax(logits, axis=1)
    return nll(logp, labels) if labels.ndim == 1 else -(labels * logp).sum(axis=1)


# ---- matrix products ----


@reference
def dense(x: Array, w: Array, b: Array | None = None, *, transpose_w: bool = False) -> Array:
    y = x @ (w.T if transpose_w else w)
    return y if b is None else y + b


@reference
def dense_maps(x: Array, w: Array, b: Array | None = None, *, channels_last: bool = False) -> Array:
    rows = x.transpose(0, 2, 3, 1) if channels_last else x
    return dense(rows.reshape(len(x), w.shape[0]), w, b)


@reference
def matmul(a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    return np.matmul(
        a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b
    )


# ---- movement ----


@reference
def pad(x: Array, *, pads: Sequence[int], value: float = 0.0) -> Array:
    pairs = list(zip(pads[::2], pads[1::2], strict=True))
    return np.pad(x, pairs, constant_values=value)


@reference
def ref_slice(
    x: Array, start: Array, *, shape: Sequence[int], step: Sequence[int] | None = None
) -> Array:
    step = step or (1,) * x.ndim
    return x[
        tuple(
            slice(s, s + (n - 1) * d + 1 if n else s, d)
            for s, n, d in zip(start.astype(int), shape, step, strict=True)
        )
    ]


REFERENCE.update(
    copy=lambda x: x.copy(),
    reshape=lambda x, shape: x.reshape(shape),
    transpose=lambda x, perm: x.transpose(perm),
    concat=lambda *xs, axis=0: np.concatenate(xs, axis=axis),
    gather=lambda data, index, dtype=None: data[index.astype(int)],
    cast=lambda x, dtype: x.astype(dtype),
)


# ---- random numbers: an independent Philox4x32-10 ----


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011)."""
    c, k = [int(v) for v in counter], [int(v) for v in key]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (p1 >> 32) ^ c[1] ^ k[0],
            p1 & 0xFFFFFFFF,
            (p0 >> 32) ^ c[3] ^ k[1],
            p0 & 0xFFFFFFFF,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c
