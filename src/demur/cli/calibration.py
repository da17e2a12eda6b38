"""`demur threshold`, `calibrate-accuracy` and `estimate-accuracy`: what scores of normal data tell about others."""

import argparse
import json
import shlex
from typing import Any

from demur.cli import options
from demur.cli.data import data_of, read_values, ready_scores, rows_in
from demur.cli.files import check_writable
from demur.cli.guards import Document, live
from demur.errors import NotCalibrated

RATE = (
    "fpr RATE: false-positive rate to promise, such as 0.05: a conformal threshold, which holds on data like this",
    "threshold_perc P: percentage of the data that shall not be flagged; promises nothing",
    "margin NATS: added to the threshold",
)


def register(commands: options.Commands) -> None:
    """Add the commands to the parser."""
    parser = options.add_command(commands, threshold, options.FOLDER)
    options.add_data(parser, "normal data", batch_size=256, required=False)
    options.add(parser, *options.SCORES)
    options.derive(parser.add_mutually_exclusive_group(), "infer_threshold", *RATE[:2])
    options.add_labels(parser, "true classes: only what the classifier gets right sets the threshold")
    options.add(parser, "--by-class: a threshold for each class that is predicted")
    options.derive(parser, "infer_threshold", RATE[2])
    options.add_classifier(parser)


def register_accuracy(commands: options.Commands) -> None:
    """Add the commands about the classifier's accuracy to the parser."""
    parser = options.add_command(commands, calibrate_accuracy, options.FOLDER)
    options.add_data(parser, "normal data with labels, held out from fit", batch_size=256)
    options.add_labels(parser, "its true classes", required=True)
    options.add(parser, f"--train FILE[:KEY]: normal data that says what is typical: {options.FILES}")
    options.derive(parser, "calibrate_accuracy", "seed N")
    options.add_classifier(parser)

    parser = options.add_command(commands, estimate_accuracy, options.FOLDER)
    options.add_data(parser, "the inputs", batch_size=256)
    options.add(parser, "--json: print all figures as JSON instead of sentences")
    options.add_classifier(parser)


def threshold(args: argparse.Namespace) -> int:
    """Set the score above which inputs are flagged, from normal data.

    Best from data that neither the classifier nor fit was trained on. The threshold is saved with the detector.
    """
    check_writable(args.folder)
    if (args.data is None) == (args.scores is None):
        args.parser.error("one of the arguments --data and --scores is required")
    document, unnamed = Document(args.folder), ""
    if args.scores is not None:
        found = _from_scores(args, document)
        args.data = args.scores  # what comes next is likely to lie in a file of the same kind
        unnamed = " --classifier CLASSIFIER" if document.lacks_classifier and args.classifier is None else ""
    else:
        data = data_of(args, args.data, document.how)
        X, labels = data.rows(document.how), data.labels(args.labels)
        detector = live(args.folder, args)
        detector.infer_threshold(
            X,
            labels=labels,
            groups="predicted" if args.by_class else None,
            batch_size=args.batch_size,
            verbose=not args.quiet,
            **options.values(args, RATE),
        )
        detector.save(args.folder)
        found = detector.calibration
    from demur.guards.facts import promise

    labelled = bool(args.labels or args.label_column)
    print(f"threshold {promise(found.threshold, found, document.labels.all_names, labelled=labelled)}")
    print(f"saved in {args.folder}")
    options.show_next(args, "with any data", "correct", args.folder, "NEW", f"{unnamed} --out answers.csv")
    return 0


def _from_scores(args: argparse.Namespace, document: Document) -> Any:
    """Calibrate with scores that are ready: neither Keras nor the classifier is loaded."""
    if args.label_column is not None:
        args.parser.error("--label-column is a column of --data: with --scores, pass --labels FILE[:KEY]")
    labels = None if args.labels is None else read_values(args.labels)
    scored = ready_scores(args, document.labels, needs_classes=args.by_class or labels is not None)
    import numpy as np

    from demur.guards.decision import calibrate
    from demur.guards.folder import write

    found = calibrate(
        scored,
        **options.values(args, RATE),
        labels=None if labels is None else document.labels.indices(labels, len(scored.score), "--labels"),
        classes=document.classes if args.by_class else None,
        name_of=document.labels.name_of,
    )
    kept = {name: entry for name, entry in document.files.items() if name != "calibration"}
    fields = {**document.fields, "threshold": np.asarray(found.threshold).tolist()}
    write(args.folder, fields, {}, {"calibration": found.as_arrays()}, keep=kept)
    return found


def calibrate_accuracy(args: argparse.Namespace) -> int:
    """Learn from labelled data what scores say about the classifier's errors.

    demur estimate-accuracy needs it, once. It is saved with the guard; predict and correct then say of each input how
    likely the classifier is wrong.
    """
    check_writable(args.folder)
    how = Document(args.folder).how
    data = data_of(args, args.data, how)
    X, y, train = data.rows(how), data.labels(args.labels), rows_in(args, args.train, how)
    detector = live(args.folder, args)
    from demur import drift
    from demur.calibration.words import percent

    harm = drift.calibrate_accuracy(detector, X, y, X_train=train, seed=args.seed, batch_size=args.batch_size)
    detector.save(args.folder)
    print(f"the classifier is right on {percent(harm.accuracy)} of these {len(data):,} inputs")
    print(f"saved in {args.folder}")
    options.show_next(args, "with data that has no labels", "estimate-accuracy", args.folder, "NEW")
    return 0


def estimate_accuracy(args: argparse.Namespace) -> int:
    """Estimate how often the classifier is right on data without labels.

    After demur calibrate-accuracy.
    """
    document = Document(args.folder)
    if "harm" not in document.files:
        suffix = options.suffix_of(args.data)
        labels = "--label-column CLASS" if suffix != ".npz" else "--labels CLASSES.npy"
        raise NotCalibrated(
            f"{args.folder} does not know yet what scores say about errors; first: demur calibrate-accuracy "
            f"{shlex.quote(str(args.folder))} --data LABELLED{suffix} {labels}" + options.classifier_options(args)
        )
    X = rows_in(args, args.data, document.how)
    detector = live(args.folder, args)
    from demur import drift

    found = drift.estimate_accuracy(detector, X, batch_size=args.batch_size)
    print(json.dumps(found) if args.json else found.summary())
    return 0
