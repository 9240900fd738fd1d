"""The entries of a checkout by themselves: names, descriptions, bases."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from relforge.errors import RelforgeError
from relforge.gitio.entries import GITLINK, LINK
from relforge.manifest.project import normalised
from relforge.patching.flagscale import names
from relforge.patching.flagscale.diff_yaml import DIFF_YAML, DiffYaml, load_yaml
from relforge.patching.flagscale.entry import is_patch
from relforge.patching.lint.content import stray_name
from relforge.patching.lint.model import Finding, finding, shortened
from relforge.patching.lint.objects import Look, Unit
from relforge.patching.lint.siblings import check_siblings

_FULL = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-fA-F]{4,64}")
_KEYS = frozenset(DiffYaml.model_fields)
_LATER = {"commit", "backends_commit"}  # keys that entries of April and May 2025 never have
_MAIL_FOR_EVERYBODY = re.compile(
    r"@(?:qq|163|126|sina|gmail|outlook|hotmail|foxmail|yahoo|icloud)\.", re.IGNORECASE
)
_ASK = "ask the entry's maker for a corrected one"


def check_entries(look: Look) -> Iterator[Finding]:
    """Every entry of the commit looked at."""
    units = look.hardware(look.commit).units
    devices = {unit.device: unit for unit in units}
    for device in devices:
        yield from _device_name(device, [u for u in units if u.device == device])
    yield from spellings(devices)
    for unit in units:
        yield from _shape(unit)
        if not unit.legacy and unit.draft is None:
            yield from _description(look, unit)
        yield from check_base(look, unit)
    for device in devices:
        yield from check_siblings(look, [u for u in units if u.device == device and not u.legacy])


def spellings(devices: Iterable[str], beside: Iterable[str] = ()) -> Iterator[Finding]:
    """Devices that have two spellings; ``beside`` are those of the history file."""
    by_name: dict[str, dict[str, None]] = defaultdict(dict)
    for device in (*devices, *beside):
        by_name[normalised(device)].setdefault(device)
    for spelt in by_name.values():
        if len(spelt) > 1:
            yield finding(
                "device-spelling",
                "warning",
                f"hardware/{next(iter(spelt))}",
                f"one device is spelled in {len(spelt)} ways: {', '.join(spelt)}",
                "keep one folder for a device, and name it alike in the history file",
            )


def check_base(look: Look, unit: Unit) -> Iterator[Finding]:
    """Whether FlagScale's state that an entry is made for can be had from where the entry is."""
    described = look.description(unit)
    named = unit.name if unit.legacy else unit.digits or getattr(described, "commit", None)
    if named is None or not _HEX.fullmatch(named):
        return
    where = unit.where("" if unit.legacy or unit.description is None else unit.described_in)
    base = look.base_of(unit)
    if base is None:
        fetch = "git fetch --unshallow origin" if look.shallow else f"git fetch origin {named}"
        yield finding(
            "base-missing",
            "error",
            where,
            f"its base {named} is not in this clone: the object is missing"
            + (" (it is a shallow clone)" if look.shallow else ""),
            f"{fetch}; when no server has it, the entry must be rebased",
        )
    elif not look.leads_to(base, unit.commit):
        on_branch = "on another branch" if base in look.on_branches else "on no branch"
        yield finding(
            "base-unreachable",
            "error",
            where,
            f"its base {base[:12]} is no ancestor of {unit.commit[:12]}, which holds the entry; "
            f"it is {on_branch}",
            "rebase the entry to a commit of the main branch: relforge patch rebase --onto COMMIT",
        )


def _device_name(device: str, units: list[Unit]) -> Iterator[Finding]:
    layouts = {unit.legacy for unit in units}
    for legacy in sorted(layouts):
        try:
            names.check_new_device(device, legacy=legacy)
        except RelforgeError as error:
            yield finding(
                "device-name",
                "warning",
                f"hardware/{device}",
                f"{device} is no device name: {error.why}",
                "rename the folder, and the device in diff.yaml and the history file",
            )
    if len(layouts) > 1:
        yield finding(
            "two-layouts",
            "note",
            f"hardware/{device}",
            "the device has entries of both layouts",
            "remove those that nobody needs any more",
        )


def _shape(unit: Unit) -> Iterator[Finding]:
    """What kinds of files lie in an entry's folder."""
    paths = {row.path for row in unit.rows}
    if not unit.patches:
        yield finding(
            "entry-empty",
            "error",
            unit.where(),
            "the entry holds no patch",
            f"{_ASK}, or remove it",
        )
    for path in sorted(paths):
        if path.endswith(names.PATCH) and path.removesuffix(names.PATCH) + names.SEALED in paths:
            yield finding(
                "plain-beside-sealed",
                "error",
                unit.where(path),
                "the patch lies decrypted beside its sealed file",
                "remove the decrypted one, and regard its content as published",
            )
    kinds = {p.removesuffix(names.SEALED).removesuffix(names.PATCH) for p in paths if is_patch(p)}
    single = "diff" if not unit.legacy else unit.name
    if single in kinds and len(kinds) > 1:
        yield finding(
            "several-generations",
            "error",
            unit.where(),
            f"a patch for everything ({single}) lies beside {len(kinds) - 1} others: "
            "patches of several generations would be applied together",
            "keep the newest generation alone",
        )
    elif unit.legacy and kinds and single not in kinds:
        yield finding(
            "entry-empty",
            "error",
            unit.where(),
            f"it has no {single}{names.PATCH}, only {shortened(sorted(paths))}",
            "name the patch like its folder",
        )
    for row in unit.rows:
        usual = is_patch(row.path) or (row.path == unit.described_in and not unit.legacy)
        if row.mode in (LINK, GITLINK) or not usual or stray_name(_inner(row.path)):
            yield finding(
                "stray-file",
                "warning",
                unit.where(row.path),
                "the file does not belong in an entry",
                "remove it",
            )
    if unit.digits is not None:
        yield finding(
            "layout-early",
            "warning",
            unit.where(),
            "its files are named after the base, as in April and May 2025: FlagScale's tools do "
            "not open such an entry any more, relforge unpatch does",
            "publish it again in the layout of today: relforge patch --backend",
        )
    if not unit.legacy and unit.draft is None and not _is_backend(unit.name):
        yield finding(
            "entry-name",
            "warning",
            unit.where(),
            f"{unit.name} is neither a backend nor the 8 digits of a base",
            "name the folder as FlagScale's tools do",
        )
    if unit.legacy and len(unit.name) != 8:
        yield finding(
            "entry-name",
            "warning",
            unit.where(),
            "FlagScale's tools look for folders of exactly 8 digits",
            f"call it {unit.name[:8]}" if len(unit.name) > 8 else "add the digits that are missing",
        )


def _inner(path: str) -> str:
    """What a patch file stands for: its name without the ending."""
    return path.removesuffix(names.SEALED).removesuffix(names.PATCH)


def _is_backend(name: str) -> bool:
    try:
        return names.backends([name]) == (name,)
    except RelforgeError:
        return False


def _description(look: Look, unit: Unit) -> Iterator[Finding]:
    row = unit.description
    if row is None:
        yield finding(
            "diff-yaml-missing",
            "error",
            unit.where(),
            f"the entry has no {unit.described_in}: nothing says "
            + ("which base it is for" if unit.digits is None else "which task it is for"),
            "write one (relforge patch does)",
        )
        return
    where = unit.where(row.path)
    described = look.description(unit)
    if isinstance(described, RelforgeError):
        message = f"{described.what}: {described.why}"
        yield finding("diff-yaml-invalid", "error", where, message, _ASK)
        return
    if described is None:
        return  # a missing object, said elsewhere
    content = load_yaml(look.objects.blob(row.oid) or b"", where)
    if missing := sorted(_KEYS - set(content) - (_LATER if unit.digits else set())):
        message = f"keys are missing: {', '.join(missing)}"
        yield finding("diff-yaml-keys", "warning", where, message, "add them")
    if unknown := sorted(str(key) for key in set(content) - _KEYS):
        message = f"keys that nobody reads: {', '.join(unknown)}"
        yield finding("diff-yaml-keys", "warning", where, message, "check the spelling")
    yield from _commits(look, unit, described)
    yield from _values(unit, described)


def _commits(look: Look, unit: Unit, described: DiffYaml) -> Iterator[Finding]:
    if unit.digits is not None:
        return
    where = unit.where(DIFF_YAML)
    for what, commit in (
        ("commit", described.commit),
        *((f"backends_commit: {b}", c) for b, c in described.backends_commit.items()),
    ):
        if _FULL.fullmatch(commit):
            continue
        full = look.commit_id(commit) if what == "commit" else None
        yield finding(
            "diff-yaml-short-commit",
            "error",
            where,
            f"{what} is {commit!r}, not the 40 digits of a commit: FlagScale's tools never find it",
            f"write {full}" if full else "write the full hash",
        )


def _values(unit: Unit, described: DiffYaml) -> Iterator[Finding]:
    where = unit.where(unit.described_in)
    if described.device_type is not None and described.device_type != unit.device:
        same = normalised(described.device_type) == normalised(unit.device)
        yield finding(
            "diff-yaml-device",
            "warning" if same else "error",
            where,
            f"device_type is {described.device_type}, the folder {unit.device}",
            "make them alike",
        )
    yield from unknown_tasks(unit, described)
    if not described.task:
        message = "it names no task"
        yield finding("task-missing", "warning", where, message, "name train, inference, …")
    if unit.name not in described.backends_version:
        yield finding(
            "diff-yaml-versions",
            "note",
            where,
            f"backends_version does not name {unit.name} itself",
            "add it",
        )
    if _MAIL_FOR_EVERYBODY.search(described.contact):
        yield finding(
            "contact-personal",
            "note",
            where,
            "contact is somebody's personal mail address",
            "name an address of the vendor",
        )


def unknown_tasks(unit: Unit, described: DiffYaml) -> Iterator[Finding]:
    """Tasks that nobody can ask for."""
    for task in described.task:
        if task not in names.TASKS:
            yield finding(
                "task-unknown",
                "error" if unit.now else "warning",
                unit.where(unit.described_in),
                f"task is {task!r}, which is none of {', '.join(names.TASKS)}",
                "correct it",
            )
