"""Runs git: neutral to the user's configuration, with objects, index and work tree as told.

The store is one bare repository. Its ``info/attributes`` outranks every ``.gitattributes`` of a
tree and switches all conversion off, so that a tree's hash stands for the very bytes of its files.
GitPython is not used here: its error texts lose git's own last lines, and every call goes through
``proc.run`` like any other program. Needs git 2.39 (Debian 12).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

from relforge import proc
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write
from relforge.gitio.entries import (
    TreeEntry,
    TreeFile,
    entries_of_index,
    entries_of_tree,
    quoted,
)
from relforge.gitio.importing import Feeder
from relforge.gitio.writing import WrittenTree, write_folder

TIMEOUT_S = 900.0
_DISK_FULL = (os.strerror(errno.ENOSPC).encode(), b"Out of diskspace")  # git runs with LC_ALL=C
_CANNOT_WRITE = b"unable to write file"
_NEARLY_FULL_BYTES = 16 << 20
_BATCH_BYTES = 32 * 1024 * 1024
_ATTRIBUTES = (
    "* -text -eol -crlf -ident -filter -working-tree-encoding -export-ignore -export-subst\n"
)
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (
        ("NAME", "relforge"),
        ("EMAIL", "relforge@invalid"),
        ("DATE", "@1 +0000"),
    )
}
# What a person may have set for reaching a server stays; anything else could redirect a command.
_KEPT = frozenset(
    {
        "GIT_EXEC_PATH",
        "GIT_PROXY_COMMAND",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSH_VARIANT",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
    }
)
_CONFIG = {
    "core.hooksPath": os.devnull,
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.autocrlf": "false",
    "core.fileMode": "true",
    "core.symlinks": "true",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "index.version": "4",  # paths without their common beginnings: less to write
    "maintenance.auto": "false",
    "safe.directory": "*",
}


def init_store(path: Path) -> Git:
    """The bare repository at *path*, made when it is not there. Atomic; safe to call at once."""
    if not (path / "HEAD").is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            Git(fresh).run("init", "--quiet", "--bare", "--template=", "--initial-branch=none")
            neutral_attributes(fresh)
            # A rename onto a folder with content fails: then another run was faster.
            with contextlib.suppress(OSError):
                fresh.rename(path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        if not (path / "HEAD").is_file():
            raise RelforgeError(
                f"{path} exists and is not a git store",
                code=ExitCode.ENVIRONMENT,
                where=str(path),
                hint=f"move {path} away, or choose another home",
            )
    return Git(path)


def neutral_attributes(git_dir: Path) -> None:
    """Switches every conversion of a repository off, whatever its trees say."""
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "attributes").write_text(_ATTRIBUTES)


class Git:
    """Runs git on one repository, with nothing of the user's or the system's configuration.

    ``object_dir`` takes the objects that are written (``GIT_OBJECT_DIRECTORY``) and ``alternates``
    are further object folders that are read. Raises RelforgeError with code SOURCE.
    """

    def __init__(
        self,
        git_dir: Path,
        *,
        object_dir: Path | None = None,
        alternates: Sequence[Path] = (),
        index: Path | None = None,
        work_tree: Path | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        self.git_dir = git_dir
        self.object_dir = object_dir
        self.alternates = tuple(alternates)
        self.index = index
        self.work_tree = work_tree
        self.cancel = cancel

    def run(
        self,
        *args: str | Path,
        stdin: bytes | IO[bytes] | None = None,
        check: bool = True,
        what: str | None = None,
        hint: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        config: Mapping[str, str] | None = None,
        umask: int = -1,
        timeout_s: float = TIMEOUT_S,
        on_line: Callable[[str], None] | None = None,
    ) -> proc.Done:
        """Runs ``git *args`` and returns what it wrote. ``config`` adds ``-c`` style settings."""
        full_env = {**self._environment(config or {}), **(env or {})}
        # A variable can only be taken away by a program in between; there are none on most hosts.
        unset = [n for n in os.environ if n.startswith("GIT_") and n not in {*_KEPT, *full_env}]
        prefix = ["env", *(word for name in sorted(unset) for word in ("-u", name))]
        done = proc.run(
            [*(prefix if unset else ()), "git", *args],
            code=ExitCode.SOURCE,
            what=what,
            hint=hint,
            cwd=cwd,
            env=full_env,
            stdin=stdin,
            umask=umask,
            timeout_s=timeout_s,
            check=False,
            cancel=self.cancel,
            on_line=on_line,
        )
        if done.returncode != 0:
            self._refuse_full_disk(done.stderr)
        if check and done.returncode != 0:
            raise proc.failure(done, code=ExitCode.SOURCE, what=what, hint=hint)
        return done

    def _refuse_full_disk(self, stderr: bytes) -> None:
        place = self.work_tree or self.object_dir or self.git_dir
        full = any(text in stderr for text in _DISK_FULL)
        if not full and _CANNOT_WRITE in stderr:
            # For files of a tree git gives no reason.
            with contextlib.suppress(OSError):
                disk = os.statvfs(place)
                full = disk.f_bavail * disk.f_frsize < _NEARLY_FULL_BYTES
        if full:
            raise cannot_write(place, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _environment(self, config: Mapping[str, str]) -> dict[str, str]:
        env = {
            "GIT_DIR": str(self.git_dir.absolute()),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
            **_IDENTITY,
        }
        settings = {**_CONFIG, **config}
        env["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (key, value) in enumerate(settings.items()):
            env[f"GIT_CONFIG_KEY_{number}"] = key
            env[f"GIT_CONFIG_VALUE_{number}"] = value
        if self.object_dir is not None:
            env["GIT_OBJECT_DIRECTORY"] = str(self.object_dir.absolute())
        if self.alternates:
            env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.pathsep.join(
                quoted(str(p.absolute()).encode()).decode() for p in self.alternates
            )
        if self.index is not None:
            env["GIT_INDEX_FILE"] = str(self.index.absolute())
        if self.work_tree is not None:
            env["GIT_WORK_TREE"] = str(self.work_tree.absolute())
        return env

    def text(self, *args: str | Path, stdin: bytes | None = None) -> str:
        """What ``git *args`` prints, without the final newline."""
        return self.run(*args, stdin=stdin).text

    def has(self, oid: str, kind: Literal["blob", "commit", "tree"] | None = None) -> bool:
        """Whether the object is there, and of that kind where one is named."""
        if kind is None:
            return self.run("cat-file", "-e", oid, check=False).returncode == 0
        done = self.run("cat-file", "-t", oid, check=False)
        return done.returncode == 0 and done.text == kind

    def tree_of(self, commit: str, subdirectory: str | None = None) -> str:
        """The tree hash of a commit (or tree), or of one folder in it."""
        name = f"{commit}^{{tree}}" if subdirectory is None else f"{commit}:{subdirectory}"
        done = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", name, check=False)
        if done.returncode != 0 or not self.has(done.text, "tree"):
            raise RelforgeError(
                f"{subdirectory or commit} is no folder of this source"
                if subdirectory
                else f"{commit} is not in the store",
                code=ExitCode.SOURCE,
                where=commit,
                hint="check the commit and the subdirectory in the manifest",
            )
        return done.text

    def commit_epoch(self, commit: str) -> int:
        """The commit's committer time, in seconds since 1970."""
        return int(self.text("show", "--no-patch", "--format=%ct", commit, "--"))

    def list_tree(self, tree: str, *, sizes: bool = True) -> tuple[TreeEntry, ...]:
        """Every file, link and submodule of the tree, in git's order, with paths from its root.

        Without ``sizes``, which git reads from each file's object, it takes half the time.
        """
        long = ("-l",) if sizes else ()
        done = self.run("ls-tree", "-r", "-z", *long, "--full-tree", tree)
        return entries_of_tree(done.stdout)

    def list_index(self) -> tuple[TreeEntry, ...]:
        """The same of the index, which is much faster to read; sizes are not in it."""
        return entries_of_index(self.run("ls-files", "-s", "-z").stdout)

    def read_file(self, tree: str, path: str) -> bytes:
        """The content of one file of a tree."""
        return self.run(
            "cat-file", "blob", f"{tree}:{path}", what=f"the tree has no file {path}"
        ).stdout

    def blobs(self, entries: Iterable[TreeEntry]) -> Iterator[tuple[TreeEntry, bytes]]:
        """The contents of files and links, in order, held in memory some 32 MiB at a time."""
        batch: list[TreeEntry] = []
        held = 0
        for entry in entries:
            batch.append(entry)
            held += entry.size_bytes or 0
            if held >= _BATCH_BYTES:
                yield from self._read_batch(batch)
                batch, held = [], 0
        if batch:
            yield from self._read_batch(batch)

    def _read_batch(self, batch: list[TreeEntry]) -> Iterator[tuple[TreeEntry, bytes]]:
        # The question is a file: git does not read on while its answer waits in a full pipe.
        with tempfile.TemporaryFile() as asked:
            asked.write("".join(f"{entry.oid}\n" for entry in batch).encode())
            asked.seek(0)
            out = self.run("cat-file", "--batch", "--buffer", stdin=asked).stdout
        at = 0
        for entry in batch:
            end = out.index(b"\n", at)
            oid, *kind_and_size = out[at:end].decode().split()
            if oid != entry.oid or kind_and_size[:1] != ["blob"]:
                raise RelforgeError(
                    f"the store lacks the content of {entry.path}",
                    code=ExitCode.SOURCE,
                    where=str(self.git_dir),
                    why=out[at:end].decode("utf-8", "replace"),
                    hint="remove the store's folder; it is made again from the pinned sources",
                )
            size = int(kind_and_size[1])
            yield entry, out[end + 1 : end + 1 + size]
            at = end + 1 + size + 1

    def import_files(self, files: Iterable[TreeFile]) -> str:
        """Writes files as they are into one pack and returns the tree hash.

        The tree is kept from garbage collection by a reference, unless an ``object_dir`` of its
        own takes the objects. An exception of the iterable leaves nothing behind.
        """
        read_end, write_end = os.pipe()
        feeder = Feeder(write_end, files)
        feeder.start()
        try:
            with os.fdopen(read_end, "rb") as stream:
                done = self.run(
                    "fast-import",
                    "--quiet",
                    "--done",
                    "--depth=0",  # a file is no better version of the file before it
                    stdin=stream,
                    check=False,
                    # Zlib's fastest level: the time is in the compression, and this is a cache.
                    config={"core.compression": "1", "fastimport.unpackLimit": "0"},
                )
        finally:
            feeder.join()
        if feeder.error is not None:
            raise feeder.error
        if done.returncode != 0:
            raise proc.failure(done, code=ExitCode.SOURCE, what="the files could not be imported")
        commit = done.text.split()[-1]
        tree = self.tree_of(commit)
        if self.object_dir is None:
            self.run("update-ref", f"refs/relforge/trees/{tree}", commit)
        return tree

    def checkout(self, tree: str, dest: Path, *, epoch: int, indexed: bool = False) -> WrittenTree:
        """Writes a tree to the new folder *dest*: exact bytes, 0644 or 0755, links, one mtime.

        ``epoch`` is in seconds since 1970. The folder appears when it is complete. A submodule
        becomes an empty folder. Git itself writes nothing through a link. ``indexed``: this
        repository's index holds just that tree, so that it need not be read again.
        """
        return write_folder(self, tree, dest, epoch=epoch, indexed=indexed)

    def with_index(self, index: Path | None, *, work_tree: Path | None = None) -> Git:
        """The same repository and objects, with another index and work tree."""
        return Git(
            self.git_dir,
            object_dir=self.object_dir,
            alternates=self.alternates,
            index=index,
            work_tree=work_tree,
            cancel=self.cancel,
        )
