"""The labs' networks written by hand over tensors and ops: what the imperative tests run.

Each network is a function ``loss(parameters, x, labels, call)`` (``call`` numbers the random draws)
and a function that draws its parameters. Widths are narrow: the code paths are those of the labs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import pycnn._core as core
from pycnn import ops

Array = np.ndarray
Parameters = dict[str, Any]
POOL = {"kernel": (2, 2)}


def seed(stream: int, call: int) -> Array:
    return np.array([1234, stream, call], np.int64)


def hyper(rate: float, momentum: float = 0.0, decay: float = 0.0, dampening: float = 0.0) -> Array:
    return np.array([rate, momentum, decay, dampening], np.float64)


@dataclasses.dataclass(frozen=True)
class Network:
    image: tuple[int, int, int]
    shapes: dict[str, tuple[int, ...]]
    loss: Callable[[Parameters, Any, Any, int], Any]

    def draw(self, dtype: str = "float32", key: int = 0) -> dict[str, Array]:
        rng = np.random.default_rng(key)
        arrays = {}
        for name, shape in self.shapes.items():
            fan = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
            values = (
                rng.standard_normal(shape) / np.sqrt(fan)
                if len(shape) > 1
                else (
                    rng.uniform(0.5, 1.5, shape)
                    if name.startswith("gamma")
                    else rng.standard_normal(shape) * 0.1
                )
            )
            arrays[name] = values.astype(dtype)
        return arrays

    def parameters(self, dtype: str = "float32", key: int = 0) -> Parameters:
        return {
            name: core.tensor(array, requires_grad=True)
            for name, array in self.draw(dtype, key).items()
        }

    def batch(self, n: int, dtype: str = "float32", key: int = 0) -> tuple[Array, Array]:
        rng = np.random.default_rng((key, n))
        x = rng.standard_normal((n, *self.image)).astype(dtype)
        return x, rng.integers(0, 10, n)


def _cross_entropy(logits: Any, labels: Any) -> Any:
    return ops.mean(ops.softmax_cross_entropy(logits, labels))


def lab1(p: Parameters, x: Any, labels: Any, call: int = 0) -> Any:
    h = x
    for i in (1, 2):
        h = ops.relu(ops.conv2d(h, p[f"w{i}"], p[f"b{i}"]))
        h, _, _ = ops.batch_norm(h, p[f"gamma{i}"], p[f"beta{i}"])
        h = ops.dropout(ops.max_pool2d(h, **POOL), seed(i, call), rate=0.25)
    h = h.reshape(h.shape[0], -1)
    for i in (3, 4):
        h = ops.relu(ops.dense(h, p[f"w{i}"], p[f"b{i}"]))
        h, _, _ = ops.batch_norm(h, p[f"gamma{i}"], p[f"beta{i}"])
        h = ops.dropout(h, seed(i, call), rate=0.5)
    return _cross_entropy(ops.dense(h, p["w5"], p["b5"]), labels)


def lab2_logp(p: Parameters, x: Any, call: int = 0, training: bool = True) -> Any:
    h = ops.relu(ops.max_pool2d(ops.conv2d(x, p["w1"], p["b1"]), **POOL))
    h = ops.conv2d(h, p["w2"], p["b2"])
    if training:
        h = ops.dropout(h, seed(1, call), rate=0.5, spatial=True)
    h = ops.relu(ops.max_pool2d(h, **POOL))
    h = ops.relu(ops.dense(h.reshape(h.shape[0], -1), p["w3"], p["b3"]))
    if training:
        h = ops.dropout(h, seed(2, call), rate=0.5)
    return ops.log_softmax(ops.dense(h, p["w4"], p["b4"]))


def lab2(p: Parameters, x: Any, labels: Any, call: int = 0) -> Any:
    return ops.mean(ops.nll(lab2_logp(p, x, call), labels))


def lab3(p: Parameters, x: Any, labels: Any, call: int = 0) -> Any:
    h = ops.relu(ops.conv2d(x, p["w1"], p["b1"], padding=(2, 2, 2, 2)))
    h = ops.max_pool2d(h, **POOL)
    h = ops.relu(ops.conv2d(h, p["w2"], p["b2"], padding=(1, 1, 1, 1)))
    h = ops.max_pool2d(h, **POOL)
    h = ops.sigmoid(ops.dense(h.reshape(h.shape[0], -1), p["w3"], p["b3"]))
    return _cross_entropy(ops.dense(h, p["w4"], p["b4"]), labels)


def lab5(p: Parameters, x: Any, labels: Any, call: int = 0) -> Any:
    h = ops.pad(x, pads=(0, 0, 0, 0, 2, 2, 2, 2))
    for i in (1, 2):
        h = ops.avg_pool2d(ops.relu(ops.conv2d(h, p[f"w{i}"], p[f"b{i}"])), **POOL)
    h = h.reshape(h.shape[0], -1)
    for i in (3, 4):
        h = ops.relu(ops.dense(h, p[f"w{i}"], p[f"b{i}"]))
    loss = _cross_entropy(ops.dense(h, p["w5"], p["b5"]), labels)
    return loss + 0.01 * (ops.sum_squares(p["w1"]) + ops.sum_squares(p["w2"]))


def _norm(i: int, n: int) -> dict[str, tuple[int, ...]]:
    return {f"gamma{i}": (n,), f"beta{i}": (n,)}


def _layer(i: int, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"w{i}": shape, f"b{i}": (shape[0] if len(shape) == 4 else shape[1],)}


NETWORKS: dict[str, Network] = {
    "lab1": Network(
        (1, 14, 14),
        {
            **_layer(1, 5, 1, 3, 3),
            **_norm(1, 5),
            **_layer(2, 6, 5, 3, 3),
            **_norm(2, 6),
            **_layer(3, 24, 8),
            **_norm(3, 8),
            **_layer(4, 8, 8),
            **_norm(4, 8),
            **_layer(5, 8, 10),
        },
        lab1,
    ),
    "lab2": Network(
        (1, 28, 28),
        {
            **_layer(1, 10, 1, 5, 5),
            **_layer(2, 20, 10, 5, 5),
            **_layer(3, 320, 50),
            **_layer(4, 50, 10),
        },
        lab2,
    ),
    "lab3": Network(
        (1, 16, 16),
        {
            **_layer(1, 4, 1, 5, 5),
            **_layer(2, 6, 4, 3, 3),
            **_layer(3, 96, 12),
            **_layer(4, 12, 10),
        },
        lab3,
    ),
    "lab5": Network(
        (1, 28, 28),
        {
            **_layer(1, 3, 1, 5, 5),
            **_layer(2, 5, 3, 5, 5),
            **_layer(3, 125, 16),
            **_layer(4, 16, 12),
            **_layer(5, 12, 10),
        },
        lab5,
    ),
}


def zeros_like(parameters: Parameters) -> Parameters:
    return {name: core.tensor(np.zeros(t.shape, t.dtype)) for name, t in parameters.items()}


def train_step(
    network: Network, p: Parameters, velocities: Parameters, x: Any, labels: Any, call: int
) -> Any:
    """One step of SGD with momentum, as a student would write it; the loss, pending or not."""
    loss = network.loss(p, x, labels, call)
    loss.backward()
    with core.no_grad():
        for name, tensor in p.items():
            ops.sgd_(tensor, tensor.grad, velocities[name], hyper(0.05, 0.5), style="torch")
            tensor.grad = None
    return loss


def numbers(parameters: Parameters) -> dict[str, Array]:
    return {name: np.array(t) for name, t in parameters.items()}


def gradients_plan(
    network: Network, parameters: Parameters, n: int, call: int = 0
) -> tuple[core.Plan, Callable[[Array, Array], Sequence[Array]]]:
    """A plan of loss and gradients, and a function that runs it."""
    x, labels = network.batch(n)
    dtype = next(iter(parameters.values())).dtype.name
    with core.capture() as tape:
        xs = tape.placeholder(x.shape, dtype)
        ys = tape.placeholder(labels.shape, "int64")
        loss = network.loss(parameters, xs, ys, call)
        plan = tape.compile([loss, *core.gradients(loss, list(parameters.values()))])

    def run(x: Array, labels: Array) -> Sequence[Array]:
        return [np.array(t) for t in plan.run(x, labels)]

    return plan, run


def same_bits(a: Any, b: Any) -> None:
    """Equal to the last bit, NaNs and signs of zero included."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            same_bits(a[name], b[name])
        return
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, two in zip(a, b, strict=True):
            same_bits(one, two)
        return
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_array_equal(a, b)
    assert a.tobytes() == b.tobytes()


def work(key: int) -> float:
    """A training step of lab 2, threads and all. Here, where spawned processes can import it."""
    network = NETWORKS["lab2"]
    p = network.parameters(key=key)
    train_step(network, p, zeros_like(p), *network.batch(64), 0)
    return float(sum(np.sum(np.abs(a), dtype=np.float64) for a in numbers(p).values()))
