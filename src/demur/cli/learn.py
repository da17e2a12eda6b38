"""`demur fit` and `demur threshold`: what a detector learns from normal data."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from demur.cli.data import How, classes_of, data_of, how_for, read_scores, read_values
from demur.cli.files import check_writable
from demur.cli.guards import Document, add_classifier, add_module_and_trust, live, load_model
from demur.cli.options import (
    Commands,
    add_command,
    add_data,
    add_folder,
    add_labels,
    add_scores,
    class_list,
    hidden_layer,
    natural_number,
    show_next,
    shows_bar,
    whole_number,
)
from demur.errors import InvalidSetting
from demur.starting import check_there

AE, DISTILLATION, COPY = "adversarial-ae", "model-distillation", "copy"
DIVERGENCES = ("kld", "xent", "jeffreys")
SHOWN = 8
"""Columns that are named."""


def register(commands: Commands) -> None:
    """Add the commands to the parser."""
    parser = add_command(
        commands,
        "fit",
        fit,
        "train a detector for a classifier, on normal data",
        "The classifier stays as it is. No labels are needed.",
    )
    parser.add_argument(
        "classifier",
        type=Path,
        metavar="CLASSIFIER",
        help="its file: .keras, .onnx, .skops (scikit-learn), .json or .ubj (XGBoost), .txt (LightGBM) or "
        ".safetensors (PyTorch, with --module). Reading them runs no code in them",
    )
    add_data(parser, "normal data to train on", batch_size=128)
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where to save the detector")
    parser.add_argument(
        "--label-column", metavar="NAME", help="a column of the data that is no part of the rows: no labels are needed"
    )
    parser.add_argument(
        "--detector",
        choices=[AE, DISTILLATION],
        help=f"default: {AE} where gradients go through the classifier (Keras, PyTorch), otherwise {DISTILLATION}",
    )
    parser.add_argument("--epochs", type=whole_number, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 sharpens the classifier's distribution before it is compared; default: %(default)s",
    )
    parser.add_argument(
        "--loss-type", choices=DIVERGENCES, help="what training minimises; default: kld, the published one"
    )
    parser.add_argument(
        "--score-type", choices=DIVERGENCES, help="what the score measures; default: jeffreys; published: kld"
    )
    parser.add_argument(
        "--w-uncertainty", type=float, metavar="W", help="weight of the classifier's own uncertainty in the score"
    )
    parser.add_argument(
        "--robust",
        type=float,
        metavar="EPSILON",
        help="also train on inputs that are changed, by at most this a number, against the companion: slower, and "
        "meant against attackers who know the guard",
    )
    parser.add_argument(
        "--robust-l2",
        type=float,
        metavar="RADIUS",
        help="the same within a Euclidean radius; with both, inputs take turns",
    )
    parser.add_argument(
        "--bounds",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="the smallest and largest number that --robust and --robust-l2 may make",
    )
    parser.add_argument("--from-logits", action="store_true", help="the classifier returns logits")
    parser.add_argument(
        "--companion",
        metavar="MODEL.keras",
        help=f"an autoencoder ({AE}) or a student ({DISTILLATION}) of your own to train, instead of the ready one; "
        f"'{COPY}' is a student that starts as a copy of the classifier, for --robust",
    )
    parser.add_argument(
        "--classes",
        type=class_list,
        metavar="NAME,NAME",
        help="what the classes are called, in the order of the classifier's outputs; default: 0, 1, 2, ...",
    )
    parser.add_argument(
        "--on-invalid",
        choices=("raise", "flag"),
        default="raise",
        help="what becomes of inputs that cannot be judged, as they hold NaN; default: %(default)s",
    )
    parser.add_argument("--data-type", metavar="TEXT", help="such as image or tabular; kept with the detector")
    parser.add_argument("--seed", type=natural_number, default=0, metavar="N", help="default: %(default)s")

    add_module_and_trust(parser.add_argument_group("the classifier"))
    own = parser.add_argument_group(f"only for {AE}")
    own.add_argument("--w-recon", type=float, metavar="W", help="weight of the reconstruction error; default: 0")
    own.add_argument(
        "--hidden-layer",
        type=hidden_layer,
        action="append",
        metavar="NAME=DIM",
        help="also compare this layer of the classifier, projected to DIM numbers; NAME may be its index "
        "(--hidden-layer=-2=20 counts from the end); may be given several times",
    )

    parser = add_command(
        commands,
        "threshold",
        threshold,
        "set the score above which inputs are flagged, from normal data",
        "Best from data that neither the classifier nor fit was trained on. The threshold is saved with the detector.",
    )
    add_folder(parser)
    add_data(parser, "normal data", batch_size=256, required=False)
    add_scores(parser)
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--fpr",
        type=float,
        metavar="RATE",
        help="false-positive rate to promise, such as 0.05: a conformal threshold, which holds on data like this",
    )
    rate.add_argument(
        "--threshold-perc",
        type=float,
        default=99.0,
        metavar="P",
        help="percentage of the data that shall not be flagged; promises nothing; default: %(default)g",
    )
    add_labels(parser, "true classes: only what the classifier gets right sets the threshold")
    parser.add_argument("--by-class", action="store_true", help="a threshold for each class that is predicted")
    parser.add_argument(
        "--margin", type=float, default=0.0, metavar="NATS", help="added to the threshold; default: %(default)g"
    )
    add_classifier(parser)


def fit(args: argparse.Namespace) -> int:
    """Train a detector and save it."""
    settings, training = _own_options(args)
    data = data_of(args, args.data)
    if args.companion not in (None, COPY):
        check_there(Path(args.companion), "companion")
    model = load_model(args.classifier, args)
    from demur.detectors import AdversarialAE, ModelDistillation
    from demur.guards.folder import check_destination
    from demur.network.robustness import Robust

    how = how_for(model, data)
    X = data.rows(how)
    if "robust" in training:
        training["robust"] = Robust(**training["robust"])
    check_destination(args.out)
    check_writable(args.out)
    settings |= {
        name: getattr(args, name) for name in ("temperature", "data_type", "from_logits", "on_invalid", "seed")
    }
    is_ae = _is_ae(args, model)
    if args.companion is not None:
        own = COPY if args.companion == COPY else load_model(Path(args.companion), args, "companion")
        settings["ae" if is_ae else "distilled_model"] = own
    detector: Any = (AdversarialAE if is_ae else ModelDistillation)(model=model, **settings)

    # Where no bar can be drawn, 2 is Keras's one line an epoch.
    verbose = 0 if args.quiet else 1 if sys.stdout.isatty() else 2
    interrupted = None
    try:
        detector.fit(X, epochs=args.epochs, batch_size=args.batch_size, verbose=verbose, **training)
    except KeyboardInterrupt as error:
        if not detector.is_fitted:
            raise
        interrupted = error
    detector.table, detector.scale = how.kinds, args.scale
    detector.save(args.out)
    if interrupted is not None:
        print(f"\nsaved in {args.out} what was learned so far, with which the detector is usable", file=sys.stderr)
        raise interrupted
    print(f"{type(detector).__name__} fitted on {len(data):,} inputs, loss {detector.history['loss'][-1]:.4g}")
    if detector.agreement is not None:
        print(f"  agreement  {str(detector.agreement).partition(' ')[2]}")
    if args.scale is not None:
        print(f"  scale      {args.scale:g}, remembered: other commands multiply their data by it, too")
    if how.kinds is not None:
        print(columns_line(data, how))
    print(f"saved in {args.out}")
    command = f"threshold {shlex.quote(str(args.out))}"
    show_next(args, "with normal data that was held out", command, "HELD_OUT", " --fpr 0.05")
    return 0


def columns_line(data: Any, how: How) -> str:
    """Say which columns of a table make a row, and which do not."""
    used = list(how.kinds or ())
    left = [name for name in data.table.column_names if name not in used]
    shown = ", ".join(used[:SHOWN]) + (f", ... ({len(used)} in all)" if len(used) > SHOWN else "")
    return f"  columns    {shown}" + (f"; left out: {', '.join(left)}" if left else "")


def _is_ae(args: argparse.Namespace, model: Any) -> bool:
    """Whether the detector is an autoencoder: as was asked, or else if gradients go through the classifier.

    Raises:
        InvalidSetting: one was asked for, and none go.
    """
    from demur.classifiers import source_of

    source = source_of(model)
    asked = args.detector == AE or args.w_recon is not None or args.hidden_layer is not None
    if asked and not source.in_graph and not source.native:
        raise InvalidSetting(
            f"{AE} trains through the classifier, and {source.kind} gives no gradients: leave out --detector and "
            f"the options of {AE}"
        )
    return bool(source.in_graph) if args.detector is None else args.detector == AE


def threshold(args: argparse.Namespace) -> int:
    """Infer a detector's threshold and save it."""
    check_writable(args.folder)
    if (args.data is None) == (args.scores is None):
        args.parser.error("one of the arguments --data and --scores is required")
    document, unnamed = Document(args.folder), ""
    if args.scores is not None:
        found = _from_scores(args, document)
        args.data = args.scores  # what comes next is likely to lie in a file of the same kind
        unnamed = " --classifier CLASSIFIER" if document.lacks_classifier and args.classifier is None else ""
    else:
        how = document.how
        data = data_of(args, args.data, how)
        X, labels = data.rows(how), data.labels(args.labels)
        detector = live(args.folder, args)
        detector.infer_threshold(X, labels=labels, batch_size=args.batch_size, verbose=shows_bar(args), **_rate(args))
        detector.save(args.folder)
        found = detector.calibration
    from demur.guards.facts import promise

    labelled = bool(args.labels or args.label_column)
    print(f"threshold {promise(found.threshold, found, document.labels.all_names, labelled=labelled)}")
    print(f"saved in {args.folder}")
    show_next(args, "with any data", f"correct {shlex.quote(str(args.folder))}", "NEW", f"{unnamed} --out answers.csv")
    return 0


def _rate(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "fpr": args.fpr,
        "threshold_perc": args.threshold_perc,
        "margin": args.margin,
        "groups": "predicted" if args.by_class else None,
    }


def _from_scores(args: argparse.Namespace, document: Document) -> Any:
    """Calibrate with scores that are ready: neither Keras nor the classifier is loaded."""
    if args.label_column is not None:
        args.parser.error("--label-column is a column of --data: with --scores, pass --labels FILE[:KEY]")
    scores = read_scores(args.scores)
    import numpy as np

    from demur.guards.decision import calibrate
    from demur.guards.folder import write
    from demur.guards.results import Scored

    labels = None if args.labels is None else read_values(args.labels)
    needs_classes = args.by_class or labels is not None
    predicted = classes_of(args, scores, document.labels) if needs_classes else np.zeros(len(scores), "int64")
    found = calibrate(
        Scored(scores, predicted, predicted, np.empty(0, "int64")),
        fpr=args.fpr,
        threshold_perc=args.threshold_perc,
        margin=args.margin,
        labels=None if labels is None else document.labels.indices(labels, len(scores), "--labels"),
        classes=document.classes if args.by_class else None,
        name_of=document.labels.name_of,
    )
    kept = {name: entry for name, entry in document.files.items() if name != "calibration"}
    fields = {**document.fields, "threshold": np.asarray(found.threshold).tolist()}
    write(args.folder, fields, {}, {"calibration": found.as_arrays()}, keep=kept)
    return found


def _own_options(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `__init__` and of `fit` that were given; an error of usage if the detector has no such one."""
    if args.detector == DISTILLATION:
        for name in ("w_recon", "hidden_layer"):
            if getattr(args, name) is not None:
                option = "--" + name.replace("_", "-")
                args.parser.error(f"{option} is an option of {AE}, and the detector is {args.detector}")
    if args.companion == COPY and args.detector != DISTILLATION:
        args.parser.error(f"--companion {COPY} is a student's, and the detector is {AE}: --detector {DISTILLATION}")
    radii = _given({"Linf": args.robust, "L2": args.robust_l2})
    if args.companion == COPY and not radii:
        args.parser.error(f"--companion {COPY} agrees with the classifier everywhere until it is trained with --robust")
    if args.bounds is not None and not radii:
        args.parser.error("--bounds limits what --robust may make, and there is no --robust")
    layers = args.hidden_layer or []
    if len(dict(layers)) < len(layers):
        args.parser.error("--hidden-layer names a layer twice")
    settings = {
        "hidden_layer_kld": dict(layers) or None,
        "loss_type": args.loss_type,
        "score_type": args.score_type,
        "w_uncertainty": args.w_uncertainty,
        "classes": args.classes,
    }
    robust = {"epsilon": radii, "bounds": args.bounds and tuple(args.bounds)} if radii else None
    return _given(settings), _given({"w_recon": args.w_recon, "robust": robust})


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
