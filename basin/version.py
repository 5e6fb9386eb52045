"""The one place that holds the version; imports nothing, so ``basin --version`` is quick."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
