"""JSON schemas, exported from the models and checked in under manifests/schema/."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relforge.frozen import Frozen

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def models() -> dict[str, type[Frozen]]:
    """Schema names and the models behind them: manifests, the lock, and stable outputs."""
    from relforge.benching.output import BenchComparisonOutput
    from relforge.board.output import BoardOutput
    from relforge.card.output import CardsOutput
    from relforge.checking import CheckReport
    from relforge.ci.matrix import CiMatrix
    from relforge.collecting.model import GcOutput
    from relforge.coverage.rows import CoverageOutput
    from relforge.evaluation.output import ComparisonOutput
    from relforge.history.comparing import RunsDiff
    from relforge.history.listing import RunsOutput
    from relforge.history.showing import RunShown
    from relforge.lock import Lock
    from relforge.locking import LockOutput
    from relforge.manifest.device import Device
    from relforge.manifest.hosts import Nodes
    from relforge.manifest.model import Model
    from relforge.manifest.policy import Policy
    from relforge.manifest.reference import ReferenceFigures
    from relforge.manifest.release import Release
    from relforge.manifest.site import Site
    from relforge.manifest.translations import Translations
    from relforge.notes.model import Notes
    from relforge.oci.mirroring import MirrorReport
    from relforge.patching.lint.model import LintReport
    from relforge.plan import PlanOutput
    from relforge.publishing.delivering import DeliveriesOutput
    from relforge.publishing.outputs import SentOutput, SentReleasesOutput
    from relforge.rebuilding.model import RebuildOutput
    from relforge.serving.model import LaunchOutput
    from relforge.tuning.evidence import TuneOutput
    from relforge.verifying.report import VerifyReport

    return {
        "device": Device,
        "model": Model,
        "reference": ReferenceFigures,
        "release": Release,
        "nodes": Nodes,
        "site": Site,
        "translations": Translations,
        "policy": Policy,
        "lock": Lock,
        "release-output": SentOutput,
        "releases-output": SentReleasesOutput,
        "deliveries-output": DeliveriesOutput,
        "plan-output": PlanOutput,
        "matrix-output": CiMatrix,
        "check-output": CheckReport,
        "compare-output": ComparisonOutput,
        "bench-compare-output": BenchComparisonOutput,
        "lock-output": LockOutput,
        "lint-output": LintReport,
        "serve-output": LaunchOutput,
        "coverage-output": CoverageOutput,
        "tune-output": TuneOutput,
        "card-output": CardsOutput,
        "verify-output": VerifyReport,
        "notes-output": Notes,
        "rebuild-output": RebuildOutput,
        "mirror-output": MirrorReport,
        "board-output": BoardOutput,
        "runs-output": RunsOutput,
        "run-output": RunShown,
        "runs-diff-output": RunsDiff,
        "gc-output": GcOutput,
    }


def schema_bytes(model: type[Frozen]) -> bytes:
    """A model's schema as the file that is checked in."""
    schema = {"$schema": DIALECT, **model.model_json_schema()}
    return (json.dumps(schema, indent=1, ensure_ascii=False) + "\n").encode()
