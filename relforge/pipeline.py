"""The product in one list: what happens to a release, in this order.

manifest → lock → plan → these stages → release record. A stage that a release does not need, or
that is not built yet, is skipped with a typed reason; nothing is left out silently.
"""

from __future__ import annotations

from typing import Any

from relforge.stage import Stage
from relforge.stages.attest import Attest
from relforge.stages.bench import Bench
from relforge.stages.build import Build
from relforge.stages.card import Card
from relforge.stages.coverage import Coverage
from relforge.stages.evaluate import Evaluate
from relforge.stages.preflight import Preflight
from relforge.stages.publish import Publish
from relforge.stages.render import Render
from relforge.stages.sbom import Sbom
from relforge.stages.scan import Scan
from relforge.stages.smoke import Smoke
from relforge.stages.sources import Sources
from relforge.stages.unpatch import Unpatch
from relforge.stages.weights import Weights

STAGES: tuple[Stage[Any, Any], ...] = (
    Preflight(),  # cheap looks at this host, before anything expensive
    Weights(),  # the model's files, every one hashed
    Sources(),  # upstream trees and wheels at their pins
    Unpatch(),  # patch sets applied, opened where they are sealed; ends in the expected tree
    Render(),  # the Dockerfile, as a file a person can read
    Build(),  # one OCI image layout; its digest is the release's identity from here on
    Smoke(),  # that digest serves, and says what the reference says
    Evaluate(),  # that digest answers as well as the reference
    Bench(),  # how fast it serves
    Coverage(),  # which operators its forward pass dispatches, and whose kernels run
    Sbom(),  # what is in it
    Scan(),  # what must not be in it
    Attest(),  # who says so
    Card(),  # the model card, from evidence alone
    Publish(),  # copies what was tested; builds nothing
)
