"""`demur calibrate-accuracy` and `estimate-accuracy`: how often the classifier is right on rows without labels."""

import argparse
import json
import shlex

from demur.cli import options
from demur.cli.data import data_of
from demur.cli.files import check_writable
from demur.cli.guards import Document, live
from demur.errors import NotCalibrated


def register(commands: options.Commands) -> None:
    """Add the commands to the parser."""
    parser = options.add_command(commands, calibrate_accuracy)
    options.add_folder(parser)
    options.add_data(parser, "normal data with labels, held out from fit", batch_size=256)
    options.add_labels(parser, "its true classes", required=True)
    options.add(parser, f"--train FILE[:KEY]: normal data that says what is typical: {options.FILES}")
    options.derive(parser, "calibrate_accuracy", "seed N")
    options.add_classifier(parser)

    parser = options.add_command(commands, estimate_accuracy)
    options.add_folder(parser)
    options.add_data(parser, "the inputs", batch_size=256)
    options.add(parser, "--json: print all figures as JSON instead of sentences")
    options.add_classifier(parser)


def calibrate_accuracy(args: argparse.Namespace) -> int:
    """Learn from labelled data what scores say about the classifier's errors.

    demur estimate-accuracy needs it, once. It is saved with the guard; predict and correct then say of each input how
    likely the classifier is wrong.
    """
    check_writable(args.folder)
    how = Document(args.folder).how
    data = data_of(args, args.data, how)
    X, y = data.rows(how), data.labels(args.labels)
    train = None if args.train is None else data_of(args, args.train, how, label=False).rows(how)
    detector = live(args.folder, args)
    from demur import drift
    from demur.calibration.wording import percent

    harm = drift.calibrate_accuracy(detector, X, y, X_train=train, seed=args.seed, batch_size=args.batch_size)
    detector.save(args.folder)
    print(f"the classifier is right on {percent(harm.accuracy)} of these {len(data):,} inputs")
    print(f"saved in {args.folder}")
    options.show_next(args, "with data that has no labels", f"estimate-accuracy {shlex.quote(str(args.folder))}", "NEW")
    return 0


def estimate_accuracy(args: argparse.Namespace) -> int:
    """Estimate how often the classifier is right on data without labels.

    After demur calibrate-accuracy.
    """
    document = Document(args.folder)
    if "harm" not in document.files:
        labels = "--label-column CLASS" if options.suffix_of(args.data) != ".npz" else "--labels CLASSES.npy"
        raise NotCalibrated(
            f"{args.folder} does not know yet what scores say about errors; first: demur calibrate-accuracy "
            f"{shlex.quote(str(args.folder))} --data LABELLED{options.suffix_of(args.data)} {labels}"
            + options.classifier_options(args)
        )
    X = data_of(args, args.data, document.how).rows(document.how)
    detector = live(args.folder, args)
    from demur import drift

    found = drift.estimate_accuracy(detector, X, batch_size=args.batch_size)
    print(json.dumps(found) if args.json else found.summary())
    return 0
