"""``hardware/patch_history.yaml``: which commit holds a device's entry for a task and backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from relforge.manifest.project import normalised
from relforge.patching.flagscale.diff_yaml import load_yaml, unreadable
from relforge.patching.flagscale.names import history_key

History = dict[str, dict[str, dict[str, list[str]]]]
"""Device, task, backends joined with ``+`` in sorted order; the last commit of a list counts."""


def read_history(data: bytes, where: str) -> History:
    """Reads the file. Raises RelforgeError (SOURCE)."""
    content = load_yaml(data, where, texts=True)
    if not content:
        return {}
    result: History = {}
    for device, by_task in _mapping(content, where, "the file").items():
        for task, by_backends in _mapping(by_task, where, device).items():
            for key, commits in _mapping(by_backends, where, f"{device}: {task}").items():
                if commits and not isinstance(commits, list):
                    raise unreadable(where, f"{device}: {task}: {key} is no list")
                listed = commits if isinstance(commits, list) else []
                # Nested lists behind YAML aliases would grow without end when written out.
                if any(not isinstance(commit, (str, int)) for commit in listed):
                    raise unreadable(where, f"{device}: {task}: {key} lists no commit ids")
                named = [str(commit).strip() for commit in listed]
                result.setdefault(device, {}).setdefault(task, {})[key] = named
    return result


def commits_of(
    history: History, device: str, tasks: Sequence[str], backends: Sequence[str]
) -> tuple[str, ...]:
    """The commits, oldest first, of the first task that has any; empty when nothing is named."""
    key = history_key(backends)
    spelt = [device] if device in history else history
    for name in spelt:
        if normalised(name) != normalised(device):
            continue
        for task in tasks:
            if commits := history[name].get(task, {}).get(key):
                return tuple(commits)
    return ()


def with_commit(
    history: History, device: str, tasks: Sequence[str], backends: Sequence[str], commit: str
) -> History:
    """The history with a commit added as FlagScale's merge.py adds it, each only once."""
    result: History = {
        d: {t: {k: list(c) for k, c in keys.items()} for t, keys in by_task.items()}
        for d, by_task in history.items()
    }
    for task in tasks:
        keys = result.setdefault(device, {}).setdefault(task, {})
        for key in (history_key(backends), *backends):
            commits = keys.setdefault(key, [])
            if commit not in commits:
                commits.append(commit)
    return result


def write_history(history: History) -> bytes:
    """The file as FlagScale's tool writes it: in the order of insertion."""
    return yaml.safe_dump(history, sort_keys=False, default_flow_style=False).encode()


def _mapping(value: object, where: str, what: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise unreadable(where, f"{what} is no mapping")
    return {str(key): one for key, one in value.items()}
