"""An image for several architectures: what is known of those that the record was not measured on.

Each was built and tested on a host of its own, and released there: signature and statements are
attached to the image of that architecture, and come along with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from relforge.attesting.reading import read_attachments
from relforge.attesting.statements import Statement
from relforge.evidence.dsse import TrustedSigner
from relforge.manifest.policy import STAGE_OF, Policy, StageName
from relforge.oci.store import ImageStore
from relforge.verifying import sealed, signed
from relforge.verifying.image import ImageSeen, Part
from relforge.verifying.report import Outcome, judged, not_run
from relforge.verifying.signed import SignaturesSeen, StatementsSeen

_NAMES = {stage: name for name, stage in STAGE_OF.items() if stage != "sbom"}
_BILLS = ("spdx", "cyclonedx")


@dataclass(frozen=True)
class PlatformSeen:
    """One architecture, with what is attached to its image. ``keys``: whether the reader has any,
    so that unsigned words do not count."""

    part: Part
    signatures: SignaturesSeen
    statements: StatementsSeen
    keys: bool

    def said(self, name: str) -> list[Statement]:
        """The statements of a name that count."""
        return self.statements.best(name, keys=self.keys)


def others(
    store: ImageStore, image: ImageSeen, record: Mapping[str, Any], keys: Sequence[TrustedSigner]
) -> tuple[PlatformSeen, ...]:
    """Every part of an index but the one that the record is about. Raises RelforgeError (PUBLISH)
    when the place refuses."""
    if not image.is_index:
        return ()
    own = image.tested(record)
    of_record = own[0].digest if len(own) == 1 else None
    return tuple(_seen(store, part, keys) for part in image.parts if part.digest != of_record)


def _seen(store: ImageStore, part: Part, keys: Sequence[TrustedSigner]) -> PlatformSeen:
    attached = read_attachments(store, part.digest)
    return PlatformSeen(
        part=part,
        signatures=signed.signatures(attached, keys, demanded=False),
        statements=signed.statements(attached, keys, (), demanded=False),
        keys=bool(keys),
    )


def each(seen: Sequence[PlatformSeen]) -> Outcome:
    """What is attached to each is about it and good; nobody took one back."""
    problems, said = [], []
    silent = False
    for one in seen:
        platform = one.part.platform
        for found in (
            one.signatures.outcome,
            one.statements.outcome,
            sealed.withdrawal(one.statements, keys=one.keys),
        ):
            if found.verdict == "fail":
                problems.append(f"{platform}: {found.reason}")
        verdicts = [
            f"{name} {said_[0].predicate.get('verdict')}"
            for name in _NAMES.values()
            if (said_ := one.said(name))
        ]
        silent = silent or not verdicts
        said.append(f"{platform}: {', '.join(verdicts) or 'nothing is said about it'}")
    if not problems and not any(one.keys for one in seen):
        return not_run(f"{'; '.join(said)}; {signed.NO_KEY}")
    if not problems and silent:
        return not_run("; ".join(said))
    return judged(problems, "; ".join(said))


def asked_of_platforms(policy: Policy, seen: Sequence[PlatformSeen]) -> Outcome:
    """Every stage that the policy asks for passed on each, by signed statements about it."""
    problems, said = [], []
    for one in seen:
        platform = one.part.platform
        if (reason := policy.untested_platforms.get(platform)) is not None:
            said.append(f"{platform} is let through untested ({reason})")
            continue
        missing = list(_missing(policy, one))
        problems += [f"{platform}: {why}" for why in missing]
        if not missing:
            said.append(f"{platform} passed what is asked for, signed")
    return judged(problems, ", ".join(said))


def _missing(policy: Policy, one: PlatformSeen) -> Iterator[str]:
    if policy.signed:
        by = one.signatures.signers
        good = [s for s in by if not policy.signers or {s.name, s.keyid} & {*policy.signers}]
        if len(good) < policy.minimum_signers:
            yield f"its image is signed by {len(good)} of the keys that count"
    for stage in policy.stages:
        if stage == "sbom":
            if not any(one.said(name) for name in _BILLS):
                yield "sbom is not-run"
        elif (why := _not_passed(policy, stage, one.said(_NAMES[stage]))) is not None:
            yield why


def _not_passed(policy: Policy, stage: StageName, said: Sequence[Statement]) -> str | None:
    verdicts = [str(one.predicate.get("verdict")) for one in said]
    # A registry keeps older statements; none that says `fail` may be outvoted.
    if "pass" in verdicts and "fail" not in verdicts:
        return None
    patterns = policy.may_skip.get(stage, ())
    if said and all(
        one.predicate.get("verdict") == "not-run"
        and any(fnmatchcase(one.name, pattern) for pattern in patterns)
        for one in said
    ):
        return None
    return f"{stage} is {verdicts[0] if verdicts else 'not-run'}"
