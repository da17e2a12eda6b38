"""`demur export`: a detector as one ONNX file."""

import argparse
from typing import Any

from demur.cli import options
from demur.cli.data import rows_in
from demur.cli.files import check_file
from demur.cli.guards import Document, live
from demur.errors import InvalidSetting, WrongClassifier
from demur.starting import start_keras


def register(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(commands, export, options.FOLDER)
    options.add(parser, "-o --out FILE.onnx: where to write it", required=True)
    options.derive(parser, "export", "opset N: ONNX operation set")
    options.add(
        parser,
        "--data FILE[:KEY]: normal data: to compare on, and needed for less precision, whose threshold is inferred "
        f"from it anew: {options.FILES}",
    )
    options.add(parser, options.COLUMN, options.SCALE)
    smaller = parser.add_argument_group("less precision")
    which = smaller.add_mutually_exclusive_group()
    options.derive(which, "export", "float16: half the size, and quicker where hardware has it")
    options.derive(which, "export", "int8: weights as bytes: a quarter of the size")
    options.add(smaller, "--bad FILE[:KEY]: data that should be flagged, to measure the loss on")
    options.derive(smaller, "export", "max_loss SHARE: what may be lost of AUROC and of agreement")
    options.add_classifier(parser)


def export(args: argparse.Namespace) -> int:
    """Write a detector as one ONNX file: networks, threshold and calibration.

    It is compared with the detector before it is written. demur.runtime and demur serve run it without Keras.
    """
    check_file(args.out, (".onnx",), "a guard is")
    if args.bad is not None and not (args.float16 or args.int8):
        raise InvalidSetting("--bad tells what less precision costs: pass --float16 or --int8 with it")
    how = Document(args.folder).how
    X, bad = (rows_in(args, text, how) for text in (args.data, args.bad))
    detector = _loaded(args)
    chosen = options.values(args, ("opset", "float16", "int8", "max_loss"))
    written = detector.export(args.out, X=X, X_adversarial=bad, **chosen)
    print(f"{type(detector).__name__}, {written.precision}, {written.bytes / 1e6:,.2f} MB")
    if written.loss is None:
        print(f"  compared with the detector: {written.difference:.1e} apart at most")
    else:
        loss = written.loss
        print(f"  AUROC {loss.auroc_reduced:.4f}, of the detector {loss.auroc:.4f}, on {loss.rows:,} inputs")
        print(f"  agreement {loss.agreement:.2%}".replace("%", " %"))
    if written.takes_reference:
        print("  takes the classifier's answers as the input 'reference'")
    print(f"written to {args.out}")
    options.show_next(args, "in front of the classifier", "serve", args.out)
    return 0


def _loaded(args: argparse.Namespace) -> Any:
    """The detector; without data, a stand-in takes the place of a classifier that is not in the folder."""
    document = Document(args.folder)
    if args.classifier is not None or args.module is not None or args.data is not None or not document.lacks_classifier:
        return live(args.folder, args)
    start_keras()
    from demur.classifiers import BlackBox
    from demur.detectors.saved import load_detector

    stand_in = BlackBox(_absent, fingerprint=document.fields["classifier"]["fingerprint"])
    return load_detector(args.folder, model=stand_in, companion_preprocess=_absent)


def _absent(rows: Any) -> Any:  # noqa: ARG001
    raise WrongClassifier(
        "the classifier is not in the folder, so it cannot be asked about data: pass --classifier FILE"
    )
