"""Anything a user calls a classifier, read through one interface: one file a source."""

from demur.classifiers.keras_model import KerasClassifier

__all__ = ["KerasClassifier"]
