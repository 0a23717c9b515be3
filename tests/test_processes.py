"""Ctrl-C, fork and spawn."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

import pycnn._core as core
from loops import NETWORKS, numbers, train_step, work, zeros_like
from pycnn import ops

pytestmark = pytest.mark.sanitize

LAB2 = NETWORKS["lab2"]


def test_keyboard_interrupt() -> None:
    """Ctrl-C ends the loop between two steps' work; parameters and engine stay usable."""
    p = LAB2.parameters()
    velocities = zeros_like(p)
    x, labels = LAB2.batch(32)
    train_step(LAB2, p, velocities, x, labels, 0)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    limit = time.monotonic() + 20
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        while time.monotonic() < limit:
            train_step(LAB2, p, velocities, x, labels, 1)
    assert all(np.isfinite(array).all() for array in numbers(p).values())
    for tensor in p.values():
        tensor.grad = None
    assert np.isfinite(train_step(LAB2, p, velocities, x, labels, 2).item())


# ---- fork and spawn ----


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_processes(method: str) -> None:
    """The pool has run here, and works there too, with the same bits."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    core._set_parallel_threshold(0)
    try:
        here = [work(key) for key in range(2)]
        with multiprocessing.get_context(method).Pool(2) as pool:
            there = pool.map_async(work, range(2)).get(timeout=60)
        assert [work(key) for key in range(2)] == here == there
    finally:
        core._set_parallel_threshold(-1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_with_work_pending() -> None:
    """Both sides compute what was pending, each for itself."""
    w = core.tensor(np.ones((40, 40), np.float32))
    ops.assign_(w, ops.matmul(w, w))
    y = ops.sum(w)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(y.item()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert float(answer.read()) == 64000.0
    os.waitpid(child, 0)
    assert y.item() == 64000.0
