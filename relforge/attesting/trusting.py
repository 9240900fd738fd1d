"""Whose signatures on releases count on this host."""

from __future__ import annotations

from relforge.attesting.signing import SigningKey
from relforge.errors import RelforgeError
from relforge.evidence.dsse import TrustedSigner
from relforge.manifest.site import Site
from relforge.patching.keys import load_signer, passphrase_from


def release_signers(site: Site, *, ask: bool = True) -> tuple[TrustedSigner, ...]:
    """The site's own key, and those that it trusts for releases.

    The latter are ``publish.trusted_keys``, and where there are none ``trusted_keys``, which count
    for bundles, too. A protected key of the site is asked a passphrase for unless ``ask`` is False;
    then it counts only where it can be opened without. Raises RelforgeError (SOURCE).
    """
    try:
        own = SigningKey.load(site, passphrase=passphrase_from(None) if ask else None)
    except RelforgeError:
        if ask:
            raise
        own = None
    others = site.publish.trusted_keys or site.trusted_keys
    return (
        *((TrustedSigner(name="this site's key", public_key=own.public),) if own else ()),
        *(load_signer(key.name, key.public_key) for key in others),
    )
