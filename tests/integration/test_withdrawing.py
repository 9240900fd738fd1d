"""Whose word that an image was withdrawn counts, read from a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.attesting.signing import SigningKey
from relforge.attesting.withdrawing import attach, withdrawal, withdrawn
from relforge.errors import RelforgeError
from relforge.evidence.dsse import Envelope, Signature
from relforge.manifest.publishing import PublishSite, SigningSite, TrustedKey
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.publishing.published import Published
from relforge.publishing.target import Doing
from tests.integration.test_registry_target import store, target
from tests.support.images import attachment, image
from tests.support.published import make_published
from tests.support.registries import RealRegistry, docker_registry
from tests.support.signed import key_file


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def signing(path: Path) -> Site:
    file = path if path.is_file() else key_file(path)
    return Site(publish=PublishSite(signing=SigningSite(key=file)))


def trusting(tmp_path: Path, key: SigningKey) -> Site:
    public = tmp_path / "maker.pub.pem"
    public.write_bytes(key.public_pem)
    return Site(trusted_keys=(TrustedKey(name="maker", public_key=public),))


def said(found: RegistryStore, digest: str, by: Site, reason: str = "wrong answers") -> None:
    manifest = found.manifest(digest)
    assert manifest is not None
    attach(
        found,
        withdrawal(
            manifest.descriptor.plain, release="r", reason=reason, created="2026-01-01T00:00:00Z",
            key=SigningKey.load(by),
        ),
    )  # fmt: skip


def placed(registry: RealRegistry, tmp_path: Path, name: str) -> tuple[RegistryStore, str]:
    digest = image(tmp_path / name, name.encode())
    found = RegistryStore(Repository.parse(f"{registry.host}/{name}/tiny-adder"), site=Site())
    copy(LayoutStore(tmp_path / name), found, digest, tag="v1")
    return found, digest


def test_whose_word_counts(registry: RealRegistry, tmp_path: Path) -> None:
    ours, theirs = signing(tmp_path / "ours.pem"), signing(tmp_path / "theirs.pem")
    maker = SigningKey.load(theirs)
    assert maker is not None
    by_them, digest = placed(registry, tmp_path, "by-them")
    assert withdrawn(by_them, digest, ours) is None
    said(by_them, digest, theirs)
    by_nobody, other = placed(registry, tmp_path, "by-nobody")
    said(by_nobody, other, Site())

    lines: list[str] = []
    assert withdrawn(by_them, digest, ours, line=lines.append) is None
    assert "no key of this site signed it" in lines[0]
    assert "wrong answers" in lines[0]
    assert withdrawn(by_them, digest, theirs) == "wrong answers"
    assert withdrawn(by_them, digest, trusting(tmp_path, maker)) == "wrong answers"
    assert withdrawn(by_them, digest, Site()) == "wrong answers"

    lines.clear()
    assert withdrawn(by_nobody, other, ours, line=lines.append) is None
    assert "nobody signed it" in lines[0]
    assert withdrawn(by_nobody, other, trusting(tmp_path, maker)) == "wrong answers"
    assert withdrawn(by_nobody, other, Site()) == "wrong answers"


def test_a_statement_about_another_image_or_with_a_bad_signature_does_not_count(
    registry: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = signing(tmp_path / "ours.pem")
    first, digest = placed(registry, tmp_path, "bad-signature")
    sign = SigningKey.sign_statement

    def altered(self: SigningKey, statement: object) -> Envelope:
        made = sign(self, statement)  # type: ignore[arg-type]
        (one,) = made.signatures
        return Envelope(made.payload_type, made.payload, (Signature(one.keyid, one.sig[::-1]),))

    monkeypatch.setattr(SigningKey, "sign_statement", altered)
    said(first, digest, ours)
    monkeypatch.undo()
    lines: list[str] = []
    assert withdrawn(first, digest, ours, line=lines.append) is None
    assert "the signature does not match" in lines[0]

    # Moved by somebody from the image that it is about to another one.
    second, other = placed(registry, tmp_path, "about-another")
    manifest = second.manifest(other)
    assert manifest is not None
    made = withdrawal(
        manifest.descriptor.plain.model_copy(update={"digest": digest}), release="r", reason="x",
        created="2026-01-01T00:00:00Z", key=SigningKey.load(ours),
    )  # fmt: skip
    layer = made.manifest.value["layers"][0]
    attachment(
        tmp_path / "about-another", other, made.blobs[layer["digest"]],  # type: ignore[arg-type]
        kind=layer["mediaType"],
    )  # fmt: skip
    copy(LayoutStore(tmp_path / "about-another"), second, other)
    assert len(second.referrers(other)) == 1
    assert withdrawn(second, other, ours) is None


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return make_published(tmp_path)


def test_a_strangers_word_does_not_stop_promotion(
    registry: RealRegistry, published: Published, tmp_path: Path
) -> None:
    ours, theirs = signing(tmp_path / "ours.pem"), signing(tmp_path / "theirs.pem")
    hub = target(registry, "strange", site=ours)
    hub.apply(published, "candidate", Doing())
    hub.apply(published, "promote", Doing())
    said(store(registry, "strange"), published.image_digest, theirs)
    lines: list[str] = []
    hub.apply(published, "promote", Doing(line=lines.append))
    assert sum("does not count" in line for line in lines) == 1
    # The site's own statement comes beside the stranger's, and counts.
    hub.apply(published, "withdraw", Doing(reason="ours"))
    with pytest.raises(RelforgeError, match="was withdrawn"):
        hub.apply(published, "promote", Doing())
