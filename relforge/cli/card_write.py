"""Writes cards, or says how those that are there differ."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from relforge.card.collect import material_of
from relforge.card.gather import gather
from relforge.card.metadata import accepted_by_hub
from relforge.card.model import Language, Target
from relforge.card.output import CardOutput, CardsOutput, card_files, card_name, kept_texts
from relforge.cli.common import own_project, print_json, select, to_stderr, workplace
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.files import write_atomic
from relforge.manifest.project import Project
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan, make_plan, subject
from relforge.stages.bench import BenchResult
from relforge.stages.card import FOLDER

_CHART = "evidence/bench.svg"


def write_cards(
    *,
    project: Path | None,
    site: Path | None,
    devices: list[str] | None,
    releases: list[str] | None,
    models: list[str] | None,
    everything: bool,
    languages: tuple[Language, ...],
    target: Target,
    out: Path | None,
    check: bool,
    validate: bool,
    as_json: bool,
) -> int:
    """Exit code 0, or 6 where ``check`` finds a stale card.

    Raises RelforgeError, of the last release that failed, when all are through.
    """
    if validate and target != "hf":
        raise RelforgeError(
            f"--validate asks the Hugging Face Hub, and the card is for {target}",
            code=ExitCode.USAGE,
            hint="leave out --validate, or write the card with --target hf",
        )
    place = workplace(project, site)
    if out is None and not check:
        own_project(place, project)
    chosen = select(
        place.project, devices=devices, releases=releases, models=models, everything=everything
    )
    store = Store(place.home)
    cards: list[CardOutput] = []
    failed: list[RelforgeError] = []
    for release in chosen:
        # One that fails must not hide the others.
        try:
            plan = make_plan(subject(place.project, release, place.site), STAGES, store)
            folder = (out or place.project.root / FOLDER) / release.name
            published = place.dist / release.name
            if check and not (folder / card_name(languages[0])).is_file() and published.is_dir():
                folder = published
            files = _files(plan, folder, place.project, languages, target)
            if validate:
                for language in languages:
                    text = files[card_name(language)].decode()
                    accepted_by_hub(text, place.site.hubs.huggingface.endpoint)
        except RelforgeError as error:
            failed.append(error)
            continue
        stale = tuple(name for name, data in files.items() if _read(folder / name) != data)
        cards.append(
            CardOutput(
                release=release.name,
                folder=str(folder),
                files=tuple(files),
                stale=stale,
            )
        )
        if check:
            _show(folder, {name: files[name] for name in stale})
        else:
            for name in stale:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomic(folder / name, files[name])
            if not as_json:
                _say(folder, files, stale)
    if as_json:
        print_json(CardsOutput(cards=tuple(cards)).model_dump(mode="json"))
    if failed:
        for failure in failed[:-1]:
            to_stderr(f"error: {failure}")
        raise failed[-1]
    return int(ExitCode.GATE) if check and any(card.stale for card in cards) else 0


def _files(
    plan: ReleasePlan,
    folder: Path,
    project: Project,
    languages: Sequence[Language],
    target: Target,
) -> Mapping[str, bytes]:
    files, used = card_files(
        gather(material_of(plan)),
        target=target,
        languages=languages,
        free=kept_texts(folder, languages),
        prose={language: project.translations(language) for language in languages},
    )
    bench = plan.reused.get("bench")
    if isinstance(bench, BenchResult) and bench.chart is not None:
        files[_CHART] = bench.chart.path.read_bytes()
    for words in used:
        for sentence in sorted(words.untranslated):
            to_stderr(
                f"note: {plan.name}: no {words.language} in manifests/translations/"
                f"{words.language}.yaml for: {sentence}"
            )
    return files


def _say(folder: Path, files: Mapping[str, bytes], written: Sequence[str]) -> None:
    for name in files:
        print(folder / name)  # noqa: T201
    if not written:
        to_stderr(f"{folder}: nothing changed")


def _show(folder: Path, stale: Mapping[str, bytes]) -> None:
    for name, data in stale.items():
        path = folder / name
        there = _read(path)
        if there is None:
            to_stderr(f"{path}: is not there")
            continue
        if there.splitlines() == data.splitlines():
            to_stderr(f"{path}: differs in its line ends alone; relforge card writes them anew")
            continue
        difference = difflib.unified_diff(
            there.decode(errors="replace").splitlines(),
            data.decode(errors="replace").splitlines(),
            fromfile=str(path),
            tofile="as manifests and evidence say",
            lineterm="",
            n=1,
        )
        sys.stderr.write("\n".join(difference) + "\n")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
