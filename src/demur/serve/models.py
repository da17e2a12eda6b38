"""Where the documentation says that models are loaded from."""

from demur.serve.serving.models import Models, load_guard

__all__ = ["Models", "load_guard"]
