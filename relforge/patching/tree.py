"""A source with its patch set applied: what stages and ``relforge unpatch`` ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import TrustedSigner
from relforge.frozen import Frozen
from relforge.manifest.common import Commit, Sha256, TreeHash
from relforge.patching.apply import AppliedTree, apply_patches
from relforge.patching.bundle import opened
from relforge.patching.header import Ships, VerifiedHeader, read_header
from relforge.patching.keys import Identities
from relforge.patching.series import Patch, PlainPatches, read_series
from relforge.patching.workarea import outer_area, work_area
from relforge.stage import CancelToken


@dataclass(frozen=True)
class BundlePatches:
    """A patch set that lies sealed in one file."""

    path: Path


PatchSource = PlainPatches | BundlePatches


class PatchSetInfo(Frozen):
    """What is known of a patch set without decrypting it; content only, fit for a stage's key."""

    name: str
    content_sha256: Sha256
    sealed: bool
    source: str | None = None
    """The rest is what a bundle says of itself, and ``None`` for a plain patch set."""
    base_commit: Commit | None = None
    base_tree: TreeHash | None = None
    result_tree: TreeHash | None = None
    device: str | None = None
    ships: Ships | None = None
    signer: str | None = None
    signer_keyid: Sha256 | None = None


class Tree(Frozen):
    """A source with its patch set applied."""

    tree: TreeHash
    base_tree: TreeHash
    patches: tuple[Patch, ...]
    content_sha256: Sha256 | None
    """The patch set's; ``None`` when there is none and the tree is the source as it is."""
    sealed: bool
    signer: str | None
    files_changed: int


def patch_source(path: Path, *, name: str | None = None) -> PatchSource:
    """The patch set at *path*: a folder with a ``series`` file, or a bundle.

    ``name`` is what a plain set is called (else as its folder); a bundle has its own. Raises
    RelforgeError (SOURCE) when there is nothing, or the series is wrong.
    """
    if path.is_dir():
        return read_series(path, name=name)
    if not path.exists():
        raise RelforgeError(
            "the patch set is not there",
            code=ExitCode.SOURCE,
            where=str(path),
            hint="check the path in the release's manifest, or name a bundle for it under "
            "`patch_sets` in the site configuration",
        )
    return BundlePatches(path)


def describe(
    source: PatchSource, trusted: Sequence[TrustedSigner], *, allow_unsigned: bool = False
) -> PatchSetInfo:
    """What a patch set says of itself; a bundle's header is verified, no private key is needed.

    Raises RelforgeError (SOURCE).
    """
    if isinstance(source, PlainPatches):
        plain = source.patch_set
        return PatchSetInfo(name=plain.name, content_sha256=plain.content_sha256, sealed=False)
    return _info(read_header(source.path, trusted, allow_unsigned=allow_unsigned))


def _info(verified: VerifiedHeader) -> PatchSetInfo:
    header = verified.header
    return PatchSetInfo(
        name=header.name,
        content_sha256=header.content_sha256,
        sealed=True,
        source=header.source.name,
        base_commit=header.base_commit,
        base_tree=header.base_tree,
        result_tree=header.result_tree,
        device=header.device,
        ships=header.ships,
        signer=verified.signer,
        signer_keyid=verified.signer_keyid,
    )


def materialise(
    *,
    store_git_dir: Path,
    base_tree: str,
    patch_source: PatchSource | None,
    trusted: Sequence[TrustedSigner] = (),
    identities: Identities | None = None,
    dest: Path | None,
    home: Path,
    expected_tree: str | None,
    epoch: int,
    base_commit: str | None = None,
    device_names: Collection[str] = (),
    allow_unsigned: bool = False,
    cancel: CancelToken | None = None,
) -> Tree:
    """Applies a patch set to a tree and, where ``dest`` is given, writes the result there.

    Everything happens in a work area below ``home``. ``dest`` must not exist and appears complete
    or not at all, with every mtime at ``epoch`` (seconds since 1970).

    A bundle must be signed by one of ``trusted`` (unless ``allow_unsigned``) and is opened with
    ``identities``. It must be made for ``base_tree``, for ``base_commit`` (where both name one) and
    for one of ``device_names`` (the device's name and aliases; empty: not checked). The result must
    be ``expected_tree`` (where given) and what the bundle's header says.

    Raises RelforgeError (SOURCE); then nothing is written, and no plaintext is left on any way out.
    """
    with applied_tree(
        store_git_dir=store_git_dir,
        base_tree=base_tree,
        patch_source=patch_source,
        trusted=trusted,
        identities=identities,
        home=home,
        expected_tree=expected_tree,
        base_commit=base_commit,
        device_names=device_names,
        allow_unsigned=allow_unsigned,
        cancel=cancel,
    ) as (tree, applied, area):
        if dest is not None:
            _write(applied, dest, area, home, epoch)
    return tree


@contextlib.contextmanager
def applied_tree(
    *,
    store_git_dir: Path,
    base_tree: str,
    patch_source: PatchSource | None,
    trusted: Sequence[TrustedSigner] = (),
    identities: Identities | None = None,
    home: Path,
    expected_tree: str | None,
    base_commit: str | None = None,
    device_names: Collection[str] = (),
    allow_unsigned: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[tuple[Tree, AppliedTree, Path]]:
    """The verified tree with its objects, readable through ``AppliedTree.git``, and its work area.

    Both are gone when the block ends. Parameters and errors are those of ``materialise``.
    """
    with contextlib.ExitStack() as stack:
        area = stack.enter_context(work_area(home, "unpatch"))
        stream = _NO_PATCHES
        info: PatchSetInfo | None = None
        if patch_source is not None:
            keys = identities or Identities()
            stream = stack.enter_context(_stream(patch_source, trusted, keys, allow_unsigned))
        if stream.verified is not None:
            info = _info(stream.verified)
            check_meant_for(
                info, base_tree, base_commit, device_names, where=str(stream.verified.path)
            )
            _is_expected(info.result_tree or "", expected_tree, "the manifest or lock")
        applied = apply_patches(
            store_git_dir,
            base_tree,
            stream.contents,
            object_dir=area / "objects",
            work=area,
            cancel=cancel,
        )
        _is_expected(applied.tree, info.result_tree if info else None, "the bundle's signed header")
        _is_expected(applied.tree, expected_tree, "the manifest or lock")
        tree = Tree(
            tree=applied.tree,
            base_tree=base_tree,
            patches=stream.patches,
            content_sha256=stream.content_sha256,
            sealed=info is not None,
            signer=info.signer if info else None,
            files_changed=len(applied.files),
        )
        yield tree, applied, area


@dataclass(frozen=True)
class _Stream:
    """Ordered patches whose contents are read once, wherever they come from."""

    patches: tuple[Patch, ...]
    content_sha256: str | None
    contents: Iterable[tuple[str, Iterable[bytes]]]
    verified: VerifiedHeader | None


_NO_PATCHES = _Stream((), None, (), None)


@contextlib.contextmanager
def _stream(
    source: PatchSource,
    trusted: Sequence[TrustedSigner],
    identities: Identities,
    allow_unsigned: bool,
) -> Iterator[_Stream]:
    if isinstance(source, PlainPatches):
        plain = source.patch_set
        contents = ((patch.name, source.chunks(patch)) for patch in plain.patches)
        yield _Stream(plain.patches, plain.content_sha256, contents, None)
        return
    with opened(source.path, trusted, identities, allow_unsigned=allow_unsigned) as bundle:
        patches = tuple(
            Patch(name=p.name, sha256=p.sha256, size_bytes=p.size_bytes)
            for p in bundle.index.patches
        )
        opened_patches = ((patch.name, chunks) for patch, chunks in bundle.patches())
        yield _Stream(
            patches, bundle.verified.header.content_sha256, opened_patches, bundle.verified
        )


def check_meant_for(
    info: PatchSetInfo,
    base_tree: str,
    base_commit: str | None,
    device_names: Collection[str],
    *,
    where: str,
) -> None:
    """Raises RelforgeError (SOURCE) when a patch set is made for another base or device."""
    if base_commit and info.base_commit and info.base_commit != base_commit:
        raise _for_another(where, "base", _base(info), f"commit {base_commit}")
    if info.base_tree is not None and info.base_tree != base_tree:
        raise _for_another(where, "base", _base(info), f"tree {base_tree}")
    if info.device is not None and device_names and info.device not in device_names:
        raise _for_another(where, "device", info.device, ", ".join(sorted(device_names)))


def _base(info: PatchSetInfo) -> str:
    commit = f"commit {info.base_commit}, " if info.base_commit else ""
    return f"{info.source}, {commit}tree {info.base_tree}"


def _for_another(where: str, kind: str, made_for: str, here: str) -> RelforgeError:
    return RelforgeError(
        f"the bundle is made for another {kind}",
        code=ExitCode.SOURCE,
        where=where,
        why=f"it is for {made_for}; here it would be applied to {here}",
        hint=f"use the bundle that its maker sealed for this {kind}",
    )


def _is_expected(tree: str, expected: str | None, who: str) -> None:
    if expected is not None and tree != expected:
        raise RelforgeError(
            "the patched tree is not the expected one",
            code=ExitCode.SOURCE,
            why=f"applying gives tree {tree}; {who} expects {expected}",
            hint="if the patches were changed on purpose, run `relforge lock` again; "
            "else get the patch set again from its maker",
        )


def _write(applied: AppliedTree, dest: Path, area: Path, home: Path, epoch: int) -> None:
    if dest.exists() or dest.is_symlink():
        raise RelforgeError(
            "the tree would overwrite something",
            code=ExitCode.SOURCE,
            where=str(dest),
            why="it exists already",
            hint="choose a folder that does not exist yet",
        )
    if dest.parent.resolve().is_relative_to((home / "work").resolve()):
        applied.git.checkout(applied.tree, dest, epoch=epoch)  # its folder is swept with its area
        return
    dest.parent.mkdir(parents=True, exist_ok=True)
    with outer_area(area, dest.parent) as outer:
        applied.git.checkout(applied.tree, outer / "tree", epoch=epoch)
        (outer / "tree").rename(dest)
