"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import ops
from pycnn._core import Tensor
from pycnn.keras._config import check_number
from pycnn.keras.optimizers.optimizer import Optimizer, as_float32
from pycnn.keras.variables import Variable

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Steps scaled by running means of the gradients and their squares.

    In step t, with ``a = rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)``:
    ``m += (g - m) * (1 - beta_1)``, ``v += (g**2 - v) * (1 - beta_2)``,
    ``w -= a * m / (sqrt(v) + epsilon)`` (Kingma and Ba, 2014, the formula before section 2.1).

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
        The step size.
    beta_1, beta_2 : float
        How much of the running means stays in a step, in [0, 1).
    epsilon : float
        Keeps the quotient finite.
    amsgrad : bool
        Only False is supported.
    weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
    ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name
        See `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is NaN, infinite or out of bounds, or an argument is unknown.
    NotImplementedError
        For ``amsgrad=True``.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
        owner = type(self).__name__
        if amsgrad:
            raise NotImplementedError(f"{owner}: amsgrad=True is not supported.")
        self.beta_1 = _beta(owner, "beta_1", beta_1)
        self.beta_2 = _beta(owner, "beta_2", beta_2)
        self.epsilon = check_number(owner, "epsilon", epsilon, 0.0)
        self.amsgrad = False
        self._momentums: list[Variable] = []
        self._velocities: list[Variable] = []

    def _make_slots(self, variables: Sequence[Variable]) -> None:
        for variable in variables:
            self._momentums.append(self._slot(variable, "momentum"))
            self._velocities.append(self._slot(variable, "velocity"))

    def hyper(self) -> np.ndarray:
        """Return float64[6]: rate, beta_1, beta_2, epsilon, weight decay, number of the step."""
        # Keras takes the powers of betas rounded to float32, whatever the weights' type. The
        # engine computes in float64; the factor between both goes into the rate.
        step = int(self._iterations.item()) + 1
        beta_1, beta_2 = self.beta_1, self.beta_2
        factor = _correction(as_float32(beta_1), as_float32(beta_2), step) / _correction(
            beta_1, beta_2, step
        )
        decay = as_float32(self.weight_decay or 0.0) / factor
        rate = self.current_rate() * factor
        return np.array([rate, beta_1, beta_2, self.epsilon, decay, float(step)])

    def _decay_mask(self) -> np.ndarray:
        return np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0])

    def _update(self, variable: Variable, grad: Tensor, hyper: Tensor) -> None:
        i = self._index[id(variable)]
        m, v = self._momentums[i].tensor, self._velocities[i].tensor
        ops.adam_(variable.tensor, grad, m, v, hyper, style="keras")

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal optimizer, without its state."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }


class AdamW(Adam):
    """Adam with weight decay (Loshchilov and Hutter, 2019); arguments as `Adam`."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
        if weight_decay is None:
            raise ValueError("AdamW: `weight_decay` must be a number, got None.")
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            amsgrad=amsgrad,
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


def _correction(beta_1: float, beta_2: float, step: int) -> float:
    """What makes up for running means that start at zero."""
    return math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)


def _beta(owner: str, name: str, value: Any) -> float:
    number = check_number(owner, name, value, 0.0, 1.0)
    if as_float32(number) == 1.0:  # its powers are taken in float32, as in Keras
        raise ValueError(f"{owner}: `{name}` must be less than 1 in float32, got {value!r}.")
    return number
