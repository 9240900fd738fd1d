"""What has to hold before a release reaches people: nothing secret in it, and the policy passed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

from relforge import __version__
from relforge.attesting.trusting import release_signers
from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.frozen import content_key
from relforge.manifest.policy import Policy, load_policy
from relforge.manifest.site import Site
from relforge.publishing.journal import Journal
from relforge.publishing.snapshot import Snapshot
from relforge.publishing.target import Step, Target


class Gate:
    """Asks once for what is sent, and again only when a byte of it, the policy, a key, a secret of
    the site or relforge itself is another one.

    Candidates in a registry have no name that people pull, so they may wait there unverified;
    everything else is for people. ``policy`` is asked besides the site's.
    """

    def __init__(
        self,
        kept: Snapshot,
        site: Site,
        *,
        home: Path,
        policy: Path | None = None,
        roots: tuple[Path, ...] = (),
        line: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._kept = kept
        self._site = site
        named = dict.fromkeys(one for one in (site.publish.policy, policy) if one is not None)
        self._policies: tuple[Path | None, ...] = tuple(named) or (None,)
        self._home, self._roots = home, roots
        self._line = line
        self._passed: set[str] = set()

    def __call__(self, target: Target, step: Step) -> None:
        """Raises RelforgeError (GATE) with what is missing, (PUBLISH) for an unreadable folder."""
        if step == "withdraw":
            return
        self._require_clean()
        if step == "promote" or not getattr(target, "hides_candidates", False):
            self._require_current()
            for policy in self._policies:
                self._require_verified(policy)

    def _require_clean(self) -> None:
        from relforge.scanning.looking import LookedFor

        key = LookedFor(self._site, self._home, self._roots).key({})
        if not self._known("clean", key):
            from relforge.scanning.folder import require_clean

            require_clean(
                self._kept.published.folder, self._site, home=self._home, roots=self._roots
            )
            self._remember("clean", key)

    def _require_current(self) -> None:
        """Nobody took this image back, and no newer statement about it was promoted from here."""
        published, journal = self._kept.published, Journal(self._home)
        for entry in journal.entries(published.release):
            if entry.image_digest != published.image_digest or entry.state != "done":
                continue
            if entry.step == "withdraw":
                raise RelforgeError(
                    f"{published.release} was withdrawn and is not sent again",
                    code=ExitCode.GATE,
                    where=f"{entry.place} ({entry.target})",
                    why=entry.reason or "no reason was given",
                    hint="release another image; if it was a mistake, remove that entry from "
                    f"{journal.path(published.release)}",
                )
            newer, own = entry.serial or 0, published.serial
            # What nobody signed has no serial; whether it may go out is the policy's to say.
            if entry.step == "promote" and own is not None and newer > own:
                raise RelforgeError(
                    f"this is an older record of {published.release} than the one that people have",
                    code=ExitCode.GATE,
                    where=str(self._kept.origin),
                    why=f"its statement has serial {own}; {entry.target} got serial {newer}",
                    hint=f"relforge release --release {published.release}",
                )

    def _require_verified(self, file: Path | None) -> None:
        policy = load_policy(file)
        signers = release_signers(self._site)
        key = content_key(
            {
                "relforge": __version__,
                "policy": policy,
                "signers": sorted((one.name, one.keyid) for one in signers),
            }
        )
        if not _lasts(policy) or not self._known("verified", key):
            from relforge.verifying import verify_place

            self._line(f"verifying {self._kept.origin}")
            published = self._kept.published
            report = verify_place(published.folder, signers, policy, site=self._site)
            if report.verdict != "pass":
                raise RelforgeError(
                    f"{published.release} does not reach people: "
                    f"{', '.join(found.check for found in report.failed)} did not pass",
                    code=ExitCode.GATE,
                    where=str(self._kept.origin),
                    why="\n".join(f"{one.check}: {one.reason}" for one in report.failed[:10]),
                    hint=self._verify_command(file),
                )
            self._remember("verified", key)

    def _verify_command(self, file: Path | None) -> str:
        words: list[str | Path] = ["relforge", "verify", self._kept.origin]
        if self._site.file is not None:
            words += ["--site", self._site.file]
        # Without one, verify asks what this asks by default only where it is told so.
        return shlex.join(map(str, [*words, "--policy", file or "built-in"]))

    def _known(self, what: str, key: str) -> bool:
        """Whether these very bytes passed this very question before."""
        if f"{what} {key}" in self._passed:
            return True
        try:
            notes = json.loads(self._note(what).read_bytes())
            known = bool(notes[key] == self._kept.state)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return known

    def _remember(self, what: str, key: str) -> None:
        self._passed.add(f"{what} {key}")
        write_atomic(self._note(what), json.dumps({key: self._kept.state}).encode())

    def _note(self, what: str) -> Path:
        release = self._kept.published.release
        return self._home / "publications" / "passed" / f"{release}.{what}.json"


def _lasts(policy: Policy) -> bool:
    """Whether what passed today passes tomorrow."""
    return policy.max_age_days is None
