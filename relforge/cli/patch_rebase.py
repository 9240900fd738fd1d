"""``relforge patch rebase``: a patch set on a newer base."""

from __future__ import annotations

import getpass
import shutil
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
from relforge.cli.patch_tree import PlainOption, trust_of
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.patching.edits.rebase import Rebased
    from relforge.patching.edits.rebasing import Move
    from relforge.patching.source import PatchSource, Trust


def rebase(
    patch_set: Annotated[
        Path,
        typer.Argument(
            help="A folder with a series, a bundle, or a tree of `relforge unpatch`.", metavar="SET"
        ),
    ],
    onto: Annotated[str, typer.Option("--onto", help="The commit to carry it to.")],
    out: Annotated[Path, typer.Option("--out", help="The new folder, or bundle, to write.")],
    repo: Annotated[
        Path | None,
        typer.Option(
            "--repo",
            help="A clone that holds both commits (else, for a tree: the one it came from).",
            metavar="PATH",
        ),
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

    With a tree as SET its patch set is meant, as the vendor made it, submodules included: those are
    carried to the commits that the new base pins, and each gets a set of its own in OUT.
    """
    from relforge.patching.edits.moving import Wanted, moving
    from relforge.patching.edits.rebase import rebased
    from relforge.patching.edits.writeset import refuse_existing
    from relforge.patching.flagscale.submodules import Fetching

    place = with_keys(workplace(project, site), key_path, key_passphrase_file)
    trust = trust_of(place, allow_unsigned)
    seals = bool(recipient) or sign is not None
    refuse_existing(out)
    with interruptible() as cancel, _conflicts_shown(as_json=json_):
        fetching = Fetching(place.home, place.site, to_stderr, cancel)
        wanted = Wanted(patch_set, onto, repo, release, base)
        source, find_move = moving(wanted, trust, place.project, fetching)
        _check_sealing(source, trust, plain=plain, seals=seals, whole=bool(recipient and sign))
        move = find_move()
        with rebased(
            source,
            git_dir=move.git_dir,
            base=move.base,
            onto=move.onto,
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
                "patches": list(done.names),
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


def _check_sealing(
    source: PatchSource, trust: Trust, *, plain: bool, seals: bool, whole: bool
) -> None:
    """Raises RelforgeError (USAGE) unless it is clear whether, and for whom, it is sealed."""
    from relforge.patching.bundle import BundlePatches

    sealed = source.info(trust).sealed
    if sealed and not isinstance(source, BundlePatches):
        if not plain or seals:
            raise _usage(
                "the patches are sealed in FlagScale's format, which the result is not",
                "write them in plain with --plain; `relforge patch seal`, or `relforge patch "
                "--device-type` on a tree with them, seals them again",
            )
        return
    if sealed and not plain and not whole:
        raise _usage(
            "the patch set is sealed", "name --recipient and --sign for the new bundle, or --plain"
        )
    if seals and (plain or not sealed):
        raise _usage(
            "--recipient and --sign are for a sealed set that stays sealed",
            "seal a plain set with `relforge patch seal`",
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
    from relforge.files import cannot_write
    from relforge.patching.edits.writeset import put_set
    from relforge.workarea import outer_area

    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with outer_area(done.folder.parent, out.absolute().parent) as outer:
            shutil.copytree(done.folder, outer / "set")
            put_set(outer / "set", out)
    except OSError as error:
        raise cannot_write(out, error) from error


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)
