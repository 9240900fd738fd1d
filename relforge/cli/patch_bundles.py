"""``relforge patch seal|inspect|verify``: bundles."""

from __future__ import annotations

import getpass
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    JsonOption,
    ProjectOption,
    SiteOption,
    Workplace,
    print_json,
    to_stderr,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.release import Release
from relforge.manifest.source import PatchSetRef

if TYPE_CHECKING:
    from relforge.evidence.dsse import TrustedSigner

BundleArgument = Annotated[Path, typer.Argument(help="The bundle file.")]


def seal(
    release: Annotated[str, typer.Option("--release", "-r", help="The release it is for.")],
    patch_set: Annotated[str, typer.Option("--patch-set", help="Its name in the release.")],
    recipient: Annotated[
        list[str],
        typer.Option(
            "--recipient", help="Who may open it: age1..., ssh-rsa ..., or a public key file."
        ),
    ],
    sign: Annotated[Path, typer.Option("--sign", help="The private signing key.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle to write.")],
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Seals a plain patch set of a release into a signed bundle, after proving that it applies."""
    from relforge.patching import bundle
    from relforge.patching.header import BundleSource, origin_of
    from relforge.patching.keys import load_recipients, load_signing_key
    from relforge.patching.series import read_series
    from relforge.sources.api import import_source, store_of

    _refuse_target(out, sign)
    place = workplace(project, site)
    manifest = place.project.release(release)
    ref = _patch_set(manifest, patch_set)
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
        creator=f"{getpass.getuser()}@{socket.gethostname()}",
        recipients=load_recipients(recipient),
        signing_key=load_signing_key(sign),
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
    from relforge.patching.header import read_header

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
    from relforge.patching.header import read_header

    place = workplace(project, site)
    read = read_header(bundle, _signers(place))
    verify_ciphertext(read)
    if json_:
        print_json({"path": str(bundle), "signer": read.signer, "verdict": "pass"})
        return
    sys.stdout.write(f"{bundle}: signed by {read.signer}, ciphertext unaltered\n")


def _refuse_target(out: Path, sign: Path) -> None:
    """A bundle may replace a bundle, and nothing else."""
    from relforge.patching.header import MAGIC

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
