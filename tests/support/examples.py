"""How many examples a property test tries: few in every run, many when fuzzing (scripts/fuzz)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """Settings for a property test that usually tries ``count`` examples."""
    factor = int(os.environ.get("RELFORGE_EXAMPLES_FACTOR") or 1)
    return settings(
        max_examples=count * factor,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
