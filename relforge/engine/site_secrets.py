"""What build steps get of the site, as BuildKit secrets.

BuildKit keeps the content of a secret out of its cache keys, and no layer and no history has it:
builds with another mirror, other certificates or another number of jobs share one cache and make
the same image. A step takes each of them by ``--mount=type=secret,id=...,required=false``:

``max_jobs``        how many compile jobs to run at once
``apt_sources``     apt's sources.list of the site's mirror, where it has one
``apt_no_sources``  with it, for the files in which Debian's and Ubuntu's own images name theirs
``extra_ca``        the usual certificates and the site's, where it has any; mounted with mode=0444,
                    as apt fetches as a user of its own
``apt_conf``        apt's setting that points to ``/run/secrets/extra_ca``
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relforge.engine import apt
from relforge.engine.cli import engine_facts
from relforge.engine.jobs import max_jobs
from relforge.manifest.site import Site
from relforge.network import ca_bundle
from relforge.workarea import work_area

_NO_SOURCES = "# what the site says stands in sources.list\n"
_APT_CONF = 'Acquire::https::CAInfo "/run/secrets/extra_ca";\n'


@contextmanager
def site_secrets(
    site: Site,
    home: Path,
    *,
    system: apt.System | None,
    line: Callable[[str], None] = lambda _line: None,
) -> Iterator[dict[str, Path]]:
    """Files by secret id, while this is open; ``system`` is the base image's, where it tells it.

    Raises RelforgeError (ENVIRONMENT) when the site's certificates cannot be read, or no engine
    answers.
    """
    jobs = max_jobs(engine_facts(site.engine), site)
    line(f"compile jobs at once: {jobs}")
    # In a work area, so that credentials in it go after kill -9 too.
    with work_area(home, "build-secrets") as area:
        files = {"max_jobs": _written(area / "max-jobs", f"{jobs}\n")}
        if system is not None and (sources := apt.build_sources(system, site)) is not None:
            files["apt_sources"] = _written(area / "apt-sources.list", sources)
            files["apt_no_sources"] = _written(area / "no.sources", _NO_SOURCES)
        if site.extra_ca is not None:
            files["extra_ca"] = ca_bundle(site.extra_ca, area)
            files["apt_conf"] = _written(area / "apt.conf", _APT_CONF)
        yield files


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
