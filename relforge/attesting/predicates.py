"""The predicate types of relforge's statements, with the source of those that others defined."""

from __future__ import annotations

import re

from relforge import PROJECT

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

PROVENANCE = "https://slsa.dev/provenance/v1"
SPDX = "https://spdx.dev/Document"
CYCLONEDX = "https://cyclonedx.org/bom"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
"""Smoke: passed and failed probes (in-toto attestation framework, spec/predicates)."""
EVALUATION = f"{PROJECT}/attestation/evaluation/v1"
BENCHMARK = f"{PROJECT}/attestation/benchmark/v1"
COVERAGE = f"{PROJECT}/attestation/coverage/v1"
CONTENT_SCAN = f"{PROJECT}/attestation/content-scan/v1"
VULNERABILITIES = "https://in-toto.io/attestation/vulns/v0.2"
RELEASE = f"{PROJECT}/attestation/release/v1"
"""The last one: hashes of record, cards and every evidence file, signed when they are complete."""
WITHDRAWAL = f"{PROJECT}/attestation/withdrawal/v1"


_FILES = {
    PROVENANCE: "provenance",
    SPDX: "sbom.spdx",
    CYCLONEDX: "sbom.cdx",
    TEST_RESULT: "smoke",
    EVALUATION: "evaluation",
    BENCHMARK: "benchmark",
    COVERAGE: "coverage",
    CONTENT_SCAN: "content-scan",
    VULNERABILITIES: "vulnerabilities",
    RELEASE: "release",
    WITHDRAWAL: "withdrawal",
}


def envelope_name(predicate_type: str) -> str:
    """The file name of an envelope; for a type of others, made of the end of its URL."""
    known = _FILES.get(predicate_type)
    if known is None:
        parts = re.sub(r"[^A-Za-z0-9.-]+", "/", predicate_type).strip("/").split("/")
        known = "-".join(parts[-2:])
    return f"{known}.dsse.json"
