"""in-toto statements, version 1: what is said about which digest.

Format: in-toto/attestation, spec/v1/statement.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from relforge.attesting.predicates import STATEMENT
from relforge.frozen import Frozen, canonical_json


class Statement(Frozen):
    """One subject, one predicate. ``digest`` is ``sha256:<hex>`` of an image's manifest or index;
    ``name`` belongs to no repository, because a digest is copied to many."""

    name: str
    digest: str
    predicate_type: str
    predicate: dict[str, Any]

    def to_json(self) -> bytes:
        """The payload of an envelope, canonical."""
        return canonical_json(
            {
                "_type": STATEMENT,
                "subject": [
                    {"name": self.name, "digest": {"sha256": self.digest.removeprefix("sha256:")}}
                ],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Statement:
        """Raises ValueError for anything but a statement about exactly one SHA-256."""
        try:
            value = json.loads(payload)
            if value["_type"] != STATEMENT:
                raise ValueError(f"the statement's type is {value['_type']!r}")
            (subject,) = value["subject"]
            return cls(
                name=subject.get("name", ""),
                digest=f"sha256:{subject['digest']['sha256']}",
                predicate_type=value["predicateType"],
                predicate=value["predicate"],
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no statement: {type(error).__name__}: {error}") from error


def predicate_type(payload: bytes) -> str | None:
    """What an envelope's payload says it is; None where it does not say."""
    try:
        value = json.loads(payload)
        found = value.get("predicateType") if isinstance(value, Mapping) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None
