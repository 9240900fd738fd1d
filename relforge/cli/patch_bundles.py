"""``relforge patch seal|open|inspect|verify|rotate``: bundles."""

from __future__ import annotations

import getpass
import socket
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
    print_json,
    to_stderr,
    warn_of_exposed,
    with_keys,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.release import Release
from relforge.manifest.source import PatchSetRef

if TYPE_CHECKING:
    from relforge.evidence.dsse import PrivateKey, TrustedSigner
    from relforge.patching.keys import Identities

BundleArgument = Annotated[Path, typer.Argument(help="The bundle file.")]
RecipientOption = Annotated[
    list[str],
    typer.Option(
        "--recipient", help="Who may open it: age1..., ssh-rsa ..., or a public key file."
    ),
]
SignOption = Annotated[Path, typer.Option("--sign", help="The private signing key.")]


def seal(
    release: Annotated[str, typer.Option("--release", "-r", help="The release it is for.")],
    patch_set: Annotated[str, typer.Option("--patch-set", help="Its name in the release.")],
    recipient: RecipientOption,
    sign: SignOption,
    out: Annotated[Path, typer.Option("--out", help="The bundle to write.")],
    key_passphrase_file: KeyPassphraseFileOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Seals a plain patch set of a release into a signed bundle, after proving that it applies."""
    from relforge.patching import bundle
    from relforge.patching.bundle.header import BundleSource, origin_of
    from relforge.patching.keys import load_recipients
    from relforge.patching.series import read_series
    from relforge.sources.api import import_source, store_of

    _refuse_target(out, sign)
    place = workplace(project, site)
    manifest = place.project.release(release)
    ref = _patch_set(manifest, patch_set)
    if ref.repository is not None:
        raise RelforgeError(
            f"patch set {patch_set} lies in a git repository, not in this project",
            code=ExitCode.USAGE,
            why="a bundle is sealed from plain patches of the project",
            hint="unpatch it, then `relforge patch from-tree DIR --plain` writes its patches; name "
            "their folder as the patch set's path",
        )
    recipients = load_recipients(recipient)
    warn_of_exposed(passphrase_file=key_passphrase_file)
    signing_key = _signing_key(sign, key_passphrase_file or place.site.key_passphrase_file)
    patches = read_series(place.project.path(ref.path), name=ref.name)
    imported = import_source(
        ref.source,
        manifest.sources[ref.source],
        home=place.home,
        site=place.site,
        ctx_line=to_stderr,
    )
    sealed = bundle.seal(
        patches,
        store_git_dir=store_of(place.home).git_dir,
        source=BundleSource(name=ref.source, origin=origin_of(manifest.sources[ref.source])),
        base_commit=imported.commit,
        base_tree=imported.tree,
        device=place.project.device(manifest.device).name,
        ships=ref.ships,
        creator=_creator(),
        recipients=recipients,
        signing_key=signing_key,
        out=out,
        home=place.home,
    )
    if json_:
        print_json({"path": str(sealed.path), "header": sealed.header.model_dump(mode="json")})
        return
    sys.stdout.write(
        f"sealed {len(patches.patch_set.patches)} patches into {sealed.path}\n"
        f"  result tree {sealed.header.result_tree}\n"
        f"  recipients  {', '.join(str(r) for r in sealed.header.recipients)}\n"
    )


def inspect(
    bundle: BundleArgument,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Shows a bundle's header without any key, and says whether its signature is trusted."""
    from relforge.patching.bundle.header import read_header

    place = workplace(project, site)
    read = read_header(bundle, _signers(place), allow_unsigned=True)
    header = read.header
    if json_:
        print_json({"signer": read.signer, "header": header.model_dump(mode="json")})
        return
    origin = header.source.origin.model_dump(mode="json")
    sys.stdout.write(
        f"{header.name} for {header.source.name}: "
        + ", ".join(f"{k} {v}" for k, v in origin.items() if v)
        + f"\n  device      {header.device or 'any'}\n  base tree   {header.base_tree}\n"
        f"  result tree {header.result_tree}\n"
        f"  recipients  {', '.join(str(r) for r in header.recipients)}\n"
        f"  made        {header.created_utc} by {header.creator}\n"
        f"  signature   {f'trusted: {read.signer}' if read.signer else 'NOT TRUSTED HERE'}\n"
    )


def verify(
    bundle: BundleArgument,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Verifies signature and ciphertext without a decryption key; exits 4 when either is wrong."""
    from relforge.patching.bundle import verify_ciphertext
    from relforge.patching.bundle.header import read_header

    place = workplace(project, site)
    read = read_header(bundle, _signers(place))
    verify_ciphertext(read)
    if json_:
        print_json({"path": str(bundle), "signer": read.signer, "verdict": "pass"})
        return
    sys.stdout.write(f"{bundle}: signed by {read.signer}, ciphertext unaltered\n")


def open_(
    bundle: BundleArgument,
    directory: Annotated[
        Path, typer.Option("--dir", help="The new folder for the plain patches.", metavar="DIR")
    ],
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    allow_unsigned: AllowUnsignedOption = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Opens a bundle: its plain patches and their series, in a new folder only you can read."""
    from relforge.patching.bundle import open_to_folder
    from relforge.patching.edits.writeset import refuse_inside_tree
    from relforge.patching.source import Trust

    place = with_keys(workplace(project, site), key_path, key_passphrase_file)
    refuse_inside_tree(directory, "--dir")
    trust = Trust(tuple(_signers(place)), _identities(place), allow_unsigned)
    read = open_to_folder(bundle, directory, trust, home=place.home)
    if json_:
        print_json(
            {
                "path": str(directory),
                "signer": read.signer,
                "header": read.header.model_dump(mode="json"),
            }
        )
        return
    sys.stdout.write(
        f"{directory}: the plain patches of {read.header.name}, "
        f"{f'signed by {read.signer}' if read.signer else 'WHICH NOBODY TRUSTED HERE SIGNED'}\n"
    )


def rotate(
    bundle: BundleArgument,
    recipient: RecipientOption,
    sign: SignOption,
    out: Annotated[
        Path | None, typer.Option("--out", help="The bundle to write (default: BUNDLE itself).")
    ] = None,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    allow_unsigned: AllowUnsignedOption = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Seals a bundle's patches anew for other recipients, unchanged, and signs the new bundle.

    Needs a private key that opens it. Who has the old file and its key can still open the old file.
    """
    from relforge.patching import bundle as bundles
    from relforge.patching.keys import load_recipients

    target = out or bundle
    _refuse_target(target, sign)
    place = with_keys(workplace(project, site), key_path, key_passphrase_file)
    recipients = load_recipients(recipient)
    signing_key = _signing_key(sign, place.site.key_passphrase_file)
    rotated = bundles.rotate(
        bundle,
        trusted=_signers(place),
        identities=_identities(place),
        recipients=recipients,
        signing_key=signing_key,
        creator=_creator(),
        out=target,
        allow_unsigned=allow_unsigned,
    )
    if json_:
        print_json({"path": str(rotated.path), "header": rotated.header.model_dump(mode="json")})
        return
    sys.stdout.write(
        f"sealed {rotated.header.name} anew into {rotated.path}\n"
        f"  content     {rotated.header.content_sha256} (unchanged)\n"
        f"  recipients  {', '.join(str(r) for r in rotated.header.recipients)}\n"
    )


def _identities(place: Workplace) -> Identities:
    from relforge.patching.keys import load_identities, passphrase_from

    site = place.site
    return load_identities(site.identities, passphrase=passphrase_from(site.key_passphrase_file))


def _signing_key(path: Path, passphrase_file: Path | None) -> PrivateKey:
    from relforge.patching.keys import load_signing_key, passphrase_from

    warn_of_exposed(path)
    return load_signing_key(path, passphrase=passphrase_from(passphrase_file))


def _creator() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _refuse_target(out: Path, sign: Path) -> None:
    """A bundle may replace a bundle, and nothing else."""
    from relforge.patching.bundle.header import MAGIC

    if not out.exists():
        return
    if out.is_file() and not (sign.exists() and out.samefile(sign)):
        with out.open("rb") as handle:
            if handle.read(len(MAGIC)) == MAGIC:
                return
    raise RelforgeError(
        f"{out} is there already and is no bundle",
        code=ExitCode.USAGE,
        where=str(out),
        why="sealing would destroy it",
        hint="name another file with --out",
    )


def _patch_set(manifest: Release, name: str) -> PatchSetRef:
    for ref in manifest.patches:
        if ref.name == name:
            return ref
    raise RelforgeError(
        f"release {manifest.name} has no patch set {name!r}",
        code=ExitCode.USAGE,
        why=f"it has: {', '.join(p.name for p in manifest.patches) or 'none'}",
    )


def _signers(place: Workplace) -> list[TrustedSigner]:
    """Everybody whose signature counts here, whatever the device."""
    from relforge.patching.locate import trusted_signers

    found = {
        signer.keyid: signer
        for device in place.project.devices.values()
        for signer in trusted_signers(place.site, device)
    }
    return list(found.values())
