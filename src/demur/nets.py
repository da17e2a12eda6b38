"""Ready networks."""

from demur.network.nets import autoencoder, random_head, student, token_student

__all__ = ["autoencoder", "random_head", "student", "token_student"]
__dir__ = __all__.copy
