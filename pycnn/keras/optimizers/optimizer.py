"""The base of all optimizers: settings, state, and what every step has in common.

A step consists of clipping the gradients and one effect of the engine for each variable
(`pycnn.ops.sgd_`, `pycnn.ops.adam_`). `record` writes it down, for the training step that is
recorded once and run many times as well as for a single `apply`. What changes from step to step
(the learning rate, the number of the step) is in the small array `hyper`, an input of the plan.
"""

from __future__ import annotations

import copy
import functools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from pycnn import _core, ops
from pycnn._core import Tensor
from pycnn.keras._config import check_number
from pycnn.keras._errors import accepted_arguments, unknown_arguments
from pycnn.keras._host import HostVariable
from pycnn.keras._label import label
from pycnn.keras._maps import Maps
from pycnn.keras._naming import auto_name, name_scope
from pycnn.keras.backend import floatx
from pycnn.keras.optimizers.schedules import LearningRateSchedule
from pycnn.keras.variables import Variable

__all__ = ["Optimizer", "as_float32"]


class Optimizer:
    """Base of all optimizers.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
        The step size; a callable takes no arguments.
    weight_decay : float, optional
        Before each step every variable shrinks by the factor 1 - rate * decay.
    clipnorm : float, optional
        The greatest norm of each gradient.
    clipvalue : float, optional
        The greatest size of each gradient's elements.
    global_clipnorm : float, optional
        The greatest norm of all gradients together. At most one of the three.
    use_ema, ema_momentum, ema_overwrite_frequency
        Averaged weights are not supported.
    loss_scale_factor, gradient_accumulation_steps
        Not supported.
    name : str, optional
        Automatic when absent.

    Raises
    ------
    ValueError
        If a setting is NaN, infinite or out of bounds, or an argument is unknown.
    NotImplementedError
        If one that is not supported is given.
    """

    _keras_module: ClassVar[str] = "keras.optimizers"

    def __init__(
        self,
        learning_rate: Any,
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
        owner = type(self).__name__
        if kwargs.pop("decay", None) is not None:
            warnings.warn(
                f"{owner}: the argument `decay` of older versions of Keras is ignored. Use a "
                "schedule such as InverseTimeDecay as learning_rate.",
                stacklevel=3,
            )
        if kwargs:
            raise ValueError(unknown_arguments(owner, kwargs, accepted_arguments(type(self))))
        for argument, value, instead in (
            ("use_ema", use_ema, "averaged weights are not available"),
            ("loss_scale_factor", loss_scale_factor, "float32 and float64 need no scaling"),
            (
                "gradient_accumulation_steps",
                gradient_accumulation_steps,
                "use a larger batch_size",
            ),
        ):
            if value:
                raise NotImplementedError(f"{owner}: {argument}={value!r}: {instead}.")
        self.name = auto_name(owner) if name is None else str(name)
        self.weight_decay = _optional(owner, "weight_decay", weight_decay)
        self.clipnorm = _optional(owner, "clipnorm", clipnorm)
        self.clipvalue = _optional(owner, "clipvalue", clipvalue)
        self.global_clipnorm = _optional(owner, "global_clipnorm", global_clipnorm)
        if sum(c is not None for c in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(
                f"{owner}: only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be "
                f"set, got clipnorm={clipnorm}, clipvalue={clipvalue}, "
                f"global_clipnorm={global_clipnorm}."
            )
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.built = False
        self._trainable_variables: list[Variable] = []
        self._index: dict[int, int] = {}
        self._slots: list[Variable] = []
        self._no_decay: list[Variable] = []
        self._no_decay_names: re.Pattern[str] | None = None
        self._iterations = HostVariable(0, "int64", "iteration", self.name)
        self._learning_rate: Any = self._standard_rate(learning_rate)

    # --- Settings that may change between steps ---

    def _standard_rate(self, rate: Any) -> Any:
        if isinstance(rate, LearningRateSchedule):
            return rate
        if isinstance(rate, type) and issubclass(rate, LearningRateSchedule):
            raise ValueError(
                f"{type(self).__name__}: `learning_rate` is the class {rate.__name__}; give an "
                f"instance, {rate.__name__}(...)."
            )
        if callable(rate) and not isinstance(rate, HostVariable):
            return rate
        value = check_number(type(self).__name__, "learning_rate", rate, 0.0)
        return HostVariable(value, floatx(), "learning_rate", self.name)

    @property
    def iterations(self) -> HostVariable:
        """The number of steps taken."""
        return self._iterations

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; settable unless a schedule gives it."""
        rate = self._learning_rate
        if isinstance(rate, LearningRateSchedule):
            return rate(int(self._iterations))
        return rate if isinstance(rate, HostVariable) else rate()

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        fixed = self._learning_rate
        new = self._standard_rate(learning_rate)
        if not isinstance(new, HostVariable):
            self._learning_rate = new
        elif isinstance(fixed, LearningRateSchedule):
            raise TypeError(
                f"{type(self).__name__}: the learning rate cannot be set, because the optimizer "
                f"was made with a schedule ({type(fixed).__name__}). Make it with a float "
                "learning_rate if it is to be settable."
            )
        elif isinstance(fixed, HostVariable):
            fixed.assign(new.numpy())
        else:
            self._learning_rate = new

    @property
    def lr(self) -> Any:
        """Refused: today's spelling is `learning_rate`."""
        raise AttributeError(f"{type(self).__name__} has no attribute 'lr'; use `learning_rate`.")

    @lr.setter
    def lr(self, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} has no attribute 'lr'; use `learning_rate`.")

    def current_rate(self) -> float:
        """Return the learning rate of the next step as a float, checked.

        Raises
        ------
        ValueError
            If a schedule or callable gives NaN, infinity or a negative number.
        """
        rate = self._learning_rate
        value: Any
        if isinstance(rate, HostVariable):
            value = rate.item()
        elif isinstance(rate, LearningRateSchedule):
            value = rate.rate(int(self._iterations))
        else:
            value = rate()
        if type(value) is float and 0.0 <= value < math.inf:
            return value  # asked at every step: the full check is for what is wrong
        return check_number(type(self).__name__, "learning_rate", value, 0.0)

    # --- State ---

    @property
    def variables(self) -> list[Any]:
        """The step counter, the learning rate (if it is a number) and the slots."""
        own: list[Any] = [self._iterations]
        if isinstance(self._learning_rate, HostVariable):
            own.append(self._learning_rate)
        return own + list(self._slots)

    def build(self, variables: Iterable[Variable]) -> None:
        """Make the state for these variables; a second call checks that they are known.

        Raises
        ------
        ValueError
            If the optimizer was built for other variables.
        """
        wanted = list(variables)
        if self.built:
            self._check_known(wanted)
            return
        self._trainable_variables = wanted
        self._index = {id(v): i for i, v in enumerate(wanted)}
        with name_scope(self.name, self):
            self._make_slots(wanted)
        self.built = True

    def _make_slots(self, variables: Sequence[Variable]) -> None:
        """Make the optimizer's own variables; by default none."""

    def _slot(self, variable: Variable, name: str) -> Variable:
        slot = variable.like(name=f"{variable.path.replace('/', '_')}_{name}")
        self._slots.append(slot)
        return slot

    def _check_known(self, variables: Sequence[Variable]) -> None:
        for variable in variables:
            if id(variable) not in self._index:
                first = self._trainable_variables[0].path if self._trainable_variables else "-"
                cls = type(self).__name__
                raise ValueError(
                    f"The optimizer {self.name!r} was built for the variables of another model "
                    f"or of a model since changed (the first is {first!r}); it does not know "
                    f"{variable.path!r}. Create a new optimizer for each model: "
                    f"compile(optimizer={cls}(...), ...)."
                )

    # --- A step ---

    def hyper(self) -> np.ndarray:
        """Return the numbers of the next step, float64, as the engine's update takes them."""
        raise NotImplementedError(f"{type(self).__name__} must define hyper(self).")

    def _update(self, variable: Variable, grad: Tensor, hyper: Tensor) -> None:
        """Record the update of one variable."""
        raise NotImplementedError(f"{type(self).__name__} must define _update(...).")

    def record(
        self, grads: Sequence[Tensor | None], variables: Sequence[Variable], hyper: Tensor
    ) -> None:
        """Record clipping and the update of all variables.

        Parameters
        ----------
        grads : sequence of Tensor or None
            The gradients, in the order of the engine; None leaves a variable alone.
        variables : sequence of Variable
            What to update.
        hyper : Tensor
            The numbers of `hyper()`, or a placeholder for them.
        """
        self._check_known(variables)
        known = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        clipped = self._clip([g for g, _ in known])
        # Asked for even where nothing decays: `weight_decay` may be set between steps.
        decayed = [self._use_weight_decay(v) for _, v in known]
        # All numbers first: steps that follow each other run as one.
        numbers = hyper if all(decayed) else hyper * _core.tensor(self._decay_mask())
        for grad, (_, variable), whole in zip(clipped, known, decayed, strict=True):
            self._update(variable, grad, hyper if whole else numbers)

    def _decay_mask(self) -> np.ndarray:
        """Ones of the length of `hyper`, zero at the weight decay."""
        raise NotImplementedError(f"{type(self).__name__} must define _decay_mask(self).")

    def _clip(self, grads: list[Tensor]) -> list[Tensor]:
        if self.clipnorm:
            limit = self.clipnorm
            return [g * limit / ops.maximum(ops.sqrt(ops.sum_squares(g)), limit) for g in grads]
        if self.global_clipnorm and grads:
            limit = self.global_clipnorm
            squares: Tensor = ops.sum_squares(grads[0])
            for grad in grads[1:]:
                squares = squares + ops.sum_squares(grad)
            norm = ops.sqrt(squares)
            # The difference is zero, or NaN when the norm is infinite: then nothing is right.
            scale = ops.minimum(1.0 / norm, 1.0 / limit) * limit + (norm - norm)
            return [g * scale for g in grads]
        if self.clipvalue:
            limit = self.clipvalue
            return [ops.minimum(ops.maximum(g, -limit), limit) for g in grads]
        return grads

    def counted(self) -> int:
        """Return how many steps were counted."""
        count: int = self._iterations._array.item()
        return count

    def advance(self) -> None:
        """Count a step."""
        count = self._iterations._array
        count[()] = count.item() + 1  # `+=` on an array without axes takes ten times as long

    def take_back(self, steps: int) -> None:
        """Uncount steps that were counted but not made."""
        count = self._iterations._array
        count[()] = count.item() - steps

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Take one step with the given gradients.

        Parameters
        ----------
        grads : sequence
            One gradient for each variable: a Tensor as the engine's `gradients` gives it, an
            array of the variable's shape as the user sees it, or None.
        trainable_variables : sequence of Variable, optional
            What to update; all that the optimizer was built for when absent.

        Raises
        ------
        ValueError
            If the numbers or shapes differ, or the optimizer knows other variables.
        """
        given = list(grads)
        if not given:
            return
        if trainable_variables is None:
            if not self.built:
                raise ValueError(
                    f"{type(self).__name__}.apply: without `trainable_variables` the optimizer "
                    "must be built; call optimizer.build(model.trainable_variables) first."
                )
            variables = list(self._trainable_variables)
        else:
            variables = list(trainable_variables)
            self.build(variables)
        if len(given) != len(variables):
            raise ValueError(
                f"{type(self).__name__}.apply: got {len(given)} gradients for "
                f"{len(variables)} variables."
            )
        missing = [v.path for g, v in zip(given, variables, strict=True) if g is None]
        if len(missing) == len(given):
            raise ValueError("No gradients provided for any variable.")
        if missing:
            warnings.warn(
                f"There are no gradients for the variables {missing}; they stay as they are.",
                stacklevel=2,
            )
        with _core.no_grad():
            tensors = [
                None if g is None else _gradient(g, v)
                for g, v in zip(given, variables, strict=True)
            ]
            with label(self.name, "update"):
                self.record(tensors, variables, _core.tensor(self.hyper()))
        self.advance()

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> HostVariable:
        """Take one step with pairs of gradient and variable; return the step counter."""
        pairs = list(grads_and_vars)
        self.apply([g for g, _ in pairs], [v for _, v in pairs])
        return self._iterations

    def scale_loss(self, loss: Any) -> Any:
        """Return the loss as it is (no loss scaling)."""
        return loss

    def finalize_variable_values(self, var_list: Any) -> None:
        """Do nothing: there are no averaged weights to write back."""

    # --- Weight decay ---

    def exclude_from_weight_decay(
        self,
        var_list: Iterable[Variable] | None = None,
        var_names: Iterable[str] | None = None,
    ) -> None:
        """Leave variables out of the weight decay, before the first step.

        Parameters
        ----------
        var_list : iterable of Variable, optional
            The variables themselves.
        var_names : iterable of str, optional
            Patterns; a variable whose name contains one is left out.

        Raises
        ------
        ValueError
            If the optimizer is built already.
        """
        if self.built:
            raise ValueError(
                "exclude_from_weight_decay must be called before the optimizer is built."
            )
        self._no_decay = list(var_list or ())
        names = list(var_names or ())
        self._no_decay_names = re.compile("|".join(sorted(set(names)))) if names else None

    def _use_weight_decay(self, variable: Variable) -> bool:
        if any(variable is v for v in self._no_decay):
            return False
        pattern = self._no_decay_names
        return pattern is None or pattern.search(variable.name) is None

    # --- Copies and pickles ---

    def _settings(self) -> tuple[type[Optimizer], dict[str, Any], Any]:
        config = self.get_config()
        if not isinstance(self._learning_rate, HostVariable):
            config["learning_rate"] = self._learning_rate
        return type(self), config, self._no_decay_names

    def without_state(self) -> Optimizer:
        """Return an optimizer of the same settings that has not trained anything yet."""
        return _remake(*self._settings(), 0)

    def __reduce__(self) -> Any:
        # A copy of its own knows no model, so it cannot hold what was gathered for one's weights.
        if self._slots:
            warnings.warn(
                f"The copy of the optimizer {self.name!r} starts anew: what it gathered belongs "
                "to the weights it trains. Copy or save the model to keep both.",
                stacklevel=3,
            )
        elif self._no_decay:
            warnings.warn(
                f"The copy of the optimizer {self.name!r} decays all weights: those given to "
                "exclude_from_weight_decay(var_list=...) are a model's. Copy the model to keep "
                "them, or give var_names.",
                stacklevel=3,
            )
        return _remake, (*self._settings(), 0 if self._slots else int(self._iterations))

    def __copy__(self) -> Optimizer:
        return copy.deepcopy(self)

    # --- Files ---

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the state from arrays in the order of `variables`.

        Raises
        ------
        ValueError
            If the optimizer is not built or a shape differs.
        """
        if not self.built:
            raise ValueError(
                "set_weights: the optimizer has no weights yet; call "
                "optimizer.build(model.trainable_variables) first."
            )
        own = self.variables
        if len(own) != len(weights):
            raise ValueError(f"set_weights: expected {len(own)} arrays, got {len(weights)}.")
        for variable, value in zip(own, weights, strict=True):
            variable.assign(value)

    def save_own_variables(self, store: Any) -> None:
        """Write the state into a mapping, under "0", "1", ..."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Read the state from a mapping; warns and leaves it if the number differs."""
        own = self.variables
        if len(store.keys()) != len(own):
            warnings.warn(
                f"The state of the optimizer {self.name!r} was not loaded: it has {len(own)} "
                f"variables and the file {len(store.keys())}.",
                stacklevel=2,
            )
            return
        for i, variable in enumerate(own):
            variable.assign(np.asarray(store[str(i)]))

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal optimizer, without its state."""
        from pycnn.keras._config import serialize_object

        rate = self._learning_rate
        return {
            "name": self.name,
            "learning_rate": float(rate)
            if isinstance(rate, HostVariable)
            else serialize_object(rate),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Optimizer:
        """Make an optimizer from `get_config`'s dictionary."""
        from pycnn.keras.optimizers import schedules

        config = dict(config)
        if isinstance(config.get("learning_rate"), Mapping):
            config["learning_rate"] = schedules.deserialize(config["learning_rate"], custom_objects)
        factory: Callable[..., Optimizer] = cls
        return factory(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def _remake(cls: type[Optimizer], config: dict[str, Any], names: Any, steps: int) -> Optimizer:
    """An optimizer from its settings, for copies and pickles."""
    made = cls.from_config(config)
    made._no_decay_names = names
    made.iterations.assign(steps)
    return made


@functools.lru_cache(maxsize=64)
def as_float32(value: float) -> float:
    """Return a setting rounded as Keras rounds it; asked at every step, hence remembered."""
    return float(np.float32(value))


def _optional(owner: str, name: str, value: Any) -> float | None:
    if value is None:
        return None
    # Beyond it the engine's float32 would be infinite.
    return check_number(owner, name, value, 0.0, float(np.finfo(np.float32).max))


def _gradient(grad: Any, variable: Variable) -> Tensor:
    """A gradient in the engine's order, of the variable's dtype."""
    if isinstance(grad, Maps):
        grad = grad.channels_last()
    if isinstance(grad, Tensor):
        if tuple(grad.shape) == tuple(variable.tensor.shape):
            if grad.dtype == variable.tensor.dtype:
                return grad
            return ops.cast(grad, dtype=variable.dtype)  # type: ignore[no-any-return]
    elif tuple(np.shape(grad)) == tuple(variable.shape):
        array = np.asarray(grad, dtype=variable.dtype)
        order = getattr(variable, "_order", None)
        if order is not None:
            array = array.transpose(order)
        return _core.tensor(np.ascontiguousarray(array).reshape(variable.tensor.shape))
    if isinstance(grad, Tensor):
        kind, expected = "a Tensor", tuple(variable.tensor.shape)
        hint = f" (the engine's order; an array would be {tuple(variable.shape)})"
    else:
        kind, expected, hint = "an array", tuple(variable.shape), ""
    if expected == tuple(variable.shape):
        hint = ""
    raise ValueError(
        f"The gradient of {variable.path!r} is {kind} of shape {tuple(np.shape(grad))}, expected "
        f"{expected}{hint}."
    )
