"""``pycnn lab``: lists the labs, or runs one and prints its figures beside the published ones."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pycnn.labs import LABS, Lab, Result, load_lab
from pycnn.labs.frame import Run, Variation

__all__ = ["add_arguments", "run_command"]

_SAMPLE_NOTICE = (
    "Data: the sample of MNIST inside the package, {why}.\n"
    "Its figures do not compare with the published ones (10,000 training pictures, not 60,000)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``pycnn lab`` takes."""
    parser.add_argument("lab", nargs="?", help="the lab's name; without it, the labs are listed")
    parser.add_argument("--variation", help="which variation; without it, the lab as published")
    parser.add_argument("--epochs", type=_positive, help="epochs; by default those of the lab")
    parser.add_argument("--seed", type=int, help="seed of weights, dropout and shuffling")
    parser.add_argument("--seeds", type=_positive, default=1, help="train with this many seeds")
    parser.add_argument("--threads", type=_positive, help="threads; by default all cores")
    parser.add_argument(
        "--data",
        choices=["sample", "full"],
        help="the sample inside the package, or the whole data set or nothing",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("."),
        metavar="FOLDER",
        help="where models/, figures/ and logs/ are written; by default here",
    )


def _positive(word: str) -> int:
    number = int(word) if word.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {word!r}")
    return number


def run_command(args: argparse.Namespace) -> int:
    """Run ``pycnn lab``; returns the exit code."""
    if args.lab is None:
        _list_labs()
        return 0
    try:
        lab = load_lab(args.lab)
    except ValueError as error:
        print(f"pycnn lab: {error}", file=sys.stderr)
        return 2
    name = args.variation or lab.default
    if name not in lab.variations:
        known = ", ".join(lab.variations)
        print(f"pycnn lab {lab.name}: no variation {name!r}; there are: {known}", file=sys.stderr)
        return 2
    return _run(lab, name, args)


def _list_labs() -> None:
    print("Labs (run one with `pycnn lab NAME`):\n")
    for name, (_, about) in LABS.items():
        print(f"  {name:<20} {about}")
        for variation, what in load_lab(name).variations.items():
            print(f"      --variation {variation:<14} {what.about}")


def _run(lab: Lab, name: str, args: argparse.Namespace) -> int:
    import pycnn

    variation = lab.variations[name]
    if args.threads:
        pycnn.set_num_threads(args.threads)
    if variation.epochs == 0:
        lab.run(Run(name, 0, lab.seed, args.output))
        return 0
    # What is needed at the end is asked for now, not after an hour of training.
    from pycnn.viz._matplotlib import require

    try:
        require(f"pycnn lab {lab.name}")
        on_sample = _choose_data(args.data)
    except (ImportError, OSError, RuntimeError) as error:
        print(f"pycnn lab {lab.name}: {error}", file=sys.stderr)
        return 1
    print(f"{lab.title}: {variation.about}")
    print(f"Threads: {pycnn.get_num_threads()}")
    first = lab.seed if args.seed is None else args.seed
    epochs = args.epochs or variation.epochs
    results: dict[str, Result] = {}
    for seed in range(first, first + args.seeds):
        print(f"\nSeed {seed}")
        start = time.monotonic()
        # Only the first training leaves its files where the report looks for them.
        folder = args.output if seed == first else args.output / f"seed-{seed}"
        result = lab.run(Run(name, epochs, seed, folder))
        seconds = time.monotonic() - start
        results[f"here, seed {seed} ({_clock(seconds)} min)"] = result
    _report(lab, name, variation, results, epochs, on_sample, args.output)
    return 0


def _choose_data(wanted: str | None) -> bool:
    """Settle where the data come from; whether it is the sample.  Raises what loading raises."""
    from pycnn.datasets import DatasetNotFoundError, mnist

    if wanted is not None:
        os.environ["PYCNN_DATASETS"] = wanted
    chosen = os.environ.get("PYCNN_DATASETS", "")
    if chosen == "sample":
        print(_SAMPLE_NOTICE.format(why="as asked for"))
        return True
    try:
        mnist.load_data()
    except DatasetNotFoundError as error:
        if chosen == "full":
            raise
        print(error, file=sys.stderr)
        os.environ["PYCNN_DATASETS"] = "sample"
        print(_SAMPLE_NOTICE.format(why="because the whole was not to be had"))
        return True
    return False


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _report(
    lab: Lab,
    name: str,
    variation: Variation,
    results: dict[str, Result],
    epochs: int,
    on_sample: bool,
    folder: Path,
) -> None:
    from pycnn.viz import learning_curves

    print(f"\n{lab.name}, variation {name}\n")
    from pycnn.labs.report import comparison

    print(comparison(variation, results))
    if on_sample:
        print("\nTrained on the sample: these figures do not compare with the published ones.")
    elif epochs != variation.epochs:
        print(f"\n{epochs} epochs here, {variation.epochs} in the published runs.")
    path = folder / "figures" / f"{lab.name}-{name}.png"
    runs = {label.partition(" (")[0]: result.history for label, result in results.items()}
    learning_curves(runs, path, title=f"{lab.title} ({name})", reference=_reference(variation))
    saved = next(iter(results.values())).model_path
    print(f"\nModel:           {saved}\nLearning curves: {path}")


def _reference(variation: Variation) -> dict[str, Sequence[float]]:
    """The first published curves, as far as they are published."""
    curves: dict[str, Sequence[float]] = {}
    for key in ("accuracy", "loss"):
        for row in variation.published:
            values = [value for value in getattr(row, key) or () if value is not None]
            if values:
                curves[key] = values
                break
    return curves
