"""`demur demo`: the whole of demur on real images."""

import argparse
from pathlib import Path

from demur.cli.options import Commands, add_command, natural_number
from demur.starting import start_keras


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "demo", run, "train, attack, detect and correct, on real images", "Writes its results to a folder."
    )
    parser.add_argument(
        "--dataset", choices=["digits", "fashion_mnist", "mnist"], default="digits", help="default: %(default)s"
    )
    parser.add_argument("--seed", type=natural_number, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("demur-demo"), metavar="FOLDER", help="for the results; default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demonstration."""
    start_keras()
    from demur.demo import main

    return main(dataset=args.dataset, seed=args.seed, out=args.out)
