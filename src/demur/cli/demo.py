"""`demur demo`: the whole of demur on real images."""

import argparse
from pathlib import Path

from demur.cli.options import Commands, add, add_command, derive
from demur.starting import start_keras


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, demo)
    derive(parser, "demo", "dataset: the images", choices=["digits", "fashion_mnist", "mnist"])
    derive(parser, "demo", "seed N")
    add(parser, "--out FOLDER: for the results", default=Path("demur-demo"))


def demo(args: argparse.Namespace) -> int:
    """Train, attack, detect and correct, on real images.

    Writes its results to a folder.
    """
    start_keras()
    from demur.demo import main

    return main(dataset=args.dataset, seed=args.seed, out=args.out)
