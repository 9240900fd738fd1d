"""Images of somebody else's: from a registry by digest, or from an archive that was handed out.

Nothing in them is changed: the layout that comes of one has its very manifest.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relforge import proc
from relforge.cancel import CancelToken
from relforge.engine.blobs import blob_path
from relforge.engine.cli import DockerCli, find_cli
from relforge.engine.images import EngineImage, find_image
from relforge.engine.layout import ImageFacts, normalise, replace_folder
from relforge.engine.pulling import Place, mirrored
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, write_atomic
from relforge.frozen import Frozen
from relforge.leftovers import owned_folder
from relforge.manifest.facts import UNRESOLVED, RegistryBase, RequestedImage
from relforge.manifest.site import Site
from relforge.network import for_children

OnLine = Callable[[str], None]
_ASK_TIMEOUT_S = 10
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_LOADED = re.compile(r"^Loaded image(?: ID)?: (\S+)$", re.MULTILINE)
_ATTESTATION = "vnd.docker.reference.type"  # what BuildKit puts beside an image
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class TakenImage(Frozen):
    """An image as it came. ``digest`` is what was pinned: of its manifest, or of the index that
    names it beside those of other architectures."""

    how: str
    """``registry`` or ``archive``."""
    digest: str
    place: str | None
    """Where a registry's was pulled from: that registry, or the site's mirror of it."""
    image: ImageFacts
    engine_image_id: str


def digest_of(wanted: RegistryBase | RequestedImage, architecture: str, site: Site) -> str:
    """The digest that the registry gives for a reference now, or the archive's image has.

    Raises RelforgeError (SOURCE) when it cannot be had here, (ENVIRONMENT) without an engine.
    """
    if isinstance(wanted, RequestedImage):
        archive_of(wanted, site)
        anyone = wanted.model_copy(update={"digest": UNRESOLVED})
        return load_requested(anyone, architecture, cli=find_cli(site.engine), site=site).id
    from docker.errors import DockerException
    from requests import RequestException

    from relforge.engine.client import connect

    place = mirrored(wanted.reference, site)
    client = connect(site.engine)
    try:
        client.api.timeout = _ASK_TIMEOUT_S
        found = client.api.inspect_distribution(place)  # type: ignore[no-untyped-call]
    except (DockerException, RequestException) as error:
        raise RelforgeError(
            f"the registry gives no digest for {wanted.reference}",
            code=ExitCode.SOURCE,
            where=place if place == wanted.reference else f"{place} (mirror of {wanted.reference})",
            why=str(getattr(error, "explanation", None) or error),
            hint="lock where the registry can be reached, or write the digest into the manifest",
        ) from error
    finally:
        client.close()
    return str(found["Descriptor"]["digest"])


def take(
    wanted: RegistryBase | RequestedImage,
    *,
    architecture: str,
    image_name: str,
    layout: Path,
    site: Site,
    ctx_line: OnLine = lambda _line: None,
    cancel: CancelToken | None = None,
) -> TakenImage:
    """The image in the engine under ``image_name``, and as a layout in the folder ``layout``.

    Raises RelforgeError: SOURCE when it cannot be had or is another one than was pinned,
    ENVIRONMENT when the engine does not do its part. Raises Cancelled. No half layout stays.
    """
    cli = find_cli(site.engine)
    if isinstance(wanted, RequestedImage):
        how, place = "archive", None
        found = load_requested(wanted, architecture, cli=cli, site=site, cancel=cancel)
    else:
        how, found = "registry", _pull(wanted, architecture, cli, site, ctx_line, cancel)
        place = _place(wanted, site).asked
    _docker(cli, "tag", found.id, image_name)
    ctx_line(f"{wanted.reference}: {found.id}, writing its layout")
    facts = _layout_of(image_name, layout, cli, cancel)
    pinned = wanted.digest if how == "registry" else found.id
    return TakenImage(how=how, digest=pinned, place=place, image=facts, engine_image_id=found.id)


def archive_of(wanted: RequestedImage, site: Site) -> Path:
    """The archive that the site names for an image on request.

    Raises RelforgeError (SOURCE) with whom to ask for what when it names none.
    """
    archive = site.images.get(wanted.reference)
    if archive is not None and archive.is_file():
        return archive
    raise RelforgeError(
        f"the image {wanted.reference} is handed out on request",
        code=ExitCode.SOURCE,
        where=str(archive) if archive else wanted.reference,
        why="the site configuration names no archive of it"
        if archive is None
        else "the archive that the site configuration names is not there",
        hint=f"ask {wanted.contact} for {wanted.ask_for}, and name the file: images: "
        f'{{"{wanted.reference}": /PATH/image.tar}} in the site configuration',
    )


def load_requested(
    wanted: RequestedImage,
    architecture: str,
    *,
    cli: DockerCli,
    site: Site,
    cancel: CancelToken | None = None,
) -> EngineImage:
    """Loads the archive that the site names for an image on request.

    Raises what ``archive_of`` raises, and RelforgeError (SOURCE) when it holds another image than
    the pinned one.
    """
    archive = archive_of(wanted, site)
    said = _docker(cli, "load", "--input", str(archive), cancel=cancel)
    names = _LOADED.findall(said)
    if len(names) != 1:
        raise RelforgeError(
            f"the archive of {wanted.reference} holds {len(names)} images",
            code=ExitCode.SOURCE,
            where=str(archive),
            hint="ask for an archive of that one image",
        )
    found = _in_engine(names[0], wanted.reference, architecture, cli)
    if wanted.digest not in (UNRESOLVED, found.id):
        raise RelforgeError(
            f"the archive of {wanted.reference} holds another image than the pinned one",
            code=ExitCode.SOURCE,
            where=str(archive),
            why=f"pinned is {wanted.digest}, it has {found.id}",
            hint="ask who handed it out; if the new one is meant, lock again: relforge lock",
        )
    return found


def _pull(
    wanted: RegistryBase,
    architecture: str,
    cli: DockerCli,
    site: Site,
    ctx_line: OnLine,
    cancel: CancelToken | None,
) -> EngineImage:
    """Pulls the manifest for one architecture, whatever else its index names."""
    if wanted.digest == UNRESOLVED:
        raise RelforgeError(
            f"nobody resolved {wanted.reference} to a digest",
            code=ExitCode.SOURCE,
            where=wanted.reference,
            hint="lock again where the registry can be reached: relforge lock",
        )
    place = _place(wanted, site)
    with for_children(site) as network:
        raw = proc.run(
            [cli.buildx_plugin, "imagetools", "inspect", "--raw", place.asked],
            code=ExitCode.SOURCE,
            what=f"the registry does not give {wanted.reference}",
            hint="check that the registry, or the mirror that registry_mirrors of the site "
            "configuration names for it, answers and still has the image",
            env={**cli.environment, **network},
            timeout_s=60,
            cancel=cancel,
        ).stdout
    repository = place.asked.partition("@")[0]
    named = f"{repository}@{_for_architecture(json.loads(raw), wanted, architecture)}"
    ctx_line(f"pulling {named}")
    proc.run(
        cli.argv("pull", named),
        code=ExitCode.SOURCE,
        what=f"{wanted.reference} cannot be pulled",
        env=cli.environment,
        cancel=cancel,
        on_line=ctx_line,
    )
    return _in_engine(named, wanted.reference, architecture, cli)


def _place(wanted: RegistryBase, site: Site) -> Place:
    # Without the tag: the digest says all.
    return Place.of(_repository(wanted.reference), wanted.digest, site)


def _repository(reference: str) -> str:
    """The reference without tag and digest."""
    head, _, last = reference.partition("@")[0].rpartition("/")
    name = last.partition(":")[0]
    return f"{head}/{name}" if head else name


def _for_architecture(document: dict[str, object], wanted: RegistryBase, architecture: str) -> str:
    entries = document.get("manifests")
    if not isinstance(entries, list):
        return wanted.digest
    for entry in entries:
        platform = entry.get("platform") or {}
        if platform.get("os") == "linux" and platform.get("architecture") == architecture:
            return str(entry["digest"])
    raise RelforgeError(
        f"{wanted.reference} has no image for {architecture}",
        code=ExitCode.SOURCE,
        where=f"{wanted.reference}@{wanted.digest}",
        hint="correct the reference in the manifest, or the device's architecture",
    )


def _in_engine(name: str, reference: str, architecture: str, cli: DockerCli) -> EngineImage:
    found = find_image(name, cli=cli)
    if found is None or found.architecture != architecture:
        raise RelforgeError(
            f"{reference} is an image for {found.architecture if found else 'nothing here'}",
            code=ExitCode.SOURCE,
            where=reference,
            why=f"the device is {architecture}",
            hint="correct the reference in the manifest, or the device's architecture",
        )
    return found


def _layout_of(
    image_name: str, layout: Path, cli: DockerCli, cancel: CancelToken | None
) -> ImageFacts:
    layout.parent.mkdir(parents=True, exist_ok=True)
    with owned_folder(layout.parent, f".{layout.name}") as work:
        archive = work / "image.tar"
        _docker(cli, "save", "--output", str(archive), image_name, cancel=cancel)
        try:
            (work / "layout" / "blobs" / "sha256").mkdir(parents=True)
            _unpack(archive, work / "layout")
            archive.unlink()
            facts = normalise(work / "layout", code=ExitCode.ENVIRONMENT)
            replace_folder(work / "layout", layout)
        except OSError as error:
            raise cannot_write(layout, error) from error
    return facts


def _unpack(archive: Path, layout: Path) -> None:
    """The blobs of a saved image and an index that names its manifest alone."""
    index: dict[str, object] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            source = tar.extractfile(member) if member.isfile() else None
            if source is None:
                continue
            if member.name == "index.json":
                index = json.loads(source.read())
            elif blob := _BLOB.fullmatch(member.name):
                with blob_path(layout, f"sha256:{blob[1]}").open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    entries = index.get("manifests")
    found = _manifests(layout, entries if isinstance(entries, list) else [])
    document = {"schemaVersion": 2, "manifests": found}
    write_atomic(layout / "index.json", json.dumps(document).encode())


def _manifests(layout: Path, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The image manifests that an index names and whose blob is there, also through an index."""
    found: list[dict[str, Any]] = []
    for entry in entries:
        blob = blob_path(layout, entry["digest"])
        if not blob.is_file() or _ATTESTATION in (entry.get("annotations") or {}):
            continue
        if entry.get("mediaType") in _MANIFESTS:
            found.append(entry)
        else:
            found += _manifests(layout, json.loads(blob.read_bytes()).get("manifests") or [])
    unique = {entry["digest"]: entry for entry in found}
    return list(unique.values())


def _docker(cli: DockerCli, *words: str, cancel: CancelToken | None = None) -> str:
    done = proc.run(
        cli.argv(*words),
        code=ExitCode.ENVIRONMENT,
        what=f"docker {words[0]} failed",
        env=cli.environment,
        cancel=cancel,
    )
    return done.text
