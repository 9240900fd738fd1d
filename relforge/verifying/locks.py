"""The lock of the record, and the trees that it pins: in the image, in the record, in bundles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relforge.errors import RelforgeError
from relforge.frozen import canonical_json, content_key, sha256_hex
from relforge.lock import Lock
from relforge.manifest.site import Site
from relforge.verifying.files import at
from relforge.verifying.image import ImageSeen
from relforge.verifying.report import Outcome, judged, not_run

_TREE = "org.relforge.tree."
_ONE = {"sources": "source", "patches": "patch set"}


def lock(record: Mapping[str, Any], given: Lock | None, given_as: str) -> Outcome:
    """The record's lock has the hash that record, label and card quote; and it is ``given``, the
    lock that the reader has, where there is one."""
    recorded = at(record, "lock_sha256")
    problems: list[str] = []
    whole = whole_lock(record)
    if whole is not None and content_key(whole) != recorded:
        problems.append(
            f"the record's lock hashes to {content_key(whole)}, the record says {recorded}"
        )
    problems += _planned(record, recorded)
    said = "its hash is that of its parts" if whole is not None else "the record has it in part"
    if given is not None:
        if content_key(given) != recorded:
            problems.append(f"{given_as} is another lock, {content_key(given)}")
            problems += _other(given, at(record, "lock"))
        said += f", and it is {given_as}"
    return judged(problems, f"{recorded[:12]}...: {said}")


def _planned(record: Mapping[str, Any], recorded: str) -> Iterator[str]:
    """What stages were given of the lock, which the record keeps among their inputs."""
    inputs = record.get("inputs") or {}
    card = (inputs.get("card") or {}).get("values") or {}
    if card.get("lock_sha256", recorded) != recorded:
        yield f"the card was made of the lock {card['lock_sha256']}"
    for part in ("sources", "patches"):
        if part in card and card[part] != at(record, "lock").get(part):
            yield f"the card was made of other {part} than the lock has"
    attest = ((inputs.get("attest") or {}).get("values") or {}).get("lock")
    if attest is not None and sha256_hex(canonical_json(attest)) != recorded:
        yield "what was attested was made of another lock"


def whole_lock(record: Mapping[str, Any]) -> Lock | None:
    """The lock put together again: the record keeps its wheels where they were used."""
    sources = ((record.get("inputs") or {}).get("sources") or {}).get("values") or {}
    if "wheels" not in sources or "build_wheels" not in sources:
        return None
    parts = {name: sources[name] for name in ("wheels", "build_wheels")}
    try:
        return Lock.model_validate({**at(record, "lock"), **parts})
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ValueError(f"the record's lock cannot be read: {where}") from error


def trees(record: Mapping[str, Any], image: ImageSeen, project: Path | None, site: Site) -> Outcome:
    """Each source's tree is the same in lock, image labels and results, and in the bundles of
    ``project`` where that is at hand."""
    sources = at(record, "lock", "sources")
    if not sources:
        return not_run("the release is built of no sources: its image was taken as it is")
    wanted = dict(_locked_trees(record))
    problems: list[str] = []
    for part in image.tested(record):
        labels = part.labels
        for name, tree in wanted.items():
            found = labels.get(f"{_TREE}{name}")
            if found is None:
                problems.append(f"the image has no label {_TREE}{name}")
            elif found != tree:
                problems.append(f"{name}: the lock has the tree {tree}, the image's label {found}")
        for label in labels:
            if label.startswith(_TREE) and label.removeprefix(_TREE) not in wanted:
                problems.append(f"label {label} names a source that the lock does not have")
    results = at(record, "results")
    for package in (results.get("build") or {}).get("packages") or ():
        if package["tree"] != wanted.get(package["source"]):
            problems.append(f"{package['distribution']} was built of the tree {package['tree']}")
    for applied in (results.get("unpatch") or {}).get("sets") or ():
        if applied["result_tree"] not in (None, wanted.get(applied["source"])):
            problems.append(f"patch set {applied['name']} gave the tree {applied['result_tree']}")
    said = f"{len(wanted)} trees are the same in lock, labels and results"
    if project is not None:
        wrong, checked = _bundles(record, project, site)
        problems += wrong
        said += f"; {checked} patch sets of the project are those of the lock"
    return judged(problems, said)


def _locked_trees(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """As ``Lock.tree`` gives them."""
    sources, patches = at(record, "lock", "sources"), at(record, "lock").get("patches") or {}
    for name, source in sources.items():
        content = source.get("tree") or source.get("commit") or f"sha256:{source.get('sha256')}"
        patched = next((p for p in patches.values() if p["source"] == name), None)
        if patched is not None:
            content = patched.get("result_tree") or f"{content}+{patched['content'][:12]}"
        yield name, content


def _bundles(record: Mapping[str, Any], project: Path, site: Site) -> tuple[list[str], int]:
    from relforge.manifest.project import find_project
    from relforge.patching.locate import locate, trusted_signers
    from relforge.patching.source import Trust

    found = find_project(project, project)
    problems: list[str] = []
    checked = 0
    try:
        release = found.release(at(record, "release"))
        device = found.device(release.device)
    except RelforgeError as error:
        return [f"the project: {error.what}"], 0
    locked = at(record, "lock").get("patches") or {}
    for ref in release.patch_refs:
        pinned = locked.get(ref.name)
        if pinned is None:
            problems.append(f"the project's release has the patch set {ref.name}, the lock has not")
            continue
        try:
            located = locate(found, site, device, ref)
            info = located.patches.info(Trust(trusted_signers(site, device)))
        except RelforgeError as error:
            problems.append(f"patch set {ref.name}: {error.what}")
            continue
        if ref.repository is None and info.content_sha256 != pinned["content"]:
            problems.append(
                f"patch set {ref.name}: {located.where} has the content "
                f"{info.content_sha256[:12]}, the lock pins {pinned['content'][:12]}"
            )
        if info.result_tree not in (None, pinned["result_tree"]):
            problems.append(
                f"patch set {ref.name}: {located.where} makes the tree {info.result_tree}, the "
                f"lock pins {pinned['result_tree']}"
            )
        checked += 1
    missing = sorted(set(locked) - {ref.name for ref in release.patch_refs})
    problems += [f"the project's release has no patch set {name}" for name in missing]
    return problems, checked


def _other(given: Lock, recorded: Mapping[str, Any]) -> Iterator[str]:
    ours = given.model_dump(mode="json", exclude={"wheels", "build_wheels"})
    for part in ("sources", "patches"):
        one, other = ours.get(part) or {}, recorded.get(part) or {}
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                yield f"{_ONE[part]} {name} differs"
    if ours.get("image") != recorded.get("image"):
        yield "the base image differs"
