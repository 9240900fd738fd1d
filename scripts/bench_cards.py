#!/usr/bin/env python3
"""How long a card takes to write: every shipped release, both languages, all targets, as a table.

After start-up: imports, manifests and templates are read before the clock starts, as they are once
for any number of cards. `allowed` is 50 ms for each card.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from relforge.card.collect import material_of
from relforge.card.gather import gather
from relforge.card.model import Language, Target
from relforge.card.output import LANGUAGES, card_files
from relforge.evidence.store import Store
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan, make_plan, subject

ALLOWED_MS = 50.0
TARGETS: tuple[Target, ...] = ("hf", "modelscope", "github")


def one(plan: ReleasePlan, project: Project, target: Target, language: Language) -> float:
    """Milliseconds from the plan to the bytes of one card."""
    started = time.perf_counter()
    prose = {language: project.translations(language)}
    card_files(gather(material_of(plan)), target=target, languages=[language], prose=prose)
    return 1000 * (time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    project = Project((builtin_root(),))
    with tempfile.TemporaryDirectory() as home:
        plans = [
            make_plan(subject(project, project.release(name), Site()), STAGES, Store(Path(home)))
            for name in sorted(project.release_files)
        ]
        for target in TARGETS:
            for language in LANGUAGES:
                one(plans[0], project, target, language)
        print(f"{'target':<11} {'language':<9} {'cards':>5} {'median':>9} {'slowest':>9}")
        slowest = 0.0
        for target in TARGETS:
            for language in LANGUAGES:
                times = [
                    statistics.median(one(plan, project, target, language) for _ in range(runs))
                    for plan in plans
                ]
                slowest = max(slowest, *times)
                print(
                    f"{target:<11} {language:<9} {len(times):>5} "
                    f"{statistics.median(times):>6.1f} ms {max(times):>6.1f} ms"
                )
    if slowest > ALLOWED_MS:
        print(f"missed: {slowest:.1f} ms, allowed {ALLOWED_MS:.0f} ms")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
