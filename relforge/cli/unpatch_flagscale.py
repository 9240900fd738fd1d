"""``relforge unpatch`` in FlagScale's words: an entry of its repository instead of a release."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cli.common import Workplace, interruptible, print_json, to_stderr
from relforge.cli.flagscale_words import FlagScaleWords
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.cancel import CancelToken
    from relforge.patching.flagscale.found import Found
    from relforge.patching.flagscale.repository import Repository
    from relforge.patching.source import Trust
    from relforge.patching.tree.folder import Unpatched


def unpatch_flagscale(words: FlagScaleWords, place: Workplace, *, as_json: bool) -> None:
    """Writes one tree per device. Raises RelforgeError (USAGE, SOURCE)."""
    from relforge.patching.flagscale.repository import open_repository
    from relforge.patching.tree.place import safe_target

    _check(words)
    if words.directory is not None:
        safe_target(words.directory)
    with interruptible() as cancel:
        repository = open_repository(
            words.repo, home=place.home, site=place.site, on_line=to_stderr, cancel=cancel
        )
        found = _find(words, repository, place, cancel)
        local = repository.work_tree
        directory = words.directory or ((local or Path.cwd()) / "build")
        done = _write(words, found, place, directory, cancel)
    archived = words.to is not None and words.to.on_stdout
    if as_json and not archived:
        rows = [
            {
                "device": one.device or None,
                "patch_set": one.patches.name,
                "base_commit": one.base_commit,
                "grafts": {graft.folder: graft.tree for graft in one.grafts},
                "verified": bool(words.expect_trees),
                **tree.model_dump(mode="json"),
            }
            for one, tree in zip(found, done, strict=True)
        ]
        print_json({"trees": rows})
        return
    out = sys.stderr if archived else sys.stdout
    for tree in done:
        out.write(f"{tree.folder}  {tree.tree.tree}  {tree.status}\n")


def _check(words: FlagScaleWords) -> None:
    if words.mode not in (None, "symlink", "copy"):
        raise _usage(f"--mode takes symlink or copy, not {words.mode!r}", "leave it out")
    if not words.device_types and not words.development:
        raise _usage(
            "no device is named",
            "add --device-type; for FlagScale's own extension of a backend name --backend alone",
        )
    if words.whitespace not in ("exact", "fix"):
        raise _usage(
            f"--whitespace takes exact or fix, not {words.whitespace!r}", "leave it out for exact"
        )
    if words.commit_id and (words.backends or words.tasks or words.commit):
        raise _usage(
            "these options belong to two different layouts of FlagScale",
            "legacy: --device-type D --commit-id BASE\n"
            "current: --backend B --device-type D --task T",
        )
    if not words.commit_id and not words.development:
        if not words.tasks:
            raise _usage(
                "the entry is not named in full",
                "legacy: --device-type D --commit-id BASE\n"
                "current: --backend B --device-type D --task T",
            )
        if len(words.device_types) > 1:
            raise _usage(
                "the current layout takes one device at a time", "run the command for each device"
            )
    if words.expect_trees and len(words.expect_trees) != max(1, len(words.device_types)):
        raise _usage("--expect-tree takes one tree per device", "name as many trees as devices")
    for tree in words.expect_trees:
        if re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", tree) is None:
            raise _usage(
                f"--expect-tree {tree}: this is no tree hash",
                "give it in full: 40 lower-case hexadecimal digits, as unpatch prints it",
            )


def _find(
    words: FlagScaleWords, repository: Repository, place: Workplace, cancel: CancelToken
) -> tuple[Found, ...]:
    from relforge.patching.flagscale import current, development, legacy, names
    from relforge.patching.flagscale.submodules import Fetching

    if words.commit_id:
        return legacy.find_legacy(
            repository, words.device_types, words.commit_id, on_line=to_stderr
        )
    backends = names.backends(words.backends or (_BACKEND,))
    submodules = [backend for backend in backends if backend != names.ROOT_BACKEND]
    if len(words.backend_commits) > len(submodules):
        raise _usage(
            "--backend-commit names more commits than there are submodules",
            "name one for each of --backend but FlagScale, in the same order",
        )
    commits = tuple(zip(submodules, words.backend_commits, strict=False))
    fetching = Fetching(place.home, place.site, to_stderr, cancel)
    if words.development:
        wish = development.DevelopmentRequest(
            backends=backends,
            commit=words.commit,
            backend_commits=commits,
            extension=not words.no_fs_extension,
            as_checked_out=words.no_force or words.no_init_submodule,
        )
        return (development.find_development(repository, wish, fetching),)
    request = current.CurrentRequest(
        device=words.device_types[0],
        backends=backends,
        tasks=names.tasks(words.tasks),
        commit=words.commit,
        backend_commits=commits,
        any_task=words.any_task,
        as_checked_out=words.no_init_submodule,
    )
    return (current.find_current(repository, request, fetching),)


def _write(
    words: FlagScaleWords,
    found: Sequence[Found],
    place: Workplace,
    directory: Path,
    cancel: CancelToken,
) -> list[Unpatched]:
    from relforge.patching.flagscale.names import TREE_NAME
    from relforge.patching.tree.destination import Destination, one_archive, write_tree

    to = words.to or Destination()
    one_archive(to, len(found))
    trust = _trust(found, place)
    done = []
    for number, one in enumerate(found):
        cancel.check()
        if not words.expect_trees and one.device:
            to_stderr(_UNVERIFIED.format(entry=one.patches.name))
        recipe = one.recipe(
            trust,
            expected_tree=words.expect_trees[number] if words.expect_trees else None,
            whitespace="fix" if words.whitespace == "fix" else "exact",
        )
        target = directory / one.device / TREE_NAME
        done.append(write_tree(target, recipe, to, home=place.home, epoch=one.epoch, cancel=cancel))
    return done


_BACKEND = "Megatron-LM"  # what FlagScale's tools take when none is named
_UNVERIFIED = (
    "note: {entry} cannot be verified: FlagScale's format carries no signature and no checksum, so "
    "nobody can tell whether the patch was altered.\n"
    "      Compare the tree below with the one its vendor names, or give it: --expect-tree HASH"
)


def _trust(found: Sequence[Found], place: Workplace) -> Trust:
    from relforge.patching.keys import Identities, load_identities, passphrase_from
    from relforge.patching.source import Trust

    if not any(one.patches.sealed for one in found):
        return Trust()
    site = place.site
    identities = Identities()
    if site.identities:
        passphrase = passphrase_from(site.key_passphrase_file)
        identities = load_identities(site.identities, passphrase=passphrase)
    return Trust(identities=identities)


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)
