"""Statements, signatures and their manifests: what is written is read back, forgeries are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from relforge.attesting import predicates
from relforge.attesting.attachments import COSIGN_ATTESTATIONS, CYCLONEDX, SPDX, signature_tag
from relforge.attesting.manifests import (
    attestations_attachment,
    file_attachment,
    release_attachment,
    signature_attachment,
)
from relforge.attesting.reading import LARGEST_BYTES, read_attachments, read_file
from relforge.attesting.signing import SigningKey, unsigned
from relforge.attesting.simple import SimpleSigning
from relforge.attesting.statements import Statement
from relforge.attesting.verifying import NotSignedByTrusted, verify_envelope, verify_signature
from relforge.errors import RelforgeError
from relforge.evidence.dsse import Signature, TrustedSigner, UnknownSigner
from relforge.oci.store import OCI_MANIFEST, Descriptor
from tests.support.stores import MemoryStore

IMAGE = Descriptor.of(OCI_MANIFEST, b"an image's manifest")
OTHER = Descriptor.of(OCI_MANIFEST, b"another's")


@pytest.fixture(params=["ecdsa", "ed25519"])
def key(request: pytest.FixtureRequest) -> SigningKey:
    if request.param == "ecdsa":
        return SigningKey(Path("key"), ec.generate_private_key(ec.SECP256R1()))
    return SigningKey(Path("key"), ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def trusted(key: SigningKey) -> tuple[TrustedSigner, ...]:
    stranger = ed25519.Ed25519PrivateKey.generate().public_key()
    return (TrustedSigner("stranger", stranger), TrustedSigner("maker", key.public))


def statement(image: Descriptor = IMAGE, kind: str = predicates.TEST_RESULT) -> Statement:
    return Statement(name="hello", digest=image.digest, predicate_type=kind, predicate={"n": 1})


def test_a_signed_statement_is_read_back(key: SigningKey, trusted: tuple[TrustedSigner]) -> None:
    said = verify_envelope(key.sign_statement(statement()), IMAGE.digest, trusted)
    assert said.statement == statement()
    assert said.signer.name == "maker"


def test_an_envelope_that_names_no_key_is_tried_with_all(
    key: SigningKey, trusted: tuple[TrustedSigner]
) -> None:
    signed = key.sign_statement(statement())
    nameless = replace(signed, signatures=(Signature("", signed.signatures[0].sig),))
    assert verify_envelope(nameless, IMAGE.digest, trusted).signer.name == "maker"
    with pytest.raises(UnknownSigner):
        verify_envelope(nameless, IMAGE.digest, trusted[:1])


def test_what_is_forged_is_refused(key: SigningKey, trusted: tuple[TrustedSigner]) -> None:
    signed = key.sign_statement(statement())
    with pytest.raises(RelforgeError, match="about another image"):
        verify_envelope(signed, OTHER.digest, trusted)
    with pytest.raises(RelforgeError, match="altered after it was signed"):
        verify_envelope(replace(signed, payload=signed.payload + b" "), IMAGE.digest, trusted)
    with pytest.raises(RelforgeError, match="holds no statement"):
        verify_envelope(replace(signed, payload_type="text/plain"), IMAGE.digest, trusted)
    with pytest.raises(UnknownSigner):
        verify_envelope(signed, IMAGE.digest, trusted[:1])
    with pytest.raises(UnknownSigner):
        verify_envelope(unsigned(statement()), IMAGE.digest, trusted)


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": [{"digest": {"sha256": "1"}}, {"digest": {"sha256": "2"}}]},
        {"subject": [{"name": "hello", "digest": {"sha512": "1"}}]},
        {"predicateType": 1},
        {"predicate": None},
    ],
)
def test_only_a_statement_about_one_digest_is_one(change: dict[str, object]) -> None:
    value = json.loads(statement().to_json())
    assert Statement.parse(json.dumps(value).encode()) == statement()
    with pytest.raises(ValueError, match=r"statement|subject|unpack|validation"):
        Statement.parse(json.dumps({**value, **change}).encode())


def test_what_is_attached_is_found_again(key: SigningKey, trusted: tuple[TrustedSigner]) -> None:
    store = MemoryStore()
    kinds = (predicates.PROVENANCE, predicates.TEST_RESULT)
    envelopes = [key.sign_statement(statement(kind=kind)) for kind in kinds]
    for one in (
        signature_attachment(IMAGE, *key.sign_image(IMAGE.digest, "hello")),
        attestations_attachment(IMAGE, envelopes),
        file_attachment(IMAGE, SPDX, "sbom.spdx.json", b"{}"),
        file_attachment(IMAGE, CYCLONEDX, "sbom.cdx.json", b"[]"),
        release_attachment(
            IMAGE, {"README.md": b"#"}, {"org.opencontainers.image.created": "2026-01-01T00:00:00Z"}
        ),
        release_attachment(
            IMAGE,
            {"README.md": b"##"},
            {"org.opencontainers.image.created": "2026-01-02T00:00:00Z"},
        ),
    ):
        store.take(one)
    found = read_attachments(store, IMAGE.digest)
    assert [one.predicate_type for one in found.envelopes] == list(kinds)
    assert found.of_type(predicates.PROVENANCE)[0].envelope == envelopes[0]
    assert verify_signature(found.signatures[0], IMAGE.digest, trusted).name == "maker"
    assert {kind: read_file(store, one) for kind, one in found.sboms.items()} == {
        SPDX: b"{}",
        CYCLONEDX: b"[]",
    }
    assert [read_file(store, one.files["README.md"]) for one in found.releases] == [b"##", b"#"]
    assert not found.unreadable
    assert not found.others
    assert read_attachments(store, OTHER.digest).envelopes == ()


def test_cosigns_tags_are_enough(key: SigningKey) -> None:
    store = MemoryStore()
    store.take(signature_attachment(IMAGE, *key.sign_image(IMAGE.digest, "hello")))
    store.take(attestations_attachment(IMAGE, [key.sign_statement(statement())]))
    both = read_attachments(store, IMAGE.digest)
    store.listed.clear()
    assert read_attachments(store, IMAGE.digest) == both
    assert len(both.signatures) == len(both.envelopes) == 1
    store.delete_tag(signature_tag(IMAGE.digest))
    assert read_attachments(store, IMAGE.digest).signatures == ()


def test_a_signature_of_another_image_or_key_is_none(
    key: SigningKey, trusted: tuple[TrustedSigner]
) -> None:
    store = MemoryStore()
    store.take(signature_attachment(IMAGE, *key.sign_image(IMAGE.digest, "hello")))
    (signature,) = read_attachments(store, IMAGE.digest).signatures
    with pytest.raises(RelforgeError, match="of another image"):
        verify_signature(signature, OTHER.digest, trusted)
    with pytest.raises(NotSignedByTrusted):
        verify_signature(signature, IMAGE.digest, trusted[:1])
    forged = SimpleSigning(digest=OTHER.digest, reference="hello").to_json()
    with pytest.raises(NotSignedByTrusted):
        verify_signature(replace(signature, payload=forged), OTHER.digest, trusted)


def test_what_cannot_be_read_is_named_and_hides_nothing(key: SigningKey) -> None:
    store = MemoryStore()
    good = attestations_attachment(IMAGE, [key.sign_statement(statement())])
    store.take(good)
    bad = file_attachment(IMAGE, "application/vnd.dsse.envelope.v1+json", "x", b"no envelope")
    store.take(bad)
    gone = file_attachment(IMAGE, "text/plain", "x", b"gone")
    store.take(gone)
    del store.manifests[gone.manifest.descriptor.digest]
    found = read_attachments(store, IMAGE.digest)
    assert len(found.envelopes) == 1
    assert len(found.unreadable) == 2
    assert any(gone.manifest.descriptor.digest in said for said in found.unreadable)
    assert any("envelope cannot be read" in said for said in found.unreadable)


def test_a_huge_file_is_not_read_into_memory() -> None:
    huge = Descriptor(media_type="x", digest=IMAGE.digest, size=LARGEST_BYTES + 1)
    with pytest.raises(RelforgeError, match="too large"):
        read_file(MemoryStore(), huge)


def test_the_manifest_says_what_it_is_about(key: SigningKey) -> None:
    value = attestations_attachment(IMAGE, [key.sign_statement(statement())]).manifest.value
    assert value["artifactType"] == COSIGN_ATTESTATIONS
    assert value["subject"] == IMAGE.to_json()
    assert value["layers"][0]["annotations"] == {
        "dev.cosignproject.cosign/signature": "",
        "predicateType": predicates.TEST_RESULT,
    }
