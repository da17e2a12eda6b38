"""Changes that no attacker makes: corruptions of images and of tables, at five severities."""

from demur.evaluation.corruptions.images import CORRUPTIONS, corrupt
from demur.evaluation.corruptions.tables import TABLE_CORRUPTIONS, applies, corrupt_table

__all__ = ["CORRUPTIONS", "TABLE_CORRUPTIONS", "applies", "corrupt", "corrupt_table"]
__dir__ = __all__.copy
