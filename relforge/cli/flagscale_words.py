"""FlagScale's words on the command line: the options that its tools have, and what was typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from relforge.patching.tree.destination import Destination

PANEL = "In FlagScale's words"


def word(flag: str, text: str, metavar: str | None = None) -> Any:
    """An option that means what it means in FlagScale's tools, shown in a panel of its own."""
    return typer.Option(flag, help=text, metavar=metavar, rich_help_panel=PANEL)


SEVERAL = frozenset(
    {"--device-type", "--backend", "--task", "--backend-commit", "--expect-tree"}
    | {"--models", "--backend-version"}
)
"""Flags that take several values, as FlagScale's tools do."""

DeviceTypeOption = Annotated[
    list[str] | None,
    word("--device-type", "A device as FlagScale names it; several.", "NAME…"),
]
CommitIdOption = Annotated[
    str | None,
    word("--commit-id", "The base of a legacy patch.", "COMMIT"),
]
BackendOption = Annotated[
    list[str] | None,
    word("--backend", "What the patches are for, in order.", "NAME…"),
]
TaskOption = Annotated[
    list[str] | None,
    word("--task", "train, inference, post_train.", "NAME…"),
]
CommitOption = Annotated[
    str | None,
    typer.Option(
        "--commit",
        "--flagscale-commit",
        help="The commit that holds the entry (else: the history file).",
        metavar="COMMIT",
        rich_help_panel=PANEL,
    ),
]
BackendCommitOption = Annotated[
    list[str] | None,
    word(
        "--backend-commit", "Other commits of the submodules, in the order of --backend.", "COMMIT…"
    ),
]
RepoOption = Annotated[
    str | None,
    word("--repo", "FlagScale's repository (else: around this folder).", "PATH|URL"),
]
WhitespaceOption = Annotated[
    str,
    word("--whitespace", "exact, or fix: as FlagScale's older tools changed it."),
]
ExpectTreeOption = Annotated[
    list[str] | None,
    word("--expect-tree", "The tree that must come out, one per device.", "HASH…"),
]
AnyTaskOption = Annotated[
    bool,
    word("--any-task", "Take an entry that is made for another task."),
]
NoInitSubmoduleOption = Annotated[
    bool,
    word("--no-init-submodule", "Take submodules as this checkout has them; fetch none."),
]
NoForceOption = Annotated[
    bool,
    word("--no-force", "Without a device: take initialised submodules at their own commit."),
]
NoFsExtensionOption = Annotated[
    bool,
    word("--no-fs-extension", "Without a device: submodules without FlagScale's extension."),
]
# Flags of theirs that say how their tool treats the user's checkout, which is never touched here.
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Changes nothing here: nothing of yours is reset.", hidden=True),
]
ModeOption = Annotated[
    str | None,
    typer.Option("--mode", help="Changes nothing here: files are always copied.", hidden=True),
]


# What `relforge patch` has besides.
SealWithOption = Annotated[
    Path | None,
    word(
        "--key-path",
        "Seal for the key pair in this folder; a new one is made in an empty folder.",
        "DIR",
    ),
]
BaseOption = Annotated[
    str | None,
    word("--base-commit-id", "The base of a legacy patch.", "COMMIT"),
]
CurrentOption = Annotated[
    str | None,
    word("--current-commit-id", "The state to publish (else: HEAD).", "COMMIT"),
]
StateOption = Annotated[
    str | None,
    word("--commit", "FlagScale's base in the current layout.", "COMMIT"),
]
PinnedOption = Annotated[
    list[str] | None,
    word(
        "--backend-commit",
        "Bases of the submodules, in the order of --backend (else: as pinned).",
        "COMMIT…",
    ),
]
VersionOption = Annotated[
    list[str] | None,
    word("--backend-version", "Versions of the backends, in the order of --backend.", "TEXT…"),
]
ModelsOption = Annotated[
    list[str] | None,
    word("--models", "Models it was made for.", "NAME…"),
]
ContactOption = Annotated[str, word("--contact", "Published in diff.yaml.")]
UntrackedOption = Annotated[
    bool,
    word("--untracked", "Publish files that git does not track, too."),
]
ReplaceOption = Annotated[
    bool,
    word("--replace", "Replace the entry that is there already."),
]
OutOption = Annotated[
    Path | None,
    word("--out", "Write hardware/ below this folder (else: the repository).", "DIR"),
]


@dataclass(frozen=True)
class FlagScaleWords:
    """What was typed. ``directory`` None: ``build`` in the repository, or here for a URL."""

    device_types: tuple[str, ...]
    commit_id: str | None
    backends: tuple[str, ...]
    tasks: tuple[str, ...]
    commit: str | None
    backend_commits: tuple[str, ...]
    repo: str | None
    directory: Path | None
    whitespace: str
    expect_trees: tuple[str, ...]
    any_task: bool
    no_init_submodule: bool = False
    no_force: bool = False
    no_fs_extension: bool = False
    mode: str | None = None
    to: Destination | None = None

    @property
    def given(self) -> bool:
        """Whether anything was typed that only FlagScale's form has."""
        return bool(
            self.device_types
            or self.commit_id
            or self.backends
            or self.tasks
            or self.commit
            or self.backend_commits
            or self.repo
            or self.expect_trees
            or self.any_task
            or self.no_init_submodule
            or self.no_force
            or self.no_fs_extension
            or self.whitespace != "exact"
            or self.mode is not None
        )

    @property
    def development(self) -> bool:
        """FlagScale's own extension of a backend is meant, and no device's entry."""
        return bool(self.backends) and not (self.device_types or self.tasks or self.commit_id)
