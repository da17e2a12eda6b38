"""`demur demo`: the whole of demur on real images."""

import argparse
from pathlib import Path

from demur.cli.options import Commands, add, add_command, derive
from demur.cli.signatures import parameters
from demur.starting import start_keras


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "demo", run, "train, attack, detect and correct, on real images", "Writes its results to a folder."
    )
    known = parameters("demo")
    derive(parser, known, "dataset: the images", choices=["digits", "fashion_mnist", "mnist"])
    derive(parser, known, "seed N")
    add(parser, "--out FOLDER: for the results", default=Path("demur-demo"))


def run(args: argparse.Namespace) -> int:
    """Run the demonstration."""
    start_keras()
    from demur.demo import main

    return main(dataset=args.dataset, seed=args.seed, out=args.out)
