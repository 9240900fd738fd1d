"""The names of what is attached to an image; documented in docs/supply-chain.md.

In a published folder ``image/`` is one OCI layout. Its index names the image first, by name and
tag, and then one nameless index, ``ATTACHMENTS``, whose entries are manifests with the image as
``subject``: so ``docker load``, ``oras`` and ``skopeo`` read the same folder. An entry's annotation
``TAG`` says under which tag a registry shows it to programs that look for tags (cosign).
"""

from __future__ import annotations

ATTACHMENTS = "application/vnd.relforge.attachments.v1+json"
"""artifactType of the nameless index in a layout."""
TAG = "org.relforge.tag"
"""Annotation of an entry in that index: the tag it also has in a registry."""

COSIGN_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
"""artifactType of the manifest that cosign looks for at ``sha256-<hex>.sig``."""
COSIGN_ATTESTATIONS = "application/vnd.dev.cosign.artifact.att.v1+json"
"""Likewise at ``sha256-<hex>.att``: one layer for each DSSE envelope."""
SPDX = "application/spdx+json"
CYCLONEDX = "application/vnd.cyclonedx+json"
RELEASE = "application/vnd.relforge.release.v1+json"
"""Record, cards and evidence; each layer has its path as ``org.opencontainers.image.title``."""
WITHDRAWN = "application/vnd.relforge.withdrawn.v1+json"
"""A signed statement that a release was taken back, and why."""


def signature_tag(digest: str) -> str:
    """Where cosign looks for signatures of a digest (``sha256:<hex>``)."""
    return f"{digest.replace(':', '-')}.sig"


def attestations_tag(digest: str) -> str:
    """Where cosign looks for attestations of a digest."""
    return f"{digest.replace(':', '-')}.att"
