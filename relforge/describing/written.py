"""What the source of a model says of it: annotations as they are written, and docstrings.

pydantic keeps neither the names of types (``Commit``) nor, unless every command pays for it at its
start, the strings that stand below fields. Both are read from the module's source here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

from relforge.frozen import Frozen


@dataclass(frozen=True)
class Written:
    """A name with its annotation, or its value where it is an alias of a type, and the string
    below it."""

    module: ModuleType
    node: ast.expr
    doc: str


@lru_cache(maxsize=64)
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _below(body: list[ast.stmt], number: int) -> str:
    """The string that stands right below a statement."""
    if number + 1 < len(body):
        row = body[number + 1]
        if isinstance(row, ast.Expr) and isinstance(row.value, ast.Constant):
            return inspect.cleandoc(row.value.value) if isinstance(row.value.value, str) else ""
    return ""


def field(model: type[Frozen], name: str) -> Written:
    """A field as the nearest class that declares it has it. Raises KeyError."""
    for cls in model.__mro__:
        if not issubclass(cls, Frozen) or name not in vars(cls).get("__annotations__", {}):
            continue
        module = importlib.import_module(cls.__module__)
        body = next(
            node.body
            for node in _tree(module).body
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__
        )
        for number, row in enumerate(body):
            if (
                isinstance(row, ast.AnnAssign)
                and isinstance(row.target, ast.Name)
                and row.target.id == name
            ):
                return Written(module, row.annotation, _below(body, number))
    raise KeyError(f"{model.__name__}.{name}")


def alias(module: ModuleType, name: str) -> Written:
    """An alias of a type, where it is assigned: names that are imported are followed. Raises
    KeyError."""
    body = _tree(module).body
    for number, row in enumerate(body):
        if isinstance(row, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in row.targets
        ):
            return Written(module, row.value, _below(body, number))
        if isinstance(row, ast.ImportFrom) and row.module:
            for one in row.names:
                if (one.asname or one.name) == name:
                    return alias(importlib.import_module(row.module), one.name)
    raise KeyError(f"{module.__name__}.{name}")
