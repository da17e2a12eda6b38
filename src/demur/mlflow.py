"""Exported guards as MLflow models."""

from demur.integrations.mlflow import _load_pyfunc as _load_pyfunc  # what models saved by earlier versions call
from demur.integrations.mlflow import load_model, log_model, save_model, signature

__all__ = ["load_model", "log_model", "save_model", "signature"]
__dir__ = __all__.copy
