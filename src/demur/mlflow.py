"""Exported guards as MLflow models."""

from demur.integrations.mlflow import _load_pyfunc, load_model, log_model, save_model, signature  # noqa: F401 - see below

__all__ = ["load_model", "log_model", "save_model", "signature"]  # models of earlier versions call _load_pyfunc here
__dir__ = __all__.copy
