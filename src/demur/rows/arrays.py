"""Arrays, sparse matrices and tables of any framework, as NumPy reads them. NumPy only."""

from typing import Any

import numpy as np
import numpy.typing as npt

from demur.errors import ShapeMismatch

LIST = ": np.asarray(...) makes an array of a list"
"""Advice for those who pass a list."""


def is_sparse(X: Any) -> bool:
    """Whether `X` is a sparse matrix, or array, of SciPy."""
    return hasattr(X, "toarray") and hasattr(X, "tocsr")


class SparseRows:
    """A sparse matrix as rows: what is taken of it becomes dense, a batch at a time.

    Args:
        matrix: of SciPy, `(n, features)`.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix.tocsr() if len(matrix.shape) == 2 else matrix
        self.shape, self.dtype, self.ndim = self.matrix.shape, self.matrix.dtype, len(self.matrix.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, chosen: Any) -> npt.NDArray[Any]:
        return np.asarray(self.matrix[chosen].toarray())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self.matrix.toarray(), dtype)


def as_numpy(values: Any) -> npt.NDArray[Any]:
    """An array of any framework in NumPy: without its gradients, on the CPU, bfloat16 as float32; or sparse rows.

    NumPy has no type for bfloat16 and smaller floats, which become float32 without a loss.
    """
    if is_sparse(values):
        return SparseRows(values)  # type: ignore[return-value]
    if isinstance(values, SparseRows):
        return values  # type: ignore[return-value]
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    array = np.asarray(values)
    is_small_float = array.dtype.kind == "V" and "float" in array.dtype.name  # as TensorFlow and JAX hand them out
    return array.astype("float32") if is_small_float else array


def as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """An array of what may be lists.

    Raises:
        ShapeMismatch: the lists in it are of several lengths.
    """
    try:
        return as_numpy(values)
    except ValueError as error:
        raise ShapeMismatch(f"{name} must be an array, or lists of one length each: {error}") from error


def is_table(X: Any) -> bool:
    """Whether `X` is a DataFrame of pandas or polars, or quacks like one."""
    return hasattr(X, "columns") and hasattr(X, "shape") and hasattr(X, "__getitem__") and len(X.shape) == 2


def row_list(rows: npt.NDArray[np.integer[Any]]) -> str:
    """Write row numbers, at most ten of them."""
    return ", ".join(str(row) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")
