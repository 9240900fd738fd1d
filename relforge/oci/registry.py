"""A repository of an OCI registry, spoken to directly: distribution specification 1.1.

The digest of what is read is computed here, so a registry's word is not taken for it. Logins are
Docker's own (``auth.py``), certificates and proxies the site's (``connecting.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, quote, urlsplit

from relforge.attesting.attachments import TAG, attestations_tag, signature_tag
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.oci import fallback
from relforge.oci.reading import RemoteBlob, opened
from relforge.oci.reference import DIGEST, Repository
from relforge.oci.refusals import altered
from relforge.oci.store import (
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    Sent,
    referrers_tag,
)
from relforge.oci.transport import Answer, Transport
from relforge.oci.upload import Upload, drop_note, note_of
from relforge.retrying import POLICY, RetryPolicy, TryAgain, call

_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_NO_API = (400, 404, 405, 501)
_PAGE = 1000
_MOST_PAGES = 1000


class RegistryStore:
    """``uploads`` is a folder for notes of interrupted uploads, so that the next run goes on with
    them. Safe for several threads. Raises RelforgeError (PUBLISH) in every method."""

    def __init__(
        self,
        repository: Repository,
        *,
        site: Site,
        plain_http: bool = False,
        cancel: CancelToken | None = None,
        uploads: Path | None = None,
        line: Callable[[str], None] = lambda _line: None,
        policy: RetryPolicy = POLICY,
    ) -> None:
        self.repository = repository
        self._uploads = uploads
        self._transport = Transport(
            repository, site=site, plain_http=plain_http, cancel=cancel, line=line, policy=policy
        )
        self._has_api: bool | None = None

    @property
    def name(self) -> str:
        return str(self.repository)

    @property
    def sent_bytes(self) -> int:
        """Of all bodies of requests so far."""
        return self._transport.sent_bytes

    def manifest(self, reference: str) -> Manifest | None:
        transport = self._transport
        url = transport.url(f"manifests/{quote(reference, safe=':')}")

        def action() -> Manifest | None:
            answer = transport.once(
                "GET", url, want=(200, 404), scopes=transport.scopes("pull"),
                headers={"Accept": _ACCEPT},
            )  # fmt: skip
            if answer.status == 404:
                return None
            return self._checked(reference, answer)

        what = "the registry could not be read"
        try:
            return call(
                action, policy=transport.policy, line=transport.tell, cancel=transport.cancel
            )
        except TryAgain as error:
            raise altered(f"{self.name} ({reference})", str(error)) from error
        except Exception as error:
            raise transport.explained(what, url, error) from error

    def has_blob(self, digest: str) -> bool:
        transport = self._transport
        url = transport.url(f"blobs/{digest}")
        scopes = transport.scopes("pull")
        what = "the registry could not be asked for content"
        answer = transport.send(what, "HEAD", url, want=(200, 404, 405), scopes=scopes)
        if answer.status == 405:
            answer = transport.send(
                what, "GET", url, want=(200, 206, 404), scopes=scopes, stream=True,
                headers={"Range": "bytes=0-0"},
            )  # fmt: skip
            if answer.stream is not None:
                answer.stream.close()
        return answer.status in (200, 206)

    def open_blob(self, descriptor: Descriptor) -> IO[bytes]:
        where = f"{self.name}@{descriptor.digest}"
        return opened(descriptor, RemoteBlob(self._transport, descriptor), where)

    def put_blob(
        self,
        descriptor: Descriptor,
        open_: Callable[[], IO[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Sent:
        if self.has_blob(descriptor.digest):
            drop_note(self._uploads, self.name, descriptor.digest)
            return "there"
        with note_of(self._uploads, self.name, descriptor.digest) as note:
            upload = Upload(
                self._transport, descriptor, open_, note=note,
                there=lambda: self.has_blob(descriptor.digest),
            )  # fmt: skip
            if mount_from is not None and upload.mount(mount_from) == "mounted":
                note.write(None)
                return "mounted"
            upload.run()
        return "sent"

    def put_manifest(self, manifest: Manifest, *, tag: str | None = None) -> None:
        self._put(manifest, tag or manifest.descriptor.digest)

    def tags(self) -> tuple[str, ...]:
        transport = self._transport
        found: set[str] = set()
        url = transport.url(f"tags/list?n={_PAGE}")
        for answer in self._pages("the registry's tags could not be read", url, (200, 404)):
            value = answer.json() if answer.status == 200 else None
            found.update((value or {}).get("tags") or ())
        return tuple(sorted(found))

    def delete_tag(self, tag: str) -> None:
        self.delete_tags((tag,))

    def delete_tags(self, tags: Iterable[str]) -> None:
        """Removes tags. A registry that removes by digest alone removes the manifest with all its
        tags, so that is done only where every one of them is meant to go.

        Its tags are looked through twice, the second time right before the removal. A tag that
        somebody sets after that look goes, too: no registry has a removal with a condition. Raises
        RelforgeError (PUBLISH) where other tags are left or the registry allows no deletes.
        """
        left = []
        for tag in sorted(set(tags)):
            url = self._transport.url(f"manifests/{tag}")
            answer = self._delete(url, (200, 202, 204, 404, 400, 405, 501))
            if answer.status in (400, 405, 501):
                left.append(tag)
        pointed = {tag: self._digest_of(tag) for tag in left}
        for digest in sorted({found for found in pointed.values() if found}):
            self._require_alone(digest, set(pointed))
            answer = self._delete(self._transport.url(f"manifests/{digest}"), (200, 202, 404, 405))
            if answer.status == 405:
                raise RelforgeError(
                    "the registry allows no deletes",
                    code=ExitCode.PUBLISH,
                    where=f"{self.name}@{digest}",
                    why="it answers DELETE with HTTP 405",
                    hint="remove the tags in its own interface, or ask those who run it to allow "
                    "deletes (REGISTRY_STORAGE_DELETE_ENABLED=true for Docker's registry)",
                )

    def _require_alone(self, digest: str, meant: Collection[str]) -> None:
        """Twice through all tags, then as long as the registry names tags that are new since."""
        seen: set[str] = set()
        looks = 0
        while True:
            names = self.tags()
            fresh = names if looks < 2 else tuple(tag for tag in names if tag not in seen)
            if not fresh:
                return
            others = [t for t in fresh if t not in meant and self._digest_of(t) == digest]
            if others:
                raise RelforgeError(
                    "the registry removes tags only with all others of the same image",
                    code=ExitCode.PUBLISH,
                    where=f"{self.name}@{digest}",
                    why=f"these would go, too: {', '.join(others)}",
                    hint="remove the tag in the registry's own interface, or move the others first",
                )
            seen.update(names)
            looks += 1

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        found = self._from_api(digest)
        if found is None:
            found = fallback.entries_of(self.manifest(referrers_tag(digest)))
        return self._with_tags(digest, found)

    def attach(self, *manifests: Manifest) -> None:
        """Several of one subject at once: the list of a registry without API is written once."""
        pending: dict[str, list[Descriptor]] = {}
        for manifest in manifests:
            subject = manifest.subject
            tag = manifest.descriptor.annotations.get(TAG)
            if subject is not None:
                answer = self._put(manifest, manifest.descriptor.digest)
                if answer.headers.get("OCI-Subject") != subject.digest:
                    pending.setdefault(subject.digest, []).append(manifest.descriptor)
            if tag is not None:
                self._put(manifest, tag)
        for digest, entries in pending.items():
            name = referrers_tag(digest)
            fallback.enlist(
                lambda name=name: self.manifest(name),  # type: ignore[misc]
                lambda index, name=name: self.put_manifest(index, tag=name),  # type: ignore[misc]
                entries,
                where=f"{self.name}:{name}",
                cancel=self._transport.cancel,
            )

    def commit(self) -> None:
        """Nothing waits: a registry has what it was sent."""

    def _put(self, manifest: Manifest, reference: str) -> Answer:
        transport = self._transport
        digest = manifest.descriptor.digest
        answer = transport.send(
            "the registry did not take "
            + ("the manifest" if ":" in reference else f"tag {reference}"),
            "PUT",
            transport.url(f"manifests/{quote(reference, safe=':')}"),
            want=(200, 201, 202),
            scopes=transport.scopes("pull,push"),
            headers={"Content-Type": manifest.descriptor.media_type},
            body=manifest.data,
        )
        said = answer.headers.get("Docker-Content-Digest")
        if said is not None and said != digest:
            raise altered(f"{self.name} ({reference})", f"sent {digest}, it took it for {said}")
        return answer

    def _delete(self, url: str, want: tuple[int, ...]) -> Answer:
        transport = self._transport
        scopes = transport.scopes("delete")
        what = "the registry did not remove what was to be removed"
        return transport.send(what, "DELETE", url, want=want, scopes=scopes)

    def _digest_of(self, tag: str) -> str | None:
        found = self.manifest(tag)
        return found.descriptor.digest if found else None

    def _checked(self, reference: str, answer: Answer) -> Manifest:
        """Raises TryAgain for content that is not what was asked for."""
        try:
            value = json.loads(answer.data)
            stated = answer.headers.get("Content-Type", "").split(";")[0].strip()
            kinds = (*MANIFESTS, *INDEXES)
            kind = value.get("mediaType") or (stated if stated in kinds else None)
            kind = kind or (OCI_INDEX if "manifests" in value else OCI_MANIFEST)
            descriptor = Descriptor.of(
                kind,
                answer.data,
                artifact_type=value.get("artifactType"),
                annotations=value.get("annotations") or {},
            )
        except (ValueError, AttributeError) as error:
            raise TryAgain("what came is no manifest") from error
        wanted = reference if DIGEST.fullmatch(reference) else None
        wanted = wanted or answer.headers.get("Docker-Content-Digest")
        if wanted is not None and wanted.startswith("sha256:") and descriptor.digest != wanted:
            raise TryAgain(f"{wanted} was wanted, what came hashes to {descriptor.digest}")
        return Manifest(descriptor=descriptor, data=answer.data)

    def _from_api(self, digest: str) -> tuple[Descriptor, ...] | None:
        if self._has_api is False:
            return None
        url = self._transport.url(f"referrers/{digest}")
        found: list[Descriptor] = []
        what = "what is attached could not be read"
        for answer in self._pages(what, url, (200, *_NO_API)):
            value = answer.json() if answer.status == 200 else None
            if not isinstance(value, dict) or not isinstance(value.get("manifests"), list):
                self._has_api = False
                return None
            try:
                found += [Descriptor.read(entry) for entry in value["manifests"]]
            except (KeyError, ValueError, TypeError) as error:
                raise altered(
                    f"{self.name} ({digest})", f"its list of referrers: {error}"
                ) from error
        self._has_api = True
        return tuple(found)

    def _with_tags(self, digest: str, found: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
        """With what cosign finds by tag alone, and each with the tag that it has."""
        known = {one.digest: one for one in found}
        for tag in (signature_tag(digest), attestations_tag(digest)):
            manifest = self.manifest(tag)
            if manifest is None:
                continue
            one = known.get(manifest.descriptor.digest) or manifest.descriptor
            known[one.digest] = one.model_copy(
                update={"annotations": {**one.annotations, TAG: tag}}
            )
        return tuple(known.values())

    def _pages(self, what: str, url: str, want: tuple[int, ...]) -> Iterator[Answer]:
        """Answers from the first page on, as ``Link`` headers lead."""
        from requests.utils import parse_header_links

        transport = self._transport
        for _ in range(_MOST_PAGES):
            answer = transport.send(what, "GET", url, want=want, scopes=transport.scopes("pull"))
            yield answer
            links = parse_header_links(answer.headers.get("Link", ""))
            following = [link["url"] for link in links if link.get("rel") == "next"]
            if answer.status != 200 or not following:
                return
            url = transport.below(following[0], url)
            if not parse_qs(urlsplit(url).query):
                return
