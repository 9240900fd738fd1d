"""``relforge unpatch --status|--reverse``, and trees as a worktree or a tar stream."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import Workplace, interruptible, print_json
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.patching.tree.destination import Destination
    from relforge.patching.tree.status import TreeStatus

FoldersArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="With --status and --reverse: folders of patched trees.", metavar="DIR"),
]
StatusOption = Annotated[
    bool,
    typer.Option("--status", help="Say which patch set DIR carries, and what was changed since."),
]
ReverseOption = Annotated[
    bool, typer.Option("--reverse", help="Make DIR exactly the base that was patched.")
]
DiscardEditsOption = Annotated[
    bool, typer.Option("--discard-edits", help="Replace a tree although files in it were edited.")
]
WorktreeOption = Annotated[
    bool,
    typer.Option("--worktree", help="Make the tree a git worktree of --repo, patches as edits."),
]
TarOption = Annotated[
    Path | None,
    typer.Option(
        "--tar", help="Write the tree as a tar archive instead (-: stdout).", metavar="FILE"
    ),
]
_CHANGES = {"added": "A", "altered": "M", "mode": "m", "gone": "D"}


def status(folders: Sequence[Path], *, as_json: bool) -> None:
    """Prints what each folder carries. Raises RelforgeError (SOURCE) when one has no marker."""
    from relforge.patching.tree.status import tree_status

    found = [tree_status(folder) for folder in _trees(folders)]
    if as_json:
        print_json({"trees": [one.model_dump(mode="json") for one in found]})
        return
    for one in found:
        sys.stdout.write(_status_text(one))


def reverse(
    folders: Sequence[Path],
    place: Workplace,
    *,
    repo: Path | None,
    discard_edits: bool,
    as_json: bool,
) -> None:
    """Takes each tree back to its base. Raises RelforgeError (SOURCE)."""
    from relforge.patching.tree.reverse import reverse as reverse_tree
    from relforge.patching.tree.worktree import repository_git_dir

    git_dir = repository_git_dir(repo) if repo is not None else None
    with interruptible() as cancel:
        done = [
            reverse_tree(
                folder,
                home=place.home,
                repository=git_dir,
                discard_edits=discard_edits,
                cancel=cancel,
            )
            for folder in _trees(folders)
        ]
    if as_json:
        print_json({"trees": [one.model_dump(mode="json") for one in done]})
        return
    for one in done:
        sys.stdout.write(f"{one.folder}  {one.tree.tree}  {one.status}\n")


def destination(
    *, worktree: bool, tar: Path | None, repo: str | None, discard_edits: bool, release: bool
) -> Destination:
    """Where the trees go. Raises RelforgeError (USAGE) for options that do not go together."""
    from relforge.patching.tree.destination import Destination

    if worktree and discard_edits:
        raise _usage(
            "a worktree is never replaced, so --discard-edits has nothing to discard there",
            "git worktree remove --force DIR, then the same command without the option",
        )
    if worktree and tar is not None:
        raise _usage("--worktree and --tar exclude each other", "leave one of them away")
    if release and worktree and repo is None:
        raise _usage(
            "--worktree needs to know of which repository", "name your clone with --repo PATH"
        )
    if release and repo is not None and not worktree:
        raise _usage(
            "--repo is for --worktree, or for FlagScale's own entries (--device-type)",
            "leave it away: a release names its sources itself",
        )
    return Destination(
        worktree=worktree,
        repository=Path(repo) if release and repo is not None else None,
        tar=tar,
        discard_edits=discard_edits,
    )


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)


def _trees(folders: Sequence[Path]) -> list[Path]:
    from relforge.patching.tree.status import marked_folders

    if not folders:
        raise RelforgeError(
            "no folder is named",
            code=ExitCode.USAGE,
            hint="relforge unpatch --status build",
        )
    # A folder without a marker, in or below it, stays in the list: it is the error to report.
    return [tree for folder in folders for tree in (marked_folders(folder) or (folder,))]


def _status_text(one: TreeStatus) -> str:
    base = one.base
    carried = one.patch_set
    lines = [
        f"{one.folder}: " + (f"patch set {carried.name}" if carried else "the base, unpatched")
    ]
    if carried:
        signed = f", signed by {carried.signer}" if carried.signer else ""
        lines.append(
            f"  from    {carried.where} ({'sealed' if carried.sealed else 'plain'}{signed})"
        )
    commit = f"commit {base.commit}, " if base.commit else ""
    lines += [
        f"  base    {commit}tree {one.base_tree}",
        f"  base in {base.repository}",
        f"  tree    {one.tree}" + (" (a git worktree)" if one.worktree else ""),
        f"  changed since: {len(one.changes) or 'nothing'}",
        *(f"    {_CHANGES[change.change]} {change.path}" for change in one.changes),
    ]
    if carried and not one.worktree:
        lines.append(
            f"  back to the base: relforge unpatch --reverse {shlex.quote(str(one.folder))}"
        )
    return "\n".join(lines) + "\n"
