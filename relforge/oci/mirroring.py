"""``relforge mirror``: copies what users name in words, and says what was sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.publishing import RegistryTarget
from relforge.manifest.site import Site
from relforge.oci.copying import CopyReport, Piece, copy, require_unmoved, survey
from relforge.oci.merging import Union, merged_index, platforms_of
from relforge.oci.opening import open_store, read_digest
from relforge.oci.reference import DIGEST, Repository
from relforge.oci.registry import RegistryStore
from relforge.oci.store import ImageStore, Manifest
from relforge.oci.tree import ImageSource


class MirrorReport(Frozen):
    """What ``relforge mirror --json`` prints; stable. ``sent_bytes`` would be sent in a dry run;
    ``platforms`` are ``os/architecture`` of an image for several."""

    source: str
    destination: str
    digest: str
    tag: str | None
    tag_before: str | None
    platforms: tuple[str, ...]
    dry_run: bool
    state: Literal["nothing", "changed", "planned"]
    sent_bytes: int
    pieces: tuple[Piece, ...]


def mirror(
    sources: Sequence[str],
    destination: str,
    site: Site,
    *,
    merges: bool = False,
    attachments: bool = True,
    move_tag: bool = False,
    take_withdrawn: bool = False,
    dry_run: bool = False,
    plain_http: bool = False,
    uploads: Path | None = None,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> MirrorReport:
    """Copies one image, or merges several into one for all their platforms.

    ``move_tag`` allows that a tag leaves another image, ``take_withdrawn`` that the image carries a
    withdrawal. Raises RelforgeError (USAGE, PUBLISH, ENVIRONMENT), Cancelled.
    """

    def opened(text: str) -> tuple[ImageStore, str | None]:
        return open_store(
            text, site, plain_http=plain_http, cancel=cancel, uploads=uploads, line=line
        )

    stores = [opened(text) for text in sources]
    dst, asked = opened(destination)
    _require_own(dst)
    found = [(store, *read_digest(store, wanted)) for store, wanted in stores]
    src: ImageSource = found[0][0]
    digest, name = found[0][1], found[0][2]
    index: Manifest | None = None
    if merges:
        index = merged_index([(store, one) for store, one, _ in found])
        src = Union([store for store, _, _ in found], index)
        digest = index.descriptor.digest
    tag = _tag(dst, asked, src, digest, name)
    if tag is not None:
        _require_no_release(dst, tag, site)
    if not take_withdrawn:
        for store, one, _ in found:
            _require_kept(store, dst, one, site, line)
    if not move_tag:
        require_unmoved(dst, tag, digest)
    if dry_run:
        report = survey(src, dst, digest, tag=tag, attachments=attachments)
    else:
        report = copy(
            src, dst, digest, tag=tag, attachments=attachments, move_tag=move_tag,
            mount_from=_mountable(found[0][0], dst), line=line, cancel=cancel,
        )  # fmt: skip
    return _report(report, index or src.manifest(digest), dry_run)


def _report(report: CopyReport, root: Manifest | None, dry_run: bool) -> MirrorReport:
    state: Literal["nothing", "changed", "planned"] = "planned" if dry_run else "changed"
    return MirrorReport(
        **report.model_dump(),
        platforms=platforms_of(root) if root is not None and root.is_index else (),
        dry_run=dry_run,
        state="nothing" if report.nothing else state,
        sent_bytes=report.sent_bytes,
    )


def _tag(
    dst: ImageStore, asked: str | None, src: ImageSource, digest: str, name: str | None
) -> str | None:
    """What the copy is called: as asked, else as the source calls it. A folder or tar gets the full
    name of an image from a registry, which Docker then shows."""
    if asked is not None and DIGEST.fullmatch(asked):
        if asked != digest:
            raise RelforgeError(
                "the destination names another digest than the source",
                code=ExitCode.USAGE,
                where=dst.name,
                why=f"{digest} is to be copied to {asked}",
                hint="leave the digest out, or name a tag",
            )
        return None
    tag = asked or name
    if tag is None or isinstance(dst, RegistryStore):
        return tag.rpartition(":")[2] if tag else None
    if asked is None and ":" not in tag and isinstance(src, RegistryStore):
        return f"{src.name}:{tag}"
    return tag


def _require_kept(
    src: ImageStore, dst: ImageStore, digest: str, site: Site, line: Callable[[str], None]
) -> None:
    """Nobody gets an image that its maker took back without saying that it is meant."""
    from relforge.attesting.withdrawing import withdrawn

    root = src.manifest(digest)
    images = [one.digest for one in root.manifests] if root is not None and root.is_index else []
    for store in (src, dst):
        for one in (digest, *images):
            reason = withdrawn(store, one, site, line=line)
            if reason is not None:
                raise RelforgeError(
                    "this image was withdrawn",
                    code=ExitCode.PUBLISH,
                    where=f"{store.name}@{one}",
                    why=f"the statement attached to it says: {reason}",
                    hint="copy another release; --withdrawn copies it all the same",
                )


def _require_no_release(dst: ImageStore, tag: str, site: Site) -> None:
    """Tags where people pull a target's releases from are written by promotion, which verifies."""
    if not isinstance(dst, RegistryStore):
        return
    for name, target in sorted(site.publish.targets.items()):
        if isinstance(target, RegistryTarget) and _matches(target.release, dst.repository):
            raise RelforgeError(
                f"releases get their tags there when they are promoted to target {name}",
                code=ExitCode.PUBLISH,
                where=f"{dst.name}:{tag}",
                why=f"the site configuration names {target.release} as its release repository",
                hint=f"relforge promote --target {name}; or copy to another repository, or by "
                f"digest alone: {dst.name}@DIGEST",
            )


def _matches(pattern: str, repository: Repository) -> bool:
    """Whether a target's pattern could mean the repository; a placeholder is any part of a path."""
    parts = re.split(r"\{[^{}]*\}", pattern.lower())
    wanted = "[^/]+".join(map(re.escape, parts))
    return re.fullmatch(wanted, f"{repository.host.lower()}/{repository.name}") is not None


def _mountable(src: ImageStore, dst: ImageStore) -> str | None:
    """The name of the source, where the destination's registry can take blobs from it."""
    if not isinstance(src, RegistryStore) or not isinstance(dst, RegistryStore):
        return None
    same = src.repository.host == dst.repository.host and src.repository != dst.repository
    return src.repository.name if same else None


def _require_own(dst: ImageStore) -> None:
    from relforge.publishing.published import CONTENTS

    folder = Path(dst.name)
    if not isinstance(dst, RegistryStore) and (folder.parent / CONTENTS).is_file():
        raise RelforgeError(
            "a published folder is nothing to copy into",
            code=ExitCode.USAGE,
            where=str(folder.parent),
            why="its list of contents would no longer be right",
            hint="name another folder",
        )
