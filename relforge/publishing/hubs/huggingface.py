"""The Hugging Face Hub, by huggingface_hub; runs in the worker only.

The library waits by itself, for as long as a server asks and without a word, when it is told to
come back later. A hook on its client turns such an answer into an error at once, so that one
policy, the parent's, decides about it. Calls of the library: ``HfApi`` (list_repo_refs,
list_repo_tree, get_repo_discussions, create_repo, create_commit, merge_pull_request,
change_discussion_status, create_tag, delete_tag, list_repo_commits).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relforge.publishing.hubs.asking import PUBLICATION, Ask, Fault, kind_of_status
from relforge.retrying import RETRIED_STATUSES, retry_after_s
from relforge.weights.asking import chain

_TIMEOUT_S = 60.0  # without an answer, or without a byte of it


def look(ask: Ask) -> dict[str, Any]:
    """What is there: the main branch, our tag, and open pull requests with our title.

    ``arguments``: ``tag``, ``title`` (None: no pull request is asked for) and ``publication``, the
    git hash of the publication file that is to be: another one is read.
    """
    api = _api(ask)
    try:
        refs = api.list_repo_refs(ask.repository, include_pull_requests=True)
    except Exception as error:
        if fault_of(error).kind == "missing":
            return {"exists": False}
        raise
    heads = {ref.name: ref.target_commit for ref in refs.branches}
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    pulls = {ref.ref: ref.target_commit for ref in refs.pull_requests or ()}
    found: dict[str, Any] = {"exists": True, "pulls": []}
    if "main" in heads:
        found["main"] = _revision(api, ask, heads["main"])
    if (tagged := tags.get(ask.arguments["tag"])) is not None:
        same = tagged == heads.get("main")
        found["tag"] = found["main"] if same else _revision(api, ask, tagged)
    for pull in _pulls(api, ask):
        if pull.git_reference in pulls:
            revision = _revision(api, ask, pulls[pull.git_reference])
            found["pulls"].append(
                {
                    "number": pull.num,
                    "author": pull.author,
                    "url": pull.url,
                    "draft": pull.status == "draft",
                    "at": revision,
                }
            )
    if found["pulls"]:
        found["user"] = api.whoami()["name"]
    return found


def _pulls(api: Any, ask: Ask) -> list[Any]:
    title = ask.arguments["title"]
    if title is None:
        return []
    # Drafts are a status of their own, so the open ones alone are not all of them.
    listed = api.get_repo_discussions(ask.repository, discussion_type="pull_request")
    ours = [p for p in listed if p.title == title and p.status in ("open", "draft")]
    return sorted(ours, key=lambda pull: pull.num)


def _revision(api: Any, ask: Ask, commit: str) -> dict[str, Any]:
    files = [
        {
            "path": file.path,
            "size": file.size,
            "git_sha1": None if file.lfs else file.blob_id,
            "sha256": file.lfs.sha256 if file.lfs else None,
        }
        for file in api.list_repo_tree(ask.repository, recursive=True, revision=commit)
        if hasattr(file, "blob_id")
    ]
    text = None
    own = next((file for file in files if file["path"] == PUBLICATION), None)
    if own is not None and own["git_sha1"] != ask.arguments["publication"]:
        into = Path(ask.scratch, commit)
        text = Path(
            api.hf_hub_download(ask.repository, PUBLICATION, revision=commit, local_dir=into)
        ).read_text(encoding="utf-8", errors="replace")
    return {"commit": commit, "files": files, "publication": text}


def create(ask: Ask) -> dict[str, Any]:
    """The repository; ``arguments``: ``private``. One that is there already stays as it is."""
    _api(ask).create_repo(ask.repository, private=ask.arguments["private"], exist_ok=True)
    return {}


def commit(ask: Ask) -> dict[str, Any]:
    """One commit, whole or not at all.

    ``arguments``: ``revision``, ``parent`` (the commit that it is made for), ``pull`` (whether it
    opens a pull request), ``message``, ``description``, ``add`` (path: local file), ``remove``.
    """
    hub = importlib.import_module("huggingface_hub")
    wanted = ask.arguments
    adds = [_counted(hub)(path, file) for path, file in sorted(wanted["add"].items())]
    removes = [hub.CommitOperationDelete(path) for path in wanted["remove"]]
    made = _api(ask).create_commit(
        ask.repository,
        [*adds, *removes],
        revision=None if wanted["pull"] else wanted["revision"],
        parent_commit=wanted["parent"],
        create_pr=wanted["pull"],
        commit_message=wanted["message"],
        commit_description=wanted["description"],
        num_threads=2,
    )
    return {"commit": made.oid, "pull": made.pr_num, "sent_bytes": sum(one.sent for one in adds)}


def restore(ask: Ask) -> dict[str, Any]:
    """Puts files back as at the commit ``before`` (``copy``, ``remove``), on ``parent``."""
    hub = importlib.import_module("huggingface_hub")
    wanted = ask.arguments
    copies = [
        hub.CommitOperationCopy(path, path, src_revision=wanted["before"])
        for path in wanted["copy"]
    ]
    removes = [hub.CommitOperationDelete(path) for path in wanted["remove"]]
    made = _api(ask).create_commit(
        ask.repository,
        [*copies, *removes],
        parent_commit=wanted["parent"],
        commit_message=wanted["message"],
    )
    return {"commit": made.oid}


def merge(ask: Ask) -> dict[str, Any]:
    """``arguments``: ``number``, ``draft`` (then it is opened first)."""
    api, number = _api(ask), ask.arguments["number"]
    if ask.arguments["draft"]:
        api.change_discussion_status(ask.repository, number, "open")
    api.merge_pull_request(ask.repository, number)
    return {}


def close(ask: Ask) -> dict[str, Any]:
    """``arguments``: ``number``, ``comment``."""
    _api(ask).change_discussion_status(
        ask.repository, ask.arguments["number"], "closed", comment=ask.arguments["comment"]
    )
    return {}


def tag(ask: Ask) -> dict[str, Any]:
    """``arguments``: ``tag``, ``commit``, ``message``. One that is there is a conflict."""
    _api(ask).create_tag(
        ask.repository,
        tag=ask.arguments["tag"],
        revision=ask.arguments["commit"],
        tag_message=ask.arguments["message"],
    )
    return {}


def untag(ask: Ask) -> dict[str, Any]:
    """``arguments``: ``tag``. One that is gone already is no fault."""
    try:
        _api(ask).delete_tag(ask.repository, tag=ask.arguments["tag"])
    except Exception as error:
        if fault_of(error).kind != "missing":
            raise
    return {}


def history(ask: Ask) -> dict[str, Any]:
    """The commits of main after ``since``: who, and with which title; newest first."""
    found: list[dict[str, str]] = []
    for one in _api(ask).list_repo_commits(ask.repository):
        if one.commit_id == ask.arguments["since"] or len(found) == 5:
            break
        found.append({"commit": one.commit_id, "by": ", ".join(one.authors), "title": one.title})
    return {"commits": found}


ACTIONS: Mapping[str, Callable[[Ask], dict[str, Any]]] = {
    "look": look,
    "create": create,
    "commit": commit,
    "restore": restore,
    "merge": merge,
    "close": close,
    "tag": tag,
    "untag": untag,
    "history": history,
}


def _api(ask: Ask) -> Any:
    hub = importlib.import_module("huggingface_hub")
    http = importlib.import_module("huggingface_hub.utils._http")

    def refuse(response: Any) -> None:
        if response.status_code in RETRIED_STATUSES:
            response.read()
            hub.utils.hf_raise_for_status(response)

    def client() -> Any:
        made = http.default_client_factory()
        made.timeout = _TIMEOUT_S
        made.event_hooks = {
            **made.event_hooks,
            "response": [*made.event_hooks.get("response", ()), refuse],
        }
        return made

    hub.set_client_factory(client)
    return hub.HfApi(endpoint=ask.endpoint, token=ask.token)


def _counted(hub: Any) -> Any:
    """The library's addition of a file, which knows how many of its bytes were sent."""

    class Counted(hub.CommitOperationAdd):  # type: ignore[misc]
        sent = 0

        @contextlib.contextmanager
        def as_file(self, with_tqdm: bool = False) -> Iterator[Any]:
            # That is how the library opens a file to upload it, and no other time.
            self.sent += self.upload_info.size if with_tqdm else 0
            with super().as_file(with_tqdm) as file:
                yield file

        def b64content(self) -> bytes:
            self.sent += self.upload_info.size
            return bytes(super().b64content())

    return Counted


def fault_of(error: Exception) -> Fault:
    """What went wrong; told by class names, so that no version's layout is depended on."""
    for one in chain(error):
        response = getattr(one, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int):
            server = getattr(one, "server_message", None) or str(error)
            after_s = retry_after_s(response.headers.get("Retry-After"))  # type: ignore[union-attr]
            return Fault(kind_of_status(status), f"HTTP {status}: {server}", status, after_s)
        names = {base.__name__ for base in type(one).__mro__}
        modules = {base.__module__.partition(".")[0] for base in type(one).__mro__}
        if names & {"TransportError"} and modules & {"httpx", "httpx2"}:
            return Fault("unreachable", f"{type(one).__name__}: {one}")
        if isinstance(one, (ConnectionError, TimeoutError)):
            return Fault("unreachable", f"{type(one).__name__}: {one}")
        if names & {"JSONDecodeError"}:
            return Fault("unreachable", f"the answer is no JSON, or ends too early: {one}")
    if "Invalid metadata in README.md" in str(error):
        return Fault("rejected", str(error))
    return Fault("broken", f"{type(error).__name__}: {error}")
