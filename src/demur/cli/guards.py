"""Guards of the command line: live ones from their folders, exported ones from files, and what scores alone need."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.cli.data import How
from demur.cli.tables import NUMBER, OTHER, TEXT
from demur.errors import NotADetector, ThresholdNotSet, WrongClassifier
from demur.starting import start_keras

if TYPE_CHECKING:
    from demur.guards.description import Description
    from demur.rows.classes import Classes


def load_model(path: Path, args: argparse.Namespace, role: str = "classifier") -> Any:
    """Start Keras and load the classifier from its file."""
    start_keras(path, role)
    from demur.classifiers.files import load_classifier

    return load_classifier(path, module=args.module, trust=args.trust, role=role)


def live(path: Path, args: argparse.Namespace) -> Any:
    """Load a detector from its folder, with the classifier that the options name.

    Raises:
        WrongClassifier: the classifier is not in the folder, and none is named, or another one.
        DetectorNotFound, NotADetector, CorruptDetector, WrongType: see `demur.errors`.
    """
    file = classifier_file(path, args)
    model = None if file is None else load_model(file, args)
    start_keras()
    from demur.detectors.loading import load_detector

    return load_detector(path, model=model)


def classifier_file(path: Path, args: argparse.Namespace) -> Path | None:
    """The file of a guard's classifier; None if the guard's folder holds the classifier, ready to be loaded.

    Raises:
        WrongClassifier: the folder does not hold it, and no file is named.
        DetectorNotFound, NotADetector: see `demur.errors`.
    """
    named: Path | None = args.classifier
    document = Document(path)
    if named is None and args.module is not None:
        named = document.state
    if named is None and document.lacks_classifier:
        raise WrongClassifier(document.ask_for_classifier())
    return named


def opened(path: Path, args: argparse.Namespace) -> Any:
    """An exported guard, which needs no Keras, or the detector of a folder."""
    if not is_exported(path):
        return live(path, args)
    from demur.onnx.runtime import load

    return load(path)


def is_exported(path: Path) -> bool:
    """Whether a path is that of an exported guard, or would be if it were there."""
    return path.suffix.lower() == ".onnx" and not path.is_dir()


def how_of(path: Path) -> How:
    """How a guard's rows are made of a table; read without Keras."""
    if not is_exported(path):
        return Document(path).how
    found = described(path)
    return How(found.row_layout(preprocessed=False), None, found.scale)


def described(path: Path) -> "Description":
    """What a guard says of itself, an exported file or a folder; read without Keras and without its networks.

    Raises:
        DetectorNotFound, NotADetector, CorruptDetector: see `demur.errors`.
    """
    from demur.guards import description as guard_file
    from demur.guards import folder

    return guard_file.described(path) if is_exported(path) else folder.described(path)


def no_threshold(path: Path) -> ThresholdNotSet:
    """The error of a guard that cannot decide yet."""
    return ThresholdNotSet(f"{path} has no threshold yet; first: {first_threshold(path)}")


def first_threshold(path: Path) -> str:
    """The command that a guard needs first."""
    return f"demur threshold {shlex.quote(str(path))} --data HELD_OUT.npz --fpr 0.05"


class Document:
    """What a guard's folder says of itself, read without Keras.

    Attributes:
        fields: of `detector.json`.
        files: entries of the folder's files, by name.

    Raises:
        DetectorNotFound, NotADetector: see `demur.errors`.
    """

    def __init__(self, path: Path) -> None:
        from demur.guards.folder import read_document

        if is_exported(path):
            raise NotADetector(f"{path} is an exported guard, and this needs the folder that demur fit has saved")
        self.path = path
        self.fields, self.files = read_document(path)

    @property
    def how(self) -> How:
        """How rows are made of a table."""
        from demur.rows.layout import Columns, from_json

        inputs = self.fields.get("inputs") or {}
        layout = from_json(inputs["classifier"]) if "classifier" in inputs else None
        learned, scale = self.fields.get("table"), self.fields.get("scale")
        if learned is not None:
            return How(layout, dict(learned), scale)
        # A detector that was fitted in Python has the kinds that its encoding learned.
        encoded = {column["name"]: _encoded_kind(column) for column in inputs.get("encoder") or []}
        return How(layout, encoded if isinstance(layout, Columns) and encoded else None, scale)

    @property
    def classes(self) -> int:
        """How many classes there are.

        Raises:
            NotADetector: a demur that was too old has saved the guard.
        """
        inputs = self.fields.get("inputs") or {}
        if "classes" not in inputs:
            raise NotADetector(f"{self.path} does not tell how many classes there are: fit the guard again")
        return int(inputs["classes"])

    @property
    def labels(self) -> "Classes":
        """What the classes are called."""
        from demur.rows.classes import Classes

        count = (self.fields.get("inputs") or {}).get("classes")
        return Classes.from_json((self.fields.get("classifier") or {}).get("classes"), count)

    @property
    def state(self) -> Path | None:
        """The weights of a classifier that is a PyTorch module."""
        file = self.files["classifier"]["file"] if "classifier" in self.files else ""
        return self.path / file if file.endswith(".safetensors") else None

    @property
    def lacks_classifier(self) -> bool:
        """Whether the folder does not hold the whole classifier."""
        return "classifier" not in self.files or self.state is not None

    def ask_for_classifier(self) -> str:
        """What to do about a classifier that is not in the folder."""
        if self.state is not None:
            return (
                f"{self.path} holds the weights of its classifier, a PyTorch module, and not the module: name what "
                "makes it, --module MODULE:FUNCTION"
            )
        return f"{self.path} was saved without its classifier: name the classifier's file, --classifier FILE"


def _encoded_kind(column: dict[str, Any]) -> str:
    return TEXT if "categories" in column or "weights" in column else NUMBER if "mean" in column else OTHER
