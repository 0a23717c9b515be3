"""Pictures of models and of their training (matplotlib, the extra ``pycnn[viz]``)."""

from __future__ import annotations

from pycnn.viz.curves import learning_curves

__all__ = ["learning_curves"]
