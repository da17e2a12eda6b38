"""Guards as MLflow models, to keep, register and load, also as a `python_function`. Loading takes no Keras.

demur.mlflow.log_model(detector, name="guard")
mlflow.pyfunc.load_model(uri).predict(X)
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from demur._version import __version__
from demur.errors import NotExportable, ShapeMismatch, WrongType
from demur.extras import extra
from demur.guards.base import Guard
from demur.onnx import runtime
from demur.rows.arrays import is_table
from demur.rows.layout import mapped

with extra("mlflow-skinny", "mlflow"):
    import mlflow.artifacts
    import mlflow.pyfunc
    import pandas
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

__all__ = ["load_model", "log_model", "save_model", "signature"]
__dir__ = __all__.copy

FLAVOR = "demur"
FILE = "guard.onnx"

COLUMNS = {
    "is_adversarial": DataType.boolean,
    "instance_score": DataType.float,
    "p_value": DataType.double,
    "harm_probability": DataType.double,
    "corrected": DataType.long,
    "no_defense": DataType.long,
    "defense": DataType.long,
}
"""The columns of the answers; some guards leave some out."""
CLASSES = {"i": DataType.long, "U": DataType.string, "f": DataType.double, "b": DataType.boolean}
"""The type of columns of classes, by the kind of the classes' names."""


def save_model(guard: Any, path: str | Path, *, mlflow_model: Model | None = None, **options: Any) -> None:
    """Save a guard as an MLflow model in a new folder.

    Examples:
        >>> save_model("guard.onnx", "model")
        >>> load_model("model").detector
        'AdversarialAE'

    Args:
        guard: a calibrated detector, which is exported; or an exported guard, or the path of one.
        path: of the folder.
        mlflow_model: the MLflow model that gets the guard as a flavour.
        **options: passed to `mlflow.pyfunc.save_model`: `input_example`, `metadata`, `pip_requirements` and others. By
            default the signature is the guard's, and this demur with onnxruntime is the one requirement.

    Raises:
        WrongType: `guard` is not a guard or a path.
        DemurError: the guard cannot be exported or loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = _file(guard, Path(folder))
        loaded = runtime.load(file)
        if loaded.takes_reference:
            raise NotExportable(
                "the classifier is outside of the exported guard, and an MLflow model cannot ask it: log the file with "
                "mlflow.log_artifact, and load it with demur.runtime.load(path, model=classifier)"
            )
        model = Model() if mlflow_model is None else mlflow_model
        model.add_flavor(
            FLAVOR, data=f"data/{FILE}", version=__version__, detector=loaded.detector, sha256=loaded.sha256
        )
        if options.get("conda_env") is None and options.get("pip_requirements") is None:
            more = options.pop("extra_pip_requirements", None) or []
            more = [f"-r {more}"] if isinstance(more, str) else more
            options["pip_requirements"] = [f"demur[onnx]=={__version__}", *more]
        mlflow.pyfunc.save_model(
            str(path),
            loader_module=__name__,
            data_path=str(file),
            mlflow_model=model,
            **{"signature": signature(loaded), **options},
        )


def log_model(guard: Any, name: str, *, registered_model_name: str | None = None, **options: Any) -> Any:
    """Save a guard as a model of the active run, or of a new one.

    Args:
        guard: see `save_model`, also for errors.
        name: of the model.
        registered_model_name: the model in the registry that gets a new version.
        **options: passed to `mlflow.models.Model.log` and `save_model`.

    Returns:
        MLflow's `ModelInfo`.
    """
    return Model.log(
        artifact_path=None,
        name=name,
        flavor=sys.modules[__name__],
        registered_model_name=registered_model_name,
        guard=guard,
        **options,
    )


def load_model(model_uri: str | Path) -> runtime.ExportedGuard:
    """Load the guard of an MLflow model, such as `models:/name/1`, `runs:/.../name` or a folder.

    Raises:
        WrongType: the model has no guard.
        DemurError: the guard cannot be loaded.
    """
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=str(model_uri)))
    flavors = Model.load(str(folder)).flavors
    if FLAVOR not in flavors:
        raise WrongType(f"{model_uri} is not a guard: it has the flavors {', '.join(flavors)}")
    return runtime.load(folder / flavors[FLAVOR]["data"])


def signature(guard: runtime.ExportedGuard) -> ModelSignature:
    """What a guard takes and returns, for MLflow, which then lets no other dtype pass.

    One array is a tensor without a name, several are named as the guard's inputs.
    """
    tensors: list[Any] = [
        TensorSpec(
            np.dtype(field.dtype or "float32"),
            (-1, *(-1 if size is None else size for size in field.shape)),
            name if len(guard.inputs) > 1 else None,
        )
        for name, field in guard.inputs.items()
    ]
    told = {"p_value": guard.calibration is not None, "harm_probability": guard.harm is not None}
    of_classes = CLASSES[guard.labels.dtype.kind]
    columns: list[Any] = [
        ColSpec(of_classes if kind == DataType.long else kind, name)
        for name, kind in COLUMNS.items()
        if told.get(name, True)
    ]
    if isinstance(guard.threshold, float):
        threshold = ParamSpec("threshold", DataType.double, guard.threshold)
    else:
        threshold = ParamSpec("threshold", DataType.double, guard.threshold.tolist(), (-1,))
    return ModelSignature(Schema(tensors), Schema(columns), ParamSchema([threshold]))


def _file(guard: Any, folder: Path) -> Path:
    """Write the file of a guard into a folder, under the name that it has in models."""
    file = folder / FILE
    if isinstance(guard, runtime.ExportedGuard | str | Path):
        path = guard.path if isinstance(guard, runtime.ExportedGuard) else Path(guard)
        file.write_bytes(runtime.load(path).path.read_bytes())
    elif isinstance(guard, Guard):
        detector: Any = guard
        detector.export(file)
    else:
        raise WrongType(f"guard is a detector, an exported guard or the path of one; got {type(guard).__name__}")
    return file


class _Function:
    """A guard as a `python_function`."""

    def __init__(self, path: str) -> None:
        self.guard = runtime.load(path)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> "pandas.DataFrame":
        """The answers of `Guard.correct` for each row.

        Args:
            model_input: `(n, *shape)`; a DataFrame with as many columns as a table's rows have; a dict of arrays by
                the guard's inputs.
            params: "threshold", in nats, in place of the guard's threshold.
        """
        data = self.guard.correct(self._rows(model_input), threshold=(params or {}).get("threshold"))["data"]
        return pandas.DataFrame({name: data[name] for name in COLUMNS if name in data})  # type: ignore[literal-required]

    def _rows(self, given: Any) -> Any:
        """Rows in the guard's layout."""
        names = list(self.guard.inputs)
        if isinstance(given, dict):
            if set(given) != set(names):
                raise ShapeMismatch(f"the inputs are {', '.join(names)}; got {', '.join(map(str, given))}")
            arrays = (given[name] for name in names)
            return mapped(lambda _: next(arrays), self.guard.layout)
        return given.to_numpy() if is_table(given) and not isinstance(given, np.ndarray) else given


_load_pyfunc = _Function
"""MLflow calls this name with the path of a model's data."""
