"""Random numbers: seeds, generators, distributions.

All seeds come from here. `set_random_seed` fixes the sequence from which every object made
without a seed of its own (initializers, dropout layers, the shuffling of `fit`) draws one; objects
with a seed do not touch that sequence. The numbers themselves are functions of a seed and a
call counter: NumPy's Philox for initial values and the functions below, the engine's own
Philox4x32-10 for dropout, which takes the triple (seed, stream, call).
"""

from __future__ import annotations

import random as _python_random
from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import _core
from pycnn._core import Tensor
from pycnn.keras._host import HostVariable
from pycnn.keras._naming import auto_name
from pycnn.keras.backend import floatx, is_float_dtype, is_int_dtype, standardize_dtype

__all__ = [
    "SeedGenerator",
    "beta",
    "binomial",
    "categorical",
    "dropout",
    "gamma",
    "normal",
    "randint",
    "shuffle",
    "truncated_normal",
    "uniform",
]

# Not the `random` module's own generator: what a user's program draws there in between must not
# change a model's weights.
_seeds = _python_random.Random()
_state: dict[str, Any] = {"seed": None, "generator": None}

_KEY_MASK = (1 << 64) - 1


def set_random_seed(seed: int) -> None:
    """Make all that follows repeatable: weights, dropout, shuffling.

    Seeds Python's `random` and NumPy's global generator too, as Keras does.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1.

    Raises
    ------
    ValueError
        If `seed` is no such number.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(
            f"set_random_seed: `seed` must be an integer, got {seed!r} of type "
            f"{type(seed).__name__}."
        )
    seed = int(seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"set_random_seed: `seed` must lie in [0, 2**32 - 1], got {seed}.")
    _python_random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the user's own draws, as Keras does
    _seeds.seed(seed)
    _state["seed"] = seed
    _state["generator"] = None


def get_random_seed() -> int | None:
    """The seed last given to `set_random_seed`, or None."""
    seed: int | None = _state["seed"]
    return seed


def make_default_seed() -> int:
    """Return the next seed for an object made without one."""
    return _seeds.randint(1, 10**9)


def check_seed(owner: str, seed: Any) -> int:
    """Return `seed` as an int, or raise naming the owner.

    Raises
    ------
    ValueError
        If it is no integer that fits 64 bits.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(f"{owner}: `seed` must be an integer, got {seed!r}.")
    if not -(2**63) <= int(seed) < 2**63:
        raise ValueError(f"{owner}: `seed` must fit 64 bits, got {seed}.")
    return int(seed)


class SeedGenerator:
    """A seed together with the number of draws made from it.

    Two generators with the same seed give the same sequence; each draw advances only its own.

    Parameters
    ----------
    seed : int, optional
        Without one, the next seed of the global sequence is taken.
    name : str, optional
        The name under which its state is saved.

    Attributes
    ----------
    seed : int
        The seed.
    stream : int
        Tells sequences of one seed apart; 0 unless set.
    call : int
        How many draws were made.
    state : HostVariable
        int64[2], (seed, call), for files.
    """

    _keras_module = "keras.random"

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any) -> None:
        kwargs.pop("backend", None)
        if kwargs:
            raise ValueError(f"SeedGenerator: unrecognized arguments {sorted(kwargs)}.")
        self.name = auto_name("SeedGenerator") if name is None else str(name)
        self._initial_seed = seed
        value = make_default_seed() if seed is None else check_seed("SeedGenerator", seed)
        self.stream = 0
        self.state = HostVariable([value, 0], "int64", "seed_generator_state", self.name)

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.state._array[0])

    @seed.setter
    def seed(self, value: int) -> None:
        self.state._array[0] = check_seed("SeedGenerator", value)

    @property
    def call(self) -> int:
        """How many draws were made."""
        return int(self.state._array[1])

    @property
    def variables(self) -> list[HostVariable]:
        """The state, as a list."""
        return [self.state]

    def next_call(self) -> int:
        """Return the number of the next draw and count it."""
        call = int(self.state._array[1])
        self.state._array[1] = call + 1
        return call

    def take_back(self, draws: int) -> None:
        """Uncount the last draws: what they were for was not made."""
        self.state._array[1] -= draws

    def next(self, ordered: bool = True) -> np.ndarray:
        """Return int64[2], (seed, call), for the next draw and count it."""
        return np.array([self.seed, self.next_call()], np.int64)

    def next_seed(self) -> np.ndarray:
        """Return int64[3], (seed, stream, call), as the engine's dropout takes it."""
        return np.array([self.seed, self.stream, self.next_call()], np.int64)

    def get_config(self) -> dict[str, Any]:
        """The arguments to make an equal generator."""
        return {"seed": self._initial_seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        """Make a generator from `get_config`'s dictionary."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<SeedGenerator name={self.name}, seed={self.seed}, call={self.call}>"


def global_seed_generator() -> SeedGenerator:
    """The generator behind every function here that is called without a seed."""
    generator: SeedGenerator | None = _state["generator"]
    if generator is None:
        generator = SeedGenerator(name="global_seed_generator")
        _state["generator"] = generator
    return generator


def reset_global_generator() -> None:
    """Drop the global generator; the next use makes a new one."""
    _state["generator"] = None


def numpy_generator(seed: int | SeedGenerator | None) -> np.random.Generator:
    """Return NumPy's generator for one draw.

    An integer gives the same numbers every time, a `SeedGenerator` its next ones, None the next
    of the global generator.
    """
    if seed is None:
        seed = global_seed_generator()
    if isinstance(seed, SeedGenerator):
        value, call = seed.seed, seed.next_call()
    else:
        value, call = check_seed("random", seed), 0
    key = np.array([value & _KEY_MASK, call & _KEY_MASK], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def draw_normal(
    shape: Sequence[int], mean: float, stddev: float, dtype: Any, seed: Any
) -> np.ndarray:
    """Normal numbers as a NumPy array."""
    values = numpy_generator(seed).standard_normal(_shape(shape))
    return _finish(values * stddev + mean, dtype)


def draw_truncated_normal(
    shape: Sequence[int], mean: float, stddev: float, dtype: Any, seed: Any
) -> np.ndarray:
    """Normal numbers, those beyond two standard deviations drawn again."""
    generator = numpy_generator(seed)
    values = generator.standard_normal(_shape(shape)).reshape(-1)
    out = np.flatnonzero(np.abs(values) > 2.0)
    while out.size:
        again = generator.standard_normal(out.size)
        values[out] = again
        out = out[np.abs(again) > 2.0]
    return _finish(values.reshape(_shape(shape)) * stddev + mean, dtype)


def draw_uniform(
    shape: Sequence[int], minval: float, maxval: float, dtype: Any, seed: Any
) -> np.ndarray:
    """Evenly distributed numbers in [minval, maxval)."""
    values = numpy_generator(seed).random(_shape(shape))
    return _finish(values * (maxval - minval) + minval, dtype)


def _finish(values: Any, dtype: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(values).astype(standardize_dtype(dtype)))


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(s) for s in shape)
    if any(s < 0 for s in sizes):
        raise ValueError(f"random: every size of `shape` must be >= 0, got {sizes}.")
    return sizes


def _float_type(function: str, dtype: Any) -> str:
    if dtype is not None and not is_float_dtype(dtype):
        raise ValueError(f"random.{function}: `dtype` must be a float type, got {dtype!r}.")
    return floatx() if dtype is None else standardize_dtype(dtype)


def normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: Any = None,
    seed: int | SeedGenerator | None = None,
) -> Tensor:
    """Draw normal numbers of a mean and standard deviation."""
    return _core.tensor(draw_normal(shape, mean, stddev, _float_type("normal", dtype), seed))


def truncated_normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: Any = None,
    seed: int | SeedGenerator | None = None,
) -> Tensor:
    """Draw normal numbers within two standard deviations of the mean."""
    kind = _float_type("truncated_normal", dtype)
    return _core.tensor(draw_truncated_normal(shape, mean, stddev, kind, seed))


def uniform(
    shape: Sequence[int],
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: Any = None,
    seed: int | SeedGenerator | None = None,
) -> Tensor:
    """Draw evenly distributed numbers in [minval, maxval)."""
    return _core.tensor(draw_uniform(shape, minval, maxval, _float_type("uniform", dtype), seed))


def randint(
    shape: Sequence[int],
    minval: int,
    maxval: int,
    dtype: Any = "int32",
    seed: int | SeedGenerator | None = None,
) -> Tensor:
    """Draw whole numbers in [minval, maxval).

    Raises
    ------
    ValueError
        If `dtype` is no integer type or the interval is empty.
    """
    if not is_int_dtype(dtype):
        raise ValueError(f"random.randint: `dtype` must be an integer type, got {dtype!r}.")
    if int(minval) >= int(maxval):
        raise ValueError(
            f"random.randint: expected minval < maxval, got minval={minval}, maxval={maxval}."
        )
    values = numpy_generator(seed).integers(int(minval), int(maxval), _shape(shape))
    return _core.tensor(_finish(values, dtype))


def categorical(
    logits: Any,
    num_samples: int,
    dtype: Any = "int32",
    seed: int | SeedGenerator | None = None,
) -> Tensor:
    """Draw class numbers, [N, num_samples], with the probabilities softmax(logits[N, C]).

    Raises
    ------
    ValueError
        If `logits` has not two axes.
    """
    rows = np.asarray(logits, np.float64)
    if rows.ndim != 2:
        raise ValueError(f"random.categorical: `logits` must be (N, C), got shape {rows.shape}.")
    noise = numpy_generator(seed).gumbel(size=(rows.shape[0], int(num_samples), rows.shape[1]))
    return _core.tensor(_finish(np.argmax(rows[:, None, :] + noise, axis=-1), dtype))


def shuffle(x: Any, axis: int = 0, seed: int | SeedGenerator | None = None) -> Tensor:
    """Return `x` with its slices along `axis` in random order."""
    return _core.tensor(numpy_generator(seed).permutation(np.asarray(x), axis=axis))


def gamma(
    shape: Sequence[int], alpha: Any, dtype: Any = None, seed: int | SeedGenerator | None = None
) -> Tensor:
    """Draw from gamma distributions of shape parameter `alpha` and scale 1."""
    values = numpy_generator(seed).standard_gamma(np.asarray(alpha, np.float64), _shape(shape))
    return _core.tensor(_finish(values, _float_type("gamma", dtype)))


def binomial(
    shape: Sequence[int],
    counts: Any,
    probabilities: Any,
    dtype: Any = None,
    seed: int | SeedGenerator | None = None,
) -> Tensor:
    """Draw numbers of successes in `counts` trials of the given `probabilities`."""
    trials = np.asarray(counts).astype(np.int64)
    values = numpy_generator(seed).binomial(trials, np.asarray(probabilities), _shape(shape))
    return _core.tensor(_finish(values, _float_type("binomial", dtype)))


def beta(
    shape: Sequence[int],
    alpha: Any,
    beta: Any,
    dtype: Any = None,
    seed: int | SeedGenerator | None = None,
) -> Tensor:
    """Draw from beta distributions of parameters `alpha` and `beta`."""
    values = numpy_generator(seed).beta(np.asarray(alpha), np.asarray(beta), _shape(shape))
    return _core.tensor(_finish(values, _float_type("beta", dtype)))


def dropout(
    inputs: Any, rate: float, noise_shape: Any = None, seed: int | SeedGenerator | None = None
) -> Tensor:
    """Set a share `rate` of the numbers to zero and scale the others by 1 / (1 - rate).

    Raises
    ------
    NotImplementedError
        If `noise_shape` is given.
    """
    from pycnn import ops
    from pycnn.keras._config import check_number

    share = check_number("random.dropout", "rate", rate, 0.0, 1.0)
    if noise_shape is not None:
        raise NotImplementedError("random.dropout: `noise_shape` is not supported.")
    if seed is None:
        seed = global_seed_generator()
    if isinstance(seed, SeedGenerator):
        triple = seed.next_seed()
    else:
        triple = np.array([check_seed("random.dropout", seed), 0, 0], np.int64)
    result: Tensor = ops.dropout(inputs, triple, rate=share)
    return result
