"""Ready networks."""

from demur.network.nets import autoencoder, learn_scales, random_head, student, token_student

__all__ = ["autoencoder", "learn_scales", "random_head", "student", "token_student"]
__dir__ = __all__.copy
