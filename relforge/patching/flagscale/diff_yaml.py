"""``diff.yaml``: what an entry of the current layout says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen

DIFF_YAML = "diff.yaml"
_LARGEST = 1 << 20


class DiffYaml(Frozen):
    """The seven keys; older entries lack some. Commits are as they were typed."""

    commit: str
    """FlagScale's base."""
    device_type: str | None = None
    task: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    contact: str = ""
    backends_commit: dict[str, str] = {}
    backends_version: dict[str, str] = {}


def load_yaml(data: bytes, where: str, *, texts: bool = False) -> Any:
    """Plain YAML of at most 1 MiB; with ``texts`` every scalar as it stands, also ``0123``.

    Raises RelforgeError (SOURCE).
    """
    if len(data) > _LARGEST:
        raise unreadable(where, "it is larger than 1 MiB")
    try:
        # BaseLoader makes strings, lists and mappings, and nothing else.
        loader = yaml.BaseLoader if texts else yaml.SafeLoader
        return yaml.load(data.decode(), Loader=loader)  # noqa: S506
    # PyYAML passes on what int(), date() and deep nesting raise.
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, OverflowError) as error:
        first = (str(error).splitlines() or ["it is no YAML"])[0]
        raise unreadable(where, first) from error
    except (TypeError, AttributeError) as error:
        raise unreadable(where, "it is no YAML that can be understood") from error


def read_diff_yaml(data: bytes, where: str, *, base: str | None = None) -> DiffYaml:
    """Reads ``diff.yaml``; unknown keys are passed over. Raises RelforgeError (SOURCE).

    ``base`` is for entries whose file names say it, and that have no ``commit``.
    """
    content = load_yaml(data, where)
    if not isinstance(content, Mapping):
        raise unreadable(where, "it is no mapping")
    commit = base or _text(content.get("commit"))
    if not commit:
        raise unreadable(
            where,
            "it names no `commit`, the state of FlagScale that the patches are made for"
            " (entries of April and May 2025 do not)",
        )
    device = _text(content.get("device_type"))
    return DiffYaml(
        commit=commit,
        device_type=device or None,
        task=_texts(content.get("task"), where, "task"),
        models=_texts(content.get("models"), where, "models"),
        contact=_text(content.get("contact")),
        backends_commit=_texts_by_name(content.get("backends_commit"), where, "backends_commit"),
        backends_version=_texts_by_name(content.get("backends_version"), where, "backends_version"),
    )


def write_diff_yaml(content: DiffYaml) -> bytes:
    """The file as FlagScale's tool writes it: block style, keys sorted."""
    data = content.model_dump(mode="json")
    text = yaml.safe_dump(data, sort_keys=True, allow_unicode=True, default_flow_style=False)
    return text.encode()


def unreadable(where: str, why: str) -> RelforgeError:
    """The error for one of FlagScale's YAML files that says nothing, or nonsense."""
    return RelforgeError(
        "the entry's description cannot be used",
        code=ExitCode.SOURCE,
        where=where,
        why=why,
        hint="ask the entry's maker for a corrected one, or name another commit with --commit",
    )


def _text(value: object) -> str:
    """Numbers are what `0.8` or an all-digit commit become in YAML."""
    return "" if value is None or isinstance(value, (list, dict)) else str(value).strip()


def _texts(value: object, where: str, key: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(text for one in value if (text := _text(one)))
    if isinstance(value, dict):
        raise unreadable(where, f"`{key}` is no list")
    return (_text(value),)


def _texts_by_name(value: object, where: str, key: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise unreadable(where, f"`{key}` is no mapping")
    return {_text(name): text for name, one in value.items() if (text := _text(one))}
