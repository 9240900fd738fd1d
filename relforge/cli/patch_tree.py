"""``relforge patch from-tree``: edits in a patched tree as a patch of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from relforge.patching.source import Trust

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
            trust=trust_of(place, allow_unsigned),
            slug=name,
            plain=plain,
            patches=patches,
            repository=repository_git_dir(repo) if repo is not None else None,
            cancel=cancel,
        )
    if done.quotes_sealed:
        to_stderr(
            f"warning: {', '.join(done.patches)}: quotes lines around your edits from sealed "
            "patches' files"
        )
    if json_:
        print_json(
            {
                "path": str(done.out),
                "patches": list(done.patches),
                "vendor_patches": list(done.vendor),
                "vendor_patches_written": done.vendor_written,
                "tree": done.tree,
                "files": list(done.files),
            }
        )
        return
    sys.stdout.write(
        f"{done.out}: {', '.join(done.patches)} with {len(done.files)} files, behind "
        f"{len(done.vendor)} "
        f"{'patches' if done.vendor_written else 'sealed patches (not written)'}\n"
        f"  tree {done.tree}\n"
    )


def trust_of(place: Workplace, allow_unsigned: bool) -> Trust:
    """Every signer that the site or a device of the project names, and the user's keys."""
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
