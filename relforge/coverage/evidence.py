"""The evidence of operator coverage: what the probe wrote, read and checked.

Format ``relforge.coverage/1``, of a measurement by hand and of the pipeline's alike. Device times
are in microseconds. A part that was not measured is ``{"not_run": REASON}`` and gives no figure. An
operator was taken over when a kernel that Triton compiled ran in one of its calls; ``registered``
says that FlagGems itself implements it (else an operator that it calls is FlagGems'). Older files
lack what has a default here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, ValidationError

from relforge.coverage.probe import FORMAT
from relforge.coverage.probe.trace import FLAG_GEMS, shares_of
from relforge.coverage.summary import NotRun, Shares
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.pinned import read_object
from relforge.evaluation.task import reasons
from relforge.frozen import Frozen

_Microseconds = float


class MeasuredModel(Frozen):
    """What ran. ``shape``: its sizes, as far as the probe knows them; so also ``parameters``."""

    name: str
    parameters: int | None = Field(gt=0)
    shape: dict[str, float]


class ProbeSettings(Frozen):
    """``decode_steps`` were profiled after the prompt, ``greedy_tokens`` compared.

    ``passes`` of the model were counted, on the first of ``ranks``.
    """

    dtype: str
    seed: int
    attention: str
    prompt_tokens: int
    decode_steps: int
    greedy_tokens: int
    exclude: tuple[str, ...]
    passes: int | None = None
    ranks: int = Field(default=1, gt=0)


class ProbeVersions(Frozen):
    """None: not installed there."""

    python: str
    torch: str
    triton: str | None
    flag_gems: str | None
    transformers: str | None
    vllm: str | None = None


class ProbeDevice(Frozen):
    """Where it ran. ``kind`` is torch's name of the device type."""

    kind: str
    name: str
    driver: str | None


class OwnerWork(Frozen):
    """What one owner's Triton kernels did in an operator's calls."""

    calls: int = Field(gt=0)
    us: _Microseconds = Field(ge=0)


class DeviceWork(Frozen):
    """What an operator's calls did on the device; of its Triton kernels, whose they are."""

    kernel_calls: int = Field(ge=0)
    triton_calls: int = Field(ge=0)
    us: _Microseconds = Field(ge=0)
    triton_us: _Microseconds = Field(ge=0)
    kernels: tuple[str, ...]
    owners: dict[str, OwnerWork] | None = None


class Operator(Frozen):
    """One operator of a run. ``device`` is None where there is no accelerator."""

    name: str
    calls: int = Field(gt=0)
    registered: bool
    device: DeviceWork | None

    @property
    def how(self) -> str:
        """In words, who computed it."""
        if self.device is None:
            return "counted"
        if self.device.triton_calls:
            part = "" if self.device.triton_calls == self.device.kernel_calls else ", in part"
            owners = " and ".join(sorted(self.device.owners or (FLAG_GEMS,)))
            # An operator that is not FlagGems' may call one that is.
            inside = "" if self.registered or owners != FLAG_GEMS else ", inside"
            return owners + inside + part
        if self.registered:
            return "registered, no Triton kernel ran"
        return "native" if self.device.kernel_calls else "no kernel"


class NativeRun(Frozen):
    """The model in native torch, or as its engine serves it.

    ``unattributed_us`` is the time of kernels that no call launched, ``unattributed_triton_us``
    that of the Triton kernels among them, by owner.
    """

    operators: tuple[Operator, ...] = Field(min_length=1)
    unattributed_us: _Microseconds | None
    unattributed_triton_us: dict[str, _Microseconds] = {}


class GemsRun(NativeRun):
    """The model with FlagGems enabled."""

    unattributed_us: _Microseconds
    registered_operators: int = Field(gt=0)


class ComparedCall(Frozen):
    """One call with FlagGems and natively on the same inputs.

    ``relative_error`` is the largest absolute error over torch's largest value.
    """

    call: str
    elements: int
    equal_elements: int
    max_abs_error: float | None
    relative_error: float | None
    non_finite_mismatches: int
    error: str | None


class AgainstFloat32(Frozen):
    """Native float32 with the same rounded weights as yardstick, on the same text."""

    native_equal_best: int
    flag_gems_equal_best: int
    native_max_abs_logit_error: float
    flag_gems_max_abs_logit_error: float


class Agreement(Frozen):
    """FlagGems and native torch end to end.

    ``equal_tokens`` of ``greedy_tokens`` are equal in two greedy texts; ``equal_best`` of
    ``positions`` have the same best token when both read native torch's text.
    """

    greedy_tokens: int
    equal_tokens: int
    first_difference: int | None
    positions: int
    equal_best: int
    max_abs_logit_error: float
    max_abs_logit: float
    against_float32: AgainstFloat32


class CoverageEvidence(Frozen):
    """One measurement.

    ``forward`` says which forward pass it is: the probe's own small decoder, a model through
    transformers, or vLLM's own, which is measured as it is served (``served``): then there is
    neither a native run nor one with FlagGems beside it.
    """

    format: Literal["relforge.coverage/1"]
    date: str | None
    forward: Literal["small decoder", "transformers", "vllm"] | None = None
    model: MeasuredModel
    settings: ProbeSettings
    versions: ProbeVersions
    device: ProbeDevice
    native: NativeRun | NotRun
    flag_gems: GemsRun | NotRun
    shares: Shares | NotRun
    accuracy: tuple[ComparedCall, ...] | NotRun
    agreement: Agreement | NotRun
    served: NativeRun | None = None

    @property
    def main(self) -> NativeRun:
        """The run that shares and list are of."""
        if self.served is not None:
            return self.served
        if isinstance(self.flag_gems, GemsRun):
            return self.flag_gems
        return cast(NativeRun, self.native)


def load_coverage(path: Path, *, sha256: str | None = None) -> CoverageEvidence:
    """The measurement that a file records. ``sha256`` is what a manifest or record pins.

    Raises RelforgeError (SOURCE) when the file cannot be read, is not the pinned one, has another
    format, or records shares that its operators do not give.
    """
    parsed = read_object(path, sha256=sha256, refused=_refused)
    if parsed.get("format") != FORMAT:
        raise _refused(path, f"its format is {parsed.get('format')!r}, not {FORMAT!r}")
    try:
        evidence = CoverageEvidence.model_validate(parsed)
    except ValidationError as error:
        raise _refused(path, reasons(error)) from error
    if why := _contradiction(evidence):
        raise _refused(path, why)
    return evidence


def _contradiction(evidence: CoverageEvidence) -> str | None:
    """What the file says twice, and differently."""
    if (evidence.served is None) == isinstance(evidence.native, NotRun):
        return "it is either measured in native torch or as it is served"
    if (evidence.forward == "vllm") != (evidence.served is not None):
        return f"a forward pass of kind {evidence.forward!r} is not measured like that"
    gems, shares, main = evidence.flag_gems, evidence.shares, evidence.main
    of_gems = (gems, evidence.accuracy, evidence.agreement)
    parts = of_gems if evidence.served is not None else (*of_gems, shares)
    absent = [isinstance(part, NotRun) for part in parts]
    if not all(absent) and (absent[0] or absent[-1] or evidence.served is not None):
        return "FlagGems did not run, yet figures of it are recorded"
    runs = [run for run in (evidence.native, gems, evidence.served) if isinstance(run, NativeRun)]
    for run in runs:
        if why := _run_contradiction(run, timed=not isinstance(shares, NotRun)):
            return why
    if isinstance(shares, NotRun):
        return None
    rows = [operator.model_dump() for operator in main.operators]
    given: dict[str, Any] = shares_of(
        rows, main.unattributed_us or 0.0, main.unattributed_triton_us
    )
    time, owners = given.pop("device_time"), given.pop("owners")
    recorded = shares.model_dump(exclude={"device_time", "owners"})
    if given != recorded:
        return f"it records shares of {recorded}, its operators give {given}"
    if shares.owners is not None and owners != shares.model_dump()["owners"]:
        return f"it records parts of {shares.model_dump()['owners']}, its operators give {owners}"
    # Sums of figures with three digits behind the point, added in the same order.
    if abs(time["taken_over_us"] - shares.device_time.taken_over_us) > 0.01:
        return f"its operators give {time['taken_over_us']} us in Triton kernels"
    if abs(time["total_us"] - shares.device_time.total_us) > 0.01:
        return f"its operators give {time['total_us']} us of device time"
    agreement = evidence.agreement
    if isinstance(agreement, Agreement) and (
        agreement.equal_tokens > agreement.greedy_tokens
        or agreement.equal_best > agreement.positions
        or (agreement.first_difference is None)
        != (agreement.equal_tokens == agreement.greedy_tokens)
    ):
        return "its agreement contradicts itself"
    return None


def _run_contradiction(run: NativeRun, *, timed: bool) -> str | None:
    names = [operator.name for operator in run.operators]
    if len(set(names)) != len(names):
        return "an operator is listed twice"
    if timed and sum(run.unattributed_triton_us.values()) > (run.unattributed_us or 0.0) + 0.01:
        return "more time in Triton kernels that no call launched than in all such"
    for operator in run.operators:
        work = operator.device
        if work is None:
            if timed:
                return f"{operator.name} has no device time"
            continue
        if not work.triton_calls <= work.kernel_calls <= operator.calls:
            return f"{operator.name}: its calls contradict each other"
        if work.triton_us > work.us:
            return f"{operator.name}: more time in Triton kernels than in all"
        if work.owners is not None and (
            any(part.calls > work.triton_calls for part in work.owners.values())
            or abs(sum(part.us for part in work.owners.values()) - work.triton_us) > 0.01
        ):
            return f"{operator.name}: the owners of its Triton kernels contradict their sum"
    return None


def _refused(path: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "the coverage evidence cannot be used",
        code=ExitCode.SOURCE,
        where=str(path),
        why=why,
        hint="restore the file, or measure again: python3 -m relforge.coverage.probe",
    )
