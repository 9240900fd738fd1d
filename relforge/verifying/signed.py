"""Who signed the image and the statements about it, by the keys that the reader trusts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from relforge.attesting import predicates
from relforge.attesting.predicates import PAYLOAD_TYPE
from relforge.attesting.reading import Attached, AttachedEnvelope
from relforge.attesting.statements import Statement
from relforge.attesting.verifying import (
    NotSignedByTrusted,
    Said,
    verify_envelope,
    verify_signature,
)
from relforge.errors import RelforgeError
from relforge.evidence.dsse import TrustedSigner, UnknownSigner
from relforge.verifying.report import Outcome, failed, judged, not_run, passed

NAMES = {
    predicates.PROVENANCE: "provenance",
    predicates.SPDX: "spdx",
    predicates.CYCLONEDX: "cyclonedx",
    predicates.TEST_RESULT: "smoke",
    predicates.EVALUATION: "evaluation",
    predicates.BENCHMARK: "benchmark",
    predicates.COVERAGE: "coverage",
    predicates.CONTENT_SCAN: "scan",
    predicates.VULNERABILITIES: "vulnerabilities",
    predicates.RELEASE: "release",
    predicates.WITHDRAWAL: "withdrawal",
}
"""What people call a statement, by its predicate type."""

NO_KEY = (
    "no key was given: name one with --key, or trust one in the site configuration (trusted_keys)"
)


@dataclass(frozen=True)
class SignaturesSeen:
    """``signers`` are those of the reader's keys that signed the image."""

    outcome: Outcome
    signers: tuple[TrustedSigner, ...] = ()


@dataclass(frozen=True)
class StatementsSeen:
    """Statements by their names; ``trusted`` have a good signature of a trusted key.

    ``claimed`` are all that are about this image, whoever made them: what is compared with the
    record where nobody gave a key.
    """

    outcome: Outcome
    trusted: dict[str, list[Said]] = field(default_factory=dict)
    claimed: dict[str, list[Statement]] = field(default_factory=dict)

    def best(self, name: str, *, keys: bool) -> list[Statement]:
        """Those that count."""
        if keys:
            return [said.statement for said in self.trusted.get(name, ())]
        return self.claimed.get(name, [])

    def signers(self, name: str) -> tuple[TrustedSigner, ...]:
        return tuple(said.signer for said in self.trusted.get(name, ()))


def named(signer: TrustedSigner) -> str:
    """For people."""
    return f"{signer.name} (key id {signer.keyid[:16]}...)"


def signatures(
    attached: Attached, keys: Sequence[TrustedSigner], *, demanded: bool
) -> SignaturesSeen:
    """The image's signatures, as cosign makes them. ``demanded``: that there is none is a fault."""
    found = attached.signatures
    lost = list(attached.unreadable)
    if not keys:
        if demanded and not found:
            return SignaturesSeen(failed(["nobody signed the image", *lost]))
        have = f"{len(found)} signatures are there, unchecked" if found else "nobody signed it"
        return SignaturesSeen(not_run(f"{have}; {NO_KEY}"))
    if not found:
        if demanded:
            return SignaturesSeen(failed(["nobody signed the image", *lost]))
        return SignaturesSeen(not_run("nobody signed the image, and no signature was asked for"))
    good: dict[str, TrustedSigner] = {}
    wrong: list[str] = []
    strangers = 0
    for one in found:
        try:
            signer = verify_signature(one, attached.image_digest, keys)
            good[signer.keyid] = signer
        except NotSignedByTrusted:
            strangers += 1
        except RelforgeError as error:
            wrong.append(_words(error))
    if wrong:
        return SignaturesSeen(failed(wrong), tuple(good.values()))
    if not good:
        return SignaturesSeen(
            failed(
                [
                    f"none of the {strangers} signatures was made with "
                    f"{' or '.join(named(key) for key in keys)}: another key signed the image, or "
                    "image and signature were altered"
                ]
            )
        )
    by = " and ".join(named(signer) for signer in good.values())
    more = f"; {strangers} more by keys that are not trusted here" if strangers else ""
    return SignaturesSeen(
        passed(f"{attached.image_digest} is signed by {by}{more}"), tuple(good.values())
    )


def statements(
    attached: Attached,
    keys: Sequence[TrustedSigner],
    expected: Sequence[str],
    *,
    demanded: bool,
) -> StatementsSeen:
    """Every attestation: about this image, signed by a trusted key, and all that are ``expected``
    by the record are there."""
    trusted: dict[str, list[Said]] = {}
    claimed: dict[str, list[Statement]] = {}
    problems: list[str] = list(attached.unreadable)
    strange: dict[str, str] = {}
    for one in attached.envelopes:
        name = NAMES.get(one.predicate_type or "", one.predicate_type or "a statement without type")
        if why := _misfit(one, attached.image_digest):
            problems.append(f"{name}: {why}")
            continue
        statement = Statement.parse(one.envelope.payload)
        claimed.setdefault(name, []).append(statement)
        if not keys:
            continue
        try:
            said = verify_envelope(one.envelope, attached.image_digest, keys)
            trusted.setdefault(name, []).append(said)
        except UnknownSigner as error:
            ids = ", ".join(keyid or "an unnamed key" for keyid in error.keyids)
            strange[name] = f"signed by {ids}, which is not trusted here" if ids else "not signed"
        except RelforgeError as error:
            problems.append(f"{name}: {_words(error)}")
    problems += _missing(expected, trusted if keys else claimed, strange)
    # What strangers say beside a trusted statement is no fault: a registry is open to them.
    problems += [
        f"{name}: {why}"
        for name, why in strange.items()
        if name not in trusted and name not in expected and name in NAMES.values()
    ]
    seen = trusted if keys else claimed
    listed = ", ".join(sorted(seen)) or "none"
    count = sum(len(some) for some in seen.values())
    if problems:
        return StatementsSeen(failed(problems), trusted, claimed)
    if not keys:
        if demanded and not claimed:
            return StatementsSeen(failed(["there is no attestation"]), trusted, claimed)
        have = f"{count} about this image ({listed}), unchecked" if claimed else "there is none"
        return StatementsSeen(not_run(f"{have}; {NO_KEY}"), trusted, claimed)
    if not trusted:
        if demanded:
            return StatementsSeen(failed(["there is no attestation"]), trusted, claimed)
        return StatementsSeen(
            not_run("there is no attestation, and none was asked for"), trusted, claimed
        )
    return StatementsSeen(
        judged([], f"{count} signed and about this image: {listed}"), trusted, claimed
    )


def _missing(
    expected: Sequence[str],
    seen: dict[str, list[Said]] | dict[str, list[Statement]],
    strange: dict[str, str],
) -> Iterator[str]:
    for name in expected:
        if name not in seen:
            yield f"{name}: {strange[name]}" if name in strange else f"{name}: is not there"


def _misfit(one: AttachedEnvelope, image_digest: str) -> str | None:
    """Why an envelope cannot be about this image, whoever signed it."""
    if one.envelope.payload_type != PAYLOAD_TYPE:
        return f"the envelope holds {one.envelope.payload_type!r} and not {PAYLOAD_TYPE!r}"
    try:
        statement = Statement.parse(one.envelope.payload)
    except ValueError as error:
        return str(error)
    if statement.digest != image_digest:
        return f"it is about another image, {statement.digest}"
    return None


def _words(error: RelforgeError) -> str:
    return ": ".join(part for part in (error.what, error.why) if part)
