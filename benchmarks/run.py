#!/usr/bin/env python3
"""Time a training step of the labs' networks here and in other frameworks, alternating in one run.

    python benchmarks/run.py --networks lab1 lab3 --threads 2 --blocks 8

Each framework runs in a process of its own.  A block is about half a second of steps; the blocks of
the frameworks alternate, so that a slow minute of the machine hits all of them; the first steps and
one block are discarded.  Prints Markdown: minimum and median of a step, both as ratios to ours,
GFLOP/s beside the machine's measured peak, peak memory, and import times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from frameworks import ENVIRONMENT, FRAMEWORKS, module_of, thread_environment
from networks import NETWORKS
from report import Measured, import_table, machine_lines, network_table, summary_table

HERE = Path(__file__).resolve().parent
BLOCK_SECONDS = 0.5
WARM_UP = 5


class Worker:
    """A framework's process."""

    def __init__(self, python: str, framework: str, network: str, threads: int) -> None:
        self.framework = framework
        environment = thread_environment(threads) | ENVIRONMENT[framework]
        command = [python, str(HERE / "worker.py"), framework, network, str(threads)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not os.environ.get("BENCH_VERBOSE") else None,
            text=True,
            env=environment,
        )
        self.version = self._answer()["version"]

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            words = self.process.stderr.read() if self.process.stderr else ""
            raise RuntimeError(f"{self.framework} stopped: {words.strip()[-2000:]}")
        return json.loads(line)

    def ask(self, **order: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def measure(network: str, args: argparse.Namespace) -> list[Measured]:
    """All frameworks on one network."""
    order = "predictions" if args.predict else "steps"
    workers, failures = [], []
    for framework in args.frameworks:
        python = sys.executable if framework == "pycnn" else args.peer_python
        try:
            workers.append(Worker(python, framework, network, args.threads))
        except RuntimeError as error:
            failures.append(str(error))
    for failure in failures:
        print(f"\n{failure}\n", file=sys.stderr)
    if args.strict and failures:
        sys.exit(1)
    counts, seconds = {}, {}
    for worker in workers:
        warm = worker.ask(**{order: WARM_UP})["seconds"]
        counts[worker.framework] = max(3, min(500, round(BLOCK_SECONDS / min(warm))))
        seconds[worker.framework] = []
    for block in range(args.blocks + 1):
        for worker in workers:
            times = worker.ask(**{order: counts[worker.framework]})["seconds"]
            if block:
                seconds[worker.framework] += times
    measured = []
    for worker in workers:
        memory = worker.ask(memory=True)["megabytes"]
        worker.close()
        times = seconds[worker.framework]
        measured.append(
            Measured(worker.framework, worker.version, min(times), statistics.median(times), memory)
        )
    return measured


def import_seconds(python: str, module: str, framework: str) -> float | None:
    """Seconds of an import above NumPy's, the least of five."""
    code = (
        "import time, numpy; start = time.perf_counter(); "
        f"import {module}; print('SECONDS', time.perf_counter() - start)"
    )
    environment = os.environ | ENVIRONMENT[framework]
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the first of the five may have to compile
    found = []
    for _ in range(5):
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment)
        if done.returncode:
            return None
        found.append(float(done.stdout.rpartition("SECONDS")[2]))
    return min(found)


def peak_of(threads: int) -> float | None:
    """GFLOP/s that the machine's FMA units reach on all threads; None if it cannot be measured."""
    code = "import pycnn._core as core; print(core.fma_peak())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return float(done.stdout) * threads if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the labs' networks in several frameworks.")
    parser.add_argument("--networks", nargs="+", default=["lab1", "lab3"], choices=list(NETWORKS))
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--predict", action="store_true", help="time prediction, not training")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the others")
    parser.add_argument("--strict", action="store_true", help="fail if a framework does not run")
    parser.add_argument("--output", type=Path, help="also write the Markdown to this file")
    args = parser.parse_args()
    args.frameworks = args.frameworks or ["pycnn", "torch", "keras-tensorflow"]
    if args.blocks < 1 or args.threads < 1:
        parser.error("--blocks and --threads: expected numbers from 1 on")
    lines: list[str] = []

    def tell(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    peak = peak_of(args.threads)
    what = "prediction" if args.predict else "training step"
    tell(f"# A {what} of the labs' networks\n")
    tell(machine_lines(platform.platform(), args.threads, args.blocks, peak))
    results = {}
    for name in args.networks:
        network = NETWORKS[name]
        results[name] = measure(name, args)
        flops = network.flops(training=not args.predict)
        tell(f"\n## {network.title} (batch {network.batch})\n")
        tell(network_table(results[name], flops, peak))
    tell("\n## Against the fastest other\n")
    tell(summary_table({NETWORKS[name].title: rows for name, rows in results.items()}))
    tell("\n## Import time above NumPy's\n")
    imports = {
        framework: import_seconds(
            sys.executable if framework == "pycnn" else args.peer_python,
            module_of(framework),
            framework,
        )
        for framework in args.frameworks
    }
    tell(import_table(imports))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
