"""One framework in a process of its own: builds a network, then times blocks of steps when told.

Reads a line of JSON at a time from its standard input and answers with one on its output:
``{"steps": n}`` times n training steps, ``{"predictions": n}`` n predictions, ``{"memory": true}``
tells the peak of resident memory above what it was before the first step.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def resident() -> float:
    """Resident memory now, in MB."""
    try:
        with open("/proc/self/statm") as handle:
            return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return peak()


def peak() -> float:
    """The peak of resident memory, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def times(call: Callable[[], Any], count: int) -> list[float]:
    """Seconds of each of ``count`` calls."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    framework, name, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # Answers go to the real output; what a framework prints goes to the other one.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    from frameworks import build
    from networks import NETWORKS

    subject = build(framework, NETWORKS[name], threads)
    before = resident()

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    answer(version=subject.version)
    for line in sys.stdin:
        order = json.loads(line)
        if "steps" in order:
            answer(seconds=times(subject.step, order["steps"]))
        elif "predictions" in order:
            answer(seconds=times(subject.predict, order["predictions"]))
        else:
            answer(megabytes=peak() - before)


if __name__ == "__main__":
    main()
