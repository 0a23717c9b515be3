"""Learning rates that change with the number of steps taken.

``schedule(step)`` gives the rate of the step with that number, the first being 0. A schedule
works on arrays of steps too, which is handy for plotting. The formulas are those of the
documentation of ``keras.optimizers.schedules``, computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from pycnn.keras._config import check_number

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
]


class LearningRateSchedule:
    """Base of all schedules; a subclass defines ``__call__(step)`` and ``get_config()``."""

    _keras_module: ClassVar[str] = "keras.optimizers.schedules"

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of step `step`."""
        from pycnn import _core
        from pycnn.keras.backend import floatx

        return _core.tensor(np.asarray(self._at(np.asarray(step, np.float64)), floatx()))

    def _at(self, step: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, step).")

    def rate(self, step: int) -> float:
        """Return the learning rate of step `step` as a float."""
        if type(self).__call__ is LearningRateSchedule.__call__:
            return float(self._at(np.float64(step)))
        return check_number(type(self).__name__, "learning rate", self(step))

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal schedule."""
        raise NotImplementedError(f"{type(self).__name__} must define get_config(self).")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """Make a schedule from `get_config`'s dictionary."""
        return cls(**config)


class ExponentialDecay(LearningRateSchedule):
    """``initial * decay_rate ** (step / decay_steps)``.

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    decay_steps : int
        After how many steps the rate is multiplied by `decay_rate`.
    decay_rate : float
        The factor.
    staircase : bool
        Whether it falls at once every `decay_steps` instead of smoothly.
    name : str
        Its name.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        owner = type(self).__name__
        self.initial_learning_rate = _rate(owner, "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _steps(owner, "decay_steps", decay_steps)
        self.decay_rate = _plain(owner, "decay_rate", decay_rate)
        self.staircase = staircase
        self.name = name

    def _at(self, step: Any) -> Any:
        periods = step / self.decay_steps
        if self.staircase:
            periods = np.floor(periods)
        return self.initial_learning_rate * np.power(float(self.decay_rate), periods)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class InverseTimeDecay(ExponentialDecay):
    """``initial / (1 + decay_rate * step / decay_steps)``; arguments as `ExponentialDecay`."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def _at(self, step: Any) -> Any:
        periods = step / self.decay_steps
        if self.staircase:
            periods = np.floor(periods)
        return self.initial_learning_rate / (1.0 + self.decay_rate * periods)


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[i]`` for steps above ``boundaries[i - 1]`` up to ``boundaries[i]`` inclusive.

    Parameters
    ----------
    boundaries : sequence of float
        Rising step numbers.
    values : sequence of float
        The rates, one more than boundaries.
    name : str
        Its name.
    """

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        for argument, given in (("boundaries", boundaries), ("values", values)):
            if not isinstance(given, (list, tuple, np.ndarray)) or np.ndim(given) != 1:
                raise TypeError(
                    f"PiecewiseConstantDecay: `{argument}` must be a list of numbers, got "
                    f"{given!r}."
                )
        for boundary in boundaries:
            check_number("PiecewiseConstantDecay", "boundaries", boundary)
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                "PiecewiseConstantDecay: `values` must have one element more than `boundaries`, "
                f"got {len(values)} and {len(boundaries)}."
            )
        for value in values:
            _rate("PiecewiseConstantDecay", "values", value)
        if any(b <= a for a, b in zip(boundaries, list(boundaries)[1:], strict=False)):
            raise ValueError(
                f"PiecewiseConstantDecay: `boundaries` must rise, got {list(boundaries)}."
            )
        self.boundaries = boundaries
        self.values = values
        self.name = name

    def _at(self, step: Any) -> Any:
        bounds = np.asarray(self.boundaries, np.float64)
        return np.asarray(self.values, np.float64)[np.searchsorted(bounds, step, side="left")]

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal schedule."""
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class PolynomialDecay(LearningRateSchedule):
    """``(initial - end) * (1 - step / decay_steps) ** power + end``.

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    decay_steps : int
        The number of steps to `end_learning_rate`.
    end_learning_rate : float
        The last rate.
    power : float
        1 falls in a straight line.
    cycle : bool
        Whether to rise again after `decay_steps` and fall over a longer time.
    name : str
        Its name.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        owner = "PolynomialDecay"
        self.initial_learning_rate = _rate(owner, "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _steps(owner, "decay_steps", decay_steps)
        self.end_learning_rate = _rate(owner, "end_learning_rate", end_learning_rate)
        self.power = _plain(owner, "power", power)
        self.cycle = cycle
        self.name = name

    def _at(self, step: Any) -> Any:
        steps: Any = float(self.decay_steps)
        if self.cycle:
            steps = steps * np.maximum(np.ceil(step / steps), 1.0)
        else:
            step = np.minimum(step, steps)
        rest = np.power(1.0 - step / steps, float(self.power))
        difference = self.initial_learning_rate - self.end_learning_rate
        return difference * rest + self.end_learning_rate

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


class CosineDecay(LearningRateSchedule):
    """A straight rise, if wanted, then half a cosine wave down (Loshchilov and Hutter, 2016).

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    decay_steps : int
        The length of the fall.
    alpha : float
        The last rate as a share of the highest.
    name : str
        Its name.
    warmup_target : float, optional
        The rate at the end of the rise; no rise when absent.
    warmup_steps : int
        The length of the rise.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        owner = "CosineDecay"
        self.initial_learning_rate = _rate(owner, "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _steps(owner, "decay_steps", decay_steps)
        self.alpha = _rate(owner, "alpha", alpha)
        self.name = name
        self.warmup_steps = _rate(owner, "warmup_steps", warmup_steps)
        self.warmup_target = (
            None if warmup_target is None else _rate(owner, "warmup_target", warmup_target)
        )

    def _at(self, step: Any) -> Any:
        if self.warmup_target is None:
            return self._fall(step, self.initial_learning_rate)
        warm = max(float(self.warmup_steps), 1e-300)  # without a rise the first branch is unused
        rise = (self.warmup_target - self.initial_learning_rate) * (step / warm)
        fall = self._fall(step - self.warmup_steps, self.warmup_target)
        return np.where(step < self.warmup_steps, rise + self.initial_learning_rate, fall)

    def _fall(self, step: Any, highest: float) -> Any:
        share = np.clip(step, 0.0, self.decay_steps) / self.decay_steps
        wave = 0.5 * (1.0 + np.cos(math.pi * share))
        return highest * ((1.0 - self.alpha) * wave + self.alpha)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosine waves down, each starting anew (Loshchilov and Hutter, 2016).

    Parameters
    ----------
    initial_learning_rate : float
        The rate of step 0.
    first_decay_steps : int
        The length of the first wave.
    t_mul : float
        How much longer each wave is than the one before.
    m_mul : float
        How much higher each wave starts than the one before.
    alpha : float
        The lowest rate as a share of `initial_learning_rate`.
    name : str
        Its name.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        owner = "CosineDecayRestarts"
        self.initial_learning_rate = _rate(owner, "initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = _steps(owner, "first_decay_steps", first_decay_steps)
        self._t_mul = _steps(owner, "t_mul", t_mul)
        self._m_mul = _rate(owner, "m_mul", m_mul)
        self.alpha = _rate(owner, "alpha", alpha)
        self.name = name

    def _at(self, step: Any) -> Any:
        share = step / self.first_decay_steps
        t = float(self._t_mul)
        if t == 1.0:
            wave = np.floor(share)
            share = share - wave
        else:
            # Wave i starts at (1 - t**i) / (1 - t); the small term keeps a start that is met
            # exactly from being counted to the wave before.
            wave = np.floor(np.log(1.0 - share * (1.0 - t)) / math.log(t) + 1e-12)
            share = (share - (1.0 - np.power(t, wave)) / (1.0 - t)) / np.power(t, wave)
        height = np.power(float(self._m_mul), wave)
        cosine = 0.5 * height * (1.0 + np.cos(math.pi * share))
        return self.initial_learning_rate * ((1.0 - self.alpha) * cosine + self.alpha)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self._t_mul,
            "m_mul": self._m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }


# The checks return what came, not a float, so that configurations keep whole numbers whole.
def _rate(owner: str, name: str, value: Any) -> Any:
    check_number(owner, name, value, 0.0)
    return value


def _steps(owner: str, name: str, value: Any) -> Any:
    check_number(owner, name, value, 0.0, low_open=True)
    return value


def _plain(owner: str, name: str, value: Any) -> Any:
    check_number(owner, name, value)
    return value
