"""What has to hold before a release reaches people: nothing secret in it, and the policy passed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import TrustedSigner
from relforge.files import Output, altered, stamp, write_atomic
from relforge.frozen import content_key
from relforge.manifest.site import Site
from relforge.publishing.published import Published
from relforge.publishing.target import Step, Target


class Gate:
    """Asks once for a folder, and again only when a file of it, the policy or a key changed.

    Candidates in a registry have no name that people pull, so they may wait there unverified;
    everything else is for people.
    """

    def __init__(
        self,
        published: Published,
        site: Site,
        *,
        home: Path,
        policy: Path | None,
        roots: tuple[Path, ...] = (),
        line: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._published = published
        self._site = site
        self._policy = policy or site.publish.policy
        self._home, self._roots = home, roots
        self._notes = home / "publications" / "passed"
        self._line = line
        self._scanned = False
        self._verified = False

    def __call__(self, target: Target, step: Step) -> None:
        """Raises RelforgeError (GATE) with what is missing, (PUBLISH) for an unreadable folder."""
        if step == "withdraw":
            return
        self._require_clean()
        if step == "promote" or not getattr(target, "hides_candidates", False):
            self._require_verified()

    def _require_clean(self) -> None:
        if self._scanned:
            return
        from relforge.scanning.folder import require_clean

        asked = self._looked_for()
        if not self._known("clean", asked):
            require_clean(self._published.folder, self._site, home=self._home, roots=self._roots)
            self._remember("clean", asked)
        self._scanned = True

    def _looked_for(self) -> str:
        """Changes with the scanner, its patterns, and every value that is compared."""
        from relforge.scanning.looking import LookedFor

        return LookedFor(self._site, self._home, self._roots).key({})

    def _require_verified(self) -> None:
        if self._verified:
            return
        from relforge.verifying import verify_place
        from relforge.verifying.policy import load

        policy = load(self._policy)
        signers = self._signers()
        asked = content_key({"policy": policy, "keys": sorted(one.keyid for one in signers)})
        if not self._known("verified", asked):
            self._line(f"verifying {self._published.folder}")
            report = verify_place(self._published.folder, signers, policy, site=self._site)
            if report.verdict != "pass":
                raise RelforgeError(
                    f"{self._published.release} does not reach people: "
                    f"{', '.join(found.check for found in report.failed)} did not pass",
                    code=ExitCode.GATE,
                    where=str(self._published.folder),
                    why="\n".join(f"{one.check}: {one.reason}" for one in report.failed[:10]),
                    hint=f"relforge verify {self._published.folder}"
                    + (f" --policy {self._policy}" if self._policy else ""),
                )
            self._remember("verified", asked)
        self._verified = True

    def _signers(self) -> tuple[TrustedSigner, ...]:
        """Whose signatures count: the site's own key, and those that it trusts."""
        from relforge.attesting.signing import SigningKey
        from relforge.patching.keys import load_signer, passphrase_from

        own = SigningKey.load(self._site, passphrase=passphrase_from(None))
        return (
            *((TrustedSigner(name="this site's key", public_key=own.public),) if own else ()),
            *(load_signer(key.name, key.public_key) for key in self._site.trusted_keys),
        )

    def _known(self, what: str, asked: str) -> bool:
        """Whether this very folder passed this very question: nothing in it was touched since."""
        try:
            note = json.loads(self._note(what).read_bytes())
            stamps = [Output.model_validate(row) for row in note["files"]]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        there = {str(path) for path in self._files()}
        return (
            note.get("asked") == asked
            and {str(one.path) for one in stamps} == there
            and all(altered(one) is None for one in stamps)
        )

    def _remember(self, what: str, asked: str) -> None:
        listed = {self._published.folder / name: sha for name, sha in self._published.files.items()}
        rows = [
            stamp(path, sha256=listed.get(path) or _blob_name(path)).model_dump(mode="json")
            for path in self._files()
        ]
        note = json.dumps({"asked": asked, "files": rows}).encode()
        write_atomic(self._note(what), note)

    def _note(self, what: str) -> Path:
        return self._notes / f"{self._published.release}.{what}.json"

    def _files(self) -> list[Path]:
        return sorted(p for p in self._published.folder.rglob("*") if p.is_file())


def _blob_name(path: Path) -> str | None:
    return path.name if path.parent.name == "sha256" else None
