"""Where a model's weights come from: a folder of the project, a hub, or somebody who is asked.

Whatever the kind, ``files`` says which file has which SHA-256; only what is pinned there is served.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.common import Line, Reason, RelativePath, Sha256

RepositoryId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"),
]
"""``owner/name``, as both hubs write it."""


def _stays_put(revision: str) -> str:
    if revision in ("master", "main", "HEAD"):
        raise ValueError("a branch moves: pin a commit, or a tag of the repository")
    return revision


HubCommit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
HubRevision = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"),
    AfterValidator(_stays_put),
]


class PinnedFile(Frozen):
    """One file of a repository, as the hub's listing shows it."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class LocalWeights(Frozen):
    """Weights in a folder of the project, every file pinned by hash."""

    kind: Literal["local"]
    path: RelativePath
    files: dict[RelativePath, Sha256]


class _NotInProject(Frozen):
    """What the kinds have in common whose files lie in no folder of the project."""

    pinned: dict[RelativePath, PinnedFile] = Field(alias="files", min_length=1)

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of each pinned file, as ``LocalWeights.files`` has it."""
        return {path: file.sha256 for path, file in self.pinned.items()}

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Under the name that a manifest has: stages dump a model and read it again.
        data: dict[str, Any] = dump(self)
        return {("files" if name == "pinned" else name): value for name, value in data.items()}

    @property
    def path(self) -> str:
        """Always raises RelforgeError (USAGE): only local weights have a folder in the project."""
        raise RelforgeError(
            "these weights lie in no folder of the project",
            code=ExitCode.USAGE,
            why="weights.kind of the model is not local",
            hint="the stage weights says where they are on a host",
        )


class HuggingFaceWeights(_NotInProject):
    """Files of a model repository on the Hugging Face Hub, or a mirror of it."""

    kind: Literal["huggingface"]
    repository: RepositoryId
    revision: HubCommit


class ModelScopeWeights(_NotInProject):
    """Files of a model repository on ModelScope; ``revision`` is a commit or a tag."""

    kind: Literal["modelscope"]
    repository: RepositoryId
    revision: HubRevision


class OnRequestWeights(_NotInProject):
    """Weights that their owner hands out on request.

    Whoever has them names their folder under ``weights`` in the site configuration. Without pinned
    ``files`` nobody can tell whether they are the right ones, and every record says so.
    """

    kind: Literal["on-request"]
    contact: Reason
    ask_for: Reason
    pinned: dict[RelativePath, PinnedFile] = Field(alias="files", default={})


Weights = Annotated[
    LocalWeights | HuggingFaceWeights | ModelScopeWeights | OnRequestWeights,
    Field(discriminator="kind"),
]


class Reported(Frozen):
    """A figure that somebody else published; relforge did not measure it."""

    task: Line
    metric: Line
    value: float
    n: Annotated[int, Field(ge=1)] | None = None
    """How many questions; None where the source does not say."""
    source: Reason
