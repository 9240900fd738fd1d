"""All checks, in order, over one place; each says what it found, and none stops the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relforge.attesting.attachments import CYCLONEDX, SPDX
from relforge.attesting.reading import Attached
from relforge.errors import RelforgeError
from relforge.evidence.dsse import TrustedSigner
from relforge.lock import Lock
from relforge.manifest.policy import Policy
from relforge.manifest.site import Site
from relforge.publishing.published import CONTENTS, RECORD
from relforge.verifying import (
    cards,
    figures,
    locks,
    platforms,
    policy,
    records,
    sealed,
    signed,
    statements,
)
from relforge.verifying import image as images
from relforge.verifying.files import Files, json_object
from relforge.verifying.image import ImageSeen
from relforge.verifying.licenses import TABLE
from relforge.verifying.place import Place, beside, contents, files_of, open_place, read_attached
from relforge.verifying.report import (
    Finding,
    Outcome,
    Signer,
    VerifyReport,
    failed,
    not_run,
)
from relforge.verifying.words import finding

VULNERABILITIES = "evidence/vulnerabilities.json"
_FAULTS = (OSError, ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError)


@dataclass(frozen=True)
class Wanted:
    """What the reader brings: keys, policy, lock, project.

    ``demanded``: a signature and a statement about the whole release have to be there. ``full``
    reads every layer of a registry's image, too.
    """

    keys: Sequence[TrustedSigner] = ()
    policy: Policy | None = None
    policy_name: str | None = None
    demanded: bool = False
    lock: Lock | None = None
    lock_name: str = "the given lock"
    project: Path | None = None
    site: Site = field(default_factory=Site)
    full: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


def verify(named: str | Path | Place, wanted: Wanted) -> VerifyReport:
    """Reads the place and nothing else; never raises for what is wrong with the release.

    Raises RelforgeError (PUBLISH) with the cause when the place cannot be read at all, (USAGE)
    when there is no such place, and Cancelled.
    """
    place = named if isinstance(named, Place) else open_place(named, wanted.site)
    return _Run(place, wanted).report()


class _Run:
    """One verification; what one check has read serves those after it."""

    def __init__(self, place: Place, wanted: Wanted) -> None:
        self.place, self.wanted = place, wanted
        self.found: list[Finding] = []
        self.keys = tuple(wanted.keys)

    def report(self) -> VerifyReport:
        place, wanted = self.place, self.wanted
        attached, why_attached = _attempt(lambda: read_attached(place))
        attached = attached or Attached(place.digest)
        # What the record expects is not known yet: statements are looked at again below.
        first = signed.statements(attached, self.keys, (), demanded=False)
        statement = sealed.newest(first, keys=bool(self.keys))
        files, why_files = _attempt(lambda: files_of(place, attached, statement))
        record, why_record = _attempt(lambda: _record(files, why_files))
        seen, why_image = _attempt(lambda: images.see(place.store, place.digest))
        self.check("contents", lambda: contents(place, _there(files, why_files)))
        self.check("image", lambda: self._image(attached, seen, why_image, why_attached, files))
        self.check("record", lambda: records.record(
            _there(files, why_files), _there(record, why_record), _there(seen, why_image),
        ))  # fmt: skip
        if record is not None and files is not None:
            self._about(files, record, seen, why_image)
        else:
            self._skipped(("evidence", "card", "lock", "trees"), why_record)
        expected, _ = _attempt(lambda: statements.expected(record or {}))
        expected = expected or ()
        demanded = wanted.demanded or bool(expected)
        signatures = signed.signatures(attached, self.keys, demanded=demanded)
        self.add("signature", signatures.outcome)
        said = signed.statements(attached, self.keys, expected, demanded=demanded)
        self.add("attestations", said.outcome)
        keys = bool(self.keys)
        if record is not None and files is not None:
            self.check("provenance", lambda: statements.provenance(record, said, keys=keys))
            self.check("results", lambda: statements.results(record, files, said, keys=keys))
            self.check("sbom", lambda: statements.sbom(
                files, place.store, attached, said, keys=keys))  # fmt: skip
            self.check("release", lambda: sealed.release(
                files, record, statement, demanded=demanded))  # fmt: skip
            self.check("replay", lambda: sealed.replay(files, record, statement))
        else:
            self._skipped(("provenance", "results", "sbom", "release", "replay"), why_record)
        self.check("withdrawal", lambda: sealed.withdrawal(said, keys=keys))
        others, why_others = _attempt(lambda: platforms.others(
            place.store, _there(seen, why_image), record or {}, self.keys))  # fmt: skip
        if others is None or others:
            self.check("platforms", lambda: platforms.each(_there(others, why_others)))
        self._policy(record, seen, said, signatures, attached, files, statement, others or ())
        return self._report(record, attached, signatures, files)

    def check(self, name: str, check: Callable[[], Outcome]) -> None:
        """Runs a check; whatever it stumbles over is its finding."""
        outcome, why = _attempt(check)
        self.add(name, outcome if outcome is not None else failed([why]))

    def _skipped(self, names: Sequence[str], why: str) -> None:
        for name in names:
            self.add(name, not_run(f"without a record there is nothing to compare: {why}"))

    def add(self, name: str, outcome: Outcome) -> None:
        self.found.append(finding(name, outcome))

    def _image(
        self,
        attached: Attached,
        seen: ImageSeen | None,
        why_image: str,
        why_attached: str,
        files: Files | None,
    ) -> Outcome:
        place = self.place
        image = _there(seen, why_image)
        wanted = None
        if place.folder is not None and files is not None:
            named, _ = _attempt(lambda: json_object(files.read(CONTENTS), CONTENTS)["image_digest"])
            wanted = named
        whole = place.kind != "registry" or self.wanted.full
        outcome = images.image(place.store, image, wanted, whole=whole)
        known = {one.digest for one in (*image.manifests, *image.blobs)}
        problems = (
            [why_attached]
            if why_attached
            else list(
                beside(
                    place,
                    attached,
                    [one.digest for one in image.manifests],
                    known,
                    whole=whole,
                )
            )
        )
        if problems:
            before = [outcome.reason] if outcome.verdict == "fail" else []
            return failed([*before, *problems])
        return outcome

    def _about(
        self, files: Files, record: Mapping[str, Any], seen: ImageSeen | None, why_image: str
    ) -> None:
        """What the release says of itself."""
        wanted = self.wanted
        self.check("evidence", lambda: figures.evidence(files, record, wanted.project))
        self.check("card", lambda: cards.card(files, record, wanted.project))
        self.check("lock", lambda: locks.lock(record, wanted.lock, wanted.lock_name))
        self.check("trees", lambda: locks.trees(
            record, _there(seen, why_image), wanted.project, wanted.site))  # fmt: skip

    def _policy(
        self,
        record: Mapping[str, Any] | None,
        seen: ImageSeen | None,
        said: signed.StatementsSeen,
        signatures: signed.SignaturesSeen,
        attached: Attached,
        files: Files | None,
        statement: sealed.Newest | None,
        others: tuple[platforms.PlatformSeen, ...],
    ) -> None:
        asked = self.wanted.policy
        if asked is None:
            return
        if record is None or seen is None or files is None:
            self.add("policy.stages", failed(["without record and image nothing can be judged"]))
            return
        known, _ = _attempt(lambda: files.read(VULNERABILITIES))
        licenses, _ = _attempt(lambda: files.read(TABLE))
        judged_ = policy.Judged(
            record=record,
            image=seen,
            statements=said,
            signers=signatures.signers,
            sboms=frozenset(
                name for name, kind in (("spdx", SPDX), ("cyclonedx", CYCLONEDX))
                if kind in attached.sboms
            ),
            vulnerabilities=known,
            licenses=licenses,
            serial=statement.serial if statement is not None and self.keys else None,
            now=self.wanted.now,
            platforms=others,
        )  # fmt: skip
        outcomes, why = _attempt(lambda: list(policy.outcomes(asked, judged_)))
        if outcomes is None:
            self.add("policy.stages", failed([why]))
        for name, outcome in outcomes or ():
            self.add(name, outcome)

    def _report(
        self,
        record: Mapping[str, Any] | None,
        attached: Attached,
        signatures: signed.SignaturesSeen,
        files: Files | None,
    ) -> VerifyReport:
        place = self.place
        known = record or {}
        good = all(one.verdict != "fail" for one in self.found)
        return VerifyReport(
            folder=place.name,
            verdict="pass" if good else "fail",
            checks=tuple(self.found),
            kind=place.kind,
            release=_text(known.get("release")),
            image_digest=place.digest,
            created=_text(known.get("created")),
            looked_at=(
                f"{len(files.names) if files is not None else 0} files",
                f"{len(attached.signatures)} signatures",
                f"{len(attached.envelopes)} attestations",
            ),
            keys=tuple(_signer(key) for key in self.keys),
            signers=tuple(_signer(key) for key in signatures.signers),
            policy=self.wanted.policy_name if self.wanted.policy is not None else None,
        )


def _record(files: Files | None, why: str) -> dict[str, Any]:
    return json_object(_there(files, why).read(RECORD), RECORD)


class _Absent(Exception):
    """Something that an earlier check could not read; its text says why."""


def _there(value: Any, why: str) -> Any:
    if value is None:
        raise _Absent(why)
    return value


def _attempt(read: Callable[[], Any]) -> tuple[Any, str]:
    """What was read, or None and why it could not be."""
    try:
        return read(), ""
    except _Absent as error:
        return None, str(error)
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else "a file"
        return None, f"{missing} is not there"
    except RelforgeError as error:
        return None, ": ".join(part for part in (error.what, error.why) if part)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return None, f"cannot be read: {where}: {first['msg']}"
    except KeyError as error:
        return None, f"cannot be read: {error} is missing"
    except _FAULTS as error:
        return None, f"cannot be read: {error}"


def _signer(key: TrustedSigner) -> Signer:
    return Signer(name=key.name, keyid=key.keyid)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
