"""Signed statements against the record and the evidence that they speak of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from relforge import __version__
from relforge.attesting.reading import Attached, read_file
from relforge.attesting.statements import Statement
from relforge.lock import Lock
from relforge.manifest.release import Release
from relforge.oci.store import ImageStore
from relforge.verifying.files import Files, at, json_object
from relforge.verifying.measured import differences
from relforge.verifying.report import Outcome, judged, not_run
from relforge.verifying.signed import NAMES, StatementsSeen
from relforge.verifying.upstream import upstream

SBOM_FILES = {"spdx": "evidence/sbom.spdx.json", "cyclonedx": "evidence/sbom.cdx.json"}
_MADE_BY_STAGES = ("smoke", "evaluation", "benchmark", "coverage", "scan", "vulnerabilities")
_STAGES = {
    "smoke": "smoke",
    "evaluation": "evaluate",
    "benchmark": "bench",
    "coverage": "coverage",
    "scan": "scan",
}


def expected(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The statements that the record says were made and signed, by their names."""
    attested = (record.get("results") or {}).get("attest")
    if not isinstance(attested, Mapping) or not attested.get("signed"):
        return ()
    kinds = attested.get("kinds") or ()
    return (*(NAMES.get(kind, str(kind)) for kind in kinds), "release")


def provenance(record: Mapping[str, Any], seen: StatementsSeen, *, keys: bool) -> Outcome:
    """Sources, patch sets, base and wheels of the provenance are those of the record's lock."""
    said = seen.best("provenance", keys=keys)
    if not said:
        return not_run("there is no provenance to compare")
    try:
        wanted = _provenance(record)
    except (KeyError, TypeError, ValidationError):
        wanted = None
    problems: list[str] = []
    for statement in said:
        found = _comparable(statement.predicate)
        problems += _of_lock(record, statement.predicate)
        # Another version of relforge may word parameters in another way.
        if wanted is not None and record.get("relforge") == __version__:
            problems += differences(_comparable(wanted), found, "the record", "the provenance")
    inputs = _dependencies(said[0].predicate)
    return judged(problems, f"{len(inputs)} inputs are those of the lock")


def results(
    record: Mapping[str, Any], files: Files, seen: StatementsSeen, *, keys: bool
) -> Outcome:
    """What is signed about smoke test, evaluation, benchmark, coverage and scan is what the record
    has, and names the evidence that is here."""
    names = [name for name in _MADE_BY_STAGES if seen.best(name, keys=keys)]
    if not names:
        return not_run("there is no statement about results to compare")
    wanted = _result_predicates(record, files)
    problems: list[str] = []
    for name in names:
        for statement in seen.best(name, keys=keys):
            if name in wanted and wanted[name] == statement.predicate:
                continue
            if name in wanted and record.get("relforge") == __version__:
                lines = differences(
                    wanted[name], statement.predicate, "the record", "the statement"
                )
                problems += [f"{name}: {line}" for line in lines]
            else:
                lines = _of_result(record, name, statement, files)
                problems += [f"{name}: {line}" for line in lines]
    return judged(problems, f"{', '.join(names)}: as the record has them, with its evidence")


def sbom(
    files: Files,
    store: ImageStore,
    attached: Attached,
    seen: StatementsSeen,
    *,
    keys: bool,
) -> Outcome:
    """Each bill of materials is one: as evidence, as attached, and as signed."""
    from relforge.attesting.attachments import CYCLONEDX, SPDX

    kinds = {"spdx": SPDX, "cyclonedx": CYCLONEDX}
    problems, said = [], []
    for name, media_type in kinds.items():
        path = SBOM_FILES[name]
        descriptor = attached.sboms.get(media_type)
        signed = seen.best(name, keys=keys)
        evidence = files.sha256(path) if path in files.names else None
        if descriptor is None and not signed and evidence is None:
            continue
        if evidence is None:
            problems.append(f"{name}: {path} is not there")
        if descriptor is None:
            problems.append(f"{name}: the bill of materials is not attached to the image")
        elif evidence is not None and descriptor.digest != f"sha256:{evidence}":
            problems.append(f"{name}: attached is {descriptor.digest}, {path} is sha256:{evidence}")
        if descriptor is not None and signed:
            found = json_object(read_file(store, descriptor), name)
            if any(statement.predicate != found for statement in signed):
                problems.append(f"{name}: the signed bill of materials is not the attached one")
        said.append(name)
    if not said:
        return not_run("there is no bill of materials")
    return judged(problems, f"{' and '.join(said)}: evidence, attachment and statement are one")


def _provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    from relforge.attesting.provenance import Opened, provenance

    inputs = record["inputs"]["attest"]["values"]
    found = upstream(record)
    unpatched: Any = found.get("unpatch")
    opened = {
        one.name: Opened(
            sealed=one.sealed,
            ships=one.ships,
            signer_keyid=one.signer_keyid,
            bundle_sha256=inputs["bundles"].get(one.name),
        )
        for one in (unpatched.sets if unpatched is not None else ())
    }
    build: Any = found["build"]
    return provenance(
        Release.model_validate(inputs["release"]),
        Lock.model_validate(inputs["lock"]),
        build,
        opened=opened,
        stage_keys=inputs["stage_keys"],
        built=None,
    )


def _comparable(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Without who made it and when, which the record does not know."""
    return {**predicate, "runDetails": None}


def _of_lock(record: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[str]:
    """What every version of the provenance says."""
    definition = predicate.get("buildDefinition") or {}
    internal = definition.get("internalParameters") or {}
    external = definition.get("externalParameters") or {}
    if internal.get("lock_sha256") != at(record, "lock_sha256"):
        yield f"the provenance is of the lock {internal.get('lock_sha256')}"
    if external.get("release") != record.get("release"):
        yield f"the provenance is of the release {external.get('release')}"
    found = _dependencies(predicate)
    base = (at(record, "results", "build").get("base_digest") or "").removeprefix("sha256:")
    if base and found.get("base-image", {}).get("sha256") != base:
        yield f"the base image is {base}, the provenance has {found.get('base-image')}"
    for name, source in at(record, "lock", "sources").items():
        wanted = {
            "gitCommit": source.get("commit"),
            "sha256": source.get("sha256"),
            "gitTree": source.get("tree"),
        }
        wanted = {kind: value for kind, value in wanted.items() if value is not None}
        if found.get(f"source/{name}") != wanted:
            yield f"source {name} is {wanted}, the provenance has {found.get(f'source/{name}')}"
    for name, patch_set in (at(record, "lock").get("patches") or {}).items():
        wanted = {"sha256": patch_set["content"]}
        if found.get(f"patch-set/{name}") != wanted:
            yield (
                f"patch set {name} is {wanted}, the provenance has {found.get(f'patch-set/{name}')}"
            )


def _dependencies(predicate: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    definition = predicate.get("buildDefinition") or {}
    listed = definition.get("resolvedDependencies") or ()
    return {str(one.get("name")): dict(one.get("digest") or {}) for one in listed}


def _result_predicates(record: Mapping[str, Any], files: Files) -> dict[str, dict[str, Any]]:
    """What would be said now of the record's results; empty where another version made it."""
    from relforge.attesting.results import result_predicates
    from relforge.publishing.evidencefiles import evidence_of

    try:
        inputs = record["inputs"]["attest"]["values"]
        with TemporaryDirectory(prefix="relforge-verify-") as folder:
            _lay_out(record, files, Path(folder))
            found = upstream(record, Path(folder))
            found.pop("attest", None)
            said = result_predicates(
                found,
                evidence_of(found),
                stage_keys=inputs["stage_keys"],
                skipped=inputs["skipped"],
            )
            return {NAMES.get(kind, kind): predicate for kind, predicate in said}
    except (KeyError, TypeError, IndexError, ValidationError, OSError, ValueError):
        return {}


def _lay_out(record: Mapping[str, Any], files: Files, folder: Path) -> None:
    """The evidence that stages read again when they speak of it."""
    wanted = {
        str(entry["sha256"])
        for stage in ("sbom", "scan")
        for entry in (record.get("evidence") or {}).get(stage) or ()
    }
    for name in files.names:
        if name.startswith("evidence/") and (digest := files.sha256(name)) in wanted:
            (folder / digest).write_bytes(files.read(name))


def _of_result(
    record: Mapping[str, Any], name: str, statement: Statement, files: Files
) -> Iterator[str]:
    """What every version of a statement about a result says: verdict, evidence, figures."""
    predicate = statement.predicate
    for entry in predicate.get("evidence") or ():
        path, digest = str(entry.get("name")), (entry.get("digest") or {}).get("sha256")
        if path not in files.names:
            yield f"its evidence {path} is not there"
        elif files.sha256(path) != digest:
            yield f"its evidence {path} has the hash {digest}, here is {files.sha256(path)}"
    result = (record.get("results") or {}).get(_STAGES.get(name, name))
    if result is None:
        if predicate.get("verdict") not in (None, "not-run"):
            yield f"it says {predicate.get('verdict')}, and the record has no such result"
        return
    if "verdict" in predicate and predicate["verdict"] != result.get("verdict"):
        yield f"it says {predicate['verdict']}, the record {result.get('verdict')}"
    if name == "evaluation":
        yield from differences(
            result.get("tasks"), predicate.get("tasks"), "the record", "the statement", "tasks"
        )
    if name == "benchmark":
        levels = [level["figures"] for level in at(result, "report", "levels")]
        yield from differences(
            levels, predicate.get("levels"), "the record", "the statement", "levels"
        )
    if name == "smoke":
        passed = [p["name"] for p in at(result, "report", "probes") if p["verdict"] == "pass"]
        if predicate.get("passedTests") != passed:
            yield "it names other probes as passed than the record"
