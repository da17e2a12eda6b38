"""What boosted trees from a file have in common: names of columns, and categories that they were trained on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from demur.errors import ShapeMismatch
from demur.rows.arrays import is_table


class Trees:
    """Boosted trees as an estimator.

    Text columns of a table reach the trees as the categories that they were trained on. A category that they do not
    know is a missing value to them.

    Args:
        features: how many columns there are.
        names: of the columns, in order; None if the trees were trained on an array.
        categories: of the columns that are not numbers, by name.
        classes: how many there are.
    """

    def __init__(
        self, features: int, names: list[str] | None, categories: Mapping[str, list[Any]], classes: int
    ) -> None:
        self.n_features_in_, self.names, self.categories = features, names, dict(categories)
        self.classes_ = np.arange(classes)

    def columns_in(self, table_names: list[str]) -> list[str]:
        """The names that a table has for the trees' columns, in the trees' order.

        Raises:
            ShapeMismatch: one is missing.
        """
        if self.names is None:
            return table_names
        # LightGBM writes names with underscores for spaces.
        by_name = {_underscored(name): name for name in reversed(table_names)} | {name: name for name in table_names}
        missing = [name for name in self.names if name not in by_name]
        if missing:
            raise ShapeMismatch(f"the classifier was trained on columns that the table lacks: {', '.join(missing)}")
        return [by_name[name] for name in self.names]

    def prepared(self, rows: Any) -> Any:
        """Rows as the trees take them: of a table their columns, in their order, with their categories.

        Raises:
            ShapeMismatch: a column is missing, or holds text where the trees know no categories.
        """
        if not is_table(rows):
            return rows
        import pandas as pd

        names = self.columns_in([str(name) for name in rows.columns])
        frame = rows[names].copy(deep=False)
        for name, own in zip(names, self.names or names, strict=True):
            if own in self.categories:
                frame[name] = frame[name].astype("category").cat.set_categories(self.categories[own])
            elif not pd.api.types.is_numeric_dtype(frame[name].dtype):
                raise ShapeMismatch(f"column {name} holds {frame[name].dtype}, and the classifier knows it as numbers")
        return frame


def _underscored(name: str) -> str:
    return "_".join(name.split(" "))
