"""Wrong constructor arguments of the Keras vocabulary, and layers called on what does not fit."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn.keras import (
    Input,
    Sequential,
    backend,
    callbacks,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    utils,
)
from pycnn.keras.optimizers import schedules

NAN, INF = float("nan"), float("inf")
MAPS = np.ones((1, 8, 8, 3), np.float32)
ROWS = np.ones((2, 12), np.float32)
L, OPT, S, C = layers, optimizers, schedules, callbacks
BN, RELU = layers.BatchNormalization, layers.ReLU


@pytest.fixture(autouse=True)
def _works_afterwards() -> Iterator[None]:
    yield
    assert L.Dense(2)(ROWS).shape == (2, 2)


def twice(layer: Any, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    layer(np.ones(first))
    layer(np.ones(second))


Wrong = tuple[Callable[[], Any], type[Exception], list[str]]
V, T, N = ValueError, TypeError, NotImplementedError

LAYERS: list[Wrong] = [
    *[(lambda n=n: L.Dense(n), V, ["units", repr(n)]) for n in (0, -1, 2.5, "a", None, True, NAN)],
    (lambda: L.Dense(3.0), V, ["units", "3.0", "units=3"]),
    (lambda: L.Dense(2**40)(ROWS), MemoryError, ["kernel", "(12, 1099511627776)"]),
    (lambda: L.Dense(2**62)(ROWS), MemoryError, ["kernel", str(2**62)]),
    (lambda: L.Dense(3, name=3), V, ["name", "3"]),
    (lambda: L.Dense(3, name="a/b"), V, ["name", "/"]),
    (lambda: L.Dense(3, dtype="floaty"), V, ["'floaty'", "float32"]),
    (lambda: L.Dense(3, dtype="float16"), N, ["float16", "float32"]),
    (lambda: L.Dense(3, dtype="int32")(ROWS), V, ["dense", "'int32'", "float32"]),
    (lambda: L.Dense(3, trainable="x"), V, ["trainable", "'x'"]),
    (lambda: L.Dense(3, activation=3), V, ["activation", "3"]),
    (lambda: L.Dense(3, kernel_constraint="max_norm"), N, ["kernel_constraint", "regularizer"]),
    (lambda: L.Dense(unit=3), V, ["unit=3", '"units"']),
    (lambda: L.Dense(3, foo=1), V, ["Dense", "foo=1", "units"]),
    (lambda: L.Dense(), T, ["units"]),
    (lambda: L.Dense(3)(np.float32(1)), V, ["min_ndim=2", "()"]),
    (lambda: L.Dense(3)(np.ones(3)), V, ["(N, features)", "(3,)", "x[None]"]),
    (lambda: L.Dense(3)("abc"), V, ["tensor", "'abc'"]),
    (lambda: L.Dense(3)(None), V, ["tensor", "None"]),
    (lambda: L.Dense(3)(np.array([[None, 1]])), T, ["object", "np.asarray"]),
    (lambda: L.Dense(3)(np.ones((2, 3), complex)), T, ["complex128"]),
    (lambda: L.Dense(3)(np.ma.array(ROWS, mask=True)), V, ["masked", "filled"]),
    (lambda: L.Dense(3)(np.full((2, 3), 2**64 - 1, "u8")), V, ["2**63"]),
    (lambda: twice(L.Dense(3, name="fc"), (2, 3), (2, 4)), V, ['"fc"', "(N, 3)", "(2, 4)"]),
    *[(lambda n=n: L.Conv2D(n, 3), V, ["filters", repr(n)]) for n in (0, -1, 2.5, "a", None)],
    *[
        (lambda n=n: L.Conv2D(2, n), V, ["kernel_size", repr(n)])
        for n in (0, -1, 2.5, "a", None, (3,), (3, 3, 3), (3, 0), (3, "a"), 2**40)
    ],
    *[
        (lambda n=n: L.Conv2D(2, 3, strides=n), V, ["strides", repr(n)])
        for n in (0, -1, 2.5, "a", None, (1,), (1, 0))
    ],
    *[
        (lambda n=n: L.Conv2D(2, 3, padding=n), V, ["padding", repr(n), "ZeroPadding2D"])
        for n in ("smae", None, 1, (1, 1), "causal")
    ],
    (lambda: L.Conv2D(2, 3, dilation_rate=0), V, ["dilation_rate", "0"]),
    (lambda: L.Conv2D(2, 3, groups=0), V, ["groups", "0"]),
    (lambda: L.Conv2D(2, 3, data_format="chanels_last"), V, ["data_format", '"channels_last"']),
    (lambda: L.Conv2D(2, 3)(MAPS[0]), V, ["(N, H, W, C)", "(8, 8, 3)", "x[None]"]),
    (lambda: L.Conv2D(2, 3)(MAPS[None]), V, ["(N, H, W, C)", "(1, 1, 8, 8, 3)"]),
    (lambda: L.Conv2D(2, 9, name="c9")(MAPS), V, ['"c9"', "8x8", "9x9", 'padding="same"']),
    (lambda: twice(L.Conv2D(2, 3), (1, 8, 8, 3), (1, 8, 8, 4)), V, ["3", "(1, 8, 8, 4)"]),
    (lambda: Sequential([Input((8, 8)), L.Conv2D(2, 3)]), V, ["(N, H, W, C)", "x[..., None]"]),
    *[
        (lambda n=n, c=c: c(n), V, ["pool_size", repr(n)])
        for c in (L.MaxPooling2D, L.AveragePooling2D)
        for n in (0, -1, 2.5, "a", None, (2,))
    ],
    (lambda: L.MaxPooling2D(2, strides=0), V, ["strides", "0"]),
    (lambda: L.MaxPooling2D(2, padding="smae"), V, ["padding", "'smae'", '"same"']),
    (lambda: L.MaxPooling2D(9)(MAPS), V, ["max_pooling2d", "8x8", "9x9"]),
    (lambda: L.MaxPooling2D(2)(ROWS), V, ["(N, H, W, C)", "(2, 12)"]),
    *[
        (lambda n=n, c=c: c(n), V, ["rate", repr(n)])
        for c in (L.Dropout, L.SpatialDropout2D)
        for n in (-0.1, 1.5, 50, NAN, "a", None)
    ],
    (lambda: L.Dropout(0.5, seed="a"), V, ["seed", "'a'"]),
    (lambda: L.SpatialDropout2D(0.5)(ROWS), V, ["(N, H, W, C)", "(2, 12)"]),
    *[(lambda n=n: BN(momentum=n), V, ["momentum", repr(n)]) for n in (NAN, "a", None)],
    *[(lambda n=n: BN(epsilon=n), V, ["epsilon", str(n)]) for n in (-1.0, NAN, INF, "a", None)],
    *[(lambda n=n: BN(axis=n), V, ["axis", repr(n)]) for n in (1.5, "a", None, (1, 2), True, int)],
    (lambda: BN(axis=4)(MAPS), V, ["axis 4", "(None, 8, 8, 3)"]),
    (lambda: BN(renorm=True), N, ["renorm"]),
    *[(lambda n=n: RELU(n), V, ["max_value", repr(n)]) for n in (-1.0, NAN, "a")],
    *[(lambda n=n: RELU(0, n), V, ["negative_slope", repr(n)]) for n in (-1.0, NAN, "a", None)],
    (lambda: L.LeakyReLU(NAN), V, ["negative_slope", "nan"]),
    (lambda: L.ELU(NAN), V, ["alpha", "nan"]),
    (lambda: L.ELU("a"), T, ["alpha", "'a'"]),
    (lambda: L.Softmax("a"), V, ["axis", "'a'"]),
    (lambda: L.Softmax(7)(ROWS), V, ["axis 7", "(2, 12)"]),
    (lambda: L.Activation("rleu"), V, ['"rleu"', '"relu"']),
    (lambda: L.Activation(), T, ["activation"]),
    *[
        (lambda n=n: L.Reshape(n), V, ["target_shape", repr(n)])
        for n in ((-1, -1), (-2, 6), (2.5, 2), "a", None, 3)
    ],
    (lambda: L.Reshape((5, 5))(ROWS), V, ["reshape", "12 elements", "25"]),
    (lambda: L.Flatten(data_format="x"), V, ["data_format", "'x'"]),
    *[
        (lambda n=n: L.ZeroPadding2D(n), V, ["padding", repr(n)])
        for n in (-1, (1,), "a", 2.5, None, (1, 2, 3))
    ],
    (lambda: L.Add()(ROWS), V, ["add", "[a, b]"]),
    (lambda: L.Add()([]), V, ["add", "[a, b]"]),
    (lambda: L.Add()([ROWS, ROWS[:, :5]]), V, ["add", "(12,)", "(5,)"]),
    (lambda: L.Concatenate(axis="a"), V, ["axis", "'a'"]),
    (lambda: L.Concatenate(axis=5)([ROWS, ROWS]), V, ["concatenate", "axis 5"]),
    (lambda: L.Concatenate()([ROWS, ROWS[:1]]), V, ["concatenate", "(2, 12)", "(1, 12)"]),
    *[(lambda n=n: Input(shape=n), V, [repr(n)]) for n in ("a", 3, (-1, 3), (2.5,))],
    (lambda: Input(), V, ["shape"]),
    (lambda: Input((3,), batch_size=-1), V, ["-1"]),
    (lambda: Input((3,), dtype="x"), V, ["dtype", "'x'"]),
    (lambda: Sequential([3]), V, ["Layer", "3"]),
    (lambda: Sequential([L.Dense]), V, ["Dense(...)"]),
    (lambda: Sequential(L.Dense(3)), V, ["Sequential([...])"]),
    (lambda: Sequential(L.Dense(3), L.Dense(3)), V, ["Sequential([...])"]),
    (lambda: Sequential([L.Dense(3, name="a"), L.Dense(3, name="a")]), V, ["'a'", "unique"]),
    (lambda: Sequential([L.Dense(3), Input((3,))]), V, ["Input", "first"]),
    (lambda: Sequential().pop(), V, ["no layer"]),
    (lambda: Sequential([L.Dense(3)]).get_layer(index=7), V, ["7", "1 layers"]),
    (lambda: Sequential([L.Dense(3)]).count_params(), V, ["built"]),
]

OTHERS: list[Wrong] = [
    *[
        (lambda n=n, c=c: c(n), ValueError, ["learning_rate", repr(n)])
        for c in (OPT.SGD, OPT.Adam)
        for n in (-0.1, NAN, INF)
    ],
    *[(lambda n=n: OPT.SGD(n), T, ["learning_rate", repr(n)]) for n in ("a", None, [0.1], True)],
    (lambda: OPT.SGD(10**400), V, ["learning_rate", "finite"]),
    *[(lambda n=n: OPT.SGD(momentum=n), V, ["momentum", repr(n)]) for n in (-0.1, 1.5, NAN)],
    *[(lambda n=n: OPT.Adam(beta_1=n), V, ["beta_1", repr(n)]) for n in (-0.1, 1.0, NAN)],
    *[(lambda n=n: OPT.Adam(beta_2=n), V, ["beta_2", repr(n)]) for n in (-0.1, 1.0, NAN)],
    *[(lambda n=n: OPT.Adam(epsilon=n), V, ["epsilon", repr(n)]) for n in (-0.1, NAN)],
    *[
        (lambda a=a, n=n: OPT.Adam(**{a: n}), V, [a, repr(n)])
        for a in ("clipnorm", "clipvalue", "global_clipnorm", "weight_decay")
        for n in (-1.0, NAN)
    ],
    (lambda: OPT.SGD(clipnorm=1.0, clipvalue=1.0), V, ["clipnorm", "clipvalue", "only one"]),
    (lambda: OPT.Adam(amsgrad=True), N, ["amsgrad"]),
    (lambda: OPT.SGD(foo=1), V, ["foo=1", "momentum"]),
    (lambda: OPT.get("sgdd"), V, ['"sgdd"', '"SGD"']),
    (lambda: OPT.get(3), V, ["optimizer", "3"]),
    (lambda: S.ExponentialDecay(-1, 10, 0.9), V, ["initial_learning_rate", "-1"]),
    (lambda: S.ExponentialDecay(0.1, 0, 0.9), V, ["decay_steps", "0"]),
    (lambda: S.ExponentialDecay(0.1, 10, NAN), V, ["decay_rate", "nan"]),
    (lambda: S.PiecewiseConstantDecay([1, 2], [0.1]), V, ["values", "boundaries"]),
    (lambda: S.PiecewiseConstantDecay([3, 2], [0.1, 0.2, 0.3]), V, ["boundaries", "[3, 2]"]),
    (lambda: S.PiecewiseConstantDecay(3, [0.1]), T, ["boundaries", "3"]),
    (lambda: S.CosineDecay(0.1, 0), V, ["decay_steps", "0"]),
    (lambda: losses.MeanSquaredError(reduction="men"), V, ["reduction", "'men'"]),
    (lambda: losses.MeanSquaredError(name=3), T, ["name", "3"]),
    (lambda: losses.CategoricalCrossentropy(label_smoothing=2), V, ["label_smoothing", "2"]),
    (lambda: losses.CategoricalCrossentropy(label_smoothing=NAN), V, ["label_smoothing", "nan"]),
    (lambda: losses.Huber(delta=NAN), V, ["delta", "nan"]),
    (lambda: losses.LossFunctionWrapper(3), T, ["fn", "3"]),
    (lambda: losses.get("msee"), V, ['"msee"', '"mse"']),
    (lambda: losses.MeanSquaredError()("a", ROWS), T, ["MeanSquaredError", "y_true", "str"]),
    (lambda: losses.MeanSquaredError()(ROWS, None), T, ["MeanSquaredError", "y_pred", "None"]),
    (lambda: losses.MeanSquaredError()(ROWS[:, :5], ROWS), V, ["(2, 12)", "(2, 5)"]),
    (lambda: losses.MeanSquaredError()(ROWS, ROWS, np.ones(3)), V, ["sample_weight", "(3,)"]),
    (
        lambda: float(losses.SparseCategoricalCrossentropy()([0, 12], ROWS)),
        V,
        ["label 12", "row 1", "0..11"],
    ),
    (lambda: metrics.get("acuracy"), V, ['"acuracy"', '"accuracy"']),
    (lambda: metrics.Accuracy(name=3), T, ["name", "3"]),
    (lambda: metrics.BinaryAccuracy(threshold=NAN), V, ["threshold", "nan"]),
    (lambda: metrics.TopKCategoricalAccuracy(k=0), V, ["k", "0"]),
    (lambda: metrics.Precision(thresholds=7), V, ["thresholds", "7"]),
    (lambda: metrics.Mean().update_state("a"), T, ["numbers", "str"]),
    (
        lambda: metrics.SparseCategoricalAccuracy().update_state([1, 2, 3], ROWS),
        V,
        ["(2,)", "(3,)"],
    ),
    (lambda: metrics.CategoricalAccuracy().update_state([1, 2], ROWS), V, ["(2, 12)", "sparse"]),
    (lambda: initializers.get("zeroes"), V, ['"zeroes"', '"zeros"']),
    (lambda: initializers.VarianceScaling(scale=-1), V, ["scale", "-1"]),
    (lambda: initializers.VarianceScaling(mode="fan"), V, ["mode", "'fan'"]),
    (lambda: initializers.GlorotUniform(seed="a"), V, ["seed", "'a'"]),
    (lambda: initializers.RandomNormal(stddev=NAN), V, ["stddev", "nan"]),
    (lambda: initializers.Identity()((2, 3, 4)), V, ["(2, 3, 4)"]),
    *[(lambda n=n: regularizers.L2(n), V, ["l2", repr(n)]) for n in (-1, NAN, INF)],
    (lambda: regularizers.L1("a"), T, ["l1", "'a'"]),
    (lambda: regularizers.get("l3"), V, ['"l3"', "l2"]),
    (lambda: utils.to_categorical([1, 2, 3], 2), V, ["class number 2", "row 1", "num_classes=4"]),
    (lambda: utils.to_categorical([-1, 2]), V, ["class number -1", "row 0"]),
    (lambda: utils.to_categorical([0.5]), V, ["0.5", "row 0"]),
    (lambda: utils.to_categorical(["a"]), V, ["class numbers", "a"]),
    (lambda: utils.to_categorical(None), V, ["class numbers", "None"]),
    (lambda: utils.to_categorical([]), V, ["num_classes"]),
    (lambda: utils.to_categorical([1], "a"), V, ["num_classes", "'a'"]),
    (lambda: utils.to_categorical([1], 2.5), V, ["num_classes", "2.5"]),
    *[(lambda n=n: utils.set_random_seed(n), V, ["seed", repr(n)]) for n in (-1, 1.5, "a", 2**40)],
    (lambda: utils.normalize(ROWS, axis=5), V, ["axis 5"]),
    (lambda: backend.set_image_data_format("channels"), V, ["channels_last", "'channels'"]),
    (lambda: backend.set_floatx("float16"), N, ["float16", "float32"]),
    (lambda: C.EarlyStopping(monitor=3), T, ["monitor", "3"]),
    (lambda: C.ModelCheckpoint("x"), V, ["filepath", ".keras"]),
    (lambda: C.ModelCheckpoint("x.keras", save_weights_only=True), V, [".weights.h5"]),
    (lambda: C.ModelCheckpoint("x.keras", save_freq="epochs"), V, ["save_freq", "'epochs'"]),
    (lambda: C.LearningRateScheduler(0.1), T, ["schedule", "0.1"]),
    (lambda: C.ReduceLROnPlateau(factor=2), V, ["factor", "2"]),
]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [pytest.param(*case, id=f"{i}") for i, case in enumerate(LAYERS + OTHERS)],
)
def test_refused(call: Callable[[], Any], error: type[Exception], words: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(error) as caught:
            call()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_there_are_enough_of_them() -> None:
    assert len(LAYERS) >= 80 and len(OTHERS) >= 60


ODD = (
    None, "a", "", b"a", -1, 0, 1.5, NAN, INF, True, [1, 2], {}, object(), 10**400, int, 1j,
)  # fmt: skip
GIVEN: dict[str, Any] = {
    "units": 3,
    "filters": 2,
    "kernel_size": 3,
    "rate": 0.5,
    "scale": 0.5,
    "pool_size": 2,
    "dims": (1,),
    "target_shape": (2,),
    "activation": "relu",
    "schedule": lambda epoch: 0.1,
    "initial_learning_rate": 0.1,
    "decay_steps": 10,
    "first_decay_steps": 10,
    "decay_rate": 0.9,
    "boundaries": [1],
    "values": [0.1, 0.2],
    "value": 0.0,
    "fn": lambda t, y: t,
}
# What holds paths or runs user code; checked above.
LEFT_OUT = {"Layer", "Loss", "Metric", "Optimizer", "Initializer", "Regularizer", "InputLayer"}


def constructors() -> dict[str, type]:
    found: dict[str, type] = {}
    for module in (layers, losses, metrics, optimizers, schedules, initializers, regularizers):
        for name in module.__all__:
            item = getattr(module, name)
            if isinstance(item, type) and name not in LEFT_OUT:
                found.setdefault(item.__name__, item)
    return found


@pytest.mark.parametrize("name", constructors())
def test_odd_arguments_of_every_constructor(name: str) -> None:
    """Taken, or refused with an error that a user expects: never one from deep inside."""
    made = constructors()[name]
    parameters = list(inspect.signature(made.__init__).parameters.values())[1:]
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = {p.name: GIVEN[p.name] for p in named if p.default is p.empty and p.name in GIVEN}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for parameter in named:
            for value in ODD:
                try:
                    made(**{**needed, parameter.name: value})
                except (ValueError, TypeError, NotImplementedError) as error:
                    assert len(str(error)) > 20, f"{parameter.name}={value!r}: {error}"


def test_no_file_is_left(tmp_path: Path) -> None:
    """A checkpoint that is refused writes nothing."""
    with pytest.raises(ValueError):
        C.ModelCheckpoint(str(tmp_path / "x.h6"))
    assert not list(tmp_path.iterdir())


def test_the_random_state_is_unchanged_by_refusals() -> None:
    utils.set_random_seed(7)
    want = L.Dense(3)(ROWS).numpy()
    utils.set_random_seed(7)
    for call, error, _ in LAYERS[:7]:
        with pytest.raises(error):
            call()
    np.testing.assert_array_equal(L.Dense(3)(ROWS).numpy(), want)
    assert pycnn.is_grad_enabled()
