"""The structure that docs/design.md promises, walked and checked."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"

# What each folder of the engine may include. Includes point down the picture of docs/design.md.
MAY_INCLUDE = {
    "core": {"core"},
    "isa": {"isa", "core", "ops"},  # tables name kernels; ops only for shared kernel headers
    "blas": {"blas", "core", "isa"},
    "ops": {"ops", "core", "isa", "blas"},
    "graph": {"graph", "core", "ops"},
    "plan": {"plan", "graph", "core", "ops"},
    "python": {"python", "plan", "graph", "core", "ops", "isa", "blas"},
}

# Vocabularies and tools may import what stands below them, never sideways or up.
MAY_IMPORT = {
    "keras": {"keras", "_core", "ops", "_version", "datasets", "viz", ""},
    "datasets": {"datasets", "_version", ""},
    "viz": {"viz", ""},
    "labs": {"labs", "keras", "datasets", "viz", "_version", ""},
}

if not CSRC.is_dir():  # an installed package without its sources
    pytest.skip("the sources are not here", allow_module_level=True)


def c_files() -> list[Path]:
    return sorted(p for p in CSRC.rglob("*") if p.suffix in {".c", ".h", ".def"})


@pytest.mark.parametrize("path", c_files(), ids=lambda p: str(p.relative_to(CSRC)))
def test_includes_point_one_way(path: Path) -> None:
    folder = path.relative_to(CSRC).parts[0]
    text = path.read_text()
    for included in re.findall(r'#include "([^"]+)"', text):
        target = included.split("/")[0]
        assert target in MAY_INCLUDE[folder], f"{path.name} includes {included}"
    if folder != "python":
        assert "Python.h" not in text, f"{path.name} includes Python.h"
    if folder != "blas":
        assert "cblas.h" not in text and "cblas_" not in text, f"{path.name} knows BLAS"
    if path.name != "parallel.c":
        assert "pthread_create" not in text, f"{path.name} makes threads"
    for forbidden in ("abort(", 'printf("', "exit("):
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        assert not re.search(rf"(?<![a-z_]){re.escape(forbidden)}", code), (
            f"{path.name} calls {forbidden}"
        )


@pytest.mark.parametrize(
    "path",
    [*c_files(), *sorted((ROOT / "pycnn").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_files_are_small(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 600, f"{path.relative_to(ROOT)} has {lines} lines: split it by meaning"


def test_ops_and_kernels_never_allocate() -> None:
    for path in sorted((CSRC / "ops").glob("*.c")):
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        assert not re.search(r"\b(malloc|calloc|realloc|free)\(", code), path.name


def test_every_op_is_listed_once() -> None:
    listed = re.findall(r"^OP\((\w+)\)", (CSRC / "ops" / "ops.def").read_text(), flags=re.M)
    assert len(listed) == len(set(listed))
    import pycnn._core as core

    assert {info["name"] for info in core._op_info()} == set(listed)


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_imports_point_one_way(package: str) -> None:
    for path in sorted((ROOT / "pycnn" / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            for name in names:
                parts = name.split(".")
                if parts[0] != "pycnn":
                    continue
                target = parts[1] if len(parts) > 1 else ""
                assert target in MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {name}"


def test_no_file_is_unpickled() -> None:
    for path in sorted((ROOT / "pycnn").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {a.name.split(".")[0] for a in node.names} & {"pickle", "dill", "joblib"}
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant) and node.value.value is False
