"""A policy, applied to what was found: one finding for each thing that it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import Any

from relforge.evidence.dsse import TrustedSigner
from relforge.manifest.policy import STAGE_OF, AttestationName, Policy, StageName
from relforge.verifying.files import at, json_object
from relforge.verifying.image import ImageSeen
from relforge.verifying.licenses import TABLE, forbidden
from relforge.verifying.platforms import PlatformSeen, asked_of_platforms
from relforge.verifying.report import Outcome, judged, passed
from relforge.verifying.signed import StatementsSeen, named
from relforge.verifying.vulnerabilities import findings_of, too_severe

BUILT_IN = "the built-in policy"


@dataclass(frozen=True)
class Judged:
    """What policy rules read: everything was found, and compared with the record, before."""

    record: Mapping[str, Any]
    image: ImageSeen
    statements: StatementsSeen
    signers: tuple[TrustedSigner, ...]
    sboms: frozenset[str]
    """``spdx`` and ``cyclonedx``, as attached to the image."""
    vulnerabilities: bytes | None
    licenses: bytes | None
    """``vulnerabilities.json`` and ``licenses.json`` of the evidence, where they are."""
    serial: int | None
    now: datetime
    platforms: tuple[PlatformSeen, ...] = ()
    """Of an image for several architectures: those that the record's own results are not about."""


def outcomes(policy: Policy, seen: Judged) -> Iterator[tuple[str, Outcome]]:
    """Check names and outcomes, of what the policy asks for and nothing else."""
    if policy.signed:
        yield "policy.signers", _signers(policy, seen)
    yield "policy.stages", _stages(policy, seen)
    if seen.platforms:
        yield "policy.platforms", asked_of_platforms(policy, seen.platforms)
    if policy.attestations:
        yield "policy.attestations", _attestations(policy, seen)
    if policy.sbom is not None:
        yield "policy.sbom", _sbom(policy, seen)
    rule = policy.vulnerabilities
    if rule.required or seen.vulnerabilities is not None:
        yield "policy.vulnerabilities", _vulnerabilities(policy, seen)
    if policy.licenses.forbidden:
        yield "policy.licenses", _licenses(policy, seen)
    if policy.labels:
        yield "policy.labels", _labels(policy, seen)
    if policy.builders:
        yield "policy.builder", _builder(policy, seen)
    if policy.not_before is not None or policy.max_age_days is not None:
        yield "policy.age", _age(policy, seen)
    if policy.minimum_serial is not None:
        yield "policy.serial", _serial(policy, seen)
    if policy.clean_source:
        yield "policy.source", _source(seen)


def _signers(policy: Policy, seen: Judged) -> Outcome:
    counted = [s for s in seen.signers if _is_one_of(s, policy.signers)]
    if len(counted) >= policy.minimum_signers:
        return passed(f"signed by {', '.join(named(s) for s in counted)}")
    whose = f" of {', '.join(policy.signers)}" if policy.signers else ""
    by = ", ".join(named(s) for s in seen.signers) or "nobody that is trusted here"
    return judged(
        [f"{policy.minimum_signers} signatures{whose} are asked for; the image is signed by {by}"],
        "",
    )


def _is_one_of(signer: TrustedSigner, names: Sequence[str]) -> bool:
    return not names or signer.name in names or signer.keyid in names


def _stages(policy: Policy, seen: Judged) -> Outcome:
    problems, said = [], []
    for stage in policy.stages:
        verdict = _verdict(seen.record, stage)
        if verdict == "pass":
            said.append(f"{stage} passed")
            continue
        reason = skip_reason(seen.record, stage)
        if reason is not None and _may_skip(policy, seen.record, stage):
            said.append(f"{stage} may be skipped here ({reason})")
            continue
        why = f" ({reason}), which the policy does not allow this release" if reason else ""
        problems.append(f"{stage} is {verdict}{why}")
    return judged(problems, ", ".join(said) or "no stage is asked for")


def _verdict(record: Mapping[str, Any], stage: str) -> str:
    """Of the result itself, where there is one; absent is ``not-run``."""
    result = (record.get("results") or {}).get(stage)
    if isinstance(result, Mapping) and result.get("verdict"):
        return str(result["verdict"])
    return "not-run"


def skip_reason(record: Mapping[str, Any], stage: str) -> str | None:
    """Why the manifest of a release goes without a stage; None where it does not say so."""
    said = str((record.get("skipped") or {}).get(stage) or "")
    # What relforge cannot do yet, or was not asked to do, is no decision of the manifest.
    return said.removeprefix("not-needed: ") if said.startswith("not-needed: ") else None


def _may_skip(policy: Policy, record: Mapping[str, Any], stage: StageName) -> bool:
    release = str(record.get("release"))
    return any(fnmatchcase(release, one) for one in policy.may_skip.get(stage, ()))


def _attestations(policy: Policy, seen: Judged) -> Outcome:
    problems, said = [], []
    for name, rule in policy.attestations.items():
        stage = STAGE_OF.get(name)
        if stage is not None and _lawfully_absent(policy, seen, name, stage):
            said.append(f"{name} is not needed")
            continue
        by = seen.statements.signers(name)
        allowed = rule.signers or policy.signers
        counted = [s for s in by if _is_one_of(s, allowed)]
        if counted:
            said.append(f"{name} by {counted[0].name}")
        elif by:
            problems.append(f"{name} is signed by {named(by[0])}, asked for is {_either(allowed)}")
        else:
            problems.append(f"{name} is not there, signed by a trusted key")
    return judged(problems, ", ".join(said))


def _lawfully_absent(policy: Policy, seen: Judged, name: AttestationName, stage: StageName) -> bool:
    if name in seen.statements.trusted or _verdict(seen.record, stage) != "not-run":
        return False
    return skip_reason(seen.record, stage) is not None and _may_skip(policy, seen.record, stage)


def _sbom(policy: Policy, seen: Judged) -> Outcome:
    wanted = ("spdx", "cyclonedx") if policy.sbom in ("any", None) else (str(policy.sbom),)
    there = [kind for kind in wanted if kind in seen.sboms]
    if there:
        return passed(f"{' and '.join(there)}")
    return judged([f"no bill of materials is attached ({_either(wanted)})"], "")


def _vulnerabilities(policy: Policy, seen: Judged) -> Outcome:
    rule = policy.vulnerabilities
    if seen.vulnerabilities is None:
        scanned = (seen.record.get("results") or {}).get("scan") or {}
        why = (
            (seen.record.get("skipped") or {}).get("scan")
            or (scanned.get("vulnerabilities") or {}).get("reason")
            or "none is there"
        )
        return judged([f"no report of a vulnerability scanner: {why}"], "")
    report = json_object(seen.vulnerabilities, "the scanner's report")
    found = findings_of(report)
    problems = [one.shown() for one in too_severe(found, rule)]
    if report.get("image_digest", seen.image.digest) != seen.image.digest:
        problems.insert(0, f"the report is about {report['image_digest']}")
    known = {one.id for one in found} & set(rule.exceptions)
    more = f" but for {len(known)} exceptions" if known else ""
    return judged(problems, f"{len(found)} are known, none above {rule.max_severity}{more}")


def _licenses(policy: Policy, seen: Judged) -> Outcome:
    if seen.licenses is None:
        return judged([f"{TABLE} is not there: nobody knows the licences"], "")
    bad = list(forbidden(seen.licenses, seen.image.digest, policy.licenses))
    return judged(bad, f"nothing is under {' or '.join(policy.licenses.forbidden)}")


def _labels(policy: Policy, seen: Judged) -> Outcome:
    problems = []
    for part in seen.image.parts:
        of = f" ({part.platform})" if seen.image.is_index else ""
        for name, pattern in policy.labels.items():
            value = part.labels.get(name)
            if value is None:
                problems.append(f"the image{of} has no label {name}")
            elif not fnmatchcase(value, pattern):
                problems.append(f"label {name}{of} is {value!r}, asked for is {pattern!r}")
    return judged(problems, f"{len(policy.labels)} labels are as asked for")


def _builder(policy: Policy, seen: Judged) -> Outcome:
    ids = [
        str(((statement.predicate.get("runDetails") or {}).get("builder") or {}).get("id"))
        for statement in seen.statements.best("provenance", keys=policy.signed)
    ]
    good = [one for one in ids if any(fnmatchcase(one, pattern) for pattern in policy.builders)]
    if good:
        return passed(f"built by {good[0]}")
    known = ", ".join(ids) or "not known"
    return judged([f"the builder is {known}, asked for is {_either(policy.builders)}"], "")


def _age(policy: Policy, seen: Judged) -> Outcome:
    created = time_of(at(seen.record, "created"))
    problems = []
    if policy.not_before is not None:
        first = _utc(policy.not_before)
        if created < first:
            problems.append(
                f"the record is of {created:%Y-%m-%d %H:%M}, before {first:%Y-%m-%d %H:%M}"
            )
    age = seen.now - created
    if policy.max_age_days is not None and age > timedelta(days=policy.max_age_days):
        problems.append(
            f"the record is {age / timedelta(days=1):.1f} days old, at most "
            f"{policy.max_age_days:g} are allowed"
        )
    if age < -timedelta(days=1):
        problems.append(f"the record is of {created:%Y-%m-%d %H:%M}, which is yet to come")
    return judged(problems, f"made on {created:%Y-%m-%d %H:%M} UTC")


def _serial(policy: Policy, seen: Judged) -> Outcome:
    if seen.serial is None:
        return judged(["no signed release statement has a serial"], "")
    if policy.minimum_serial is not None and seen.serial < policy.minimum_serial:
        return judged(
            [
                f"the release statement has the serial {seen.serial}, at least "
                f"{policy.minimum_serial} is asked for: this is an older release, played back"
            ],
            "",
        )
    return passed(f"serial {seen.serial}")


def _source(seen: Judged) -> Outcome:
    project = seen.record.get("project")
    if not isinstance(project, Mapping):
        return judged(["the record knows no commit of the project"], "")
    if project.get("uncommitted_changes"):
        return judged([f"commit {project.get('commit')} had changes that were not committed"], "")
    return passed(f"made of commit {project.get('commit')}")


def time_of(text: str) -> datetime:
    """A record's time, which is UTC. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment


def _either(names: Sequence[str]) -> str:
    return " or ".join(names) or "a trusted key"
