"""Release notes as data: what ``relforge notes --json`` prints."""

from __future__ import annotations

from typing import Literal

from relforge.building.layers import LayerKind
from relforge.frozen import Frozen

Direction = Literal["added", "removed", "up", "down", "changed"]
Finding = Literal["better", "worse", "no difference shown", "not compared"]


class Named(Frozen):
    """One of the two releases. ``created`` is when its record was written (UTC)."""

    release: str
    image_digest: str
    created: str | None
    run: str | None


class Changed(Frozen):
    """A value that was another; None: there was, or is, none."""

    name: str
    before: str | None
    after: str | None


class SourceChange(Frozen):
    """A source. ``before`` and ``after`` are ``package==version`` or ``url@commit``, trees are git
    tree hashes, and ``compare`` is where a forge shows what lies between two commits."""

    source: str
    direction: Direction
    before: str | None
    after: str | None
    tree_before: str | None
    tree_after: str | None
    compare: str | None = None


class PatchSetChange(Frozen):
    """A patch set of a source, compared by the patches' names and hashes."""

    name: str
    source: str
    count_before: int
    count_after: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    """Same content under another name: before, after."""
    tree_before: str | None
    tree_after: str | None
    """Git tree hash of the patched source."""


class SizeChange(Frozen):
    """Compressed bytes of all layers of one kind; None where there are none, or nobody knows."""

    kind: LayerKind
    before_bytes: int | None
    after_bytes: int | None


class ImageChange(Frozen):
    """Sizes in bytes: compressed, as a registry stores it, and unpacked, as it lies on a disk."""

    before_bytes: int | None
    after_bytes: int | None
    unpacked_before_bytes: int | None
    unpacked_after_bytes: int | None
    layers: tuple[SizeChange, ...]
    """Empty where one of the records does not say."""
    new_layers_bytes: int | None
    """Compressed bytes of layers that the earlier image has not: what an update fetches."""


class PackageChange(Frozen):
    """A package of the image by its version; ``changed`` where versions have no common order."""

    name: str
    direction: Direction
    before: str | None
    after: str | None


class TaskChange(Frozen):
    """A task in both releases. Percent are of right answers, differences points, after less before.

    ``paired``: both answered the same questions, which were compared one by one (Tango's interval,
    McNemar's test). ``counts``: only the numbers of right answers are known (Newcombe's interval).
    ``finding`` takes all tasks together into account (Holm), at 5 %.
    """

    task: str
    metric: str
    n_before: int | None
    n_after: int | None
    before_percent: float | None
    after_percent: float | None
    basis: Literal["paired", "counts"] | None = None
    difference_points: float | None = None
    interval_points: tuple[float, float] | None = None
    p_value: float | None = None
    only_before: int | None = None
    """Questions that only the earlier release answered correctly."""
    only_after: int | None = None
    finding: Finding = "not compared"
    why: str = ""
    reference_before: str | None = None
    """The gate's conclusion against the reference, and the margin that it allows, in points."""
    reference_after: str | None = None
    margin_before: float | None = None
    margin_after: float | None = None
    difference_to_reference_points: float | None = None
    reference_interval_points: tuple[float, float] | None = None
    reference_percent: float | None = None


class LoadFigures(Frozen):
    """One level of load. Rates are per second, latencies in milliseconds."""

    output_tokens_per_s: float
    request_per_s: float
    ttft_mean_ms: float
    itl_mean_ms: float
    other_cores: float | None


class LevelChange(Frozen):
    """One number of concurrent requests in both ladders."""

    concurrency: int
    before: LoadFigures | None
    after: LoadFigures | None


class SideBySide(Frozen):
    """What ``relforge bench compare`` found of these two images, loaded in turn."""

    conclusion: Literal["faster", "slower", "equivalent", "undecided"]
    metric: str
    ratio: float
    interval: tuple[float, float]
    confidence: float
    margin_percent: float
    concurrency: int


class BenchChange(Frozen):
    """Two ladders of loads. ``why`` says why they are not comparable; empty where they are.

    Also comparable ones are single runs at different times: no verdict is drawn from them.
    """

    tool: str
    machine: str
    levels: tuple[LevelChange, ...]
    why: tuple[Changed, ...] = ()
    compared: SideBySide | None = None


class Notes(Frozen):
    """All that changed from ``old`` to ``new``; with ``old`` None, what the first release has."""

    model: str
    device: str
    old: Named | None
    new: Named
    weights: tuple[Changed, ...] = ()
    sources: tuple[SourceChange, ...] = ()
    patches: tuple[PatchSetChange, ...] = ()
    base: tuple[Changed, ...] = ()
    image: ImageChange | None = None
    python: str | None = None
    """Python of the newer image."""
    python_count: int = 0
    debian_count: int = 0
    packages_known: bool = True
    """False: one of the two images has no list of its packages, so that nothing is said of them."""
    python_packages: tuple[PackageChange, ...] = ()
    debian_packages: tuple[PackageChange, ...] = ()
    accuracy: tuple[TaskChange, ...] = ()
    bench: BenchChange | None = None
    coverage: tuple[Changed, ...] = ()
    verdicts: tuple[Changed, ...] = ()
    serving: tuple[Changed, ...] = ()
    limits: tuple[Changed, ...] = ()
    """What is not known, or complained of: before only means that it is gone."""

    @property
    def same_image(self) -> bool:
        """Whether both records are about one image."""
        return self.old is not None and self.old.image_digest == self.new.image_digest

    @property
    def nothing(self) -> bool:
        """Whether nothing that notes tell of has changed."""
        image = self.image
        sized = image is not None and (
            image.before_bytes != image.after_bytes or bool(image.new_layers_bytes)
        )
        parts = (
            self.weights, self.sources, self.patches, self.base, self.python_packages,
            self.debian_packages, self.coverage, self.verdicts, self.serving, self.limits,
        )  # fmt: skip
        return (
            self.same_image
            and not any(parts)
            and not sized
            and self.bench is None
            and not self.accuracy
        )
