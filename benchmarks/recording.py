#!/usr/bin/env python3
"""Time the recording of ops: what imperative code pays for an op beyond the computation.

    python benchmarks/recording.py

Prints microseconds an op for single ops, and for one training step of lab 2's network written by
hand: recording it, finding its plan, and the whole step. The least of several rounds counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

import pycnn._core as core
from loops import NETWORKS, hyper, lab2_logp, zeros_like
from pycnn import ops

ROUNDS = 15


def least(work: Callable[[], Any]) -> float:
    """Seconds of the quickest round."""
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
        core.synchronize()
    return min(found)


def single_ops(repeats: int) -> dict[str, float]:
    """Seconds an op, recorded and dropped again."""
    maps = core.tensor(np.ones((16, 8, 12, 12), np.float32), requires_grad=True)
    weights = core.tensor(np.ones((8, 8, 3, 3), np.float32), requires_grad=True)
    rows = core.tensor(np.ones((16, 10), np.float32), requires_grad=True)
    calls: dict[str, Callable[[], Any]] = {
        "relu(x)": lambda: ops.relu(maps),
        "x + x": lambda: maps + maps,
        "x * 0.5": lambda: maps * 0.5,
        "conv2d(x, w, padding=...)": lambda: ops.conv2d(maps, weights, padding=(1, 1, 1, 1)),
        "max_pool2d(x, kernel=...)": lambda: ops.max_pool2d(maps, kernel=(2, 2)),
        "x.reshape(16, -1)": lambda: maps.reshape(16, -1),
        "log_softmax(x)": lambda: ops.log_softmax(rows),
        "x[2:5]": lambda: rows[2:5],
    }

    def repeat(call: Callable[[], Any]) -> None:
        for _ in range(repeats):
            call()

    return {name: least(lambda call=call: repeat(call)) / repeats for name, call in calls.items()}


def training_step() -> dict[str, float]:
    """Lab 2, batch 1: so small that recording shows."""
    network = NETWORKS["lab2"]
    p = network.parameters()
    v = zeros_like(p)
    x, labels = network.batch(1)
    images = core.tensor(x)
    numbers = core.tensor(labels)
    rates = core.tensor(hyper(0.01, 0.5))
    counts = []

    def forward() -> Any:
        loss = ops.mean(ops.nll(lab2_logp(p, images, 0), numbers))
        counts.append(core.plan_cache_info()["pending"])
        return loss

    def update() -> None:
        with core.no_grad():
            for name, tensor in p.items():
                ops.sgd_(tensor, tensor.grad, v[name], rates, style="torch")
                tensor.grad = None

    def step() -> None:
        forward().backward()
        update()
        core.synchronize()

    step()
    step()
    made = core.plan_cache_info()["made"]
    kept: list[Any] = []

    def recorded() -> None:
        kept.append(forward())

    recording = least(recorded)
    kept.clear()
    whole = least(step)
    assert core.plan_cache_info()["made"] <= made + 2, "a repeated step made plans"
    nodes = min(count for count in counts if count)
    return {"ops": nodes, "recording": recording, "an op": recording / nodes, "whole step": whole}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the recording of ops.")
    parser.add_argument("--repeats", type=int, default=200, help="calls of an op in a round")
    parser.add_argument("--limit", type=float, help="fail above so many microseconds an op")
    args = parser.parse_args()
    print("| recorded op | microseconds |\n| --- | ---: |")
    for name, seconds in single_ops(args.repeats).items():
        print(f"| `{name}` | {seconds * 1e6:.2f} |")
    step = training_step()
    print(
        f"\nLab 2, one picture: {step['ops']:.0f} ops forward recorded in "
        f"{step['recording'] * 1e6:.0f} us, {step['an op'] * 1e6:.2f} us an op; "
        f"the whole step takes {step['whole step'] * 1e6:.0f} us."
    )
    if args.limit is not None and step["an op"] * 1e6 > args.limit:
        sys.exit(f"recording takes more than {args.limit} us an op")


if __name__ == "__main__":
    main()
