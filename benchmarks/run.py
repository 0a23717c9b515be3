#!/usr/bin/env python3
"""Time the labs' networks here and in other frameworks, alternating in one run.

    python benchmarks/run.py --networks lab1 lab3 --threads 2 --output speed.md --png speed.png

Each framework runs in a process of its own.  A block is about half a second of steps; the blocks of
the frameworks alternate, so that a slow minute of the machine hits all of them; the first two are
discarded.  Prints Markdown: minimum and median of a step, as ratios to ours and
beside the goals, GFLOP/s beside the machine's measured peak, memory above the process before its
first step, and import times.  Options add predictions, scaling over threads, whole epochs through
`fit`, and a picture.  A framework that is not installed, or fails, has its words in the tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import chart
from epochs import FITS, FITTERS, make_data, measure_fits
from frameworks import ENVIRONMENT, FRAMEWORKS, environment_of, module_of
from networks import NETWORKS, prediction_goal, training_goal
from processes import Process, WorkerError
from report import (
    OURS,
    Measured,
    Result,
    Scaled,
    fit_table,
    import_table,
    machine_lines,
    network_table,
    scaling_table,
    summary_table,
)

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line says."""

    networks: Sequence[str]
    frameworks: Sequence[str]
    threads: int
    blocks: int
    block_seconds: float
    peer_python: str
    isa: str | None
    timeout: float

    def start(
        self, framework: str, network: str, batch: int | None = None, threads: int | None = None
    ) -> tuple[Process, str]:
        """Start a framework's process, with a network built; gives it and the version."""
        count = threads or self.threads
        told = {"framework": framework, "network": network, "threads": count, "batch": batch}
        python = sys.executable if framework == OURS else self.peer_python
        process = Process(
            framework,
            [python, str(HERE / "worker.py"), json.dumps(told)],
            environment_of(framework, count, self.isa),
            self.timeout,
        )
        built = process.answer()
        if built["parameters"] != NETWORKS[network].parameters():
            process.close()
            raise WorkerError(f"{framework} built a network of {built['parameters']} parameters")
        return process, built["version"]


def alternate(
    workers: dict[str, Process], order: str, settings: Settings, failures: dict[str, str]
) -> dict[str, list[float]]:
    """Seconds of all calls of each worker, in alternating blocks; who fails is taken out."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}

    def ask(name: str) -> list[float]:
        try:
            return list(workers[name].ask(**{order: settings.block_seconds})["seconds"])
        except WorkerError as error:
            failures[name] = str(error)
            del workers[name]
            return []

    for block in range(settings.blocks + 2):
        for name in list(workers):
            times = ask(name)
            if block > 1:  # the first compiles or plans, the second warms up
                seconds[name] += times
    return seconds


def measure(name: str, settings: Settings, predict: bool, batch: int | None = None) -> Result:
    """All frameworks on one network."""
    network = NETWORKS[name]
    if batch is not None:
        network = dataclasses.replace(network, batch=batch)
    workers: dict[str, Process] = {}
    versions: dict[str, str] = {}
    failures: dict[str, str] = {}
    for framework in settings.frameworks:
        try:
            workers[framework], versions[framework] = settings.start(framework, name, batch)
        except WorkerError as error:
            failures[framework] = str(error)
    seconds = alternate(workers, "predictions" if predict else "steps", settings, failures)
    rows = []
    for framework, worker in workers.items():
        try:
            memory = worker.ask(memory=True)["megabytes"]
        except WorkerError as error:
            failures[framework] = str(error)
            continue
        worker.close()
        times = seconds[framework]
        middle = statistics.median(times)
        rows.append(Measured(framework, versions[framework], min(times), middle, memory))
    for words in failures.values():
        print(words, file=sys.stderr)
    goal = prediction_goal(name, network.batch) if predict else training_goal(name, settings.isa)
    title = f"{network.title} (batch {network.batch})"
    return Result(title, rows, network.flops(training=not predict), goal, failures)


def measure_scaling(name: str, settings: Settings) -> Scaled:
    """Our step on one thread and on all, and the peak of both, in the same alternating run."""
    workers = {
        str(threads): settings.start(OURS, name, threads=threads)[0]
        for threads in (1, settings.threads)
    }
    failures: dict[str, str] = {}
    peaks = dict.fromkeys(workers, 0.0)
    seconds: dict[str, list[float]] = {}
    rounds = dataclasses.replace(settings, blocks=1)
    for _ in range(settings.blocks):
        for threads, times in alternate(workers, "steps", rounds, failures).items():
            seconds.setdefault(threads, []).extend(times)
        for threads, worker in workers.items():
            peaks[threads] = max(peaks[threads], worker.ask(peak=True)["gflops"])
        if failures:
            raise WorkerError(next(iter(failures.values())))
    for worker in workers.values():
        worker.close()
    several = str(settings.threads)
    return Scaled(
        NETWORKS[name].title,
        min(seconds["1"]),
        min(seconds[several]),
        peaks["1"],
        peaks[several],
    )


def import_seconds(python: str, module: str, framework: str) -> float | None:
    """Seconds of an import above NumPy's, the least of three."""
    code = (
        "import time, numpy; start = time.perf_counter(); "
        f"import {module}; print('SECONDS', time.perf_counter() - start)"
    )
    environment = os.environ | ENVIRONMENT[framework]
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the first of the three may have to compile
    found = []
    for _ in range(3):
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment)
        if done.returncode:
            return None
        found.append(float(done.stdout.rpartition("SECONDS")[2]))
    return min(found)


def peak_of(threads: int, isa: str | None) -> float | None:
    """GFLOP/s that the machine's FMA units reach on all threads; None if it cannot be measured."""
    code = "import pycnn._core as core; print(core.fma_peak(all_threads=True))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment_of(OURS, threads, isa),
    )
    return float(done.stdout) if done.returncode == 0 else None


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="Time the labs' networks in several frameworks.")
    parser.add_argument(
        "--networks",
        nargs="+",
        default=["lab1", "lab3", "lab5"],
        choices=[*NETWORKS, "all"],
        help="the labs' networks (default: lab1 lab3 lab5)",
    )
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, help="default: all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--blocks", type=int, default=8, help="blocks of each framework")
    parser.add_argument("--block-seconds", type=float, default=0.5, help="length of a block")
    parser.add_argument("--predict", action="store_true", help="time prediction, not training")
    parser.add_argument(
        "--batch", nargs="+", type=int, help="batch sizes, other than the labs': 1 32 1000"
    )
    parser.add_argument(
        "--scaling", action="store_true", help="our step on 1 thread and on all, beside the peak's"
    )
    parser.add_argument(
        "--epochs",
        nargs="+",
        choices=list(FITS),
        default=[],
        help="also time epochs of these through fit, beside Keras",
    )
    parser.add_argument(
        "--measured-epochs", type=int, default=1, help="epochs of a round; the lab's are scaled"
    )
    parser.add_argument("--rounds", type=int, default=2, help="rounds of --epochs")
    parser.add_argument("--no-steps", action="store_true", help="only --scaling and --epochs")
    parser.add_argument("--isa", choices=["avx2"], help="hold every framework to it")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the others")
    parser.add_argument("--timeout", type=float, default=600, help="seconds of a single answer")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a framework does not run")
    parser.add_argument("--output", type=Path, help="also write the Markdown to this file")
    parser.add_argument("--png", type=Path, help="draw the ratios to this file")
    args = parser.parse_args(words)
    if "all" in args.networks:
        args.networks = list(NETWORKS)
    numbers = [args.blocks, args.threads, args.measured_epochs, args.rounds, *(args.batch or [])]
    if min(numbers) < 1 or args.block_seconds <= 0 or args.timeout <= 0:
        parser.error("numbers, sizes and seconds: expected 1 or more (seconds: above 0)")
    if args.png is not None and args.no_steps:
        parser.error("--png shows steps or predictions: not with --no-steps")
    if args.scaling and args.threads < 2:
        parser.error("--scaling: expected --threads above 1")
    missing = chart.explain_missing(args.png) if args.png is not None else None
    if missing:
        parser.error(missing)
    if args.output is not None and not args.output.absolute().parent.is_dir():
        parser.error(f"there is no folder {args.output.parent} for --output")
    return args


def tell_steps(
    args: argparse.Namespace, settings: Settings, tell: Callable[[str], None], peak: float | None
) -> list[Result]:
    """Measure and tell the networks one by one, then all together."""
    results = []
    for name in settings.networks:
        for batch in args.batch or [None]:
            result = measure(name, settings, args.predict, batch)
            results.append(result)
            tell(f"\n## {result.title}\n")
            tell(network_table(result, peak))
    tell("\n## Against the fastest other\n")
    tell(summary_table(results))
    if args.png is not None:
        what = "Prediction" if args.predict else "Training step"
        chart.draw(results, args.png, f"{what}, {settings.threads} threads: time beside pycnn's")
        tell(f"\n![times beside ours]({args.png.name})")
    return results


def tell_fits(args: argparse.Namespace, settings: Settings, tell: Callable[[str], None]) -> bool:
    """Measure and tell epochs through fit; whether a framework failed."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mnist.npz"
        about = make_data(data)
        chosen = [name for name in settings.frameworks if name in FITTERS]
        found = [
            measure_fits(
                name,
                chosen,
                lambda framework, network: settings.start(framework, network)[0],
                data,
                args.measured_epochs,
                args.rounds,
            )
            for name in args.epochs
        ]
    tell("\n## Epochs through fit, with progress bars\n")
    tell(f"{about}; the least of {args.rounds} alternating rounds, after one thrown away.\n")
    tell(fit_table(found))
    return any(one.failures for one in found)


def main() -> None:
    args = arguments()
    try:
        compare(args)
    except WorkerError as error:
        sys.exit(f"run.py: {error}")


def compare(args: argparse.Namespace) -> None:
    """Measure what is asked for and tell it."""
    settings = Settings(
        args.networks,
        args.frameworks or list(FRAMEWORKS),
        args.threads,
        args.blocks,
        args.block_seconds,
        args.peer_python,
        args.isa,
        args.timeout,
    )
    lines: list[str] = []

    def tell(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    peak = peak_of(args.threads, args.isa)
    what = "prediction" if args.predict else "training step"
    tell("# The labs' networks\n" if args.no_steps else f"# A {what} of the labs' networks\n")
    tell(machine_lines(platform.platform(), args.threads, args.blocks, peak, args.isa))
    failed = False
    if not args.no_steps:
        results = tell_steps(args, settings, tell, peak)
        failed = any(result.failures for result in results)
    if args.scaling:
        tell("\n## From one thread to all\n")
        found = [measure_scaling(name, settings) for name in settings.networks]
        tell(scaling_table(found, args.threads))
    if args.epochs:
        failed |= tell_fits(args, settings, tell)
    if not args.no_steps:
        tell("\n## Import time above NumPy's\n")
        imports = {
            framework: import_seconds(
                sys.executable if framework == OURS else args.peer_python,
                module_of(framework),
                framework,
            )
            for framework in settings.frameworks
            if framework not in ("torch-tuned", "torch-compiled")
        }
        tell(import_table(imports))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n")
    if args.strict and failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
