"""Random programs over tensors: many ops, effects and aliases, run in more than one way."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import pycnn._core as core
from pycnn import ops

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Step:
    kind: str
    operands: tuple[int, ...]
    number: int = 0


UNARY = ("relu", "sigmoid", "tanh", "abs", "neg", "square")
BINARY = ("add", "sub", "mul", "maximum")
WINDOW = 6  # a step reads one of so many newest values


def draw(rng: np.random.Generator, length: int, effects: bool) -> list[Step]:
    """Operands count back from the newest value; see ``Machine``."""
    kinds = ["unary"] * 4 + ["binary"] * 4 + ["conv", "pool", "norm", "flat", "maps", "turn"]
    kinds += ["dense", "mean", "dropout", "pad", "concat", "scale"]
    if effects:
        kinds += ["assign", "sgd", "alias", "reread"] * 2
    return [
        Step(
            str(rng.choice(kinds)),
            tuple(int(v) for v in rng.integers(0, WINDOW, 3)),
            int(rng.integers(0, 100)),
        )
        for _ in range(length)
    ]


class Machine:
    """Runs steps on maps [n, 3, 4, 4] and states; every value keeps one of these shapes."""

    def __init__(self, n: int, dtype: str, key: int) -> None:
        rng = np.random.default_rng(key)
        self.n, self.dtype = n, dtype
        self.shape = (n, 3, 4, 4)
        maps = rng.standard_normal(self.shape).astype(dtype)
        self.weight = core.tensor(rng.standard_normal((3, 3, 3, 3)).astype(dtype) / 5)
        self.matrix = core.tensor(rng.standard_normal((48, 48)).astype(dtype) / 7)
        self.gamma = core.tensor(rng.uniform(0.5, 1.5, 3).astype(dtype))
        self.states = [core.tensor(rng.standard_normal(self.shape).astype(dtype)) for _ in range(3)]
        self.values: list[Any] = [core.tensor(maps), core.tensor(np.flip(maps).copy())]

    def value(self, back: int) -> Any:
        return self.values[-1 - back % min(len(self.values), WINDOW)]

    def state(self, k: int) -> Any:
        return self.states[k % len(self.states)]

    def do(self, step: Step) -> Any:
        a, b = self.value(step.operands[0]), self.value(step.operands[1])
        state = self.state(step.operands[2])
        kind, number, n = step.kind, step.number, self.n
        if kind == "unary":
            return getattr(ops, UNARY[number % len(UNARY)])(a)
        if kind == "binary":
            return ops.tanh(getattr(ops, BINARY[number % len(BINARY)])(a, b))
        if kind == "conv":
            return ops.conv2d(a, self.weight, self.gamma, padding=(1, 1, 1, 1))
        if kind == "pool":
            return ops.max_pool2d(a, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))
        if kind == "norm":
            y, mean, var = ops.batch_norm(a, self.gamma, None)
            return y + ops.reshape(mean * var, shape=(3, 1, 1)) if number % 2 else y
        if kind == "flat":
            return ops.reshape(ops.reshape(a, shape=(n, -1)) * 0.5, shape=self.shape)
        if kind == "maps":
            return ops.reshape(a, shape=self.shape)
        if kind == "turn":
            return ops.transpose(ops.tanh(ops.transpose(a, perm=(0, 2, 3, 1))), perm=(0, 3, 1, 2))
        if kind == "dense":
            rows = ops.tanh(ops.dense(ops.reshape(a, shape=(n, 48)), self.matrix))
            return ops.reshape(rows, shape=self.shape)
        if kind == "mean":
            return a - ops.mean(a, axis=(2, 3), keepdims=True)
        if kind == "dropout":
            return ops.dropout(a, np.array([1, 2, number], np.int64), rate=0.25)
        if kind == "pad":
            return ops.avg_pool2d(
                ops.pad(a, pads=(0, 0, 0, 0, 1, 1, 1, 1)), kernel=(3, 3), stride=(1, 1)
            )
        if kind == "concat":
            both = ops.concat(a, b, axis=1)
            start = np.array([0, number % 3, 0, 0], np.int64)
            return ops.slice(both, start, shape=self.shape)
        if kind == "scale":
            return a * (number / 100) + 0.25
        if kind == "assign":
            ops.assign_(state, ops.tanh(a + state))
            return ops.relu(state) if number % 2 else a * 1.0
        if kind == "sgd":
            hyper = np.array([0.1, 0, 0, 0])
            ops.sgd_(state, a, None, hyper)
            return a + state
        if kind == "alias":
            return ops.reshape(self.other(step.operands[2]), shape=self.shape)
        assert kind == "reread"
        return state * 0.5 + self.other(step.operands[2])

    def other(self, k: int) -> Any:
        """Another tensor on a state's memory."""
        return self.aliases[k % len(self.aliases)]

    def alias_states(self) -> None:
        self.aliases = [state.detach() for state in self.states]

    def run(self, steps: list[Step], look: bool = False, keep: bool = True) -> None:
        """``look``: compute each step at once. ``keep``: hold on to all values, needed or not."""
        self.alias_states()
        for step in steps:
            value = self.do(step)
            if look:
                value.numpy()
                core.synchronize()
            self.values.append(value)
            if not keep:
                self.values = self.values[-WINDOW:]

    def results(self) -> list[Array]:
        return [np.array(t) for t in self.values[-4:] + self.states]


def in_a_capture(n: int, dtype: str, key: int, steps: list[Step]) -> list[Array]:
    """The same program as one captured plan, run once."""
    machine = Machine(n, dtype, key)
    machine.alias_states()
    with core.capture() as tape:
        for step in steps:
            machine.values.append(machine.do(step))
        plan = tape.compile([t * 1.0 for t in machine.values[-4:]])
    outputs = [np.array(t) for t in plan.run()]
    return outputs + [np.array(t) for t in machine.states]
