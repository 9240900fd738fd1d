"""A Debian root file system made on this host, and the same bytes from the same package versions.

What differs between two bootstraps of the same packages was found by comparing them: logs, the
caches of apt, debconf and ldconfig, package lists, backups of the account files, the day in
/etc/shadow, host name and resolver of this host, device nodes, and the times of everything that
was written while it ran.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from relforge import proc
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.facts import BootstrapBase
from relforge.manifest.site import Site
from relforge.network import child_environment

_EMPTIED = (
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "var/tmp",
    "var/cache/apt",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
)
_REMOVED = (
    "etc/.pwd.lock",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    *(f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")),
    *(f"var/lib/dpkg/{name}-old" for name in ("status", "available", "diversions", "statoverride")),
)
_DAY_S = 86_400
# As Debian's slim images: documentation that no server reads. Licences (copyright files) stay.
_SLIM_CONFIG = "etc/dpkg/dpkg.cfg.d/relforge-slim"
_SLIM_EXCLUDED = ("doc", "groff", "info", "lintian", "linda", "locale", "man")


def require_tools(architecture: str) -> None:
    """Raises RelforgeError (ENVIRONMENT) when this host cannot bootstrap that architecture."""
    where = "bootstrap of the base image"
    if os.geteuid() != 0:
        raise RelforgeError(
            "only root can bootstrap a base image",
            code=ExitCode.ENVIRONMENT,
            where=where,
            why="debootstrap unpacks files of many owners and enters the new root",
            hint="run as root, or make the registry of the device's base image reachable",
        )
    for program, package in (
        ("debootstrap", "debootstrap"),
        ("dpkg", "dpkg"),
        ("tar", "tar"),
        ("unshare", "util-linux"),
    ):
        if shutil.which(program) is None:
            raise RelforgeError(
                f"the program {program} is missing, so no base image can be bootstrapped",
                code=ExitCode.ENVIRONMENT,
                where=where,
                why="it is not on PATH",
                hint=f"apt-get install {package}, or make the registry of the device's base image "
                "reachable",
            )
    native = proc.run(["dpkg", "--print-architecture"], code=ExitCode.ENVIRONMENT).text.strip()
    if native != architecture:
        raise RelforgeError(
            f"this host cannot bootstrap a base image for {architecture}",
            code=ExitCode.ENVIRONMENT,
            where=where,
            why=f"it is {native}, and the packages' own scripts have to run",
            hint=f"run on an {architecture} host, or use a base image from a registry",
        )


def bootstrap(
    spec: BootstrapBase,
    root: Path,
    *,
    architecture: str,
    mirror: str | None,
    environment: Mapping[str, str],
    line: Callable[[str], None],
    cancel: CancelToken | None,
) -> None:
    """Runs debootstrap into the new folder ``root``; ``mirror`` None means its own default.

    ``environment`` is what its wget reads of the site (see ``environment``).
    Its mounts live in a mount namespace of their own, so that none is left however it ends.
    Raises RelforgeError (ENVIRONMENT).
    """
    argv: list[str | Path] = ["unshare", "--mount", "--propagation", "private", "--"]
    argv += ["debootstrap", f"--arch={architecture}", f"--variant={spec.variant}"]
    argv += ["--force-check-gpg"]
    if spec.packages:
        argv.append("--include=" + ",".join(spec.packages))
    argv += [spec.suite, root, *([mirror] if mirror else [])]
    said: list[str] = []

    def heard(text: str) -> None:
        said.append(text)
        line(text)

    done = proc.run(
        argv,
        code=ExitCode.ENVIRONMENT,
        env={**environment, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        check=False,
        cancel=cancel,
        on_line=heard,
    )
    if done.returncode != 0:
        raise RelforgeError(
            "the base image could not be bootstrapped",
            code=ExitCode.ENVIRONMENT,
            where=proc.shown(argv),
            why="\n".join(said[-8:]) or f"exit status {done.returncode}",
            hint="check that the mirror is reachable (apt_mirror in the site configuration), "
            "then run the same command again",
        )


def environment(site: Site, folder: Path) -> dict[str, str]:
    """The site's proxy and certificates, for debootstrap's wget; ``folder`` takes its files.

    Raises RelforgeError (ENVIRONMENT) when a file that the site names cannot be read.
    """
    env = child_environment(site, folder)
    if bundle := env.get("SSL_CERT_FILE"):
        # wget reads certificates from its own settings alone; the person's stay in force.
        named = os.environ.get("WGETRC")
        own = Path(named) if named else Path("~/.wgetrc").expanduser()
        settings = own.read_text() if own.is_file() else ""
        (folder / "wgetrc").write_text(f"{settings}\nca_certificate = {bundle}\n")
        env["WGETRC"] = str(folder / "wgetrc")
    return env


def normalise(root: Path, *, started: float, apt_sources: str) -> None:
    """Removes what is of this host or of this moment.

    ``started`` is the time before the bootstrap (seconds since the epoch): whatever is younger
    gets the time of the youngest file that came out of a package. ``apt_sources`` is the text of
    the image's sources.list.
    """
    for name in _EMPTIED:
        _empty(root / name)
    for name in _REMOVED:
        (root / name).unlink(missing_ok=True)
    _slim(root)
    for path in list(_walk(root / "var/log")):
        # wtmp and its kind are empty and expected to exist; text logs are made when needed.
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            path.unlink()
    for name, text in (
        ("etc/apt/sources.list", apt_sources),
        ("etc/hostname", "localhost\n"),
        ("etc/resolv.conf", ""),
    ):
        (root / name).write_text(text)
        (root / name).chmod(0o644)
    paths = [root, *_walk(root)]
    newest = max(
        (int(info.st_mtime) for info in map(os.lstat, paths) if _from_package(info, started)),
        default=0,
    )
    _set_password_day(root / "etc/shadow", newest // _DAY_S)
    for path in paths:
        when = min(int(os.lstat(path).st_mtime), newest)
        os.utime(path, (when, when), follow_symlinks=False)


def _slim(root: Path) -> None:
    """Removes documentation and translations, now and for packages that are installed later."""
    rows = [f"path-exclude /usr/share/{name}/*" for name in _SLIM_EXCLUDED]
    rows += ["path-include /usr/share/doc/*/copyright"]
    config = root / _SLIM_CONFIG
    config.parent.mkdir(parents=True, exist_ok=True)
    config.parent.chmod(0o755)
    config.write_text("".join(f"{row}\n" for row in rows))
    config.chmod(0o644)
    for name in _SLIM_EXCLUDED:
        top = root / "usr/share" / name
        for path in sorted(_walk(top), reverse=True):
            if path.name == "copyright" and name == "doc":
                continue
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            else:
                path.unlink()


def pack(root: Path, archive: Path, cancel: CancelToken | None) -> None:
    """Writes the tree as a tar whose bytes depend on nothing but the tree."""
    argv = ["tar", "--create", f"--file={archive}", f"--directory={root}", "--sort=name"]
    argv += [
        "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
    ]
    argv += ["--numeric-owner", "--xattrs", "--xattrs-include=security.capability", "."]
    proc.run(
        argv,
        code=ExitCode.ENVIRONMENT,
        what="the base image's files could not be packed",
        hint="free disk space if it is full, then run the same command again",
        cancel=cancel,
    )


def packages(status: str) -> tuple[tuple[str, str], ...]:
    """Names and versions of the installed packages, from the text of dpkg's status file."""
    found = []
    for block in status.split("\n\n"):
        rows = dict(row.split(": ", 1) for row in block.splitlines() if ": " in row[:40])
        if rows.get("Status", "").endswith(" installed"):
            found.append((rows["Package"], rows["Version"]))
    return tuple(sorted(found))


def now() -> float:
    """The time that ``normalise`` wants, taken before the bootstrap; whole seconds."""
    return float(int(time.time()))


def _from_package(info: os.stat_result, started: float) -> bool:
    return not stat.S_ISDIR(info.st_mode) and info.st_mtime < started


def _set_password_day(shadow: Path, day: int) -> None:
    rows = []
    for row in shadow.read_text().splitlines():
        fields = row.split(":")
        fields[2] = str(day)
        rows.append(":".join(fields))
    shadow.write_text("\n".join(rows) + "\n")


def _empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent) / name
