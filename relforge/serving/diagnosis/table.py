"""All known causes. Of rows that know one line the first counts: specific ones come first."""

from __future__ import annotations

from relforge.serving.diagnosis import device, host, libraries, memory, network, weights
from relforge.serving.diagnosis.model import KnownCause

CAUSES: tuple[KnownCause, ...] = (
    *memory.CAUSES,
    *device.CAUSES,
    *libraries.CAUSES,
    *network.CAUSES,
    *weights.CAUSES,
    *host.CAUSES,
)
