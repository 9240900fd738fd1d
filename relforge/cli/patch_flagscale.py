"""``relforge patch`` in FlagScale's words: writes entries that FlagScale's own tools apply."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    JsonOption,
    KeyPassphraseFileOption,
    ProjectOption,
    SiteOption,
    interruptible,
    print_json,
    to_stderr,
    workplace,
)
from relforge.cli.flagscale_words import (
    BackendOption,
    BaseOption,
    ContactOption,
    CurrentOption,
    DeviceTypeOption,
    ModelsOption,
    OutOption,
    PinnedOption,
    ReplaceOption,
    RepoOption,
    SealWithOption,
    StateOption,
    TaskOption,
    UntrackedOption,
    VersionOption,
)
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.patching.flagscale.create_current import NewEntry
    from relforge.patching.flagscale.create_legacy import Created
    from relforge.patching.flagscale.keypair import KeyPair
    from relforge.patching.flagscale.repository import Repository


def patch(
    ctx: typer.Context,
    device_type: DeviceTypeOption = None,
    base_commit_id: BaseOption = None,
    current_commit_id: CurrentOption = None,
    backend: BackendOption = None,
    commit: StateOption = None,
    task: TaskOption = None,
    key_path: SealWithOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    backend_commit: PinnedOption = None,
    backend_version: VersionOption = None,
    models: ModelsOption = None,
    contact: ContactOption = "",
    untracked: UntrackedOption = False,
    replace: ReplaceOption = False,
    repo: RepoOption = None,
    out: OutOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Seals, opens, inspects and verifies patch sets.

    Without a command: writes an entry of FlagScale's hardware/ folder into its working tree. With
    --backend alone it keeps what is changed in third_party as FlagScale's own extension of that
    backend, in flagscale/backends.
    """
    if ctx.invoked_subcommand is not None:
        return
    legacy = base_commit_id is not None or current_commit_id is not None
    development = bool(backend) and not (device_type or commit or task or legacy)
    if not development and (not device_type or legacy == bool(backend or commit or task)):
        raise _incomplete()
    if development and (key_path or backend_commit or backend_version or models or contact):
        raise _incomplete()
    place = workplace(project, site)
    with interruptible() as cancel:
        from relforge.patching.flagscale.create_current import create_current
        from relforge.patching.flagscale.create_development import create_development
        from relforge.patching.flagscale.create_legacy import create_legacy
        from relforge.patching.flagscale.names import backends

        repository, target = _places(repo, out, place.home)
        keys = _keys(key_path, key_passphrase_file, target)
        done: Sequence[Created]
        if development:
            done = create_development(
                repository,
                backends(backend or ()),
                untracked=untracked,
                replace=replace,
                out=target,
                home=place.home,
                on_line=to_stderr,
                cancel=cancel,
            )
        elif legacy:
            if not base_commit_id or not device_type:
                raise _incomplete()
            done = (
                create_legacy(
                    repository,
                    device_type,
                    base_commit_id,
                    current_commit_id,
                    keys=keys,
                    out=target,
                    home=place.home,
                    on_line=to_stderr,
                    cancel=cancel,
                ),
            )
        else:
            if not device_type or len(device_type) > 1 or not commit or not backend or not task:
                raise _incomplete()
            entry = _entry(
                device_type[0],
                backend,
                task,
                commit,
                backend_commits=backend_commit or (),
                versions=backend_version or (),
                models=models or (),
                contact=contact,
                untracked=untracked,
                replace=replace,
            )
            done = create_current(
                repository,
                entry,
                keys=keys,
                out=target,
                home=place.home,
                on_line=to_stderr,
                cancel=cancel,
            )
    _show(done, as_json=json_)
    if not legacy and not development:
        to_stderr(
            "next: commit hardware/, then name that commit in the history file:\n"
            f"  relforge patch history --backend {' '.join(backend or ())} --device-type "
            f"{done[0].device} --task {' '.join(task or ())} --commit COMMIT"
        )


def history(
    device_type: Annotated[str, typer.Option("--device-type", help="The device.")],
    backend: Annotated[list[str], typer.Option("--backend", help="What the entry is for.")],
    task: Annotated[list[str], typer.Option("--task", help="train, inference, post_train.")],
    commit: Annotated[str, typer.Option("--commit", help="The commit that holds the entry.")],
    repo: RepoOption = None,
    out: OutOption = None,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Names the commit that holds an entry in FlagScale's hardware/patch_history.yaml."""
    from relforge.files import write_atomic
    from relforge.patching.flagscale import names
    from relforge.patching.flagscale.create_current import add_to_history

    place = workplace(project, site)
    repository, target = _places(repo, out, place.home)
    file = add_to_history(
        repository,
        device_type,
        names.tasks(task),
        names.backends(backend),
        commit,
        out=target,
    )
    write_atomic(target / file.name, file.content)
    sys.stdout.write(f"{target / file.name}\n")


def _places(repo: str | None, out: Path | None, home: Path) -> tuple[Repository, Path]:
    from relforge.manifest.site import Site
    from relforge.patching.flagscale.repository import open_repository

    if repo is not None and not Path(repo).is_dir():
        raise RelforgeError(
            "the repository is not there",
            code=ExitCode.USAGE,
            where=repo,
            why="an entry is made from your own clone",
            hint="correct --repo",
        )
    repository = open_repository(repo, home=home, site=Site(), on_line=to_stderr)
    if out is None and repository.work_tree is None:
        raise RelforgeError(
            "nothing says where the entry goes",
            code=ExitCode.USAGE,
            where=repository.shown,
            why="this repository has no working tree",
            hint="add --out DIR",
        )
    return repository, (out.absolute() if out is not None else repository.work_tree or Path())


def _keys(folder: Path | None, passphrase_file: Path | None, target: Path) -> KeyPair | None:
    from relforge.patching.flagscale.keypair import key_pair, refuse_inside
    from relforge.patching.keys import passphrase_from

    if folder is None:
        return None
    refuse_inside(folder, target)
    return key_pair(folder, passphrase=passphrase_from(passphrase_file), on_line=to_stderr)


def _entry(
    device: str,
    backend: Sequence[str],
    task: Sequence[str],
    commit: str,
    *,
    backend_commits: Sequence[str],
    versions: Sequence[str],
    models: Sequence[str],
    contact: str,
    untracked: bool,
    replace: bool,
) -> NewEntry:
    from relforge.patching.flagscale import names
    from relforge.patching.flagscale.create_current import NewEntry

    backends = names.backends(backend)
    submodules = [one for one in backends if one != names.ROOT_BACKEND]
    for flag, given, most in (
        ("--backend-commit", backend_commits, len(submodules)),
        ("--backend-version", versions, len(backends)),
    ):
        if len(given) > most:
            raise RelforgeError(
                f"{flag} has more values than there are backends for it",
                code=ExitCode.USAGE,
                hint="name one for each, in the order of --backend",
            )
    return NewEntry(
        device=device,
        backends=backends,
        tasks=names.tasks(task),
        commit=commit,
        models=tuple(part.strip() for one in models for part in one.split(",") if part.strip()),
        contact=contact,
        backend_commits=tuple(zip(submodules, backend_commits, strict=False)),
        versions=tuple(zip(backends, versions, strict=False)),
        untracked=untracked,
        replace=replace,
    )


def _show(done: Sequence[Created], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "device": one.device or None,
                "base_commit": one.base_commit,
                "tree": one.tree,
                "sealed": one.sealed,
                "folder": str(one.folder),
                "files": [str(path) for path in one.files],
            }
            for one in done
        ]
        print_json({"entries": rows})
        return
    for one in done:
        sys.stdout.write(f"{one.folder}  tree {one.tree}  on {one.base_commit[:12]}\n")


def _incomplete() -> RelforgeError:
    return RelforgeError(
        "the entry is not named in full, or in the words of two layouts",
        code=ExitCode.USAGE,
        hint="legacy: --device-type D --base-commit-id B [--current-commit-id C]\n"
        "current: --backend B --commit C --device-type D --task T\n"
        "FlagScale's own extension: --backend B, and no more than --untracked and --replace\n"
        "bundles: relforge patch seal --help",
    )
