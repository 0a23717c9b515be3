"""Settings of optimizers: what may change between steps, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn.keras import layers, optimizers

Array = np.ndarray


@pytest.mark.parametrize("rule", [optimizers.SGD, optimizers.Adam, optimizers.AdamW])
def test_weights_without_decay_stay_so_when_it_is_set_later(rule: Any) -> None:
    def trained(excluded: bool, decay: float) -> list[Array]:
        pycnn.utils.set_random_seed(1)
        model = pycnn.Sequential([layers.Input((4,)), layers.Dense(3)])
        optimizer = rule(0.125)
        optimizer.weight_decay = None
        if excluded:
            optimizer.exclude_from_weight_decay(var_list=[model.layers[-1].kernel])
        model.compile(optimizer, "mse")
        model.layers[-1].bias.assign(np.ones(3))
        x, y = np.ones((8, 4), np.float32), np.ones((8, 3), np.float32)
        model.train_on_batch(x, y)
        optimizer.weight_decay = decay
        model.train_on_batch(x, y)
        return model.get_weights()

    plain, excluded, decayed = trained(True, 0.0), trained(True, 0.5), trained(False, 0.5)
    np.testing.assert_array_equal(excluded[0], plain[0])
    np.testing.assert_array_equal(excluded[1], decayed[1])
    assert not np.array_equal(decayed[0], plain[0]) and not np.array_equal(decayed[1], plain[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.Adam(beta_1=0.99999999), r"Adam: `beta_1` must be less than 1 in"),
        (lambda: optimizers.AdamW(beta_2=0.99999999), r"AdamW: `beta_2` must be less than 1 in"),
        (lambda: optimizers.SGD(clipnorm=1e39), r"SGD: `clipnorm` must be"),
        (lambda: optimizers.SGD(clipvalue=1e39), r"SGD: `clipvalue` must be"),
        (lambda: optimizers.Adam(global_clipnorm=1e39), r"Adam: `global_clipnorm` must be"),
    ],
)
def test_what_float32_cannot_tell_from_infinity_or_one(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()
