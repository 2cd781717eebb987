"""The version, a literal: `importlib.metadata` would cost 20 ms at import."""

__version__ = "0.3.0"
