"""The engine's operations: ``pycnn.ops.<op>(...)``.

Each takes tensors, NumPy arrays and Python numbers alike and returns a tensor, or a tuple of
tensors. Nothing is computed until somebody looks. Settings that shape the computation (strides,
axes, ...) are keyword arguments; ``help(pycnn.ops.conv2d)`` tells those of an operation. The order
of axes is N, C, H, W.
"""

from __future__ import annotations

from typing import Any

import pycnn._core as _core

_names = [name for name in dir(_core.ops) if not name.startswith("_")]
globals().update({name: getattr(_core.ops, name) for name in _names})

__all__ = sorted(_names)


def __getattr__(name: str) -> Any:
    """Tell the nearest names of an operation that does not exist."""
    if name.startswith("__"):
        raise AttributeError(f"module 'pycnn.ops' has no attribute {name!r}")
    import difflib

    near = difflib.get_close_matches(name, _names)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    raise AttributeError(f"module 'pycnn.ops' has no operation {name!r}.{hint}")


def __dir__() -> list[str]:
    return sorted(__all__)
