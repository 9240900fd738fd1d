"""Whether a release, wherever it lies, is what was made, tested and signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relforge.evidence.dsse import TrustedSigner
    from relforge.manifest.policy import Policy
    from relforge.manifest.site import Site
    from relforge.verifying.place import Place
    from relforge.verifying.report import VerifyReport


def verify_place(
    place: str | Path | Place,
    keys: Sequence[TrustedSigner] = (),
    policy: Policy | None = None,
    *,
    site: Site | None = None,
    project: Path | None = None,
    full: bool = False,
) -> VerifyReport:
    """Verifies a published folder, an image in a registry, or a tar.

    With a policy a signature is demanded as it says; without one only with keys. Raises
    RelforgeError (PUBLISH, USAGE) for a place that cannot be read.
    """
    from relforge.manifest.site import Site
    from relforge.verifying.run import Wanted, verify

    wanted = Wanted(
        keys=tuple(keys),
        policy=policy,
        policy_name=None if policy is None else "the given policy",
        demanded=policy.signed if policy is not None else bool(keys),
        project=project,
        site=site or Site(),
        full=full,
    )
    return verify(place, wanted)
