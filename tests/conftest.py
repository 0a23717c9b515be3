"""Settings of the whole suite: no plain import error, no downloads, no files left behind."""

from __future__ import annotations

import signal
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
def _environment() -> Iterator[None]:
    """Tests read the sample inside the package; a test that wants other data says so.

    Processes that tests start import the installed package too: `python -c` would otherwise find
    the checkout in the working directory first.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYCNN_DATASETS", "sample")
        patch.setenv("PYTHONSAFEPATH", "1")
        yield


@pytest.fixture(autouse=True, scope="session")
def _interrupts() -> Iterator[None]:
    """Ctrl-C works: what a shell starts in the background inherits that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """A test that sets the number of threads leaves it as it was."""
    before = pycnn.get_num_threads()
    yield
    if pycnn.get_num_threads() != before:
        pycnn.set_num_threads(before)
