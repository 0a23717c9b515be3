"""The command ``pycnn``, the same as ``python -m pycnn``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    from pycnn._version import __version__
    from pycnn.labs.command import add_arguments, run_command

    parser = argparse.ArgumentParser(
        prog="pycnn", description="Convolutional networks on the CPU, in Keras's vocabulary."
    )
    parser.add_argument("--version", action="version", version=f"pycnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lab = commands.add_parser(
        "lab",
        help="list the labs, or run one",
        description="List the labs, or train one and print the published figures beside ours.",
    )
    add_arguments(lab)
    commands.add_parser("config", help="print how pycnn was built and what it runs on")
    args = parser.parse_args(argv)
    if args.command == "config":
        import pycnn

        print(pycnn.show_config())
        return 0
    try:
        return run_command(args)
    except KeyboardInterrupt:
        print("\npycnn: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
