"""Licences that a policy does not allow, in the table that the bill of materials brings along."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.manifest.publishing import LicensePolicy
from relforge.sbom.evidence import Licences
from relforge.sbom.expressions import Licence
from relforge.sbom.policy import Holder, Rules

TABLE = "evidence/licenses.json"


def forbidden(table: bytes, image_digest: str, policy: LicensePolicy) -> Iterator[str]:
    """What is under a forbidden licence and is not allowed by name, by this policy and not by that
    of the place where the release was made. Raises ValidationError for another kind of table."""
    found = Licences.model_validate_json(table)
    if found.image_digest != image_digest:
        yield f"{TABLE} is about {found.image_digest}"
    for hit in Rules(policy).hits(_holders(found)):
        if hit.allowed is None:
            yield f"{hit.name} {hit.version} is under {', '.join(hit.licences)} ({hit.where})"


def _holders(table: Licences) -> Iterator[Holder]:
    for package in table.packages:
        if package.licence is not None:
            yield Holder(
                name=package.name,
                version=package.version,
                licence=Licence(expression=package.licence, refs=table.texts),
                where=package.path,
            )
    for source in table.sources:
        for file in source.files:
            if file.licence is not None:
                yield Holder(
                    name=source.name,
                    version=source.identity,
                    licence=Licence(expression=file.licence, refs=table.texts),
                    where=file.path,
                )
