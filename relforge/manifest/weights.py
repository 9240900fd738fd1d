"""Where a model's weights come from: a folder of the project, a hub, or somebody who is asked.

Whatever the kind, ``files`` says which file has which SHA-256; only what is pinned there is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.common import Line, Reason, RelativePath, Sha256
from relforge.manifest.facts import UNRESOLVED

RepositoryId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"),
]
"""``owner/name``, as both hubs write it."""


def _stays_put(revision: str) -> str:
    if revision in ("master", "main", "HEAD"):
        raise ValueError("a branch moves: pin a commit, or a tag of the repository")
    return revision


TagOrCommit = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"),
    AfterValidator(_stays_put),
]
"""No branch: a branch moves."""


class PinnedFile(Frozen):
    """One file of a repository, as the hub's listing shows it."""

    sha256: Sha256
    """Of its content."""
    size_bytes: Annotated[int, Field(ge=0)]
    """As the hub lists it."""


class LocalWeights(Frozen):
    """Weights in a folder of the project, every file pinned by hash."""

    kind: Literal["local"]
    path: RelativePath
    """The folder in the project."""
    files: dict[RelativePath, Sha256]
    """The SHA-256 of each file."""


class _NotInProject(Frozen):
    """What the kinds have in common whose files lie in no folder of the project.

    Each has ``pinned`` as its last field, so that what stands before can decide about it.
    """

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of each pinned file, as ``LocalWeights.files`` has it."""
        pinned: Mapping[str, PinnedFile] = vars(self)["pinned"]
        return {path: file.sha256 for path, file in pinned.items()}

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


class _OnHub(_NotInProject):
    """``revision: unresolved``, without files, until somebody has pinned what the hub has."""

    repository: RepositoryId
    """On the hub."""
    revision: str
    """A full commit, or ``unresolved``."""
    pinned: dict[RelativePath, PinnedFile] = Field(alias="files", default={}, validate_default=True)
    """Each file by hash and size; pinned together with the revision."""

    @field_validator("pinned")
    @classmethod
    def _pinned_whole(
        cls, pinned: dict[str, PinnedFile], info: ValidationInfo
    ) -> dict[str, PinnedFile]:
        revision = info.data.get("revision")
        if revision is not None and (revision == UNRESOLVED) != (not pinned):
            raise ValueError("a revision and the files that it has are pinned together")
        return pinned


class HuggingFaceWeights(_OnHub):
    """Files of a model repository on the Hugging Face Hub, or a mirror of it."""

    kind: Literal["huggingface"]
    revision: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|unresolved)$")]
    """A full commit; ``unresolved``, without ``files``, until it is pinned."""


class ModelScopeWeights(_OnHub):
    """Files of a model repository on ModelScope; ``revision`` is a commit or a tag."""

    kind: Literal["modelscope"]
    revision: TagOrCommit
    """A commit or a tag; ``unresolved``, without ``files``, until it is pinned."""


class OnRequestWeights(_NotInProject):
    """Weights that their owner hands out on request.

    Whoever has them names their folder under ``weights`` in the site configuration. Without pinned
    ``files`` nobody can tell whether they are the right ones, and every record says so.
    """

    kind: Literal["on-request"]
    contact: Reason
    """Whom to ask."""
    ask_for: Reason
    """For what, in words that the error repeats."""
    pinned: dict[RelativePath, PinnedFile] = Field(alias="files", default={})
    """Each file by hash and size; empty: nobody can tell whether they are right."""


class ServerWeights(_NotInProject):
    """What the server in the image fetches itself, such as a graph that was built ahead.

    Nothing pins it, and every record says so. It goes into the folder that the site configuration
    names for the model, or into one below relforge's home.
    """

    kind: Literal["by-server"]
    what: Reason
    """What is fetched, in words."""
    source: Reason
    """Where it says that the server fetches it."""
    pinned: dict[RelativePath, PinnedFile] = Field(alias="files", default={}, max_length=0)
    """Always empty."""


Weights = Annotated[
    LocalWeights | HuggingFaceWeights | ModelScopeWeights | OnRequestWeights | ServerWeights,
    Field(discriminator="kind"),
]


class Reported(Frozen):
    """A figure that somebody else published; relforge did not measure it."""

    task: Line
    """The task's name."""
    metric: Line
    """As its source calls it."""
    value: float
    """As its source has it, mostly in percent."""
    n: Annotated[int, Field(ge=1)] | None = None
    """How many questions; None where the source does not say."""
    source: Reason
    """Where it was published."""
