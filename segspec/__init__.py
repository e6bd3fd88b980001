"""segspec: one architecture, written once, generated and proved equal in several frameworks."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load", "save"]


def __getattr__(name: str) -> Any:
    """The functions for users' own code, imported when they are asked for."""
    if name in __all__:
        from segspec import networks

        return getattr(networks, name)
    raise AttributeError(f"module 'segspec' has no attribute '{name}'")
