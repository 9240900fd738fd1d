"""Pins the weights of a model: the revision that a hub has now, and every file's size and hash."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import sha256_file, write_atomic
from relforge.manifest.loader import load
from relforge.manifest.model import Model
from relforge.manifest.site import Site
from relforge.manifest.weights import HuggingFaceWeights, ModelScopeWeights, PinnedFile
from relforge.weights.client import HubClient, Listed
from relforge.weights.faults import Repository
from relforge.workarea import work_area

OnLine = Callable[[str], None]
# What a hub keeps beside the weights, and no server reads.
_LEFT_OUT = (".gitattributes", ".gitignore", "README.md")


def pinned_now(
    model: Model, *, revision: str | None, home: Path, site: Site, cancel: CancelToken, line: OnLine
) -> HuggingFaceWeights | ModelScopeWeights:
    """The model's weights, pinned as the hub has them.

    ``revision`` is a branch, tag or commit of the Hugging Face Hub (default: main), which becomes
    its commit; of ModelScope a tag or commit, and has to be named. Small files of which a hub tells
    no hash are fetched to hash them. Raises RelforgeError: USAGE for weights of no hub, SOURCE and
    ENVIRONMENT as fetching does.
    """
    weights = model.weights
    if not isinstance(weights, HuggingFaceWeights | ModelScopeWeights):
        raise RelforgeError(
            f"the weights of {model.name} are on no hub",
            code=ExitCode.USAGE,
            why=f"weights.kind is {weights.kind}",
            hint="only huggingface and modelscope can be pinned",
        )
    if weights.kind == "modelscope" and revision is None:
        raise RelforgeError(
            "ModelScope does not tell the commit of a branch",
            code=ExitCode.USAGE,
            where=f"model {model.name}",
            hint="name a tag or a commit: "
            f"relforge weights pin --model {model.name} --revision TAG",
        )
    with work_area(home, "weights") as scratch:
        repository = Repository(
            weights.kind, weights.repository, revision or "main", model.name
        )  # fmt: skip
        client = HubClient(repository, site, scratch)
        found = client.revision(cancel, line)
        line(f"{weights.repository}: {repository.revision} is {found}")
        client = HubClient(replace(repository, revision=found), site, scratch)
        files = {}
        for listed in client.look(cancel, line):
            if listed.path not in _LEFT_OUT:
                files[listed.path] = _pinned(client, listed, scratch, cancel, line)
        if not files:
            raise RelforgeError(
                f"{weights.repository} has no files at {found}",
                code=ExitCode.SOURCE,
                where=f"model {model.name}",
                hint="correct weights.repository in the model manifest",
            )
    return type(weights).model_validate(
        {
            "kind": weights.kind,
            "repository": weights.repository,
            "revision": found,
            "files": {path: file.model_dump() for path, file in sorted(files.items())},
        }
    )


def _pinned(
    client: HubClient, listed: Listed, scratch: Path, cancel: CancelToken, line: OnLine
) -> PinnedFile:
    size_bytes = listed.size_bytes
    if listed.sha256 is not None and size_bytes is not None:
        return PinnedFile(sha256=listed.sha256, size_bytes=size_bytes)
    folder = scratch / "fetched"
    client.fetch(listed.path, size_bytes or 0, folder, cancel, line)
    fetched = folder / listed.path
    return PinnedFile(sha256=sha256_file(fetched), size_bytes=fetched.stat().st_size)


def as_text(weights: HuggingFaceWeights | ModelScopeWeights) -> str:
    """The section ``weights`` of a model's manifest."""
    content = weights.model_dump(mode="json")
    ordered = {name: content[name] for name in ("kind", "repository", "revision", "files")}
    return yaml.safe_dump({"weights": ordered}, sort_keys=False, allow_unicode=True, width=100)


def write(file: Path, weights: HuggingFaceWeights | ModelScopeWeights) -> None:
    """Puts the section into a model's manifest; everything else in it stays as it is.

    Raises RelforgeError (USAGE) when the file would not be a manifest afterwards; then nothing is
    written.
    """
    text = file.read_text(encoding="utf-8")
    section = re.compile(r"^weights:\n(?:[ \t]+.*\n|\n)*", re.MULTILINE)
    changed = section.sub(lambda _: as_text(weights), text, count=1)
    write_atomic(trial := file.with_name(f".{file.name}"), changed.encode())
    try:
        if load(trial, Model).weights != weights:
            raise RelforgeError(
                f"the section weights of {file.name} could not be replaced",
                code=ExitCode.USAGE,
                where=str(file),
                hint="leave out --write, and paste what is printed",
            )
        trial.replace(file)
    finally:
        trial.unlink(missing_ok=True)
