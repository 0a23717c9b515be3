"""Initial values of weights.

An initializer is called with a shape and a dtype and returns a NumPy array. One with a seed gives
the same values each time it is called with the same shape, as Keras's do; one made without a
seed takes the next seed of the global sequence when it is made (`pycnn.keras.random`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from pycnn.keras._config import (
    check_number,
    deserialize_object,
    get_object,
    serialize_object,
    serialize_value,
)
from pycnn.keras.backend import standardize_dtype
from pycnn.keras.random import (
    SeedGenerator,
    check_seed,
    draw_normal,
    draw_truncated_normal,
    draw_uniform,
    make_default_seed,
)

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "constant",
    "deserialize",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "serialize",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]

# The standard deviation of a standard normal cut at two: what truncation takes away is put back.
_TRUNCATED_STDDEV = 0.87962566103423978


class Initializer:
    """Base of all initializers; a subclass defines ``__call__(shape, dtype=None)``."""

    _keras_module: ClassVar[str] = "keras.initializers"

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return an array of the initial values."""
        raise NotImplementedError(
            f"{type(self).__name__} must define __call__(self, shape, dtype=None)."
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """Make an initializer from `get_config`'s dictionary."""
        return cls(**config)

    def clone(self) -> Initializer:
        """Make an equal initializer."""
        return type(self).from_config(self.get_config())


class Zeros(Initializer):
    """All zeros."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Return zeros."""
        return np.zeros(tuple(shape), standardize_dtype(dtype))


class Ones(Initializer):
    """All ones."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Return ones."""
        return np.ones(tuple(shape), standardize_dtype(dtype))


class Constant(Initializer):
    """All the same number, or an array that broadcasts to the shape."""

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Return the value, broadcast."""
        kind = standardize_dtype(dtype)
        try:
            full = np.broadcast_to(np.asarray(self.value).astype(kind), tuple(shape))
        except ValueError as error:
            raise ValueError(
                f"Constant: `value` of shape {np.shape(self.value)} does not broadcast to the "
                f"weight's shape {tuple(shape)}."
            ) from error
        return np.array(full)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        return {"value": serialize_value(self.value)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constant:
        """Make an initializer from `get_config`'s dictionary."""
        value = config.get("value", 0.0)
        if isinstance(value, Mapping):
            inner = value.get("config", {})
            value = np.array(inner.get("value", 0.0), dtype=inner.get("dtype", "float32"))
        return cls(value)


class Identity(Initializer):
    """The identity matrix times `gain`; for matrices only."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Return the matrix.

        Raises
        ------
        ValueError
            If `shape` has not two axes.
        """
        if len(shape) != 2:
            raise ValueError(f"Identity: expected the shape of a matrix, got {tuple(shape)}.")
        rows, columns = (int(size) for size in shape)
        matrix: np.ndarray = np.eye(rows, columns) * self.gain
        return matrix.astype(standardize_dtype(dtype))

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """Base of the random ones: keeps the seed.

    Parameters
    ----------
    seed : int, SeedGenerator or None
        An int repeats the same values on each call, a generator advances, None draws an int.
    """

    def __init__(self, seed: int | SeedGenerator | None = None) -> None:
        self._init_seed = seed
        self.seed: int | SeedGenerator
        if seed is None:
            self.seed = make_default_seed()
        elif isinstance(seed, SeedGenerator):
            self.seed = seed
        elif isinstance(seed, Mapping):
            self.seed = SeedGenerator.from_config(dict(seed.get("config", {})))
        else:
            self.seed = check_seed(type(self).__name__, seed)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        return {"seed": serialize_value(self._init_seed)}


class RandomNormal(RandomInitializer):
    """Normal numbers.

    Parameters
    ----------
    mean, stddev : float
        Mean and standard deviation.
    seed : int, SeedGenerator or None
        See `RandomInitializer`.
    """

    def __init__(
        self, mean: float = 0.0, stddev: float = 0.05, seed: int | SeedGenerator | None = None
    ) -> None:
        self.mean = check_number(type(self).__name__, "mean", mean)
        self.stddev = check_number(type(self).__name__, "stddev", stddev, 0.0)
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Draw the values."""
        return draw_normal(shape, self.mean, self.stddev, dtype, self.seed)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


class TruncatedNormal(RandomNormal):
    """Normal numbers; those beyond two standard deviations are drawn again."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Draw the values."""
        return draw_truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


class RandomUniform(RandomInitializer):
    """Evenly distributed numbers in [minval, maxval)."""

    def __init__(
        self,
        minval: float = -0.05,
        maxval: float = 0.05,
        seed: int | SeedGenerator | None = None,
    ) -> None:
        self.minval = check_number("RandomUniform", "minval", minval)
        self.maxval = check_number("RandomUniform", "maxval", maxval)
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Draw the values."""
        return draw_uniform(shape, self.minval, self.maxval, dtype, self.seed)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


class VarianceScaling(RandomInitializer):
    """Numbers whose variance is `scale` over a number of connections.

    Parameters
    ----------
    scale : float
        Positive.
    mode : {"fan_in", "fan_out", "fan_avg"}
        The connections counted: into a unit, out of one, or their mean.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        ``"normal"`` means the first.
    seed : int, SeedGenerator or None
        See `RandomInitializer`.
    input_axes, output_axes : sequence of int, optional
        The axes of the weight that count as inputs and outputs; both or neither.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | SeedGenerator | None = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        owner = type(self).__name__
        self.scale = check_number(owner, "scale", scale, 0.0, low_open=True)
        modes = ("fan_in", "fan_out", "fan_avg")
        if mode not in modes:
            raise ValueError(f"{owner}: `mode` must be one of {modes}, got {mode!r}.")
        distribution = str(distribution).lower()
        if distribution == "normal":
            distribution = "truncated_normal"
        distributions = ("uniform", "truncated_normal", "untruncated_normal")
        if distribution not in distributions:
            raise ValueError(
                f"{owner}: `distribution` must be one of {distributions}, got {distribution!r}."
            )
        self.mode = mode
        self.distribution = distribution
        self.input_axes = input_axes
        self.output_axes = output_axes
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Draw the values."""
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}
        variance = self.scale / max(1.0, fans[self.mode])
        if self.distribution == "truncated_normal":
            stddev = math.sqrt(variance) / _TRUNCATED_STDDEV
            return draw_truncated_normal(shape, 0.0, stddev, dtype, self.seed)
        if self.distribution == "untruncated_normal":
            return draw_normal(shape, 0.0, math.sqrt(variance), dtype, self.seed)
        limit = math.sqrt(3.0 * variance)
        return draw_uniform(shape, -limit, limit, dtype, self.seed)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": serialize_value(self.input_axes),
            "output_axes": serialize_value(self.output_axes),
        }


class _FixedScaling(VarianceScaling):
    """A variance scaling whose settings its class fixes."""

    _settings: ClassVar[tuple[float, str, str]]

    def __init__(
        self,
        seed: int | SeedGenerator | None = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        scale, mode, distribution = self._settings
        super().__init__(scale, mode, distribution, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        full = super().get_config()
        return {key: full[key] for key in ("seed", "input_axes", "output_axes")}


class GlorotUniform(_FixedScaling):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)): the default of kernels.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.
    """

    _settings = (1.0, "fan_avg", "uniform")


class GlorotNormal(_FixedScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""

    _settings = (1.0, "fan_avg", "truncated_normal")


class LecunNormal(_FixedScaling):
    """Truncated normal of variance 1 / fan_in (LeCun et al., "Efficient BackProp", 1998)."""

    _settings = (1.0, "fan_in", "truncated_normal")


class LecunUniform(_FixedScaling):
    """Uniform in +-sqrt(3 / fan_in) (LeCun et al., "Efficient BackProp", 1998)."""

    _settings = (1.0, "fan_in", "uniform")


class HeNormal(_FixedScaling):
    """Truncated normal of variance 2 / fan_in, for ReLU.

    He et al., "Delving Deep into Rectifiers", 2015.
    """

    _settings = (2.0, "fan_in", "truncated_normal")


class HeUniform(_FixedScaling):
    """Uniform in +-sqrt(6 / fan_in), for ReLU (He et al., 2015)."""

    _settings = (2.0, "fan_in", "uniform")


class Orthogonal(RandomInitializer):
    """Orthogonal rows or columns, times `gain`; axes before the last are taken together.

    Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", 2013.
    """

    def __init__(self, gain: float = 1.0, seed: int | SeedGenerator | None = None) -> None:
        self.gain = check_number("Orthogonal", "gain", gain)
        super().__init__(seed=seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """Draw the values.

        Raises
        ------
        ValueError
            If `shape` has fewer than two axes.
        """
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: expected at least two axes, got {tuple(shape)}.")
        columns = int(shape[-1])
        rows = math.prod(int(s) for s in shape[:-1])
        flat = (max(rows, columns), min(rows, columns))
        q, r = np.linalg.qr(draw_normal(flat, 0.0, 1.0, "float64", self.seed))
        q = q * np.sign(np.diagonal(r))  # without it the signs are those of the algorithm
        if rows < columns:
            q = q.T
        values = self.gain * q.reshape(tuple(shape))
        return np.ascontiguousarray(values.astype(standardize_dtype(dtype)))

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal initializer."""
        return {**super().get_config(), "gain": self.gain}


def compute_fans(
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
    output_axes: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Return the connections into and out of a unit of a weight in Keras's order."""
    sizes = tuple(int(s) for s in shape)
    if input_axes is not None and output_axes is not None:
        return (
            math.prod(sizes[axis] for axis in input_axes),
            math.prod(sizes[axis] for axis in output_axes),
        )
    if len(sizes) < 2:
        return (sizes[0], sizes[0]) if sizes else (1, 1)
    field = math.prod(sizes[:-2])
    return sizes[-2] * field, sizes[-1] * field


# Keras's second names.
constant = Constant
identity = Identity
IdentityInitializer = Identity
ones = Ones
zeros = Zeros
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
orthogonal = Orthogonal
OrthogonalInitializer = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling

_TABLE: dict[str, Any] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type)
    and issubclass(value, Initializer)
    and not name.startswith("_")
    and name not in ("Initializer", "RandomInitializer")
}
_TABLE.update({"normal": RandomNormal, "uniform": RandomUniform, "one": Ones, "zero": Zeros})
_ABSENT = ("STFT", "STFTInitializer")


def serialize(initializer: Any) -> Any:
    """Return the configuration of an initializer."""
    return serialize_object(initializer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Make the initializer that a configuration or name describes."""
    made = deserialize_object("initializer", config, _TABLE, custom_objects, _ABSENT)
    return made() if isinstance(made, type) else made


def get(identifier: Any) -> Any:
    """Return an initializer for a name, configuration, class, array, function or instance.

    Raises
    ------
    ValueError
        If the name is unknown (the nearest ones are told) or the value is none of these.
    """
    if isinstance(identifier, np.ndarray | np.generic) or (
        hasattr(identifier, "numpy") and not callable(identifier)
    ):
        return _from_array(np.asarray(identifier))
    return get_object("initializer", identifier, _TABLE, _ABSENT, deserialize)


def _from_array(values: np.ndarray) -> Callable[..., np.ndarray]:
    def initialize(shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        if tuple(shape) != values.shape:
            raise ValueError(
                f"An array of shape {values.shape} was given as initializer of a weight of "
                f"shape {tuple(shape)}."
            )
        return np.array(values, standardize_dtype(dtype))

    return initialize
