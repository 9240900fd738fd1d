"""Types in words: ``tuple[Name, ...] | Unknown`` is "list of Name, or `unknown`"."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from relforge.describing.written import Written, alias
from relforge.frozen import Frozen

_PLAIN = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "`true` or `false`",
    "Path": "path",
    "datetime": "date or date and time",
    "JsonValue": "any value",
    "None": "`null`",
}


class Words:
    """Puts annotations into words; notes which models and which kinds of text they name."""

    def __init__(
        self, of_model: Callable[[type[Frozen]], str], of_value: Callable[[str], str]
    ) -> None:
        self.values: dict[str, Written] = {}
        self.models: list[type[Frozen]] = []
        self._of_model, self._of_value = of_model, of_value

    def of(self, written: Written) -> str:
        return self._words(written.node, written.module)

    def _words(self, node: ast.expr, module: ModuleType) -> str:
        *others, last = self._each(node, module)
        return f"{', '.join(others)} or {last}" if others else last

    def _each(self, node: ast.expr, module: ModuleType) -> list[str]:
        """The alternatives that a type is made of."""
        if isinstance(node, ast.BinOp):
            return [*self._each(node.left, module), *self._each(node.right, module)]
        if isinstance(node, ast.Constant) and node.value is None:
            return [_PLAIN["None"]]
        if isinstance(node, ast.Name):
            return self._named(node.id, module)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if node.value.id == "Literal":
                return [f"`{ast.literal_eval(one)!s}`" for one in inner]
            return [self._generic(node.value.id, list(inner), module)]
        raise TypeError(f"{module.__name__}: nobody can say {ast.unparse(node)}")

    def _named(self, name: str, module: ModuleType) -> list[str]:
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, Frozen):
            if found not in self.models:
                self.models.append(found)
            return [self._of_model(found)]
        if name in _PLAIN:
            return [_PLAIN[name]]
        written = alias(module, name)
        if not _is_value(written):
            return self._each(written.node, written.module)
        known = self.values.setdefault(name, written)
        if ast.dump(known.node) != ast.dump(written.node):
            raise TypeError(f"{name} is one thing in {known.module}, another in {written.module}")
        return [self._of_value(name)]

    def _generic(self, name: str, inner: list[ast.expr], module: ModuleType) -> str:
        if name == "Annotated":
            words = self._words(inner[0], module)
            rules = limits(_keywords(inner[1:]))
            return f"{words} ({', '.join(rules)})" if rules else words
        if name == "tuple" and isinstance(inner[-1], ast.Constant) and inner[-1].value is ...:
            return f"list of {self._inside(inner[0], module)}"
        if name == "tuple":
            return f"list of {' and '.join(self._inside(one, module) for one in inner)}"
        if name in ("dict", "Mapping"):
            key, value = (self._inside(one, module) for one in inner)
            return f"map of {key} to {value}"
        raise TypeError(f"{module.__name__}: nobody can say {name}")

    def _inside(self, node: ast.expr, module: ModuleType) -> str:
        """In a list or map: what is one of several stands in brackets."""
        words = self._words(node, module)
        return f"({words})" if " or " in words and words != _PLAIN["bool"] else words


def limits(rules: Mapping[str, Any]) -> list[str]:
    """The constraints of a value in words."""
    found = []
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if rules.get(name) is not None:
            found.append(f"{sign} {rules[name]}")
    least, most = rules.get("min_length"), rules.get("max_length")
    if least is not None and most is not None:
        found.append(f"{least} to {most} long")
    elif least is not None:
        found.append(f"at least {least} long")
    elif most is not None:
        found.append(f"at most {most} long" if most else "empty")
    if rules.get("pattern"):
        found.append(f"matches `{rules['pattern']}`")
    return found


def rules_of(written: Written, name: str) -> list[str]:
    """The constraints of an alias, as they count at run time."""
    found: dict[str, Any] = {}
    for rule in get_args(getattr(written.module, name))[1:]:
        for one in (rule, *getattr(rule, "metadata", ())):
            for key in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern"):
                if getattr(one, key, None) is not None:
                    found[key] = getattr(one, key)
    return limits(found)


def default(value: Any) -> str:
    """A default as a manifest would have it."""
    if isinstance(value, Frozen) and value == type(value).model_construct():
        return "its own defaults"
    if value is None:
        return "`null`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, Frozen):
        return _plain(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return value.as_posix() if isinstance(value, Path) else str(value)


def _is_value(written: Written) -> bool:
    """Whether an alias is a kind of text or number with rules of its own, and not one of models or
    of words that are listed."""
    node = written.node
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
        return False
    if node.value.id != "Annotated" or not isinstance(node.slice, ast.Tuple):
        return False
    base = node.slice.elts[0]
    if not isinstance(base, ast.Name):
        return False
    return base.id in _PLAIN or _is_value(alias(written.module, base.id))


def _keywords(nodes: Iterable[ast.expr]) -> dict[str, Any]:
    return {
        word.arg: word.value.value
        for node in nodes
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg and isinstance(word.value, ast.Constant)
    }
