"""Settings of the comparison with the real Keras, before anybody imports it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# What TensorFlow and its meeting with NumPy 2 warn about at every step of eager training.
_NOISE = (
    "ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning",
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the noise out of the report of these tests."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for warning in _NOISE:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True, scope="session")
def _quick_collections() -> None:
    """Take TensorFlow's modules, a million objects, out of every garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Give every test new names, the same seeds and float32 on both sides.

    TensorFlow runs op by op: tracing a model would take most of the time of a test. A module that
    does not need Keras (its import was skipped) needs none of this.
    """
    keras, tensorflow = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is None or tensorflow is None:
        yield
        return
    import pycnn

    for library in (keras, pycnn):
        library.utils.clear_session(free_memory=False)  # a collection at every test costs minutes
        library.utils.set_random_seed(3)
    before = tensorflow.config.functions_run_eagerly()
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(before)
    for library in (keras, pycnn):
        library.config.set_floatx("float32")
