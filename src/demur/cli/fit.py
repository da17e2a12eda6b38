"""`demur fit`: a detector, trained on normal data."""

import argparse
import sys
from pathlib import Path
from typing import Any

from demur.cli import options
from demur.cli.data import Data, How, data_of, how_for
from demur.cli.files import check_writable
from demur.cli.guards import load_model
from demur.errors import InvalidSetting
from demur.starting import check_there

CLASSIFIER = (
    "classifier CLASSIFIER: its file: .keras, .onnx, .skops (scikit-learn), .json or .ubj (XGBoost), .txt (LightGBM) "
    "or .safetensors (PyTorch, with --module). Reading them runs no code in them"
)
AE, DISTILLATION, COPY = "adversarial-ae", "model-distillation", "copy"
DIVERGENCES = ("kld", "xent", "jeffreys")
SETTINGS = (
    "temperature T: below 1 sharpens the classifier's distribution before it is compared",
    "loss_type",
    "score_type: what the score measures, of the same three; published: kld",
    "w_uncertainty W: weight of the classifier's own uncertainty in the score; default: balanced, by fit",
    "from_logits: the classifier returns logits",
    "classes NAME,NAME: what the classes are called, in the order of the classifier's outputs; default: 0, 1, 2, ...",
    "on_invalid: what becomes of inputs that cannot be judged, as they hold NaN",
    "data_type TEXT",
    "seed N: of the companion's first weights and the order of the training rows",
)
"""Settings of both detectors."""
SHOWN = 8
"""How many columns are named."""


def register(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(commands, fit, CLASSIFIER)
    options.add_data(parser, "normal data to train on", batch_size=128)
    options.add(parser, "--out FOLDER: where to save the detector", required=True)
    options.add(parser, "--label-column NAME: a column of the data that is no part of the rows: no labels are needed")
    options.add(
        parser,
        f"--detector: default: {AE} where gradients go through the classifier (Keras, PyTorch), otherwise "
        f"{DISTILLATION}",
        action="store",
        choices=[AE, DISTILLATION],
    )
    options.derive(parser, "fit", "epochs N: passes over the data")
    choices = {"loss_type": DIVERGENCES, "score_type": DIVERGENCES, "on_invalid": ("raise", "flag")}
    for spec in SETTINGS:
        name = options.name_of(spec)
        more: dict[str, Any] = {"choices": choices[name]} if name in choices else {}
        options.derive(parser, "detector", spec, **more | ({"type": class_list} if name == "classes" else {}))
    options.add(
        parser,
        "--robust EPSILON: also train on inputs that are changed, by at most this a number, against the companion: "
        "slower, and meant against attackers who know the guard",
        "--robust-l2 RADIUS: the same within a Euclidean radius; with both, inputs take turns",
    )
    options.add_bounds(parser, "the smallest and largest number that --robust and --robust-l2 may make")
    options.add(
        parser,
        f"--companion MODEL.keras: an autoencoder ({AE}) or a student ({DISTILLATION}) of your own to train, instead "
        f"of the ready one; '{COPY}' is a student that starts as a copy of the classifier, for --robust",
    )
    options.add_module_and_trust(parser.add_argument_group("the classifier"))
    own = parser.add_argument_group(f"only for {AE}")
    options.derive(own, "fit", "w_recon W: weight of the reconstruction error", default=None)
    options.add(
        own,
        "--hidden-layer NAME=DIM: also compare this layer of the classifier, projected to DIM numbers; NAME may be "
        "its index (--hidden-layer=-2=20 counts from the end); may be given several times",
        type=hidden_layer,
        action="append",
    )


def hidden_layer(text: str) -> tuple[int | str, int]:
    """Read `NAME=DIM`; a name that is a whole number is a layer's index."""
    name, equals, dimension = text.rpartition("=")
    if not (equals and name):
        raise argparse.ArgumentTypeError(f"must be a layer and its output dimension, NAME=DIM; got {text!r}")
    try:
        layer: int | str = int(name)
    except ValueError:
        layer = name
    return layer, options.whole_number(dimension, 2)


def class_list(text: str) -> list[str] | list[int]:
    """Read what classes are called, with commas between them: whole numbers, if all of them are."""
    names = [name.strip() for name in text.split(",")]
    try:
        return [int(name) for name in names]
    except ValueError:
        return names


def fit(args: argparse.Namespace) -> int:
    """Train a detector for a classifier, on normal data.

    The classifier stays as it is. No labels are needed.
    """
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
    options.show_next(args, "with normal data that was held out", "threshold", args.out, "HELD_OUT", " --fpr 0.05")
    return 0


def columns_line(data: Data, how: How) -> str:
    """Say which columns of a table make a row, and which do not."""
    used = list(how.kinds or ())
    left = [name for name in data.table.column_names if name not in used]
    shown = ", ".join(used[:SHOWN]) + (f", ... ({len(used)} in all)" if len(used) > SHOWN else "")
    return f"  columns    {shown}" + (f"; left out: {', '.join(left)}" if left else "")


def _is_ae(args: argparse.Namespace, model: Any) -> bool:
    """Whether the detector is an autoencoder: as the user says, or else if gradients go through the classifier."""
    from demur.classifiers import source_of

    source = source_of(model)
    asked = args.detector == AE or args.w_recon is not None or args.hidden_layer is not None
    if asked and not source.in_graph and not source.native:
        raise InvalidSetting(
            f"{AE} trains through the classifier, and {source.kind} gives no gradients: leave out --detector and "
            f"the options of {AE}"
        )
    return bool(source.in_graph) if args.detector is None else args.detector == AE


def _own_options(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `__init__` and of `fit` that were given, unless the options do not fit together."""
    if args.detector == DISTILLATION:
        for name in ("w_recon", "hidden_layer"):
            if getattr(args, name) is not None:
                option = "--" + name.replace("_", "-")
                args.parser.error(f"{option} is an option of {AE}, and the detector is {args.detector}")
    if args.companion == COPY and args.detector != DISTILLATION:
        args.parser.error(f"--companion {COPY} is a student's, and the detector is {AE}: --detector {DISTILLATION}")
    radii = options.given({"Linf": args.robust, "L2": args.robust_l2})
    if args.companion == COPY and not radii:
        args.parser.error(f"--companion {COPY} agrees with the classifier everywhere until it is trained with --robust")
    if args.bounds is not None and not radii:
        args.parser.error("--bounds limits what --robust may make, and there is no --robust")
    layers = args.hidden_layer or []
    if len(dict(layers)) < len(layers):
        args.parser.error("--hidden-layer names a layer twice")
    settings = {**options.values(args, SETTINGS), "hidden_layer_kld": dict(layers) or None}
    robust = {"epsilon": radii, "bounds": args.bounds and tuple(args.bounds)} if radii else None
    return options.given(settings), options.given({"w_recon": args.w_recon, "robust": robust})
