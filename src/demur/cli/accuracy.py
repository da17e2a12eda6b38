"""`demur calibrate-accuracy` and `estimate-accuracy`: how often the classifier is right on rows without labels."""

import argparse
import json
import shlex

from demur.cli.data import data_of
from demur.cli.files import check_writable
from demur.cli.guards import Document, live
from demur.cli.options import (
    FILES,
    Commands,
    add,
    add_classifier,
    add_command,
    add_data,
    add_folder,
    add_labels,
    classifier_options,
    derive,
    show_next,
    suffix_of,
)
from demur.cli.signatures import parameters
from demur.errors import NotCalibrated


def register(commands: Commands) -> None:
    """Add the commands to the parser."""
    parser = add_command(
        commands,
        "calibrate-accuracy",
        calibrate,
        "learn from labelled data what scores say about the classifier's errors",
        "demur estimate-accuracy needs it, once. It is saved with the guard; predict and correct then say of each "
        "input how likely the classifier is wrong.",
    )
    add_folder(parser)
    add_data(parser, "normal data with labels, held out from fit", batch_size=256)
    add_labels(parser, "its true classes", required=True)
    add(parser, f"--train FILE[:KEY]: normal data that says what is typical: {FILES}")
    derive(parser, parameters("calibrate_accuracy"), "seed N")
    add_classifier(parser)

    parser = add_command(
        commands,
        "estimate-accuracy",
        estimate,
        "estimate how often the classifier is right on data without labels",
        "After demur calibrate-accuracy.",
    )
    add_folder(parser)
    add_data(parser, "the inputs", batch_size=256)
    add(parser, "--json: print all figures as JSON instead of sentences")
    add_classifier(parser)


def calibrate(args: argparse.Namespace) -> int:
    """Learn what scores say about errors, and save it with the guard."""
    check_writable(args.folder)
    how = Document(args.folder).how
    data = data_of(args, args.data, how)
    X, y = data.rows(how), data.labels(args.labels)
    train = None if args.train is None else data_of(args, args.train, how, label=False).rows(how)
    detector = live(args.folder, args)
    from demur.calibration.wording import percent
    from demur.drift import calibrate_accuracy

    harm = calibrate_accuracy(detector, X, y, X_train=train, seed=args.seed, batch_size=args.batch_size)
    detector.save(args.folder)
    print(f"the classifier is right on {percent(harm.accuracy)} of these {len(data):,} inputs")
    print(f"saved in {args.folder}")
    show_next(args, "with data that has no labels", f"estimate-accuracy {shlex.quote(str(args.folder))}", "NEW")
    return 0


def estimate(args: argparse.Namespace) -> int:
    """Estimate the classifier's accuracy, and say so."""
    document = Document(args.folder)
    if "harm" not in document.files:
        labels = "--label-column CLASS" if suffix_of(args.data) != ".npz" else "--labels CLASSES.npy"
        raise NotCalibrated(
            f"{args.folder} does not know yet what scores say about errors; first: demur calibrate-accuracy "
            f"{shlex.quote(str(args.folder))} --data LABELLED{suffix_of(args.data)} {labels}{classifier_options(args)}"
        )
    X = data_of(args, args.data, document.how).rows(document.how)
    detector = live(args.folder, args)
    from demur.drift import estimate_accuracy

    found = estimate_accuracy(detector, X, batch_size=args.batch_size)
    print(json.dumps(found) if args.json else found.summary())
    return 0
