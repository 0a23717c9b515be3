"""Does Winograd convolution cost accuracy?  Trains a lab's network with and without it.

    python benchmarks/accuracy.py --network lab1 --seeds 5 --epochs 5
    python benchmarks/accuracy.py --network lab4-cifar --seeds 3 --epochs 3

Every run is a process of its own (PYCNN_CONV is read at import) with the same weights, order of
batches and dropout for a seed; what differs is rounding.  Prints the test accuracy of each seed,
the means, and the difference of the means beside its standard error.  The data sets are the whole
ones: see README.md for where they are looked for.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

from networks import NETWORKS

CHOICES = {"winograd": "auto", "direct": "direct"}


def train(name: str, seed: int, epochs: int, threads: int) -> float:
    """Test accuracy after some epochs on the lab's own split."""
    from frameworks import keras_model

    import pycnn
    import pycnn.keras

    pycnn.set_num_threads(threads)
    pycnn.keras.utils.set_random_seed(seed)
    network = NETWORKS[name]
    colour = network.shape[2] == 3
    data = pycnn.datasets.cifar10 if colour else pycnn.datasets.mnist
    (x, y), (x_test, y_test) = data.load_data()
    if colour:
        x, y = x[:45_000], y[:45_000]

    def pictures(array):  # type: ignore[no-untyped-def]
        return array.reshape(-1, *network.shape).astype("float32") / 255

    model = keras_model(pycnn.keras, network)
    model.fit(pictures(x), y.ravel(), batch_size=network.batch, epochs=epochs, verbose=0)
    return float(model.evaluate(pictures(x_test), y_test.ravel(), verbose=0)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="lab1", choices=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)  # a seed: one run, as JSON
    options = parser.parse_args()
    if min(options.seeds, options.epochs, options.threads) < 1:
        parser.error("seeds, epochs and threads: expected 1 or more")
    if options.run is not None:
        print(json.dumps(train(options.network, options.run, options.epochs, options.threads)))
        return
    results: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    for seed in range(1, options.seeds + 1):
        for choice, value in CHOICES.items():
            command = [sys.executable, str(Path(__file__)), "--run", str(seed)]
            for name in ("network", "epochs", "threads"):
                command += [f"--{name}", str(getattr(options, name))]
            done = subprocess.run(
                command,
                env={**os.environ, "PYCNN_CONV": value},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            results[choice].append(json.loads(done.stdout.splitlines()[-1]))
        print(f"seed {seed}: {results['winograd'][-1]:.4f} {results['direct'][-1]:.4f}", flush=True)
    means = {choice: statistics.mean(values) for choice, values in results.items()}
    print(f"mean: with Winograd {means['winograd']:.4f}, without {means['direct']:.4f}")
    if options.seeds > 1:
        variances = [statistics.variance(values) for values in results.values()]
        error = math.sqrt(sum(variances) / options.seeds)
        print(f"difference {means['winograd'] - means['direct']:+.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()
