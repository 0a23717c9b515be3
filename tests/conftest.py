"""Settings of the whole suite: no plain import error, no downloads, no files left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

try:
    import pycnn
except ImportError as error:
    raise pytest.UsageError(
        f"pycnn cannot be imported ({error}): run `pip install '.[test]'`, or in a checkout "
        "`pip install -e '.[dev]'`"
    ) from error


@pytest.fixture(autouse=True, scope="session")
def _no_downloads() -> Iterator[None]:
    """Tests read the sample inside the package; a test that wants other data says so."""
    before = os.environ.get("PYCNN_DATASETS")
    os.environ["PYCNN_DATASETS"] = "sample"
    yield
    if before is None:
        del os.environ["PYCNN_DATASETS"]
    else:
        os.environ["PYCNN_DATASETS"] = before


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """A test that sets the number of threads leaves it as it was."""
    before = pycnn.get_num_threads()
    yield
    if pycnn.get_num_threads() != before:
        pycnn.set_num_threads(before)
