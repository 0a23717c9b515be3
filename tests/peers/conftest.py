"""Settings of the comparison with the real Keras, before anybody imports it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


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
