"""Known vulnerabilities of the image, where a scanner and its data are at hand.

``grype`` and ``trivy`` are asked offline: neither may fetch its database or anything else. What
they report is counted and kept; it is no gate, for a database knows more tomorrow than today, and
which vulnerability matters is for people to say. Their own report names paths of this host, so the
evidence is a list in a form of relforge's own.

Command lines and formats: grype 0.74 and later (``grype db status -o json``, ``oci-dir:``,
document ``matches``), trivy 0.50 and later (``trivy version --format json``, ``trivy image
--input``, document ``Results``).
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from relforge import proc, redact
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen

Scanner = Literal["grype", "trivy"]
SEVERITIES = ("critical", "high", "medium", "low", "negligible", "unknown")
_TIMEOUT_S = 900.0
_STATUS_TIMEOUT_S = 60.0


class Vulnerability(Frozen):
    """One known vulnerability of one package in the image."""

    id: str
    package: str
    version: str
    severity: str
    fixed_in: tuple[str, ...] = ()


class Vulnerabilities(Frozen):
    """``vulnerabilities.json`` (``relforge.vulnerabilities/1``).

    With state ``not-run`` there is a reason and nothing else. ``database`` is the date of the
    scanner's data as it states it, ``counts`` are by severity. ``started`` and ``finished`` are
    UTC, as ``2026-01-31T12:00:00Z``.
    """

    format: Literal["relforge.vulnerabilities/1"] = "relforge.vulnerabilities/1"
    state: Literal["run", "not-run"]
    reason: str
    image_digest: str
    scanner: str | None = None
    version: str | None = None
    database: str | None = None
    started: str | None = None
    finished: str | None = None
    counts: dict[str, int] = {}
    found: tuple[Vulnerability, ...] = ()


class _Unusable(Exception):
    """Why a scanner gave no result."""


def find_scanner(wanted: str | None, path: str | None = None) -> tuple[Scanner, Path] | None:
    """The scanner that the site names, else the first of grype and trivy on ``PATH``."""
    names: tuple[Scanner, ...] = ("grype", "trivy")
    for name in names:
        if wanted in (None, name) and (program := shutil.which(name, path=path)):
            return name, Path(program)
    return None


def no_scanner(wanted: str | None) -> str:
    """Why nothing was run where there is no scanner."""
    return f"{wanted or 'neither grype nor trivy'} is {'not ' if wanted else ''}on PATH"


def scan_vulnerabilities(
    layout: Path,
    digest: str,
    *,
    wanted: str | None = None,
    cancel: CancelToken | None = None,
    line: Callable[[str], None] = lambda _line: None,
) -> Vulnerabilities:
    """Asks the scanner about the image of a layout; never raises for what is wrong with it."""

    def not_run(reason: str) -> Vulnerabilities:
        line(f"vulnerabilities: not-run: {reason}")
        return Vulnerabilities(state="not-run", reason=reason, image_digest=digest)

    scanner = find_scanner(wanted)
    if scanner is None:
        return not_run(no_scanner(wanted))
    name, program = scanner
    started = _now()
    ask = _grype if name == "grype" else _trivy
    try:
        version, database, rows = ask(program, layout, cancel)
    except _Unusable as error:
        return not_run(f"{name}: {error}")
    found = tuple(sorted(set(rows), key=lambda row: (_rank(row.severity), row.package, row.id)))
    counts = {s: sum(row.severity == s for row in found) for s in SEVERITIES}
    counts = {severity: number for severity, number in counts.items() if number}
    shown = ", ".join(f"{number} {severity}" for severity, number in counts.items()) or "none"
    line(f"vulnerabilities: {shown}; {name} {version}, database of {database}")
    return Vulnerabilities(
        state="run",
        reason=shown,
        image_digest=digest,
        scanner=name,
        version=version,
        database=database,
        started=started,
        finished=_now(),
        counts=counts,
        found=found,
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


_Answer = tuple[str, str, list[Vulnerability]]


def _grype(program: Path, layout: Path, cancel: CancelToken | None) -> _Answer:
    env = {
        "GRYPE_DB_AUTO_UPDATE": "false",
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
        # How old its data is is said, and for the reader to judge.
        "GRYPE_DB_VALIDATE_AGE": "false",
        # A person's own limit would end it with an error.
        "GRYPE_FAIL_ON_SEVERITY": "",
    }
    status = _json(program, ["db", "status", "-o", "json"], env, cancel, _STATUS_TIMEOUT_S)
    if status.get("valid") is not True:
        why = _without_paths(str(status.get("error") or "it is not valid"))
        raise _Unusable(f"its database cannot be used: {why}")
    # With the layout named by what it is: grype would else guess, and ask registries.
    words = [f"oci-dir:{layout}", "-o", "json", "--quiet"]
    answer = _json(program, words, env, cancel, _TIMEOUT_S)
    try:
        rows = [
            Vulnerability(
                id=match["vulnerability"]["id"],
                package=match["artifact"]["name"],
                version=match["artifact"]["version"],
                severity=_severity(match["vulnerability"].get("severity")),
                fixed_in=tuple(match["vulnerability"].get("fix", {}).get("versions") or ()),
            )
            for match in answer["matches"]
        ]
        return str(answer["descriptor"]["version"]), str(status["built"]), rows
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _not_understood(error) from error


def _trivy(program: Path, layout: Path, cancel: CancelToken | None) -> _Answer:
    env = {"TRIVY_SKIP_VERSION_CHECK": "true", "TRIVY_DISABLE_TELEMETRY": "true"}
    about = _json(program, ["version", "--format", "json"], env, cancel, _STATUS_TIMEOUT_S)
    database = about.get("VulnerabilityDB")
    if not isinstance(database, dict) or not database.get("UpdatedAt"):
        raise _Unusable("it has no database")
    words = [
        "image", "--input", str(layout), "--format", "json", "--scanners", "vuln", "--quiet",
        "--exit-code", "0",
        "--offline-scan", "--skip-db-update", "--skip-java-db-update",
    ]  # fmt: skip
    answer = _json(program, words, env, cancel, _TIMEOUT_S)
    try:
        if answer["SchemaVersion"] != 2:
            raise _Unusable(f"its report has schema {answer['SchemaVersion']}, known is 2")
        rows = list(_trivy_rows(answer))
        return str(about["Version"]), str(database["UpdatedAt"]), rows
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _not_understood(error) from error


def _trivy_rows(answer: dict[str, Any]) -> Iterator[Vulnerability]:
    for result in answer.get("Results") or ():
        for row in result.get("Vulnerabilities") or ():
            fixed = str(row.get("FixedVersion") or "")
            yield Vulnerability(
                id=row["VulnerabilityID"],
                package=row["PkgName"],
                version=row["InstalledVersion"],
                severity=_severity(row.get("Severity")),
                fixed_in=tuple(part.strip() for part in fixed.split(",") if part.strip()),
            )


def _json(
    program: Path,
    words: list[str],
    env: dict[str, str],
    cancel: CancelToken | None,
    timeout_s: float,
) -> dict[str, Any]:
    try:
        done = proc.run(
            [program, *words],
            code=ExitCode.GATE,
            env=env,
            timeout_s=timeout_s,
            check=False,
            cancel=cancel,
        )
    except (RelforgeError, OSError) as error:
        raise _Unusable(_without_paths(str(error).partition("\n")[0])) from error
    if done.returncode != 0:
        rows = [row for row in done.stderr.decode("utf-8", "replace").splitlines() if row.strip()]
        why = _without_paths(rows[-1].strip()) if rows else "it says nothing"
        raise _Unusable(f"`{words[0].partition(':')[0]}` ended with {done.returncode}: {why}")
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise _not_understood(error) from error
    if not isinstance(answer, dict):
        raise _not_understood(ValueError("no JSON object"))
    return answer


def _without_paths(text: str) -> str:
    """What a program says, for a file that others read: without paths of this host, or secrets."""
    return re.sub(r"(?<![\w/])/[^\s:;,'\"()]+", "(a path)", redact.text(text))[:300]


def _not_understood(error: Exception) -> _Unusable:
    return _Unusable(f"its answer is not understood ({type(error).__name__}: {error})"[:300])


def _severity(text: object) -> str:
    lower = str(text or "unknown").lower()
    return lower if lower in SEVERITIES else "unknown"


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity)
