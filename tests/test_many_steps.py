"""Many runs of a plan in one call, and `fit`, which uses them where nobody looks at batches."""

import numpy as np
import pytest

import pycnn._core as core
import pycnn.keras as keras
from pycnn import ops
from pycnn.keras import layers

RNG = np.random.default_rng(11)
X = RNG.random((131, 6, 6, 1), np.float32)
Y = RNG.integers(0, 3, 131)


def test_rows_go_to_the_runs_and_outputs_are_stacked():
    total = core.tensor(np.zeros(3, np.float32))
    with core.capture() as tape:
        fixed = tape.placeholder((3,), "float32", "fixed")
        row = tape.placeholder((3,), "float32", "row")
        ops.assign_(total, total + row)
        plan = tape.compile([fixed * row, ops.sum(row)])
    rows = RNG.integers(-4, 5, (5, 3)).astype(np.float32)
    factor = np.array([1, 2, 3], np.float32)
    products, sums = plan.run_many(5, factor, rows)
    np.testing.assert_array_equal(products.numpy(), rows * factor)
    np.testing.assert_array_equal(sums.numpy(), rows.sum(1))
    np.testing.assert_array_equal(total.numpy(), rows.sum(0))
    assert plan.runs == 5
    one = plan.run_many(1, factor, rows[:1])
    assert [t.shape for t in one] == [(1, 3), (1,)]
    np.testing.assert_array_equal(plan.run_many(2, rows[:2], factor)[0].numpy(), rows[:2] * factor)
    assert plan.runs == 8


def test_bad_calls_are_refused():
    with core.capture() as tape:
        x = tape.placeholder((2, 2), "float32", "x")
        plan = tape.compile([x + x])
    good = np.ones((3, 2, 2), np.float32)
    for count, array in ((4, good), (3, good[:, :1]), (3, good[None]), (3, good.astype(int))):
        with pytest.raises(core.ShapeError):
            plan.run_many(count, array)
    for arguments in ((), (0, good), (-1, good)):
        with pytest.raises(ValueError):
            plan.run_many(*arguments)
    with pytest.raises(TypeError):
        plan.run_many("3", good)
    with pytest.raises(TypeError):
        plan.run_many(3)
    with pytest.raises(OverflowError):
        plan.run_many(2**70, good)
    assert plan.runs == 0


def test_a_failed_run_ends_the_call():
    with core.capture() as tape:
        index = tape.placeholder((1,), "int64", "index")
        data = tape.placeholder((2, 1), "float32", "data")
        plan = tape.compile([ops.gather(data, index)])
    with pytest.raises(IndexError):
        plan.run_many(4, np.array([[0], [1], [2], [0]]), np.ones((2, 1), np.float32))
    assert plan.runs == 2


def model(**more):
    keras.utils.set_random_seed(4)
    made = keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Dropout(0.4),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    made.compile(**{"optimizer": "adam", "loss": "sparse_categorical_crossentropy", **more})
    return made


class Look(keras.callbacks.Callback):
    """Forces step by step."""

    def on_train_batch_end(self, batch, logs=None):
        pass


@pytest.mark.parametrize("size", [1, 8, 64, 200])
def test_fit_gives_the_same_as_step_by_step(size):
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 3, 0.9)
    quiet, looked = (
        model(optimizer=keras.optimizers.Adam(rate), metrics=["accuracy"]) for _ in "ab"
    )
    logs = []
    for one, callbacks in ((quiet, None), (looked, [Look()])):
        keras.utils.set_random_seed(9)
        history = one.fit(X, Y, size, epochs=3, verbose=0, callbacks=callbacks)
        logs.append(history.history)
    assert logs[0] == logs[1]
    assert (
        int(quiet.optimizer.iterations) == int(looked.optimizer.iterations) == 3 * -(-131 // size)
    )
    for a, b in zip(quiet.get_weights(), looked.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_error_of_the_optimizer_comes_at_its_step():
    class Short(keras.optimizers.SGD):
        def hyper(self):
            if int(self.iterations) == 7:
                raise RuntimeError("no more")
            return super().hyper()

    made, same = model(optimizer=Short(0.1)), model(optimizer=keras.optimizers.SGD(0.1))
    for one, kind in ((made, RuntimeError), (same, StopIteration)):
        keras.utils.set_random_seed(2)

        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 6:
                    raise StopIteration

        with pytest.raises(kind):
            one.fit(X, Y, 8, verbose=0, callbacks=[] if one is made else [Stop()])
    assert int(made.optimizer.iterations) == 7
    for a, b in zip(made.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_first_loss_that_is_not_finite_is_told():
    made = model(optimizer=keras.optimizers.SGD(0.1))
    data = X.copy()
    data[40] = np.nan
    with pytest.warns(RuntimeWarning, match="step 6 of epoch 1"):
        made.fit(data, Y, 8, verbose=0, shuffle=False)


def test_what_was_not_made_is_not_counted():
    """A failure within a call: counters stand as after the steps that were completed."""
    made, same = model(), model()
    for one in (made, same):
        one.fit(X[:8], Y[:8], 8, shuffle=False, verbose=0)
    step = next(iter(made._fit_state.steps._steps.values()))
    index = np.arange(40).reshape(5, 8) % 8
    index[3] = 99  # beyond the data
    with pytest.raises(IndexError):
        step.bind_steps([X[:8], Y[:8]], made.optimizer)(index)
    same.fit(X[:8], Y[:8], 8, shuffle=False, epochs=3, verbose=0)
    for one in (made, same):
        assert int(one.optimizer.iterations) == 4
        one.fit(X[:8], Y[:8], 8, shuffle=False, epochs=2, verbose=0)
    for a, b in zip(made.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    calls = [[g.call for g in one._seed_generators()] for one in (made, same)]
    assert calls[0] == calls[1]


def test_a_schedule_of_ones_own_may_compute_with_tensors():
    class Falling(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5 / (1.0 + keras.ops.cast(step, "float32"))

        def get_config(self):
            return {}

    own = model(optimizer=keras.optimizers.SGD(Falling()))
    same = model(
        optimizer=keras.optimizers.SGD(lambda: 0.5 / (1.0 + int(same.optimizer.iterations)))
    )
    for one in (own, same):
        keras.utils.set_random_seed(2)
        one.fit(X, Y, 8, verbose=0)
        one.train_on_batch(X, Y)
    for a, b in zip(own.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
