"""Another thread sets the number of threads while plans are made."""

from __future__ import annotations

from harness import says_the_same_when_poisoned

# A chain's scratch memory has a piece for each thread. `set_num_threads` waits for a run to end,
# and meanwhile lets planning begin.
RACING = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
import numpy as np
from pycnn import _core as core, ops
core._set_parallel_threshold(0)

def make(layers):
    numbers = np.random.default_rng(layers)
    x = numbers.standard_normal((16, 2, 12, 12), np.float32)
    with core.capture() as tape:
        given = tape.placeholder(x.shape, "float32")
        first, other = (
            core.tensor(numbers.standard_normal(shape, np.float32), requires_grad=True)
            for shape in ((4, 2, 3, 3), (4, 4, 1, 1))
        )
        h, scale = ops.conv2d(given, first), core.tensor(np.ones(4, np.float32))
        for _ in range(layers):
            h, _, _ = ops.batch_norm(ops.tanh(ops.square(ops.tanh(h))), scale, scale)
            h = ops.conv2d(h, other)
        loss = ops.sum_squares(h)
        return tape.compile([loss, *core.gradients(loss, [first, other])]), x

def run_on():
    while not done:
        large.run(batch)

def set_on():
    while not done:
        core.set_num_threads(8)
        core.set_num_threads(1)

done = False
large, batch = make(40)
busy = [threading.Thread(target=run_on), threading.Thread(target=set_on)]
for thread in busy:
    thread.start()
plans = [make(20) for _ in range(60 if os.environ["PYCNN_POISON"] == "1" else 1)]
done = True
for thread in busy:
    thread.join()
core.set_num_threads(8)
for plan, x in plans:
    last = [array.numpy().tobytes().hex()[:400] for array in plan.run(x)]
    assert core._guard_errors() == 0, core._guard_errors()
print(last)
"""


def test_threads_set_while_plans_are_made() -> None:
    says_the_same_when_poisoned(RACING)
