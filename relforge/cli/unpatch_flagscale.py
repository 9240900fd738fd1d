"""``relforge unpatch`` in FlagScale's words: an entry of its repository instead of a release."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relforge.cli.common import Workplace, interruptible, print_json, to_stderr
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.patching.flagscale.found import Found
    from relforge.patching.flagscale.repository import Repository
    from relforge.patching.source import Trust
    from relforge.patching.tree.destination import Destination
    from relforge.patching.tree.folder import Unpatched
    from relforge.stage import CancelToken

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
    word("--commit", "The commit that holds the entry (else: the history file).", "COMMIT"),
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
NoForceOption = Annotated[
    bool, typer.Option("--no-force", help="Nothing is ever forced here.", hidden=True)
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
        )


def unpatch_flagscale(words: FlagScaleWords, place: Workplace, *, as_json: bool) -> None:
    """Writes one tree per device. Raises RelforgeError (USAGE, SOURCE)."""
    from relforge.patching.flagscale.repository import open_repository
    from relforge.patching.tree.place import safe_target

    _check(words)
    if words.directory is not None:
        safe_target(words.directory)
    with interruptible() as cancel:
        repository = open_repository(
            words.repo, home=place.home, site=place.site, on_line=to_stderr, cancel=cancel
        )
        found = _find(words, repository, place, cancel)
        local = repository.work_tree
        directory = words.directory or ((local or Path.cwd()) / "build")
        done = _write(words, found, place, directory, cancel)
    archived = words.to is not None and words.to.on_stdout
    if as_json and not archived:
        rows = [
            {
                "device": one.device,
                "patch_set": one.patches.name,
                "base_commit": one.base_commit,
                "grafts": {graft.folder: graft.tree for graft in one.grafts},
                "verified": bool(words.expect_trees),
                **tree.model_dump(mode="json"),
            }
            for one, tree in zip(found, done, strict=True)
        ]
        print_json({"trees": rows})
        return
    out = sys.stderr if archived else sys.stdout
    for tree in done:
        out.write(f"{tree.folder}  {tree.tree.tree}  {tree.status}\n")


def _check(words: FlagScaleWords) -> None:
    if not words.device_types:
        raise _usage("no device is named", "add --device-type")
    if words.whitespace not in ("exact", "fix"):
        raise _usage(
            f"--whitespace takes exact or fix, not {words.whitespace!r}", "leave it out for exact"
        )
    if words.commit_id and (words.backends or words.tasks or words.commit):
        raise _usage(
            "these options belong to two different layouts of FlagScale",
            "legacy: --device-type D --commit-id BASE\n"
            "current: --backend B --device-type D --task T",
        )
    if not words.commit_id:
        if not words.backends or not words.tasks:
            raise _usage(
                "the entry is not named in full",
                "legacy: --device-type D --commit-id BASE\n"
                "current: --backend B --device-type D --task T",
            )
        if len(words.device_types) > 1:
            raise _usage(
                "the current layout takes one device at a time", "run the command for each device"
            )
    if words.expect_trees and len(words.expect_trees) != len(words.device_types):
        raise _usage("--expect-tree takes one tree per device", "name as many trees as devices")


def _find(
    words: FlagScaleWords, repository: Repository, place: Workplace, cancel: CancelToken
) -> tuple[Found, ...]:
    from relforge.patching.flagscale import current, legacy, names
    from relforge.patching.flagscale.submodules import Fetching

    if words.commit_id:
        return legacy.find_legacy(
            repository, words.device_types, words.commit_id, on_line=to_stderr
        )
    backends = names.backends(words.backends)
    submodules = [backend for backend in backends if backend != names.ROOT_BACKEND]
    if len(words.backend_commits) > len(submodules):
        raise _usage(
            "--backend-commit names more commits than there are submodules",
            "name one for each of --backend but FlagScale, in the same order",
        )
    request = current.CurrentRequest(
        device=words.device_types[0],
        backends=backends,
        tasks=names.tasks(words.tasks),
        commit=words.commit,
        backend_commits=tuple(zip(submodules, words.backend_commits, strict=False)),
        any_task=words.any_task,
    )
    fetching = Fetching(place.home, place.site, to_stderr, cancel)
    return (current.find_current(repository, request, fetching),)


def _write(
    words: FlagScaleWords,
    found: Sequence[Found],
    place: Workplace,
    directory: Path,
    cancel: CancelToken,
) -> list[Unpatched]:
    from relforge.patching.flagscale.names import TREE_NAME
    from relforge.patching.tree.destination import Destination, one_archive, write_tree

    to = words.to or Destination()
    one_archive(to, len(found))
    trust = _trust(found, place)
    done = []
    for number, one in enumerate(found):
        cancel.check()
        if not words.expect_trees:
            to_stderr(_UNVERIFIED.format(entry=one.patches.name))
        recipe = one.recipe(
            trust,
            expected_tree=words.expect_trees[number] if words.expect_trees else None,
            whitespace="fix" if words.whitespace == "fix" else "exact",
        )
        target = directory / one.device / TREE_NAME
        done.append(write_tree(target, recipe, to, home=place.home, epoch=one.epoch, cancel=cancel))
    return done


_UNVERIFIED = (
    "note: {entry} cannot be verified: FlagScale's format carries no signature and no checksum, so "
    "nobody can tell whether the patch was altered.\n"
    "      Compare the tree below with the one its vendor names, or give it: --expect-tree HASH"
)


def _trust(found: Sequence[Found], place: Workplace) -> Trust:
    from relforge.patching.keys import Identities, load_identities, passphrase_from
    from relforge.patching.source import Trust

    if not any(one.patches.sealed for one in found):
        return Trust()
    site = place.site
    identities = Identities()
    if site.identities:
        passphrase = passphrase_from(site.key_passphrase_file)
        identities = load_identities(site.identities, passphrase=passphrase)
    return Trust(identities=identities)


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)
