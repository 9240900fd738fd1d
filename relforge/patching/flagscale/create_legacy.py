"""Making a legacy entry: a mailbox that FlagScale's own tool applies to the very same tree.

That tool strips carriage returns and "fixes" whitespace on its way. Files that would not survive
it go into the mailbox as binary diffs, and both ways of applying are tried before anything is
written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.flagscale.keypair import KeyPair
from relforge.patching.flagscale.legacy import devices_with, hetero_line
from relforge.patching.flagscale.names import (
    HETERO,
    PATCH,
    SEALED,
    check_new_device,
    matching,
)
from relforge.patching.flagscale.repository import Repository
from relforge.patching.flagscale.workshop import EVERYTHING, Workshop, applied, not_proven
from relforge.patching.flagscale.writing import NewFile, put_folder, put_line
from relforge.patching.source import Diff, Whitespace
from relforge.patching.tree.apply import AppliedTree
from relforge.workarea import work_area

_NOT_PUBLISHED = ("hardware", HETERO)


@dataclass(frozen=True)
class Created:
    """What was written, and the tree that it gives on its base."""

    device: str
    base_commit: str
    tree: str
    folder: Path
    files: tuple[Path, ...]
    sealed: bool


def create_legacy(
    repository: Repository,
    devices: Sequence[str],
    base_id: str,
    current_id: str | None,
    *,
    keys: KeyPair | None,
    out: Path,
    home: Path,
    on_line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> Created:
    """Writes ``hardware/<last device>/<commit8>/`` below *out*, sealed where keys are given.

    With several devices all but the last must have their entry already, and a line of
    ``hetero.txt`` lists them together. Raises RelforgeError (SOURCE, USAGE); then nothing is
    written.
    """
    for device in devices:
        check_new_device(device, legacy=True)
    git = repository.git
    base = repository.resolve(base_id)
    current = repository.resolve(current_id or git.text("rev-parse", f"{repository.head}^0"))
    commit8 = base[:8]
    together = _together(repository, out, devices, commit8)
    base_tree = git.tree_of(base)
    with work_area(home, "patch") as area:
        shop = Workshop.at(area / "shop", git, base_tree, cancel)
        making = _Making(repository, shop, base, current, base_tree, on_line)
        mailbox, tree = making.proven()
        name = commit8 + (SEALED if keys else PATCH)
        folder = out / "hardware" / devices[-1] / commit8
        put_folder(area, folder, [NewFile(name, mailbox)], keys=keys, replace=False)
    files = [folder / name]
    if len(devices) > 1:
        files.append(put_line(out / HETERO, hetero_line(commit8, together), on_line))
    return Created(devices[-1], base, tree, folder, tuple(files), keys is not None)


def _together(
    repository: Repository, out: Path, devices: Sequence[str], commit8: str
) -> tuple[str, ...]:
    """The devices as their folders are spelt; all but the last must be there."""
    there = devices_with(repository, commit8)
    if (folder := out / "hardware" / devices[-1] / commit8).exists() or devices[-1] in there:
        raise RelforgeError(
            f"{devices[-1]} has an entry for {commit8} already",
            code=ExitCode.SOURCE,
            where=str(folder),
            why="an entry is never overwritten",
            hint="remove the folder when it is not needed any more, then run the command again",
        )
    spelt = []
    for device in devices[:-1]:
        found = matching(device, there, where=f"{repository.shown}: hardware")
        if found is None and (out / "hardware" / device / commit8).is_dir():
            found = device
        if found is None:
            raise RelforgeError(
                f"{device} has no entry for {commit8} yet",
                code=ExitCode.SOURCE,
                where=f"{repository.shown}: hardware",
                why="several devices are published one after the other; the last is the new one",
                hint=f"relforge patch --device-type {device} --base-commit-id {commit8} ...",
            )
        spelt.append(found)
    return (*spelt, devices[-1])


def _is_entry(path: str) -> bool:
    return path.startswith("hardware/") or path == HETERO


@dataclass
class _Making:
    repository: Repository
    shop: Workshop
    base: str
    current: str
    base_tree: str
    on_line: Callable[[str], None]
    tries: int = 0

    def proven(self) -> tuple[bytes, str]:
        """The mailbox and its tree; both ways of applying it were tried."""
        shop, git = self.shop, self.shop.git
        full = git.tree_of(self.current)
        left_out = [row for row in shop.changed(self.base_tree, full) if _is_entry(row[2])]
        wanted = full
        if left_out:
            wanted = shop.with_paths_of(full, self.base_tree, _NOT_PUBLISHED)
            self.on_line(
                f"left out: {len(left_out)} changed files of hardware/ and {HETERO}, which are no "
                "part of a patch"
            )
        changes = shop.changed(self.base_tree, wanted)
        if not changes:
            raise RelforgeError(
                "there is nothing to publish",
                code=ExitCode.SOURCE,
                where=self.repository.shown,
                why=f"{self.base[:12]} and {self.current[:12]} have the same files",
                hint="name the state to publish with --current-commit-id",
            )
        shop.refuse_private_keys(changes)
        squashed = self._why_squashed()
        head = self._squash(wanted) if squashed else self.current
        binary: set[str] = set()
        got = "none"
        for _ in range(5):
            mailbox = self._mailbox(head)
            exact = self._try(mailbox, "exact", last=head != self.current)
            got = exact.tree if exact else "none"
            if got != wanted and head == self.current:
                squashed, head = "its mails do not give the same tree", self._squash(wanted)
                continue
            if got != wanted:
                break
            theirs = self._try(mailbox.replace(b"\r\n", b"\n"), "fix", last=False)
            if theirs and theirs.tree == wanted:
                self._tell(squashed, binary)
                return mailbox, wanted
            got = theirs.tree if theirs else "none"
            binary = self._unsafe(binary, theirs, wanted, changes)
            shop.treat_as_binary(binary)
        raise not_proven(wanted, got)

    def _why_squashed(self) -> str:
        git = self.shop.git
        span = f"{self.base}..{self.current}"
        ancestor = git.run("merge-base", "--is-ancestor", self.base, self.current, check=False)
        if ancestor.returncode != 0:
            return "its base is no ancestor"
        if git.text("rev-list", "--count", "--merges", span) != "0":
            return "it has merges, which mails cannot carry"
        return ""

    def _mailbox(self, head: str) -> bytes:
        specs = [":(top)", *(f":(top,exclude,literal){path}" for path in _NOT_PUBLISHED)]
        return self.shop.git.run(
            *("format-patch", "--stdout", "--binary", "--full-index", "--no-ext-diff"),
            *("--no-textconv", "--no-notes", f"{self.base}..{head}", "--", *specs),
        ).stdout

    def _squash(self, tree: str) -> str:
        git = self.shop.git
        shown = git.run(
            "log", "-1", "--no-show-signature", "--format=%an%x00%ae%x00%at %ad%x00%s",
            "--date=format:%z", self.current,
        ).text  # fmt: skip
        name, email, date, subject = shown.split("\0")
        message = f"{subject}\n\nOne change for {self.base[:12]}..{self.current[:12]}.\n"
        env = {
            "GIT_AUTHOR_NAME": name or "unknown",
            "GIT_AUTHOR_EMAIL": email or "unknown@invalid",
            "GIT_AUTHOR_DATE": date,
        }
        return git.run("commit-tree", tree, "-p", self.base, stdin=message.encode(), env=env).text

    def _try(self, mailbox: bytes, whitespace: Whitespace, *, last: bool) -> AppliedTree | None:
        """What applying gives; None when it does not apply, where there is another way to try."""
        self.tries += 1
        name = self.base[:8] + PATCH
        try:
            return applied(
                self.shop.source,
                self.base_tree,
                [Diff(name, mailbox)],
                self.shop.area / f"try-{self.tries}",
                whitespace=whitespace,
                cancel=self.shop.cancel,
            )
        except RelforgeError as error:
            if last and error.what.endswith("is refused"):
                raise
            return None

    def _unsafe(
        self,
        binary: set[str],
        theirs: AppliedTree | None,
        wanted: str,
        changes: Sequence[tuple[str, str, str]],
    ) -> set[str]:
        """Files that go as binary diffs from now on; all of them when nothing else helps."""
        git = self.shop.git
        more = {path for status, blob, path in changes if status != "D" and self._has_cr(blob)}
        before = {row.path: row for row in git.list_tree(self.base_tree)}
        more |= {p for _s, _b, p in changes if p in before and self._has_cr(before[p].oid)}
        if theirs is not None:
            got = {row.path: row for row in theirs.git.list_tree(theirs.tree, sizes=False)}
            rows = {row.path: row for row in git.list_tree(wanted, sizes=False)}
            more |= {path for path in {*got, *rows} if got.get(path) != rows.get(path)}
        return binary | more if more - binary else {EVERYTHING}

    def _has_cr(self, blob: str) -> bool:
        return b"\r" in self.shop.git.run("cat-file", "blob", blob, check=False).stdout

    def _tell(self, squashed: str, binary: set[str]) -> None:
        if squashed:
            self.on_line(f"the history is written as one mail: {squashed}")
        if binary:
            files = "every file" if EVERYTHING in binary else f"{len(binary)} files"
            self.on_line(
                f"{files} go into the patch as binary diffs: FlagScale's tool would change their "
                "line ends or whitespace"
            )
