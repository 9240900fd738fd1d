"""ModelScope, by modelscope_hub; runs in the worker only.

Calls of the library: ``HubApi.create_repo``, ``create_repo_tag``, ``list_repo_files``,
``download_file``, and of ``HubApi.legacy`` ``list_revisions_detail``, ``validate_blobs``,
``upload_blob`` and ``create_commit``. The last four are what its own ``upload_folder`` is made of,
which never removes a file in the commit that adds others; here both are one commit.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from relforge.files import sha256_file
from relforge.publishing.hubs.asking import PUBLICATION, Ask, Fault, FaultKind, kind_of_status
from relforge.weights.asking import chain

_MAIN = "master"
_HASHED_BYTES = 1_000_000  # of a file whose hash the listing leaves out
_LAST = ("README_zh.md", "README.md", PUBLICATION)
_KINDS: Mapping[str, FaultKind] = {
    "AuthenticationError": "token",
    "PermissionDeniedError": "forbidden",
    "QuotaExceededError": "rejected",
    "NotExistError": "missing",
    "AlreadyExistsError": "conflict",
    "RateLimitError": "busy",
    "ServerError": "busy",
    "NetworkError": "unreachable",
    "InvalidParameter": "rejected",
    "RequestException": "unreachable",
    "JSONDecodeError": "unreachable",
}


def look(ask: Ask) -> dict[str, Any]:
    """What is there: the files of the main branch and of our tag, and those of the draft.

    ``arguments``: ``tag``, ``draft`` (the name of another repository, or None) and
    ``publication``, the SHA-256 of the publication file that is to be: another one is read.
    """
    draft = ask.arguments["draft"]
    return {
        "release": _look(ask, ask.arguments["tag"]),
        "draft": _look(replace(ask, repository=draft), None) if draft else None,
    }


def _look(ask: Ask, tag: str | None) -> dict[str, Any]:
    api = _api(ask)
    try:
        branches, tags = api.legacy.list_revisions_detail(ask.repository, "model")
    except Exception as error:
        if fault_of(error).kind == "missing":
            return {"exists": False}
        raise
    found: dict[str, Any] = {"exists": True}
    if _MAIN in _names(branches):
        found["main"] = _revision(api, ask, _MAIN)
    if tag in _names(tags):
        found["tag"] = _revision(api, ask, tag)
    return found


def _names(revisions: list[dict[str, Any]]) -> set[str]:
    return {str(one.get("Revision") or one.get("name")) for one in revisions}


def _revision(api: Any, ask: Ask, revision: Any) -> dict[str, Any] | None:
    try:
        listed = api.list_repo_files(ask.repository, "model", revision=revision)
    except Exception as error:
        if fault_of(error).kind == "missing":
            return None  # a branch without a commit
        raise
    files = [
        {
            "path": one.path,
            "size": one.size,
            "sha256": one.sha256 or _hash_of(api, ask, one, revision),
        }
        for one in listed
        if not one.is_dir
    ]
    files.sort(key=lambda file: str(file["path"]))
    text = None
    own = next((file for file in files if file["path"] == PUBLICATION), None)
    if own is not None and own["sha256"] != ask.arguments["publication"]:
        text = _fetched(api, ask, PUBLICATION, revision).decode("utf-8", errors="replace")
    # The library does not tell commits: what a revision holds is what names it here.
    name = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:40]
    return {"commit": name, "files": files, "publication": text}


def _hash_of(api: Any, ask: Ask, file: Any, revision: str) -> str | None:
    if file.size > _HASHED_BYTES:
        return None
    return hashlib.sha256(_fetched(api, ask, file.path, revision)).hexdigest()


def _fetched(api: Any, ask: Ask, path: str, revision: str) -> bytes:
    into = Path(ask.scratch, "fetched", ask.repository, revision)
    return Path(
        api.download_file(
            ask.repository, "model", path, revision=revision, local_dir=into, force=True
        )
    ).read_bytes()


def create(ask: Ask) -> dict[str, Any]:
    """The repository; ``arguments``: ``private``, ``license``. One that is there stays as it is."""
    try:
        _api(ask).create_repo(
            ask.repository,
            "model",
            visibility="private" if ask.arguments["private"] else "public",
            license=ask.arguments["license"],
        )
    except Exception as error:
        if fault_of(error).kind != "conflict":
            raise
    return {}


def commit(ask: Ask) -> dict[str, Any]:
    """``arguments``: ``message``, ``add`` (path: local file), ``remove``.

    One commit, or several where the files in its body are more than the hub takes at once; cards
    and the publication file are in the last one.
    """
    api, wanted = _api(ask), ask.arguments
    large = {path: file for path, file in wanted["add"].items() if _is_large(path, Path(file))}
    sent_bytes = _upload(api, ask, large)
    actions = []
    for path, file in sorted(wanted["add"].items(), key=lambda one: (one[0] in _LAST, one[0])):
        actions.append(_pointer(path, Path(file)) if path in large else _inline(path, Path(file)))
    gone = {"action": "delete", "type": "normal", "size": 0, "sha256": ""}
    removals = [{**gone, "path": path, "content": "", "encoding": ""} for path in wanted["remove"]]
    groups = list(_groups(actions)) or [[]]
    groups[-1] += removals
    for number, group in enumerate(groups, 1):
        part = f" ({number} of {len(groups)})" if len(groups) > 1 else ""
        api.legacy.create_commit(
            ask.repository, "model", group, wanted["message"] + part, revision=_MAIN
        )
        sent_bytes += sum(one["size"] for one in group if one["type"] == "normal")
    return {"sent_bytes": sent_bytes}


def _upload(api: Any, ask: Ask, large: Mapping[str, str]) -> int:
    """Sends contents that the hub does not have; the bytes of those."""
    files = {sha256_file(Path(file)): Path(file) for file in large.values()}
    objects = [{"oid": oid, "size": file.stat().st_size} for oid, file in sorted(files.items())]
    sent_bytes = 0
    for at in range(0, len(objects), 100):
        asked = objects[at : at + 100]
        addresses = api.legacy.validate_blobs(ask.repository, "model", asked)
        for oid, address in addresses.items():
            if address is None or oid not in files:
                continue
            size = files[oid].stat().st_size
            with files[oid].open("rb") as content:
                api.legacy.upload_blob(address, content, size)
            sent_bytes += size
    return sent_bytes


def _is_large(path: str, file: Path) -> bool:
    """Whether the library would keep it out of git (its ``_upload_mode``)."""
    known = importlib.import_module("modelscope_hub.constants")
    size = file.stat().st_size
    if Path(path).name.upper() in known.UPLOAD_INLINE_METADATA_PATHS or size == 0:
        return False
    suffixes: list[str] = known.MODEL_LFS_SUFFIX
    limit: int = known.UPLOAD_LFS_FORCE_THRESHOLD_BYTES
    return size > limit or Path(path).suffix.lower() in suffixes


def _pointer(path: str, file: Path) -> dict[str, Any]:
    return {
        "action": "create",
        "path": path,
        "type": "lfs",
        "size": file.stat().st_size,
        "sha256": sha256_file(file),
        "content": "",
        "encoding": "",
    }


def _inline(path: str, file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    return {
        "action": "create",
        "path": path,
        "type": "normal",
        "size": len(data),
        "sha256": "",
        "content": base64.b64encode(data).decode(),
        "encoding": "base64",
    }


def _groups(actions: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    known = importlib.import_module("modelscope_hub.constants")
    limit_bytes = known.UPLOAD_COMMIT_MAX_INLINE_BYTES
    limit_count = known.COMMIT_MAX_ACTIONS_PER_REQUEST // 2  # removals come on top
    group: list[dict[str, Any]] = []
    size = 0
    for action in actions:
        more = len(action["content"]) + 300
        if group and (size + more > limit_bytes or len(group) == limit_count):
            yield group
            group, size = [], 0
        group.append(action)
        size += more
    if group:
        yield group


def tag(ask: Ask) -> dict[str, Any]:
    """``arguments``: ``tag``; on the main branch as it is. One that is there is a conflict."""
    _api(ask).create_repo_tag(ask.repository, "model", ask.arguments["tag"], revision=_MAIN)
    return {}


ACTIONS: Mapping[str, Callable[[Ask], dict[str, Any]]] = {
    "look": look,
    "create": create,
    "commit": commit,
    "tag": tag,
}


def _api(ask: Ask) -> Any:
    hub = importlib.import_module("modelscope_hub")
    return hub.HubApi(endpoint=ask.endpoint, token=ask.token)


def fault_of(error: Exception) -> Fault:
    """What went wrong; told by class names, so that no version's layout is depended on."""
    for one in chain(error):
        status = getattr(one, "status_code", None)
        text = str(getattr(one, "message", "") or one)
        if isinstance(status, int):
            text = f"HTTP {status}: {text}"
        for base in type(one).__mro__:
            if base.__name__ in _KINDS:
                kind = _KINDS[base.__name__]
                if base.__name__ == "InvalidParameter" and status is not None:
                    kind = kind_of_status(status)
                return Fault(kind, text, status, getattr(one, "retry_after", None))
        if isinstance(status, int):
            return Fault(kind_of_status(status), text, status)
        if isinstance(one, (ConnectionError, TimeoutError)):
            return Fault("unreachable", f"{type(one).__name__}: {one}")
    return Fault("broken", f"{type(error).__name__}: {error}")
