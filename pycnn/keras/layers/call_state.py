"""What nested layer calls of one thread share: training or not, and how deep they are."""

from __future__ import annotations

import threading

__all__ = ["CallState", "call_state"]


class CallState(threading.local):
    """State of the layer calls under way in this thread."""

    def __init__(self) -> None:
        self.training: bool | None = None
        self.depth = 0


call_state = CallState()
