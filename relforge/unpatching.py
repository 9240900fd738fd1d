"""The user's unpatch: a release's patched trees, written to folders of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.patching.bundle.header import origin_of
from relforge.patching.locate import recipe_for
from relforge.patching.stored import UNVERIFIED, StoredPatches, fetch_place
from relforge.patching.tree.destination import Destination, one_archive, write_tree
from relforge.patching.tree.folder import Unpatched
from relforge.plan import Subject


def unpatch_release(
    subject: Subject,
    directory: Path,
    *,
    home: Path,
    on_line: Callable[[str], None],
    cancel: CancelToken,
    to: Destination = Destination(),  # noqa: B008  (immutable)
) -> tuple[Unpatched, ...]:
    """Writes one folder per patched source below *directory*, in the tree that the lock pins.

    Or, with ``to``, one worktree each, or one archive.

    Raises RelforgeError (SOURCE): a key that does not open, a tree that differs, a folder that is
    not ours to replace.
    """
    from relforge.sources.api import import_source, store_of

    device, site, lock = subject.device, subject.site, subject.lock
    one_archive(to, len(subject.patch_sets))
    done = []
    for located in subject.patch_sets:
        cancel.check()
        spec = subject.release.sources[located.source]
        import_source(located.source, spec, home=home, site=site, ctx_line=on_line, cancel=cancel)
        if isinstance(located.patches, StoredPatches):
            fetch_place(
                located.patches.place, home=home, site=site, ctx_line=on_line, cancel=cancel
            )
        locked = lock.patches[located.name]
        if locked.result_tree is None:
            on_line(UNVERIFIED.format(name=located.name))
        done.append(
            write_tree(
                directory / located.source,
                recipe_for(
                    located,
                    git_dir=store_of(home).git_dir,
                    base_tree=locked.base_tree or lock.sources[located.source].content,
                    device=device,
                    site=site,
                    expected_tree=locked.result_tree,
                    base_commit=lock.sources[located.source].commit,
                ),
                to,
                home=home,
                epoch=lock.source_date_epoch,
                origin=origin_of(spec),
                cancel=cancel,
            )
        )
    return tuple(done)
