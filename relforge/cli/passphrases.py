"""Passphrases are asked for before anything runs: later the screen is the stages'."""

from __future__ import annotations

from contextlib import suppress

from relforge.cli.common import Workplace
from relforge.errors import RelforgeError
from relforge.manifest.site import Site
from relforge.plan import ReleasePlan
from relforge.stages.preflight import PreflightInputs


def ask_for_passphrases(plan: ReleasePlan, place: Workplace) -> None:
    """Only where they will be needed. Raises RelforgeError for keys that cannot be opened."""
    looks = plan.inputs.get("preflight")
    if not isinstance(looks, PreflightInputs):
        return
    site = place.site
    if "identities" in looks.secrets:
        from relforge.patching.keys import load_identities, passphrase_from

        load_identities(site.identities, passphrase=passphrase_from(site.key_passphrase_file))
    if "signing" in looks.secrets:
        _ask_for_signing_key(site)


def _ask_for_signing_key(site: Site) -> None:
    from relforge.attesting.signing import SigningKey
    from relforge.patching.keys import passphrase_from

    # Of a key that cannot be used for another reason, preflight says so with all else it finds.
    with suppress(RelforgeError):
        SigningKey.load(site, passphrase=passphrase_from(None))
