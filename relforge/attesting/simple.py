"""The text that cosign signs for an image: "simple signing", and the annotations around it.

Formats: containers/image, docs/containers-signature.5.md (the JSON); sigstore/cosign,
specs/SIGNATURE_SPEC.md (layer media type, annotation, tag).
"""

from __future__ import annotations

import json
from typing import Any

from relforge.frozen import Frozen, canonical_json

MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"


class SimpleSigning(Frozen):
    """What a signature of an image is about. ``digest`` is ``sha256:<hex>``."""

    digest: str
    reference: str
    optional: dict[str, Any] = {}

    def to_json(self) -> bytes:
        """The very bytes that are signed."""
        return canonical_json(
            {
                "critical": {
                    "identity": {"docker-reference": self.reference},
                    "image": {"docker-manifest-digest": self.digest},
                    "type": _TYPE,
                },
                "optional": self.optional or None,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> SimpleSigning:
        """Raises ValueError for anything that is no such text."""
        try:
            value = json.loads(data)
            critical = value["critical"]
            if critical["type"] != _TYPE:
                raise ValueError(f"the type is {critical['type']!r}")
            return cls(
                digest=critical["image"]["docker-manifest-digest"],
                reference=critical["identity"]["docker-reference"],
                optional=value.get("optional") or {},
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no simple signing: {type(error).__name__}: {error}") from error
