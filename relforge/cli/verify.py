"""``relforge verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import JsonOption, ProjectOption, SiteOption, print_json, to_stderr
from relforge.cli.reporting import JunitOption, SummaryOption, telling
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.evidence.dsse import TrustedSigner
    from relforge.manifest.site import Site
    from relforge.verifying.run import Wanted

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def verify(
    place: Annotated[
        str,
        typer.Argument(
            help="HOST/NAME:TAG or HOST/NAME@DIGEST in a registry, a published folder, or a tar.",
            metavar="REF|FOLDER|TAR",
        ),
    ],
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="A public key (PEM) that you trust; may be given again."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", help="What the release must have: a file (docs/verify.md), or 'built-in'."
        ),
    ] = None,
    lock: Annotated[
        Path | None, typer.Option("--lock", help="The lock that it must be made of.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every layer of a registry's image, too.")
    ] = False,
    project: ProjectOption = None,
    site: SiteOption = None,
    junit: JunitOption = None,
    summary: SummaryOption = None,
    json_: JsonOption = False,
) -> None:
    """Checks signatures, attestations, record, card and evidence of a release.

    It reads the named place and nothing else. Exit 7 when something is not what was tested and
    signed. Keys are those of --key, else of the site configuration (its own, publish.trusted_keys
    or trusted_keys); with none it
    shows that a release is whole, and not who made it. --project compares with the project's lock,
    patch sets, references and translations.
    """
    from relforge.verifying.run import verify as run
    from relforge.verifying.words import lines

    with telling("relforge verify", junit, summary) as told:
        report = run(place, _wanted(key, policy, lock, project, site, full=full))
        if told.wanted:
            from relforge.ci.report import of_verify

            told.suites.append(of_verify(report))
    if json_:
        print_json(report.model_dump(mode="json"))
    else:
        for line in lines(report):
            print(line)  # noqa: T201
    to_stderr(f"{place}: {report.verdict}")
    raise typer.Exit(0 if report.verdict == "pass" else int(ExitCode.PUBLISH))


def _wanted(
    keys: list[Path] | None,
    policy: Path | None,
    lock: Path | None,
    project: Path | None,
    site_file: Path | None,
    *,
    full: bool,
) -> Wanted:
    from relforge.lock import Lock
    from relforge.manifest.loader import load
    from relforge.manifest.policy import load_policy
    from relforge.manifest.project import find_project
    from relforge.manifest.site_file import find_site_file, load_site
    from relforge.verifying.policy import BUILT_IN
    from relforge.verifying.run import Wanted

    found = find_project(Path.cwd(), project)
    site = load_site(find_site_file(found, site_file))
    asked = policy or site.publish.policy
    built_in = str(asked) == "built-in"
    trusted = _keys(keys, site)
    return Wanted(
        keys=trusted,
        # Who names a key wants to know that it is signed, and no more than that.
        policy=None if asked is None else load_policy(None if built_in else asked),
        policy_name=None if asked is None else BUILT_IN if built_in else str(asked),
        demanded=bool(keys) or asked is not None or site.publish.signing is not None,
        lock=None if lock is None else load(lock, Lock),
        lock_name=str(lock),
        project=project,
        site=site,
        full=full,
    )


def _keys(given: list[Path] | None, site: Site) -> tuple[TrustedSigner, ...]:
    """Those that were named; else the site's own and those that it trusts."""
    from relforge.attesting.trusting import release_signers
    from relforge.patching.keys import load_signer

    try:
        if given:
            return tuple(load_signer(path.name, path) for path in given)
        return release_signers(site, ask=False)
    except RelforgeError as error:
        error.code = ExitCode.USAGE
        raise
