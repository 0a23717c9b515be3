"""The stub of the extension module says what the module has, no more and no less."""

from __future__ import annotations

import ast
from pathlib import Path

import pycnn
import pycnn._core as core

STUB = Path(pycnn.__file__).with_name("_core.pyi")

# What every class has from object, or Python fills in for an operator.
IMPLIED = set(dir(object)) | {"__weakref__", "__module__", "__dict__", "__buffer__"}


def names_of(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def test_module_and_stub_agree() -> None:
    stub = names_of(ast.parse(STUB.read_text()).body)
    module = {name for name in vars(core) if not (name.startswith("__") and name.endswith("__"))}
    assert set(stub) == module


def test_classes_and_stub_agree() -> None:
    stub = names_of(ast.parse(STUB.read_text()).body)
    for name, node in stub.items():
        if not isinstance(node, ast.ClassDef) or name == "ShapeError":
            continue
        real = {m for m in vars(getattr(core, name)) if m not in IMPLIED}
        described = {m for m in names_of(node.body) if m not in IMPLIED}
        assert described == real, f"{name}: only in one of both {described ^ real}"


def test_every_op_has_a_signature_and_a_text() -> None:
    import inspect

    for name in core.ops._names:
        function = getattr(core.ops, name)
        assert function.__doc__ and len(function.__doc__) > 10, name
        inspect.signature(function)
