"""Gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._config import check_fraction
from pycnn.keras.optimizers.optimizer import Optimizer, as_float32
from pycnn.keras.variables import Variable

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent, with momentum if wanted.

    Without momentum ``w -= rate * g``; with it ``v = momentum * v - rate * g`` and ``w += v``, or
    with Nesterov's look ahead ``w += momentum * v - rate * g``.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
        The step size.
    momentum : float
        In [0, 1].
    nesterov : bool
        Whether to look ahead (Sutskever et al., 2013).
    weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
    ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name
        See `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is NaN, infinite or out of bounds, or an argument is unknown.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
            **kwargs,
        )
        self.momentum = check_fraction("SGD", "momentum", momentum)
        self.nesterov = bool(nesterov)
        self.momentums: list[Variable] = []

    def _make_slots(self, variables: Sequence[Variable]) -> None:
        if self.momentum:
            self.momentums = [self._slot(v, "momentum") for v in variables]

    def hyper(self) -> np.ndarray:
        """Return float64[4]: learning rate, momentum, weight decay, dampening (0)."""
        # Keras rounds both to float32, whatever the weights' type.
        momentum, decay = as_float32(self.momentum), as_float32(self.weight_decay or 0.0)
        return np.array([self.current_rate(), momentum, decay, 0.0])

    def _decay_mask(self) -> np.ndarray:
        return np.array([1.0, 1.0, 0.0, 1.0])

    def _update(self, variable: Variable, grad: Tensor, hyper: Tensor) -> None:
        velocity = self.momentums[self._index[id(variable)]].tensor if self.momentums else None
        ops.sgd_(variable.tensor, grad, velocity, hyper, nesterov=self.nesterov, style="keras")

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal optimizer, without its state."""
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}
