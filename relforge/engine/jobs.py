"""How many compile jobs a build may run at once: the one place that says so.

One job for each core of the engine's host, but no more than one for each 2 GB of its memory: a
C++ file of vLLM's kernels takes about that much. At least one. The site can say otherwise
(``build.max_jobs``). The number is no part of any key: hosts of any size share one cache.
"""

from __future__ import annotations

from relforge.engine.cli import EngineFacts
from relforge.manifest.site import Site

_JOB_BYTES = 2 * 10**9


def max_jobs(facts: EngineFacts, site: Site) -> int:
    """The site's number, else what cores and memory of the engine's host allow."""
    return site.build.max_jobs or max(1, min(facts.cpus, facts.memory_bytes // _JOB_BYTES))
