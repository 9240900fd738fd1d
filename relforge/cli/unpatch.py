"""``relforge unpatch``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli import flagscale_words as flagscale
from relforge.cli import unpatch_state as state
from relforge.cli.common import (
    AllowUnsignedOption,
    DeviceOption,
    JsonOption,
    KeyPassphraseFileOption,
    KeyPathOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
    interruptible,
    print_json,
    select,
    to_stderr,
    with_keys,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SEVERAL = flagscale.SEVERAL


@app.command()
def unpatch(
    folders: state.FoldersArgument = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Where the trees go, in folders of their own (else: build)."),
    ] = None,
    device: DeviceOption = None,
    release: ReleaseOption = None,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    allow_unsigned: AllowUnsignedOption = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
    status: state.StatusOption = False,
    reverse: state.ReverseOption = False,
    worktree: state.WorktreeOption = False,
    tar: state.TarOption = None,
    discard_edits: state.DiscardEditsOption = False,
    device_type: flagscale.DeviceTypeOption = None,
    commit_id: flagscale.CommitIdOption = None,
    backend: flagscale.BackendOption = None,
    task: flagscale.TaskOption = None,
    commit: flagscale.CommitOption = None,
    backend_commit: flagscale.BackendCommitOption = None,
    repo: flagscale.RepoOption = None,
    whitespace: flagscale.WhitespaceOption = "exact",
    expect_tree: flagscale.ExpectTreeOption = None,
    any_task: flagscale.AnyTaskOption = False,
    no_init_submodule: flagscale.NoInitSubmoduleOption = False,
    no_force: flagscale.NoForceOption = False,
    no_fs_extension: flagscale.NoFsExtensionOption = False,
    force: flagscale.ForceOption = False,  # noqa: ARG001
    mode: flagscale.ModeOption = None,
) -> None:
    """Applies a release's patch sets and writes the resulting trees to DIR/<device>/<source>.

    Without --device or --release the project's only release is meant. Sealed patch sets are opened
    with the key of --key-path or of the site configuration. A tree that is there already, and
    unchanged, is left as it is.

    With --device-type an entry of FlagScale's repository is applied instead; the tree goes to
    DIR/<device>/FlagScale. With --backend alone it is FlagScale with its own extension of that
    backend, in DIR/FlagScale.

    With --status or --reverse nothing is applied: the DIRs named are looked at, or taken back.
    """
    if status and (reverse or worktree or tar is not None or directory is not None):
        raise RelforgeError(
            "--status only looks, and stands alone",
            code=ExitCode.USAGE,
            hint="relforge unpatch --status DIR",
        )
    if status:
        state.status(folders or (), as_json=json_)
        return
    if reverse:
        state.reverse(
            folders or (),
            workplace(project, site),
            repo=Path(repo) if repo is not None else None,
            discard_edits=discard_edits,
            as_json=json_,
        )
        return
    if folders:
        raise RelforgeError(
            f"{folders[0]} is named without a purpose",
            code=ExitCode.USAGE,
            hint=f"relforge unpatch --status {folders[0]}, --reverse {folders[0]}, or --dir DIR "
            "for where trees go",
        )
    of_release = bool(device or release)
    to = state.destination(
        worktree=worktree, tar=tar, repo=repo, discard_edits=discard_edits, release=of_release
    )
    words = flagscale.FlagScaleWords(
        device_types=tuple(device_type or ()),
        commit_id=commit_id,
        backends=tuple(backend or ()),
        tasks=tuple(task or ()),
        commit=commit,
        backend_commits=tuple(backend_commit or ()),
        repo=None if of_release else repo,
        directory=directory,
        whitespace=whitespace,
        expect_trees=tuple(expect_tree or ()),
        any_task=any_task,
        no_init_submodule=no_init_submodule,
        no_force=no_force,
        no_fs_extension=no_fs_extension,
        mode=mode,
        to=to,
    )
    if words.given:
        if device or release:
            raise RelforgeError(
                "a release is named together with what is for an entry of FlagScale's repository",
                code=ExitCode.USAGE,
                hint="name either --device or --release, or --device-type with --whitespace, "
                "--expect-tree and the like",
            )
        from relforge.cli.unpatch_flagscale import unpatch_flagscale

        place = with_keys(workplace(project, site), key_path, key_passphrase_file)
        unpatch_flagscale(words, place, as_json=json_)
        return
    from relforge.patching.tree.place import safe_target
    from relforge.plan import subject
    from relforge.unpatching import unpatch_release

    if directory is not None:
        safe_target(directory)
    place = with_keys(workplace(project, site), key_path, key_passphrase_file)
    own = place.project.own_releases
    if not device and not release and len(own) == 1:
        release = list(own)
    (chosen, *others) = select(place.project, devices=device, releases=release, models=None)
    if others:
        raise RelforgeError(
            "unpatch takes one release at a time",
            code=ExitCode.USAGE,
            why=f"named are {chosen.name}, {', '.join(o.name for o in others)}",
        )
    loaded = subject(place.project, chosen, place.site, allow_unsigned=allow_unsigned)
    if not loaded.patch_sets:
        raise RelforgeError(
            f"release {chosen.name} has no patch set",
            code=ExitCode.USAGE,
            hint="its sources are used as they are",
        )
    with interruptible() as cancel:
        trees = unpatch_release(
            loaded,
            (directory or Path("build")) / chosen.device,
            home=place.home,
            on_line=to_stderr,
            cancel=cancel,
            to=to,
        )
    if json_ and not to.on_stdout:
        print_json({"release": chosen.name, "trees": [t.model_dump(mode="json") for t in trees]})
        return
    out = sys.stderr if to.on_stdout else sys.stdout
    for tree in trees:
        out.write(f"{tree.folder}  {tree.tree.tree}  {tree.status}\n")
