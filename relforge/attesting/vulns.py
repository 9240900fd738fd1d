"""Known vulnerabilities as an in-toto predicate.

Format: in-toto/attestation, spec/predicates/vulns.md, version 0.2.
"""

from __future__ import annotations

from typing import Any

from relforge.scanning.vulnerabilities import Vulnerabilities, Vulnerability

_HOMES = {"grype": "anchore/grype", "trivy": "aquasecurity/trivy"}


def vulnerability_predicate(known: Vulnerabilities) -> dict[str, Any]:
    """Of a scan that ran; severities are in the scanner's own words, lower case."""
    scanner = known.scanner or "unknown"
    uri = f"pkg:github/{_HOMES.get(scanner, scanner)}@{known.version}"
    return {
        "scanner": {
            "uri": uri,
            "version": known.version,
            "db": {"uri": uri, "version": known.database, "lastUpdate": known.database},
            "result": [_row(scanner, row) for row in known.found],
        },
        "metadata": {"scanStartedOn": known.started, "scanFinishedOn": known.finished},
    }


def _row(scanner: str, row: Vulnerability) -> dict[str, Any]:
    return {
        "id": row.id,
        "severity": [{"method": scanner, "score": row.severity}],
        "annotations": [
            {"package": row.package, "version": row.version, "fixed_in": list(row.fixed_in)}
        ],
    }
