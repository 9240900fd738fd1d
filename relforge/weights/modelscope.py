"""ModelScope, by its client library; runs in the worker only. The library continues a file."""

from __future__ import annotations

import importlib
from typing import Any

from relforge.weights.asking import HubFault, Request, chain

_KINDS = {
    "NotExistError": "no-file",
    "AuthenticationError": "refused",
    "PermissionDeniedError": "refused",
    "NetworkError": "unreachable",
    "ServerError": "unreachable",
    "RateLimitError": "unreachable",
    "RequestException": "unreachable",
}


def look(request: Request) -> list[dict[str, Any]]:
    """The files of the pinned revision, with size and SHA-256."""
    api = _api(request)
    try:
        found = api.list_repo_files(request.repository, "model", revision=request.revision)
    except Exception as error:
        if kind_of(error) == "no-file":
            known = api.repo_exists(request.repository, "model")
            raise HubFault("no-revision" if known else "no-repository", str(error)) from error
        raise
    return [
        {"path": file.path, "size_bytes": file.size, "sha256": file.sha256}
        for file in found
        if not file.is_dir
    ]


def revision(request: Request) -> str:
    """The tag or commit as it was named, if the repository has it."""
    look(request)
    return request.revision


def fetch(request: Request) -> None:
    """One file; what an earlier fetch left of it is continued."""
    _api(request).download_file(
        request.repository,
        "model",
        request.path,
        revision=request.revision,
        local_dir=request.into,
    )


def _api(request: Request) -> Any:
    hub = importlib.import_module("modelscope_hub")
    # An empty token means none; without the word the library would take the user's own.
    return hub.HubApi(endpoint=request.endpoint, token=request.token or "")


def kind_of(error: Exception) -> str:
    """The kind of fault; told by class names, so that no version's layout is depended on."""
    for one in chain(error):
        for base in type(one).__mro__:
            if base.__name__ in _KINDS:
                return _KINDS[base.__name__]
        if isinstance(one, (ConnectionError, TimeoutError)):
            return "unreachable"
    return "broken"
