"""What a vulnerability scanner reported, against what is let through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from relforge.frozen import Frozen
from relforge.manifest.policy import SEVERITIES, Severity, VulnerabilityRule

_SAME: dict[str, Severity] = {"negligible": "low", "": "unknown"}


class Vulnerability(Frozen):
    """One known weakness of one package."""

    id: str
    severity: Severity
    package: str

    def shown(self) -> str:
        return f"{self.id} ({self.severity}) in {self.package}"


def findings_of(report: Mapping[str, Any]) -> tuple[Vulnerability, ...]:
    """The findings of a report, each once, the worst first.

    Formats: relforge's own, which is published, and those of who puts a scanner's report in its
    place: ``grype -o json`` (``matches``) and ``trivy --format json`` (``Results``). Raises
    ValueError for any other.
    """
    if report.get("format") == "relforge.vulnerabilities/1":
        found = _ours(report["found"])
    elif isinstance(report.get("matches"), list):
        found = _grype(report["matches"])
    elif "Results" in report or "SchemaVersion" in report:
        found = _trivy(report.get("Results") or ())
    else:
        raise ValueError("the scanner's report is neither relforge's nor grype's nor trivy's")
    unique = {(one.id, one.package): one for one in found}
    return tuple(
        sorted(unique.values(), key=lambda v: (-SEVERITIES.index(v.severity), v.id, v.package))
    )


def too_severe(found: Iterable[Vulnerability], rule: VulnerabilityRule) -> Sequence[Vulnerability]:
    """Those above the rule's severity that no exception names."""
    limit = SEVERITIES.index(rule.max_severity)
    return [
        one
        for one in found
        if SEVERITIES.index(one.severity) > limit and one.id not in rule.exceptions
    ]


def _ours(rows: Sequence[Mapping[str, Any]]) -> Iterator[Vulnerability]:
    for row in rows:
        yield Vulnerability(
            id=row["id"],
            severity=_severity(row["severity"]),
            package=f"{row['package']} {row['version']}".strip(),
        )


def _grype(matches: Sequence[Mapping[str, Any]]) -> Iterator[Vulnerability]:
    for match in matches:
        found, package = match["vulnerability"], match["artifact"]
        yield Vulnerability(
            id=found["id"],
            severity=_severity(found.get("severity")),
            package=f"{package['name']} {package.get('version') or ''}".strip(),
        )


def _trivy(results: Sequence[Mapping[str, Any]]) -> Iterator[Vulnerability]:
    for result in results:
        for found in result.get("Vulnerabilities") or ():
            yield Vulnerability(
                id=found["VulnerabilityID"],
                severity=_severity(found.get("Severity")),
                package=f"{found['PkgName']} {found.get('InstalledVersion') or ''}".strip(),
            )


def _severity(word: object) -> Severity:
    text = str(word or "").lower()
    text = _SAME.get(text, text)
    return next((known for known in SEVERITIES if known == text), "unknown")
