"""Reads one YAML manifest into its model; every fault is named with file, line and column."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.yamlnodes import Misplaced, compose, plain

ManifestT = TypeVar("ManifestT", bound=Frozen)

_DEEPEST = 100
# Behind the scheme of a URL, or user:password first of all; a digest behind a port is neither.
_LOGIN = re.compile(r"""(?<=//)\S*@|(?<![^\s'"])[^\s/@'"]*:\S*@(?!sha256:)""")


def load(path: Path, model: type[ManifestT]) -> ManifestT:
    """Reads and validates *path*. Raises RelforgeError (USAGE) with ``file:line:column``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RelforgeError(
            f"cannot read {path.name}",
            code=ExitCode.USAGE,
            where=str(path),
            why=error.strerror,
        ) from error
    except UnicodeDecodeError as error:
        raise RelforgeError(
            f"{path.name} is not UTF-8 text", code=ExitCode.USAGE, where=str(path), why=str(error)
        ) from error
    return parse(text, path, model)


def parse(text: str, path: Path, model: type[ManifestT]) -> ManifestT:
    """Validates YAML text; *path* is only for messages."""
    refuse_deep(text, path)
    try:
        node = compose(text)
        if node is None:
            raise _fault(path, None, "the file is empty", f"a {model.__name__.lower()} manifest")
        data = plain(node)
    except Misplaced as error:
        raise _fault(path, error.mark, error.what, error.why) from error
    except yaml.MarkedYAMLError as error:
        raise _fault(path, error.problem_mark, "not valid YAML", error.problem or "") from error
    except (RecursionError, TypeError, ValueError, yaml.YAMLError) as error:
        # Circular aliases, lists as keys, impossible dates and numbers: YAML, but no manifest.
        raise _fault(path, None, "not a manifest that can be read", str(error)) from error
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error, node, path, model) from error


def _fault(path: Path, mark: Any, what: str, why: str, hint: str | None = None) -> RelforgeError:
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    return RelforgeError(
        f"{path.name}: {what}", code=ExitCode.USAGE, where=where, why=why or None, hint=hint
    )


def refuse_deep(text: str, path: Path) -> None:
    """libyaml ends the whole process on nesting that no file of ours has.

    Raises RelforgeError (USAGE) with ``file:line``.
    """
    lines = text.splitlines()
    opened = text.count("[") + text.count("{")
    if opened <= _DEEPEST and max(map(len, lines), default=0) <= 10 * _DEEPEST:
        return
    depth = 0
    for number, line in enumerate(lines, 1):
        depth += line.count("[") + line.count("{") - line.count("]") - line.count("}")
        if depth > _DEEPEST or len(line) - len(line.lstrip()) > 10 * _DEEPEST:
            raise RelforgeError(
                f"{path.name}: nested too deeply", code=ExitCode.USAGE, where=f"{path}:{number}"
            )


def _explain(
    error: ValidationError, node: yaml.Node, path: Path, model: type[Frozen]
) -> RelforgeError:
    faults = error.errors(include_url=False)
    rows: list[str] = []
    hint: str | None = None
    for fault in faults:
        loc = fault["loc"]
        if fault["type"] == "union_tag_invalid":
            # The fault lies in the key that tells which kind it is.
            loc = (*loc, str(fault.get("ctx", {}).get("discriminator", "")).strip("'"))
        mark, shown, siblings = _locate(node, loc)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown key"
            wrong, known = shown.rsplit(".", 1)[-1], _field_names(model)
            # A key that is not there yet comes first, unless it is only a distant likeness.
            near = difflib.get_close_matches(
                wrong, known - siblings, n=1, cutoff=0.8
            ) or difflib.get_close_matches(wrong, known, n=1)
            if near:
                hint = hint or f"did you mean {near[0]!r}?"
        elif fault["type"] == "missing":
            message = "is required"
        elif not isinstance(fault.get("input"), (dict, list)):
            # A login that has no place in a manifest has none in a message either.
            message += f" (got {_LOGIN.sub('[redacted]@', repr(fault.get('input')))})"
        rows.append(f"{place}: {shown or model.__name__.lower()}: {message}")
    first = rows[0].split(": ", 1)
    return RelforgeError(
        f"{path.name}: {first[1]}",
        code=ExitCode.USAGE,
        where=first[0],
        why="\n".join(rows[1:]) or None,
        hint=hint or "see docs/manifests.md, or let your editor complete from manifests/schema/",
    )


def _locate(node: yaml.Node, loc: tuple[int | str, ...]) -> tuple[Any, str, set[str]]:
    """The mark nearest to a pydantic location, its dotted name, and the keys beside it.

    Locations of discriminated unions carry the tag as an extra part, which no node answers to.
    """
    mark = node.start_mark
    shown: list[str] = []
    siblings: set[str] = set()
    for position, part in enumerate(loc):
        if isinstance(node, yaml.MappingNode):
            entries = {key.value: (key, value) for key, value in node.value}
            if str(part) in entries:
                key, node = entries[str(part)]
                siblings = set(entries)
                mark = key.start_mark
                shown.append(str(part))
            elif position == len(loc) - 1:
                siblings = set(entries)
                shown.append(str(part))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            mark = node.start_mark
            shown.append(str(part))
    return mark, ".".join(shown), siblings


def _field_names(model: type[Frozen]) -> set[str]:
    """Field names of a model and of everything below it."""
    names: set[str] = set()
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        names.update(part.get("properties", {}))
    return names
