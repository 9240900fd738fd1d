"""The store that a user's words mean: a registry, a folder, a tar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Reference, has_host, refuse_login
from relforge.oci.registry import RegistryStore
from relforge.oci.store import ImageStore
from relforge.oci.tar_store import TarStore
from relforge.publishing.published import CONTENTS, IMAGE

TAR = ".tar"
_PATHS = ("/", "./", "../", "~")


def open_store(
    text: str,
    site: Site,
    *,
    plain_http: bool = False,
    cancel: CancelToken | None = None,
    uploads: Path | None = None,
    line: Callable[[str], None] = lambda _line: None,
) -> tuple[ImageStore, str | None]:
    """The store, and the tag or digest in it that the text names; None when it names none.

    A text is HOST/NAME[:TAG][@DIGEST], a folder or a file that ends in ``.tar``, with ``:TAG`` or
    ``@DIGEST`` behind it where there are several images in it. What exists as a path is one. Of a
    published folder its image is meant. Raises RelforgeError (USAGE) for anything else.
    """
    if not text.startswith(_PATHS) and not Path(text).exists():
        refuse_login(text)
    path, wanted = _split(text)
    if not _is_path(text, path):
        reference = Reference.parse(text)
        store = RegistryStore(
            reference.repository, site=site, plain_http=plain_http, cancel=cancel,
            uploads=uploads, line=line,
        )  # fmt: skip
        return store, reference.wanted
    if path.suffix == TAR or path.is_file():
        return TarStore(path), wanted
    if (path / CONTENTS).is_file():
        path = path / IMAGE
    return LayoutStore(path), wanted


def read_digest(store: ImageStore, wanted: str | None) -> tuple[str, str | None]:
    """The digest that is meant, and its tag or full name, where it has one.

    Without a tag or digest the one image of a folder or tar is meant. Raises RelforgeError
    (PUBLISH) when it is not there, (USAGE) when it is not clear which is meant.
    """
    if wanted is None and isinstance(store, (LayoutStore, TarStore)):
        roots = store.roots()
        digests = {one.digest for _, one in roots}
        if len(digests) == 1:
            (digest,) = digests
            tags = [tag for tag, _ in roots if tag]
            return digest, store.full_name(digest) or (tags[0] if tags else None)
        if not digests:
            raise _absent(store, "any image")
        names = ", ".join(sorted(tag or one.digest for tag, one in roots))
        raise RelforgeError(
            "there are several images",
            code=ExitCode.USAGE,
            where=store.name,
            why=f"it holds {names}",
            hint=f"name one: {store.name}:TAG",
        )
    if wanted is None:
        raise RelforgeError(
            "a tag or a digest is missing",
            code=ExitCode.USAGE,
            where=store.name,
            hint=f"{store.name}:TAG; it has: {', '.join(store.tags()[:20]) or 'no tags'}",
        )
    found = store.manifest(wanted)
    if found is None:
        raise _absent(store, wanted)
    return found.descriptor.digest, None if ":" in wanted else wanted


def _absent(store: ImageStore, wanted: str) -> RelforgeError:
    return RelforgeError(
        "there is no such image",
        code=ExitCode.PUBLISH,
        where=store.name,
        why=f"it does not have {wanted}",
        hint="correct the name; a registry may also want a login to show it: docker login",
    )


def _split(text: str) -> tuple[Path, str | None]:
    """A path and what stands behind it; a path that exists with the sign in it is a path."""
    for sign in ("@", ":"):
        before, found, after = text.rpartition(sign)
        if sign == "@" and found and after.startswith("sha256:"):
            return Path(before).expanduser(), after
        if sign == ":" and found and "/" not in after and not Path(text).expanduser().exists():
            return Path(before).expanduser(), after
    return Path(text).expanduser(), None


def _is_path(text: str, path: Path) -> bool:
    if text.startswith(_PATHS) or path.suffix == TAR or path.exists():
        return True
    return not has_host(text)
