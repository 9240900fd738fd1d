"""What is looked for on this host: all rules, by value, by form and by place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from relforge.frozen import content_key
from relforge.manifest.publishing import ContentPolicy
from relforge.manifest.site import Site
from relforge.scanning.places import home_paths, home_rules
from relforge.scanning.private_keys import private_key_rules
from relforge.scanning.rules import Searcher
from relforge.scanning.values import Values, here
from relforge.scanning.words import host_rules, word_rules

_PROGRAMS = ("bc-detect-secrets", "ahocorasick-rs")


class LookedFor:
    """The rules in force on this host, and what stands for them."""

    def __init__(self, site: Site, home: Path, roots: Iterable[Path]) -> None:
        self.policy = site.publish.content
        self.values: Values = here(site)
        self.home = home
        self.places = home_paths(home=home, roots=roots, site_file=site.file, person=Path.home())

    @cached_property
    def searcher(self) -> Searcher:
        """All rules; made when something is searched, and not to know whether it was before."""
        from relforge.scanning.secrets import secret_rules

        return Searcher(
            (
                *secret_rules(),
                *private_key_rules(),
                *self.values.rules(),
                *home_rules(self.places),
                *host_rules(self.policy.deny_hosts),
                *word_rules(self.policy.deny_words),
            )
        )

    def key(self, sealed: dict[str, str]) -> str:
        """Stands for all of it, and for the sealed content that is looked for."""
        return content_key(
            {
                "scanner": scanner_key(),
                "places": self.places,
                "site": self.values.fingerprint(self.home, self.policy, whole=True),
                "sealed": sealed,
            }
        )


@lru_cache(maxsize=1)
def scanner_key() -> str:
    """Of the scanner's own files and of the programs that it calls."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path.name}\0".encode())
        digest.update(path.read_bytes())
    for name, number in detectors().items():
        digest.update(f"{name}\0{number}\0".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def detectors() -> dict[str, str]:
    """Programs that recognise things, with their versions."""
    found = {}
    for name in _PROGRAMS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def shown_policy(policy: ContentPolicy) -> dict[str, object]:
    """The policy as a report has it: what is denied is not to be read in what is published."""
    return {
        "deny_hosts": len(policy.deny_hosts),
        "deny_words": len(policy.deny_words),
        "allowed": dict(sorted(policy.allowed.items())),
    }
