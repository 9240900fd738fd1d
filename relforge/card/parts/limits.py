"""What was not run, not verified or not known: a reader finds it here, not by trying."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.card.model import Said
from relforge.card.parts.material import Material
from relforge.manifest.facts import UNRESOLVED


def limits(material: Material) -> tuple[Said, ...]:
    """One sentence each."""
    return (*_limits(material), *unpinned(material))


def unpinned(material: Material) -> tuple[Said, ...]:
    """What goes into the release and is not tied to its content: it may be another tomorrow."""
    return tuple(_unpinned(material))


def _limits(material: Material) -> Iterator[Said]:
    if material.build is None:
        yield Said(
            text="Rendered from manifests, never executed on the device: nothing was built, served "
            "or measured where this card was written."
        )
    for probe in material.smoke.report.probes if material.smoke else ():
        if probe.verdict == "not-run":
            yield _not_run(probe.name, probe.reason)
    for stage, reason in material.why_not.items():
        yield _not_run(stage, reason)
    if material.sbom is not None and material.sbom.verdict == "not-run":
        yield _not_run("sbom", material.sbom.reason)
    if material.build is None and material.release.build.image is not None:
        yield Said(
            text="The image was not looked into. Its maker says which driver it needs and what it "
            "holds; the device's stack may differ."
        )
    packages = material.build.packages if material.build else ()
    if not material.device.accelerator and any(p.distribution == "flag_gems" for p in packages):
        yield Said(
            text="FlagGems is installed and not used: its operators need an accelerator, and this "
            "device is a processor."
        )


def _unpinned(material: Material) -> Iterator[Said]:
    locked = material.locked_image
    if material.build is None and locked is not None and locked.digest == UNRESOLVED:
        if material.release.build.image is None:
            yield Said(text="The base image is not pinned yet: its tag can move.")
        else:
            yield Said(text="The image is not pinned yet: nobody looked up its digest.")
    weights = material.model.weights
    if getattr(weights, "revision", None) == UNRESOLVED:
        yield Said(text="The revision of the weights is not pinned yet: the hub's newest is taken.")
    elif not weights.files:
        yield Said(text="The weights were not verified: nobody told the hashes of their files.")


def _not_run(what: str, reason: str) -> Said:
    return Said(text="%(what)s: not run (%(reason)s)", values={"what": what, "reason": reason})
