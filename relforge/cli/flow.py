"""What release, build, smoke, eval, card and publish have in common: the pipeline up to a stage."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.cli.common import (
    Workplace,
    all_alone,
    interruptible,
    print_json,
    select,
    with_keys,
    workplace,
)
from relforge.cli.delivering import send
from relforge.errors import RelforgeError
from relforge.evidence.record import NotStarted, names_of, write_record
from relforge.evidence.record import summary as release_json
from relforge.evidence.store import Store
from relforge.executor.local import LocalExecutor
from relforge.files import held_lock
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.patching.keys import load_identities, passphrase_from
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan, make_plan, subject
from relforge.publishing.choosing import choose, release_place
from relforge.publishing.delivering import SentOutput, SentReleasesOutput, TargetOutcome
from relforge.publishing.target import Step
from relforge.runner import Outcome, Runner
from relforge.stage import StageResult
from relforge.stages.preflight import PreflightInputs
from relforge.ui import summary
from relforge.ui.console import make_listener
from relforge.ui.text import error as error_text


def run_until(
    until: str | None,
    *,
    project: Path | None,
    site: Path | None,
    devices: list[str] | None,
    releases: list[str] | None,
    models: list[str] | None = None,
    everything: bool = False,
    key_path: Path | None = None,
    key_passphrase_file: Path | None = None,
    to: Sequence[str] = (),
    steps: Sequence[Step] = (),
    as_json: bool = False,
) -> int:
    """Runs the pipeline up to a stage for every chosen release; returns the exit code.

    What was published is sent to the targets named in ``to``, by ``steps``.

    One release that fails, or cannot even be read, does not stop the others; the code is that of
    the first failure.
    """
    place = with_keys(workplace(project, site), key_path, key_passphrase_file)
    targets = choose(place.site, to, home=place.home)
    if everything:
        all_alone(devices, releases, models)
        chosen = list(place.project.own_releases)
    else:
        named = select(place.project, devices=devices, releases=releases, models=models)
        chosen = [release.name for release in named]
    ran: list[Outcome] = []
    not_started: list[NotStarted] = []
    codes: list[int] = []
    sent: dict[str, tuple[TargetOutcome, ...]] = {}
    with interruptible() as cancel:
        for name in chosen:
            try:
                outcome = run_one(place, place.project.release(name), until, to, cancel)
                ran.append(outcome)
                failure = outcome.error
                if targets and failure is None:
                    report = send(place, place.dist / name, targets, steps, cancel=cancel)
                    sent[name] = report.outcomes
                    if report.exit_code:
                        codes.append(report.exit_code)
            except RelforgeError as failed:
                if len(chosen) == 1:
                    raise
                failure = failed
                not_started.append(NotStarted.of(name, failed))
            if failure is not None:
                codes.append(int(failure.code))
                sys.stderr.write(error_text(failure) + "\n")
    if as_json:
        shown = tuple(
            SentOutput(
                **release_json(o.run, o.results, place.dist).model_dump(),
                sent=sent.get(o.run.release, ()),
            )
            for o in ran
        )
        several = SentReleasesOutput(releases=shown, not_started=tuple(not_started))
        print_json((shown[0] if len(chosen) == 1 else several).model_dump(mode="json"))
    return codes[0] if codes else 0


def run_one(
    place: Workplace,
    release: Release,
    until: str | None,
    to: Sequence[str],
    cancel: CancelToken,
) -> Outcome:
    """One release up to a stage. Raises RelforgeError when it cannot be planned, Cancelled."""
    names = names_of(release, place.project.device(release.device))
    registry = release_place(place.site, to, names)
    plan = make_plan(
        subject(place.project, release, place.site, registry=registry, dist=place.dist),
        STAGES,
        Store(place.home),
        until=until,
    )
    ask_for_passphrases(plan, place)
    listener = make_listener()
    # As it was typed: with its project, site, keys and registry it can be typed again.
    command = shlex.join(["relforge", *sys.argv[1:]])
    runner = Runner(
        home=place.home,
        executor=LocalExecutor(),
        site=place.site,
        dist=place.dist,
        cancel=cancel,
        listeners=(listener,),
    )
    try:
        outcome = runner.run(plan, STAGES, command)
    finally:
        listener.close()
    if outcome.error is None:
        # Two runs that published the same folder write and sign its record one after the other.
        lock = place.home / "locks" / f"record-{plan.name}"
        with held_lock(lock, purpose=f"record of {plan.name}", cancel=cancel):
            record = write_record(
                plan, outcome.run, outcome.results, dist=place.dist, store=Store(place.home)
            )
            if record is not None:
                _seal(record.parent, outcome.results, place.site)
        sys.stderr.write(summary.text(outcome, plan))
    else:
        outcome.error.hint = "\n".join(
            part for part in (outcome.error.hint, f"then again: {command}") if part
        )
    return outcome


def _seal(folder: Path, results: Mapping[str, StageResult], site: Site) -> None:
    """Signs the written record, with the key that signed the rest; asks for its passphrase only
    where there is something to sign."""
    from relforge.attesting.sealing import is_sealed, seal_release
    from relforge.attesting.signing import SigningKey
    from relforge.patching.keys import load_signer
    from relforge.stages.attest import AttestResult

    attested = results.get("attest")
    signed = attested.signed if isinstance(attested, AttestResult) else None
    public = load_signer("maker", signed.public_pem.encode()).public_key if signed else None
    if is_sealed(folder, public):
        return
    seal_release(
        folder, SigningKey.load(site, passphrase=passphrase_from(None)) if signed else None
    )


def ask_for_passphrases(plan: ReleasePlan, place: Workplace) -> None:
    """Before anything runs, and only where it will be needed: later the screen is the stages'."""
    looks = plan.inputs.get("preflight")
    if not isinstance(looks, PreflightInputs):
        return
    site = place.site
    if "identities" in looks.secrets:
        load_identities(site.identities, passphrase=passphrase_from(site.key_passphrase_file))
    if "signing" in looks.secrets:
        _ask_for_signing_key(site)


def _ask_for_signing_key(site: Site) -> None:
    from relforge.attesting.signing import SigningKey

    # Of a key that cannot be used for another reason, preflight says so with all else it finds.
    with suppress(RelforgeError):
        SigningKey.load(site, passphrase=passphrase_from(None))
