"""Guards of the command line: live ones from their folders, exported ones from files, and a calibration alone."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.cli.data import How
from demur.cli.tables import NUMBER, OTHER, TEXT
from demur.errors import NotADetector, NotCalibrated, ThresholdNotSet, WrongClassifier
from demur.starting import start_keras

if TYPE_CHECKING:
    from demur.guards.description import Description
    from demur.guards.tensors import DescribedGuard
    from demur.rows.classes import Classes


def load_model(path: Path, args: argparse.Namespace, role: str = "classifier") -> Any:
    """Start Keras and load the classifier from its file."""
    start_keras(path, role)
    from demur.classifiers.files import load_classifier

    return load_classifier(path, module=args.module, trust=args.trust, role=role)


def live(path: Path, args: argparse.Namespace) -> Any:
    """Load a detector from its folder, with the classifier that the options name; see `classifier_file`."""
    file = classifier_file(path, args)
    model = None if file is None else load_model(file, args)
    start_keras()
    from demur.detectors.saved import load_detector

    return load_detector(path, model=model)


def decided(guard: Any, path: Path) -> Any:
    """The guard of a path, if it can decide; raises ThresholdNotSet if it cannot yet."""
    if guard.threshold is None:
        raise ThresholdNotSet(f"{path} has no threshold yet; first: {first_threshold(path)}")
    return guard


def classifier_file(path: Path, args: argparse.Namespace) -> Path | None:
    """The file of a guard's classifier; None if the guard's folder holds the classifier, ready to be loaded.

    Raises:
        WrongClassifier: the folder does not hold the classifier, and no file is named.
    """
    named: Path | None = args.classifier
    document = Document(path)
    if named is None and args.module is not None:
        named = document.state
    if named is None and document.state is not None:
        raise WrongClassifier(
            f"{path} holds the weights of its classifier, a PyTorch module, and not the module: name what makes it, "
            "--module MODULE:FUNCTION"
        )
    if named is None and document.lacks_classifier:
        raise WrongClassifier(f"{path} was saved without its classifier: name the classifier's file, --classifier FILE")
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
    """What a guard says of itself, an exported file or a folder; read without Keras and without its networks."""
    from demur.guards import description, folder

    return description.described(path) if is_exported(path) else folder.described(path)


def calibrated(path: Path, args: argparse.Namespace) -> "DescribedGuard":
    """A guard as its calibration, for ready scores; raises NotCalibrated where there is none.

    Keras and the classifier are loaded if rows have to be scored.
    """
    from demur.guards.results import Scored
    from demur.guards.tensors import DescribedGuard

    class Calibrated(DescribedGuard):
        """A guard that is opened when rows are scored."""

        opened: Any = None

        def scored(self, X: Any, **settings: Any) -> Scored:
            """Score rows, by the guard itself."""
            self.opened = self.opened or opened(path, args)
            scored: Scored = self.opened.scored(X, **settings)
            return scored

    guard = Calibrated(described(path))
    if guard.calibration is None:
        raise NotCalibrated(f"{path} has no calibration scores to compare with; first: {first_threshold(path)}")
    return guard


def first_threshold(path: Path) -> str:
    """The command that a guard needs first."""
    return f"demur threshold {shlex.quote(str(path))} --data HELD_OUT.npz --fpr 0.05"


class Document:
    """What a guard's folder says of itself, read without Keras: fields of `detector.json`, and files by name."""

    def __init__(self, path: Path) -> None:
        from demur.guards.folder import read_document

        if is_exported(path):
            raise NotADetector(f"{path} is an exported guard, and this needs the folder that demur fit has saved")
        self.path = path
        self.fields, self.files = read_document(path)
        self._inputs = self.fields.get("inputs") or {}

    @property
    def how(self) -> How:
        """How rows are made of a table."""
        from demur.rows.layout import Columns, from_json

        layout = from_json(self._inputs["classifier"]) if "classifier" in self._inputs else None
        kinds, scale = self.fields.get("table"), self.fields.get("scale")
        if kinds is None and isinstance(layout, Columns):
            # A detector that was fitted in Python has the kinds that its encoding learned.
            kinds = {}
            for column in self._inputs.get("encoder") or []:
                is_text = "categories" in column or "weights" in column
                kinds[column["name"]] = TEXT if is_text else NUMBER if "mean" in column else OTHER
        return How(layout, kinds or None, scale)

    @property
    def classes(self) -> int:
        """How many classes there are; raises NotADetector if an old demur has saved the guard, without the number."""
        if "classes" not in self._inputs:
            raise NotADetector(f"{self.path} does not tell how many classes there are: fit the guard again")
        return int(self._inputs["classes"])

    @property
    def labels(self) -> "Classes":
        """What the classes are called."""
        from demur.rows.classes import Classes

        return Classes.from_json((self.fields.get("classifier") or {}).get("classes"), self._inputs.get("classes"))

    @property
    def state(self) -> Path | None:
        """The weights of a classifier that is a PyTorch module."""
        file = self.files["classifier"]["file"] if "classifier" in self.files else ""
        return self.path / file if file.endswith(".safetensors") else None

    @property
    def lacks_classifier(self) -> bool:
        """Whether the folder does not hold the whole classifier."""
        return "classifier" not in self.files or self.state is not None
