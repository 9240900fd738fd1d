"""``relforge patch from-tree|rebase``: patch sets that live on."""

from __future__ import annotations

import getpass
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relforge.cli.common import (
    AllowUnsignedOption,
    JsonOption,
    KeyPassphraseFileOption,
    KeyPathOption,
    ProjectOption,
    SiteOption,
    Workplace,
    interruptible,
    print_json,
    to_stderr,
    with_keys,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.patching.edits.rebase import Rebased
    from relforge.patching.edits.rebasing import Move
    from relforge.patching.source import PatchSource, Trust

PlainOption = Annotated[
    bool, typer.Option("--plain", help="Write the patches of a sealed set in plain.")
]


def from_tree(
    directory: Annotated[
        Path, typer.Argument(help="A folder that relforge unpatch made.", metavar="DIR")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The new folder for the patch set.", metavar="FOLDER")
    ],
    name: Annotated[
        str, typer.Option("--name", help="What the new patch is called.", metavar="WORDS")
    ] = "local-edit",
    plain: PlainOption = False,
    patches: Annotated[
        Path | None,
        typer.Option("--patches", help="The tree's patch set, if it lies elsewhere now."),
    ] = None,
    repo: Annotated[
        Path | None, typer.Option("--repo", help="A clone that holds the base, if it moved.")
    ] = None,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    allow_unsigned: AllowUnsignedOption = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Writes what you edited in a patched tree as one more patch behind the vendor's.

    The vendor's patches stay as they are; those of a sealed set are named, not written. The result
    is proved: applied to the base it gives the very tree in DIR.
    """
    from relforge.patching.edits.fromtree import from_tree as make
    from relforge.patching.tree.worktree import repository_git_dir

    place = with_keys(workplace(project, site), key_path, key_passphrase_file)
    with interruptible() as cancel:
        done = make(
            directory,
            out=out,
            home=place.home,
            trust=_trust(place, allow_unsigned),
            slug=name,
            plain=plain,
            patches=patches,
            repository=repository_git_dir(repo) if repo is not None else None,
            cancel=cancel,
        )
    if done.quotes_sealed:
        to_stderr(
            f"warning: {done.patch} quotes lines around your edits from sealed patches' files"
        )
    if json_:
        print_json(
            {
                "path": str(done.out),
                "patch": done.patch,
                "vendor_patches": list(done.vendor),
                "vendor_patches_written": done.vendor_written,
                "tree": done.tree,
                "files": list(done.files),
            }
        )
        return
    sys.stdout.write(
        f"{done.out}: {done.patch} with {len(done.files)} files, behind {len(done.vendor)} "
        f"{'patches' if done.vendor_written else 'sealed patches (not written)'}\n"
        f"  tree {done.tree}\n"
    )


def rebase(
    patch_set: Annotated[
        Path, typer.Argument(help="A folder with a series, or a bundle.", metavar="SET")
    ],
    onto: Annotated[str, typer.Option("--onto", help="The commit to carry it to.")],
    out: Annotated[Path, typer.Option("--out", help="The new folder, or bundle, to write.")],
    repo: Annotated[
        Path | None, typer.Option("--repo", help="A clone that holds both commits.", metavar="PATH")
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", "-r", help="The release whose source is meant.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="The commit that a plain set is for (with --repo)."),
    ] = None,
    plain: PlainOption = False,
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            "--recipient", help="Seal the result for: age1..., ssh-rsa ..., or a public key file."
        ),
    ] = None,
    sign: Annotated[
        Path | None, typer.Option("--sign", help="The private signing key of the new bundle.")
    ] = None,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    allow_unsigned: AllowUnsignedOption = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Carries a patch set to a newer base by three-way merge; exits 4 naming every conflict.

    Authors, dates and messages of the patches stay. A sealed set comes out sealed (--recipient,
    --sign) unless --plain. The result is proved before it is written.
    """
    from relforge.patching.edits.rebase import rebased
    from relforge.patching.edits.rebasing import move_in_clone, move_of_release
    from relforge.patching.edits.writeset import refuse_existing
    from relforge.patching.tree.making import patch_set_at

    place = with_keys(workplace(project, site), key_path, key_passphrase_file)
    trust = _trust(place, allow_unsigned)
    source = patch_set_at(patch_set)
    sealed = source.info(trust).sealed
    seals = bool(recipient) or sign is not None
    if sealed and not plain and not (recipient and sign):
        raise _usage(
            "the patch set is sealed", "name --recipient and --sign for the new bundle, or --plain"
        )
    if seals and (plain or not sealed):
        raise _usage(
            "--recipient and --sign are for a sealed set that stays sealed",
            "seal a plain set with `relforge patch seal`",
        )
    if (repo is None) == (release is None):
        raise _usage("where the commits are must be said once", "name --repo or --release")
    refuse_existing(out)
    with interruptible() as cancel, _conflicts_shown(as_json=json_):
        if repo is not None:
            move = move_in_clone(source.info(trust), repo, base=base, onto=onto)
        else:
            assert release is not None
            move = move_of_release(
                place.project.release(release),
                source.info(trust),
                patch_set,
                onto=onto,
                project=place.project,
                home=place.home,
                site=place.site,
                line=to_stderr,
                cancel=cancel,
            )
        with rebased(
            source,
            git_dir=move.git_dir,
            base_tree=move.base_tree,
            onto_tree=move.onto_tree,
            trust=trust,
            home=place.home,
            cancel=cancel,
        ) as done:
            if seals:
                assert sign is not None
                _seal(done, source, trust, move, recipient or [], sign, out, place)
            else:
                _write_plain(done, out)
            result: dict[str, Any] = {
                "path": str(out),
                "onto": move.onto_commit,
                "patches": [patch.name for patch in done.patches.patch_set.patches],
                "dropped": list(done.dropped),
                "tree": done.tree,
            }
    for name in result["dropped"]:
        to_stderr(f"dropped {name}: the new base has it already")
    if json_:
        print_json(result)
        return
    sys.stdout.write(
        f"{out}: {len(result['patches'])} patches on {result['onto']}\n  tree {result['tree']}\n"
    )


@contextmanager
def _conflicts_shown(*, as_json: bool) -> Iterator[None]:
    """For --json all conflicts go to stdout as well; the error shows the first ones."""
    from relforge.patching.edits.rebase import RebaseConflict

    try:
        yield
    except RebaseConflict as error:
        if as_json:
            print_json({"conflicts": [asdict(conflict) for conflict in error.conflicts]})
        raise


def _seal(
    done: Rebased,
    source: PatchSource,
    trust: Trust,
    move: Move,
    recipient: list[str],
    sign: Path,
    out: Path,
    place: Workplace,
) -> None:
    from relforge.patching.bundle import BundlePatches, seal
    from relforge.patching.bundle.header import BundleSource, GitOrigin, read_header
    from relforge.patching.keys import load_recipients, load_signing_key, passphrase_from

    assert isinstance(source, BundlePatches)
    header = read_header(source.path, trust.signers, allow_unsigned=trust.allow_unsigned).header
    origin = header.source.origin
    if not isinstance(origin, GitOrigin):
        raise _usage("the bundle is for a package, not for a commit", "write the set with --plain")
    origin = origin.model_copy(update={"commit": move.onto_commit})
    seal(
        done.patches,
        store_git_dir=move.git_dir,
        source=BundleSource(name=header.source.name, origin=origin),
        base_commit=move.onto_commit,
        base_tree=done.base_tree,
        device=header.device,
        ships=header.ships,
        creator=f"{getpass.getuser()}@{socket.gethostname()}",
        recipients=load_recipients(recipient),
        signing_key=load_signing_key(
            sign, passphrase=passphrase_from(place.site.key_passphrase_file)
        ),
        out=out,
        home=place.home,
        annotations=header.annotations,
    )


def _write_plain(done: Rebased, out: Path) -> None:
    """Copies the set beside its place, and renames it there."""
    from relforge.patching.edits.writeset import put_set, write_set
    from relforge.workarea import outer_area

    area = done.patches.folder.parent
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with outer_area(area, out.absolute().parent) as outer:
        write_set(outer / "set", done.patches, name=out.name)
        put_set(outer / "set", out)


def _trust(place: Workplace, allow_unsigned: bool) -> Trust:
    from relforge.patching.keys import Identities, load_identities, passphrase_from
    from relforge.patching.locate import trusted_signers
    from relforge.patching.source import Trust

    site = place.site
    signers = {
        signer.keyid: signer
        for device in place.project.devices.values()
        for signer in trusted_signers(site, device)
    }
    identities = Identities()
    if site.identities:
        passphrase = passphrase_from(site.key_passphrase_file)
        identities = load_identities(site.identities, passphrase=passphrase)
    return Trust(tuple(signers.values()), identities, allow_unsigned)


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)
