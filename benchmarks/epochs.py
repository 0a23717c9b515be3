"""Whole epochs through each framework's own `fit`, progress bar included.

An order tells how many epochs a lab trains and how many pictures it holds out; some of the epochs
are measured and the lab's time is scaled from them, which the table says.  The frameworks alternate
round by round; a first round of each, which compiles or plans, is thrown away.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from networks import NETWORKS
from processes import Process, WorkerError
from report import Fitted

__all__ = ["FITS", "FITTERS", "make_data", "measure_fits"]

# Epochs that the lab trains, pictures held out of 60,000.
FITS: dict[str, tuple[int, int]] = {
    "lab1": (1, 0),
    "lab1-one-block": (1, 0),
    "lab3": (50, 12_000),
    "lab3-model-2": (50, 12_000),
    "lab3-model-3": (50, 12_000),
    "lab3-light": (50, 0),
}
FITTERS = ("pycnn", "keras-tensorflow", "keras-jax")

_LOAD = """
import sys
import numpy as np
from pycnn.datasets import mnist

(x, y), _ = mnist.load_data()
real = len(x)
rows = np.arange(int(sys.argv[2])) % real
pictures = x.reshape(-1, 28, 28, 1) / np.float32(255)
np.savez(sys.argv[1], x=pictures[rows], y=y[rows].astype("int64"))
print(real)
"""


def make_data(path: Path, count: int = 60_000) -> str:
    """Write ``count`` pictures of MNIST for all frameworks; returns what to say about them.

    Where the data set is not there and cannot be downloaded, the sample inside pycnn is repeated.

    Raises
    ------
    WorkerError
        If that cannot be read either.
    """
    command = [sys.executable, "-c", _LOAD, str(path), str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sample = {**os.environ, "PYCNN_DATASETS": "sample"}
        done = subprocess.run(command, capture_output=True, text=True, env=sample)
    if done.returncode:
        raise WorkerError("no data: " + " ".join(done.stderr.strip().splitlines()[-1:]))
    real = int(done.stdout.split()[-1])
    if real < count:
        return f"{real:,} pictures of MNIST, repeated to {count:,}"
    return f"{count:,} pictures of MNIST"


def measure_fits(
    name: str,
    frameworks: Sequence[str],
    start: Callable[[str, str], Process],
    data: Path,
    measured: int,
    rounds: int,
) -> Fitted:
    """Time epochs of a network.

    Parameters
    ----------
    name : str
        Of a network in `FITS`.
    frameworks : sequence of str
        Those of `FITTERS` to compare.
    start : callable
        ``start(framework, network)`` gives a process that has built it.
    data : Path
        What `make_data` wrote.
    measured : int
        Epochs of a round; not more than the lab trains.
    rounds : int
        Rounds of each framework, alternating.
    """
    whole, held = FITS[name]
    measured = min(measured, whole)
    failures: dict[str, str] = {}
    workers: dict[str, Process] = {}
    seconds: dict[str, list[float]] = {}
    for framework in frameworks:
        try:
            workers[framework] = start(framework, name)
        except WorkerError as error:
            failures[framework] = str(error)
    for number in range(rounds + 1):
        for framework, worker in list(workers.items()):
            # What the first round does once needs no more than an epoch.
            epochs = measured if number else 1
            try:
                told = worker.ask(fit=str(data), epochs=epochs, validation=held)
            except WorkerError as error:
                failures[framework] = str(error)
                del workers[framework]
                continue
            if number:
                seconds.setdefault(framework, []).append(told["seconds"] / epochs)
    for worker in workers.values():
        worker.close()
    return Fitted(NETWORKS[name].title, whole, measured, seconds, failures)
