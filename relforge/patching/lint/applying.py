"""Whether plain patches still apply: to their own base, to a request's, and to the newest state."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relforge.cancel import CancelToken
from relforge.errors import RelforgeError
from relforge.files import remove_tree
from relforge.gitio import Git
from relforge.patching.flagscale.diff_yaml import DiffYaml
from relforge.patching.flagscale.names import ROOT_BACKEND, folder_of
from relforge.patching.flagscale.overlay import is_rooted
from relforge.patching.flagscale.repository import submodule_at
from relforge.patching.flagscale.submodules import gitlink, own_repositories
from relforge.patching.lint.diffs import read_patch
from relforge.patching.lint.history import Answer
from relforge.patching.lint.model import Finding, finding, shortened
from relforge.patching.lint.objects import Look, Unit
from relforge.patching.source import Diff, Graft, Whitespace
from relforge.patching.tree.apply import apply_patches

# What `git apply --whitespace=fix` may change: ends of lines, spaces before tabs, blank lines.
_WHITESPACE = re.compile(rb"^\+(?:|.*[ \t\r\v\f]|.* \t.*)$", re.MULTILINE)
_REBASE = "relforge patch rebase --onto COMMIT carries it over, or ask its maker for a new one"


@dataclass(frozen=True)
class _Trial:
    """How a trial ended. ``tree`` is the result; ``unknown``: it could not be tried."""

    verdict: Literal["applies", "fails", "refused", "unknown"]
    tree: str | None = None
    why: str = ""


@dataclass
class Trials:
    """Applies entries in a private work area; the same one to the same base only once."""

    look: Look
    area: Path
    cancel: CancelToken | None = None
    _done: dict[tuple[object, ...], _Trial] = field(default_factory=dict)
    _since: dict[str, frozenset[str]] = field(default_factory=dict)
    _absent: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def check(self, units: Sequence[Unit], answers: Sequence[Answer]) -> Iterator[Finding]:
        """Everything that can be tried with what is at hand."""
        for unit in units:
            yield from self._own_base(unit)
        for answer in answers:
            yield from self._shared_base(answer)
        for (backend, commit), places in sorted(self._absent.items()):
            yield finding(
                "submodule-not-at-hand",
                "note",
                folder_of(backend),
                f"whether plain patches apply to {backend} {commit[:12]} could not be looked at, "
                f"its objects are not in this clone: {shortened(places)}",
                f"git submodule update --init {folder_of(backend)}; then "
                f"git -C {folder_of(backend)} fetch origin {commit}",
            )

    def _own_base(self, unit: Unit) -> Iterator[Finding]:
        base = self._usable_base(unit)
        if base is None:
            return
        exact = self._try(unit, base, "exact")
        yield from self._verdict(unit, base, exact, "its base")
        if exact.verdict == "applies" and unit.now:
            data = b"\n".join(self._contents(unit))
            fixed = self._try(unit, base, "fix") if _WHITESPACE.search(data) else exact
            if fixed.tree != exact.tree:
                yield finding(
                    "whitespace",
                    "note",
                    unit.where(),
                    "FlagScale's older tools would have changed the whitespace of its lines: their "
                    f"tree is {fixed.tree}, the exact one {exact.tree}",
                    "nothing; to match an old tree: relforge unpatch --whitespace fix",
                )
            touched = {one.path for one in read_patch(data)}
            renames = b"\nrename from " in data or b"\ncopy from " in data
            if unit.name == ROOT_BACKEND and (renames or touched & self._changed_since(base)):
                newest = self._try(unit, self.look.commit, "exact")
                if newest.verdict == "fails":
                    yield finding(
                        "patch-behind",
                        "warning",
                        unit.where(),
                        f"it applies to its base {base[:12]}, but no longer to "
                        f"{self.look.commit[:12]}: {newest.why}",
                        _REBASE,
                    )

    def _changed_since(self, base: str) -> frozenset[str]:
        """The files that are others in the commit looked at than in *base*."""
        if base not in self._since:
            done = self.look.git.run(
                "diff-tree", "-r", "-z", "--name-only", "--no-renames", base, self.look.commit
            )
            names = done.stdout.decode("utf-8", "surrogateescape").split("\0")
            self._since[base] = frozenset(names)
        return self._since[base]

    def _contents(self, unit: Unit) -> list[bytes]:
        return [d or b"" for _oid, d in self.look.objects.blobs([r.oid for r in unit.plain])]

    def _shared_base(self, answer: Answer) -> Iterator[Finding]:
        """Of several bases the newest counts, also for those that were made for another one."""
        bases = answer.bases(self.look)
        if len(set(bases.values())) < 2 or any(
            not self.look.leads_to(base, answer.commit) for base in bases.values()
        ):
            return
        order = self.look.git.text("rev-list", "--topo-order", answer.commit).splitlines()
        newest = min(bases.values(), key=order.index)
        for unit in answer.units:
            if bases.get(unit.name) != newest and unit.name == ROOT_BACKEND:
                if self._usable_base(unit) is None:
                    continue
                trial = self._try(unit, newest, "exact")
                what = f"the base of {answer.request.asked}"
                yield from self._verdict(unit, newest, trial, what)

    def _usable_base(self, unit: Unit) -> str | None:
        # With a sealed patch among them nobody can tell.
        if not unit.plain or len(unit.plain) != len(unit.patches):
            return None
        return self.look.base_of(unit)

    def _verdict(self, unit: Unit, base: str, trial: _Trial, what: str) -> Iterator[Finding]:
        if trial.verdict == "fails":
            yield finding(
                "patch-does-not-apply",
                "error",
                unit.where(),
                f"it does not apply to {what}, {base[:12]}: {trial.why}",
                _REBASE,
            )
        elif trial.verdict == "refused":
            message = f"it is refused: {trial.why}"
            remedy = "ask its maker for a corrected one"
            yield finding("patch-refused", "error", unit.where(), message, remedy)
        elif trial.verdict == "unknown" and trial.why:
            message = f"whether it applies to {what} could not be looked at: {trial.why}"
            remedy = "fetch what is missing (git fetch --refetch origin)"
            yield finding("patch-not-tried", "note", unit.where(), message, remedy)

    def _try(self, unit: Unit, base: str, whitespace: Whitespace) -> _Trial:
        described = self.look.description(unit) if not unit.legacy else None
        pinned = described.backends_commit if isinstance(described, DiffYaml) else {}
        folder = self._folder(unit)
        # What decides the result, and the names that messages have: entries often share it.
        stored = tuple((row.path, row.oid) for row in unit.plain)
        key = (stored, folder, pinned.get(unit.name) if folder else None, base, whitespace)
        if key not in self._done:
            self._done[key] = self._trial(unit, base, whitespace)
        return self._done[key]

    def _trial(self, unit: Unit, base: str, whitespace: Whitespace) -> _Trial:
        contents = list(self.look.objects.blobs([row.oid for row in unit.plain]))
        if any(data is None for _oid, data in contents):
            return _Trial("unknown")  # said where the contents are looked at
        folder = self._folder(unit)
        grafts = self._grafts(unit, base) if folder else ()
        if grafts is None:
            return _Trial("unknown")
        diffs = [
            Diff(row.path, _finished(data or b"", unit), folder)
            for row, (_oid, data) in zip(unit.plain, contents, strict=True)
        ]
        joined = _joined(diffs)
        if len(joined) < len(diffs):
            trial = self._applied(base, joined, grafts, whitespace)
            if trial.verdict == "applies":
                return trial
        return self._applied(base, diffs, grafts, whitespace)  # which tells whose fault it is

    def _applied(
        self, base: str, diffs: Sequence[Diff], grafts: Sequence[Graft], whitespace: Whitespace
    ) -> _Trial:
        work = self.area / f"trial-{len(self._done)}"
        try:
            git = self.look.git
            done = apply_patches(
                git.git_dir,
                git.tree_of(base),
                diffs,
                object_dir=work / "objects",
                work=work,
                grafts=grafts,
                whitespace=whitespace,
                cancel=self.cancel,
            )
        except RelforgeError as error:
            where = f"{error.where}: " if error.where else ""
            why = f"{where}{error.why or error.what}"
            if error.what.endswith("does not apply"):
                return _Trial("fails", why=why)
            return _Trial("refused" if error.what.endswith("is refused") else "unknown", why=why)
        finally:
            remove_tree(work)
        return _Trial("applies", tree=done.tree)

    def _folder(self, unit: Unit) -> str:
        """Where in the tree the paths of an entry's patches begin."""
        if unit.legacy or unit.draft is not None or unit.name == ROOT_BACKEND:
            return ""
        described = self.look.description(unit)
        pinned = described.backends_commit if isinstance(described, DiffYaml) else {}
        if unit.name not in pinned and any(is_rooted(d, unit.name) for d in self._contents(unit)):
            return ""  # until May 2025 patches were of FlagScale's own copies
        return folder_of(unit.name)

    def _grafts(self, unit: Unit, base: str) -> tuple[Graft, ...] | None:
        """The submodule's own tree; None when the clone has not got it."""
        repository, described = self.look.repository, self.look.description(unit)
        own = described.backends_commit.get(unit.name) if isinstance(described, DiffYaml) else None
        path = folder_of(unit.name)
        try:
            commit = own or gitlink(repository, base, unit.name)
        except RelforgeError:
            return None
        declared = submodule_at(repository, base, path)
        for git_dir in own_repositories(repository, unit.name, declared.name if declared else path):
            git = Git(git_dir, cancel=self.cancel)
            if git.has(commit, "commit"):
                return (Graft(path, git_dir, git.tree_of(commit)),)
        self._absent[unit.name, commit].append(unit.where())
        return None


def _finished(data: bytes, unit: Unit) -> bytes:
    """FlagScale's tool of April 2025 left the end of the last line out."""
    return data + b"\n" if unit.draft is not None and not data.endswith(b"\n") else data


def _joined(diffs: Sequence[Diff]) -> list[Diff]:
    """The diffs as one, which git applies much faster than many; mailboxes stay by themselves."""
    contents = [diff.content for diff in diffs if isinstance(diff.content, bytes)]
    if len(contents) < len(diffs) or not all(one.startswith(b"diff --git ") for one in contents):
        return list(diffs)
    return [Diff("the patches", b"\n".join((*contents, b"")), diffs[0].folder)] if diffs else []
