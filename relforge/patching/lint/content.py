"""What should not be published: keys, addresses, other vendors' files, leftovers of one machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from relforge.patching.flagscale.names import PATCH, SEALED
from relforge.patching.flagscale.sealed import HEAD_BYTES, SMALLEST_BYTES
from relforge.patching.lint.diffs import Touched, read_patch, whole_file
from relforge.patching.lint.model import Finding, Severity, finding, shortened

_BLOCK_BYTES = 16
# A marker in a program's text is no key: a key has its base64 behind the marker.
_PEM = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----(?=.{0,200}?[A-Za-z0-9+/]{40})", re.DOTALL
)
_AGE = re.compile(rb"AGE-SECRET-KEY-1[0-9A-Z]{58}", re.IGNORECASE)
_ADDRESS = re.compile(rb"(?<![\w.-])(\d{1,3}(?:\.\d{1,3}){3})(?![0-9A-Za-z]|\.\d)")
_PLACEHOLDER = re.compile(rb"(?<![\w.])[xX*]{1,3}(?:\.[xX*]{1,3}){3}(?![\w.])")
# A version of four numbers looks like an address.
_VERSION = re.compile(rb"==|>=|<=|~=|version|release", re.IGNORECASE)
_PERSONAL = re.compile(
    rb"(?<![\w./~$}{>*)%-])/(?:share|home|Users|mnt|nfs\d*|gpfs|lustre)/[\w.-]+(?:/[\w.-]+)*"
)
_HOSTFILE = re.compile(r"host[-_]?(?:file|list)s?", re.IGNORECASE)
_BINARY = re.compile(r"\.(?:so(?:\.\d+)*|o|a|pyd|dll|dylib|exe|whl|egg)$")
_LEFTOVER = re.compile(
    r"(?:^|/)(?:__pycache__|\.ipynb_checkpoints|\.vscode|\.idea|[^/]+\.egg-info)/|"
    r"\.(?:bak|orig|rej|sw[op]|pyc|tmp|save)$|~$|(?:^|/)(?:\.DS_Store|nohup\.out|core\.\d+)$|"
    # What an editor makes of a mistyped command: `profiling.py. and`.
    r"\.(?:py|sh|ya?ml|json|txt|md|c|cc|cpp|cu|h|hpp|patch)[.\s]*\s[^/]*$"
)
_HARDWARE = "hardware/"
_ALWAYS_GRAVE = frozenset({"private-key"})
# Private networks (RFC 1918), and those that are set aside for examples (RFC 5737).
_LOCAL = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_EXAMPLES = tuple(map(ipaddress.IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")))
_KEYS_REMEDY = "treat the key as known to everybody: make a new one, seal again, rewrite history"


@dataclass(frozen=True)
class Place:
    """How findings name a file."""

    where: Callable[[int | None], str]


def superseded(findings: Iterable[Finding]) -> Iterator[Finding]:
    """What counts of an entry that a user gets only by asking for its very commit.

    A published key is published; anything else is less grave, and trifles are left out.
    """
    for one in findings:
        if one.id in _ALWAYS_GRAVE:
            yield one
        elif one.severity != "note":
            lower: Severity = "warning" if one.severity == "error" else "note"
            yield one.model_copy(update={"severity": lower})


def check_patch(data: bytes, place: Place, own_folder: str = "") -> Iterator[Finding]:
    """Looks at a plain patch: what it touches, and what it adds.

    ``own_folder`` is the entry that the patch belongs to.
    """
    touched = read_patch(data)
    if not touched:
        yield finding(
            "patch-no-diff",
            "error",
            place.where(None),
            "the file holds no diff" if data.strip() else "the patch is empty",
            "make the patch again",
        )
    yield from _keys(whole_file("", data), place)
    yield from _names(touched, place, own_folder)
    yield from _addresses(touched, place)
    yield from _paths(touched, place)


def check_file(path: str, data: bytes, place: Place) -> Iterator[Finding]:
    """Looks at a file that is no patch."""
    file = whole_file(path, data)
    yield from _keys(file, place)
    if b"\0" not in data[:8000]:
        yield from _addresses((file,), place)


def check_keys(data: bytes, place: Place) -> Iterator[Finding]:
    """Looks for private keys alone."""
    yield from _keys(whole_file("", data), place)


def check_sealed(path: str, size: int, start: bytes | None, place: Place) -> Iterator[Finding]:
    """Whether a sealed file can be whole, by its size, and what its name gives away."""
    if size < SMALLEST_BYTES or (size - HEAD_BYTES) % _BLOCK_BYTES:
        pointer = start is not None and start.startswith(b"version https://git-lfs")
        why = (
            "it is a git-lfs pointer, not the file itself"
            if pointer
            else f"{size} bytes do not fit its format ({HEAD_BYTES} + a multiple of {_BLOCK_BYTES})"
        )
        yield finding(
            "sealed-size",
            "error",
            place.where(None),
            f"the sealed patch is damaged: {why}",
            "git lfs pull, and commit the file itself" if pointer else "have its maker seal again",
        )
    inner = path.removesuffix(SEALED)
    if is_hostfile(inner):
        yield finding(
            "hostfile-sealed",
            "warning",
            place.where(None),
            f"the entry carries a sealed {inner}: every customer gets the addresses in it",
            "look into it; leave hostfiles out of patches",
        )


def is_hostfile(path: str) -> bool:
    """Whether a file lists machines, by its name."""
    return _HOSTFILE.search(path.rpartition("/")[2]) is not None


def _keys(file: Touched, place: Place) -> Iterator[Finding]:
    content = file.text.content
    for pattern, what in ((_PEM, "a private key (PEM)"), (_AGE, "an age secret key")):
        for match in pattern.finditer(content):
            yield finding(
                "private-key",
                "error",
                place.where(file.text.line_at(match.start())),
                f"{what} is published here",
                _KEYS_REMEDY,
            )


def _names(touched: tuple[Touched, ...], place: Place, own_folder: str) -> Iterator[Finding]:
    kept = [one for one in touched if not one.deleted]
    for one in touched:
        parts = one.path.split("/")
        if not {"", ".", ".."}.isdisjoint(parts) or ".git" in (p.lower() for p in parts):
            message = f"it writes to {one.path}, which is outside of the tree or in .git"
            yield _at(place, "patch-unsafe-path", "error", one, message, "make the patch again")
        if one.submodule:
            message = f"it adds or moves the submodule {one.path}"
            remedy = "name the submodule's commit in backends_commit; leave it out of the patch"
            yield _at(place, "patch-submodule", "error", one, message, remedy)
    inside = [one for one in kept if one.path.startswith(_HARDWARE)]
    foreign = [
        one
        for one in inside
        if one.path.endswith(SEALED)
        and not (own_folder and one.path.startswith(_device(own_folder)))
    ]
    if foreign:
        message = f"it carries other vendors' sealed files: {_listed(foreign)}"
        remedy = "make the patch without hardware/ (relforge patch leaves it out)"
        yield _at(place, "foreign-sealed", "error", foreign[0], message, remedy)
    rest = [one for one in inside if one not in foreign]
    if rest:
        message = f"it changes hardware/ itself: {_listed(rest)}"
        remedy = "make the patch without hardware/ (relforge patch leaves it out)"
        yield _at(place, "hardware-in-patch", "warning", rest[0], message, remedy)
    for id_, what, pattern in (
        ("built-binary", "built files", _BINARY),
        ("leftover", "leftovers of editors and tools", _LEFTOVER),
    ):
        # Only what the patch brings: what upstream has already is not the vendor's.
        stray = [one for one in kept if (one.added or one.binary) and pattern.search(one.path)]
        if stray:
            message = f"it carries {what}: {_listed(stray)}"
            remedy = "remove them and make the patch again; build on the machine that runs it"
            yield _at(place, id_, "warning", stray[0], message, remedy)


def stray_name(path: str) -> bool:
    """Whether a file is a leftover or was built, by its name."""
    return bool(_BINARY.search(path) or _LEFTOVER.search(path))


def _addresses(touched: tuple[Touched, ...], place: Place) -> Iterator[Finding]:
    for one in touched:
        content = one.text.content
        hostfile = is_hostfile(one.path)
        hits: dict[str, int] = {}
        for match in _ADDRESS.finditer(content):
            start = content.rfind(b"\n", 0, match.start()) + 1
            end = content.find(b"\n", match.end())
            line = content[start : end if end >= 0 else None]
            if _is_machine(match[1].decode(), hostfile) and (hostfile or not _VERSION.search(line)):
                hits.setdefault(match[1].decode(), one.text.line_at(match.start()))
        if hits:
            yield finding(
                "address-in-hostfile" if hostfile else "address",
                "error" if hostfile else "warning",
                place.where(next(iter(hits.values()))),
                f"{one.path or 'the file'} has the addresses of machines: {shortened(hits)}",
                "write placeholders in their place, and make the patch again",
            )
        elif hostfile and (placeholder := _PLACEHOLDER.search(content)):
            yield finding(
                "hostfile-placeholder",
                "note",
                place.where(one.text.line_at(placeholder.start())),
                f"{one.path} is a hostfile with placeholders",
                "nothing, where it is meant as an example",
            )


def _is_machine(text: str, hostfile: bool) -> bool:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    if address.is_reserved or address.is_link_local or any(address in net for net in _EXAMPLES):
        return False
    # Elsewhere than in a hostfile four numbers may be anything.
    return hostfile or any(address in network for network in _LOCAL)


def _paths(touched: tuple[Touched, ...], place: Place) -> Iterator[Finding]:
    first: Finding | None = None
    seen: dict[str, None] = {}
    for one in touched:
        content = one.text.content
        for match in _PERSONAL.finditer(content):
            if not seen:
                line = one.text.line_at(match.start())
                first = finding("personal-path", "warning", place.where(line), "", "")
            seen.setdefault(match[0].decode("utf-8", "replace"))
    if first is not None:
        yield finding(
            first.id,
            first.severity,
            first.path,
            f"it adds paths that one site or person has: {shortened(seen, 2)}",
            "take such paths from a variable or a configuration file",
        )


def _device(folder: str) -> str:
    return "/".join(folder.split("/")[:2]) + "/"


def _listed(touched: list[Touched]) -> str:
    return shortened(one.path for one in touched)


def _at(
    place: Place, id_: str, severity: Severity, one: Touched, message: str, remedy: str
) -> Finding:
    return finding(id_, severity, place.where(one.line), message, remedy)


def is_plain_patch(path: str) -> bool:
    """Whether a file of a patches folder is a patch, by its name."""
    return path.endswith((PATCH, ".diff"))
