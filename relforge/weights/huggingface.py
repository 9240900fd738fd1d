"""The Hugging Face Hub, by huggingface_hub; runs in the worker only.

``hf_hub_download`` starts a file anew after it was killed, so files go through the function below
it, ``http_get``, which continues at a byte.
"""

from __future__ import annotations

import importlib
from typing import Any

from relforge.weights.asking import HubFault, Request, chain

_KINDS = {
    "GatedRepoError": "refused",
    "RepositoryNotFoundError": "no-repository",
    "RevisionNotFoundError": "no-revision",
    "EntryNotFoundError": "no-file",
    "OfflineModeIsEnabled": "unreachable",
}
_STATUS = {401: "refused", 403: "refused", 404: "no-file"}


def look(request: Request) -> list[dict[str, Any]]:
    """The files of the pinned revision, with size and, where the hub knows it, SHA-256."""
    hub = importlib.import_module("huggingface_hub")
    api = hub.HfApi(endpoint=request.endpoint, token=request.token or False)
    info = api.model_info(request.repository, revision=request.revision, files_metadata=True)
    if info.sha != request.revision:
        raise HubFault("no-revision", f"asked for {request.revision}, the hub gave {info.sha}")
    return [
        {
            "path": file.rfilename,
            "size_bytes": file.size,
            "sha256": file.lfs.sha256 if file.lfs else None,
        }
        for file in info.siblings or ()
    ]


def revision(request: Request) -> str:
    """The commit that a branch or tag is at now."""
    hub = importlib.import_module("huggingface_hub")
    api = hub.HfApi(endpoint=request.endpoint, token=request.token or False)
    return str(api.model_info(request.repository, revision=request.revision).sha)


def fetch(request: Request) -> None:
    """One file; what an earlier fetch left of it is continued."""
    hub = importlib.import_module("huggingface_hub")
    download = importlib.import_module("huggingface_hub.file_download")
    utils = importlib.import_module("huggingface_hub.utils")
    url = hub.hf_hub_url(
        request.repository, request.path, revision=request.revision, endpoint=request.endpoint
    )
    headers = utils.build_hf_headers(token=request.token or False)
    headers["Accept-Encoding"] = "identity"  # else a byte range counts compressed bytes
    with request.partial.open("ab") as file:
        if file.tell() > request.size_bytes:
            file.truncate(0)
        # Also an empty file is asked for: it has to exist at that revision.
        download.http_get(
            url,
            file,
            resume_size=file.seek(0, 2),
            headers=headers,
            expected_size=request.size_bytes or None,
        )
    request.partial.replace(request.target)


def kind_of(error: Exception) -> str:
    """The kind of fault; told by class names, so that no version's layout is depended on."""
    for one in chain(error):
        for base in type(one).__mro__:
            if base.__name__ in _KINDS:
                # The hub answers 401 for what it does not show: no such repository, or no right.
                status = getattr(getattr(one, "response", None), "status_code", None)
                return "refused" if status in (401, 403) else _KINDS[base.__name__]
            if base.__module__.startswith("httpx") and base.__name__ == "TransportError":
                return "unreachable"
        status = getattr(getattr(one, "response", None), "status_code", None)
        if status in _STATUS:
            return _STATUS[status]
        if status is not None and (status >= 500 or status == 429):
            return "unreachable"
        if isinstance(one, (ConnectionError, TimeoutError)):
            return "unreachable"
    return "broken"
