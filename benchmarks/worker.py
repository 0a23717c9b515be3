"""One framework in a process of its own: builds a network, then times blocks of calls when told.

    python worker.py '{"framework": "pycnn", "network": "lab1", "threads": 2}'

Reads a line of JSON at a time from its standard input and answers with one on its output:
``{"steps": s}`` times training steps for s seconds, ``{"predictions": s}`` predictions;
``{"fit": file, "epochs": n, "validation": m}`` trains on the pictures of a file with the
framework's own loop, the last m held out; ``{"memory": true}`` tells the peak of resident memory
above what it was before the first of these; ``{"peak": true}`` (pycnn) measures the FMA peak of
all threads.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident() -> float:
    """Resident memory now, in MB."""
    try:
        with open("/proc/self/statm") as handle:
            return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return peak()


def forget_peak() -> None:
    """Let the peak begin anew, so that what imports needed for a moment does not count."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak() -> float:
    """The peak of resident memory, in MB."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


LEAST = 3  # calls of a block


def times(call: Callable[[], Any], block: float) -> list[float]:
    """Seconds of each call, in a block of so many seconds; at least of three calls."""
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < LEAST or time.perf_counter() - begin < block:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def fit_seconds(fit: Callable[..., Any] | None, order: dict[str, Any]) -> float:
    """Seconds of a fit, from the call to its return."""
    if fit is None:
        raise ValueError("this framework has no fit")
    import numpy as np

    with np.load(order["fit"]) as arrays:
        x, y = arrays["x"], arrays["y"]
    held = order["validation"]
    validation = (x[-held:], y[-held:]) if held else None
    x, y = x[: len(x) - held], y[: len(y) - held]
    start = time.perf_counter()
    fit(x, y, validation, order["epochs"])
    return time.perf_counter() - start


def main() -> None:
    told = json.loads(sys.argv[1])
    # Answers go to the real output; what a framework prints goes to the other one.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    # Also where Python is told not to look beside the script.
    sys.path.append(str(Path(__file__).resolve().parent))
    from frameworks import build
    from networks import NETWORKS

    network = NETWORKS[told["network"]]
    if told.get("batch"):
        network = dataclasses.replace(network, batch=told["batch"])
    subject = build(told["framework"], network, told["threads"])
    forget_peak()
    before = resident()

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    answer(version=subject.version, parameters=subject.parameters)
    for line in sys.stdin:
        order = json.loads(line)
        if "steps" in order:
            answer(seconds=times(subject.step, order["steps"]))
        elif "predictions" in order:
            answer(seconds=times(subject.predict, order["predictions"]))
        elif "fit" in order:
            answer(seconds=fit_seconds(subject.fit, order))
        elif "peak" in order:
            import pycnn._core as core

            answer(gflops=core.fma_peak(all_threads=True))
        else:
            answer(megabytes=peak() - before)


if __name__ == "__main__":
    main()
