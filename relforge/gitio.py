"""Git plumbing that sources and patching share: byte-exact, neutral to the user's configuration.

The store is one bare repository. Its ``info/attributes`` outranks every ``.gitattributes`` of a
tree and switches all conversion off, so that a tree's hash stands for the very bytes of its files.
GitPython is not used here: its error texts lose git's own last lines, and every call goes through
``proc.run`` like any other program. Needs git 2.39 (Debian 12).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from relforge import proc
from relforge.errors import ExitCode, RelforgeError
from relforge.stage import CancelToken

FileMode = Literal["100644", "100755", "120000"]
TIMEOUT_S = 900.0
_BATCH_BYTES = 32 * 1024 * 1024
_GITLINK = "160000"
_MODES: tuple[FileMode, ...] = ("100644", "100755", "120000")
_ATTRIBUTES = (
    "* -text -eol -crlf -ident -filter -working-tree-encoding -export-ignore -export-subst\n"
)
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (
        ("NAME", "relforge"),
        ("EMAIL", "relforge@invalid"),
        ("DATE", "1 +0000"),
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
    "maintenance.auto": "false",
    "safe.directory": "*",
}


@dataclass(frozen=True)
class TreeEntry:
    """One file, link or submodule of a tree. ``size_bytes`` is None for a submodule, and where
    sizes were not asked for."""

    path: str
    mode: str
    oid: str
    size_bytes: int | None


@dataclass(frozen=True)
class TreeFile:
    """A file to import. ``data`` is its content, the link's target, or a file that holds it."""

    path: str
    mode: FileMode
    data: bytes | Path


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
        return proc.run(
            [*(prefix if unset else ()), "git", *args],
            code=ExitCode.SOURCE,
            what=what,
            hint=hint,
            cwd=cwd,
            env=full_env,
            stdin=stdin,
            umask=umask,
            timeout_s=timeout_s,
            check=check,
            cancel=self.cancel,
            on_line=on_line,
        )

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
                _quoted(str(p.absolute()).encode()).decode() for p in self.alternates
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
        entries = []
        for row in done.stdout.split(b"\0"):
            if not row:
                continue
            left, _, path = row.partition(b"\t")
            mode, _kind, oid, *size = left.decode().split()
            entries.append(
                TreeEntry(
                    path=path.decode("utf-8", "surrogateescape"),
                    mode=mode,
                    oid=oid,
                    size_bytes=None if size in ([], ["-"]) else int(size[0]),
                )
            )
        return tuple(entries)

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
        feeder = _Feeder(write_end, files)
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

    def checkout(self, tree: str, dest: Path, *, epoch: int) -> None:
        """Writes a tree to the new folder *dest*: exact bytes, 0644 or 0755, links, one mtime.

        ``epoch`` is in seconds since 1970. The folder appears when it is complete. A submodule
        becomes an empty folder. Git itself writes nothing through a link.
        """
        entries = self.list_tree(tree, sizes=False)
        for entry in entries:
            _refuse_unsafe(entry)
        if dest.exists() or dest.is_symlink():
            raise RelforgeError(
                f"{dest} exists already",
                code=ExitCode.SOURCE,
                hint="choose a folder that does not exist yet",
            )
        dest.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
        try:
            root = room / "tree"
            root.mkdir()
            self._write_files(tree, root, room / "index")
            _settle(entries, root, epoch)
            root.rename(dest)
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def _write_files(self, tree: str, root: Path, index: Path) -> None:
        writer = Git(
            self.git_dir,
            object_dir=self.object_dir,
            alternates=self.alternates,
            index=index,
            work_tree=root,
            cancel=self.cancel,
        )
        # The index is made and thrown away here: it needs no checksum, and no sync to the disk.
        config = {"index.skipHash": "true", "core.fsync": "none"}
        writer.run("read-tree", tree, config=config)
        writer.run("checkout-index", "--all", config=config, umask=0o022)


def _settle(entries: Sequence[TreeEntry], root: Path, epoch: int) -> None:
    """One time for everything; folders last, which writing into them would change again."""
    # Plain strings: with Path objects this took as long as git's own writing.
    base, times = f"{root}/", (epoch, epoch)
    folders = {""}
    for entry in entries:
        folder = entry.path if entry.mode == _GITLINK else entry.path.rpartition("/")[0]
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
        if entry.mode != _GITLINK:
            os.utime(base + entry.path, times, follow_symlinks=False)
    for folder in folders:
        Path(base + folder).chmod(0o755)
        os.utime(base + folder, times)


def _refuse_unsafe(entry: TreeEntry) -> None:
    parts = entry.path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or ".git" in (part.lower() for part in parts):
        raise RelforgeError(
            f"the tree has a file with an unsafe name: {entry.path!r}",
            code=ExitCode.SOURCE,
            hint="pin another commit; this one cannot be written to a folder safely",
        )
    if entry.mode not in (*_MODES, "100664", _GITLINK):
        raise RelforgeError(
            f"the tree has an entry of an unknown kind: {entry.path!r}, mode {entry.mode}",
            code=ExitCode.SOURCE,
        )


class _Feeder(threading.Thread):
    """Writes git fast-import's stream (its manual page is the format) into a pipe."""

    def __init__(self, fd: int, files: Iterable[TreeFile]) -> None:
        super().__init__(name="fast-import", daemon=True)
        self._fd = fd
        self._files = files
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            # A reader that is gone has its own, better reason: git's exit status.
            with contextlib.suppress(BrokenPipeError), os.fdopen(self._fd, "wb", 1 << 20) as out:
                self._write(out)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self.error = error

    def _write(self, out: IO[bytes]) -> None:
        ref = b"refs/relforge/importing"
        out.write(b"feature done\ncommit " + ref + b"\nmark :1\n")
        out.write(b"committer relforge <relforge@invalid> 1 +0000\ndata 0\n\n")
        for file in self._files:
            path = _quoted(file.path.encode("utf-8", "surrogateescape"))
            out.write(b"M " + file.mode.encode() + b" inline " + path + b"\n")
            if isinstance(file.data, bytes):
                out.write(b"data %d\n" % len(file.data))
                out.write(file.data)
            else:
                with file.data.open("rb") as source:
                    out.write(b"data %d\n" % os.fstat(source.fileno()).st_size)
                    shutil.copyfileobj(source, out, 1 << 20)
            out.write(b"\n")
        # The branch is only fast-import's handle; it goes again, so that two imports never meet.
        out.write(b"get-mark :1\nreset " + ref + b"\nfrom " + b"0" * 40 + b"\n\ndone\n")


def _quoted(path: bytes) -> bytes:
    """C-style quoting, as git reads paths; bytes above 127 need none."""
    escaped = path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'
