"""The project around the code: what README promises, what is installed, what the check runs."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pycnn

ROOT = Path(__file__).resolve().parent.parent


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)


def test_the_two_commands_of_readme() -> None:
    blocks = shell_blocks((ROOT / "README.md").read_text())
    assert blocks[0] == 'pip install ".[labs]" && pycnn lab mnist-batchnorm\n'
    assert blocks[1] == 'pip install ".[test]" && pytest\n'


def test_the_first_python_of_readme_is_valid() -> None:
    for block in re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S
    ):
        compile(block, "README.md", "exec")


def test_one_version() -> None:
    assert pycnn.__version__ == importlib.metadata.version("pycnn")


def test_the_command_and_the_module_are_the_same() -> None:
    for words in (["-m", "pycnn"], ["-c", "from pycnn.__main__ import main; main()"]):
        done = subprocess.run(
            [sys.executable, *words, "--version"], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["pycnn", pycnn.__version__]


def test_what_a_wheel_must_carry_is_there() -> None:
    package = Path(pycnn.__file__).parent
    assert (package / "py.typed").is_file() and (package / "_core.pyi").is_file()
    licences = (ROOT / "LICENSE-THIRD-PARTY").read_text()
    for name in ("OpenBLAS", "LAPACK", "libgfortran", "libquadmath", "CC-BY-SA-3.0"):
        assert name in licences


@pytest.mark.parametrize("word", ["address,undefined", "thread"])
def test_the_check_runs_the_sanitizers(word: str) -> None:
    assert f"PCNN_SANITIZE={word}" in (ROOT / ".ci" / "run").read_text()
