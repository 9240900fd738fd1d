"""What coverage evidence says, in rows for the console, the card and the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relforge.coverage.evidence import (
    Agreement,
    ComparedCall,
    CoverageEvidence,
    GemsRun,
    NativeRun,
    Operator,
)
from relforge.coverage.summary import CountShare, CoverageRow, NotRun, Shares, TimeShare
from relforge.frozen import Frozen


class OperatorRow(Frozen):
    """One operator. Times are microseconds in all calls; None: not measured.

    ``native_us`` is of the native run, where it may be absent: FlagGems takes some composite
    operators whole. ``max_abs_error`` and ``relative_error`` are the worst of its compared calls.
    """

    name: str
    how: str
    calls: int
    us: float | None
    native_us: float | None
    max_abs_error: float | None
    relative_error: float | None
    failed: str | None


class CoverageOutput(Frozen):
    """What ``relforge coverage --json`` prints; stable."""

    summary: tuple[CoverageRow, ...]
    operators: tuple[OperatorRow, ...]


def coverage_output(evidence: CoverageEvidence) -> CoverageOutput:
    """All rows of a measurement."""
    return CoverageOutput(summary=summary_rows(evidence), operators=operator_rows(evidence))


def summary_rows(evidence: CoverageEvidence) -> tuple[CoverageRow, ...]:
    """Where it was measured, shares, errors and agreement; nothing that the file does not hold."""
    device, versions = evidence.device, evidence.versions
    native, served = evidence.native, evidence.served
    counted = native if isinstance(native, NativeRun) else evidence.main
    rows = [
        ("Model", f"{evidence.model.name}, {evidence.settings.dtype}"),
        *_forward(evidence),
        ("Device", device.name + (f", driver {device.driver}" if device.driver else "")),
        (
            "Software",
            ", ".join(
                f"{name} {version}"
                for name in ("vllm", "torch", "triton", "flag_gems")
                if (version := getattr(versions, name))
            ),
        ),
        (
            "Dispatched" if served is not None else "Dispatched natively",
            f"{len(counted.operators)} operators, "
            f"{sum(operator.calls for operator in counted.operators)} calls",
        ),
    ]
    shares, accuracy, agreement = evidence.shares, evidence.accuracy, evidence.agreement
    if isinstance(shares, NotRun):
        rows.append(("Taken over", _why(shares)))
    else:
        rows += _share_rows(shares)
        if isinstance(native, NativeRun) and isinstance(evidence.flag_gems, GemsRun):
            in_native = _in_native(native, evidence.flag_gems)
            rows.append(("These operators' time in native torch", _time(in_native)))
    if served is not None:
        return tuple(CoverageRow(name=name, value=value) for name, value in rows)
    if isinstance(accuracy, NotRun):
        rows.append(("Errors against native torch", _why(accuracy)))
    else:
        rows.append(("Errors against native torch", _accuracy(accuracy)))
    if isinstance(agreement, Agreement):
        rows += _agreement_rows(agreement)
    else:
        rows.append(("Agreement with native torch", _why(agreement)))
    return tuple(CoverageRow(name=name, value=value) for name, value in rows)


def operator_rows(evidence: CoverageEvidence) -> tuple[OperatorRow, ...]:
    """The whole list: of the run with FlagGems where there was one, most device time first."""
    operators = evidence.main.operators
    beside = evidence.native.operators if isinstance(evidence.native, NativeRun) else ()
    native = {operator.name: operator for operator in beside}
    accuracy = () if isinstance(evidence.accuracy, NotRun) else evidence.accuracy
    compared: dict[str, list[ComparedCall]] = {}
    for call in accuracy:
        compared.setdefault(call.call.split("(")[0], []).append(call)
    rows = [
        OperatorRow(
            name=operator.name,
            how=operator.how,
            calls=operator.calls,
            us=_us(operator),
            native_us=_us(native.get(operator.name)),
            max_abs_error=_worst([call.max_abs_error for call in compared.get(operator.name, ())]),
            relative_error=_worst(
                [call.relative_error for call in compared.get(operator.name, ())]
            ),
            failed=_failed(compared.get(operator.name, ())),
        )
        for operator in operators
    ]
    return tuple(sorted(rows, key=lambda row: (-(row.us or 0.0), -row.calls, row.name)))


def _forward(evidence: CoverageEvidence) -> Iterator[tuple[str, str]]:
    """Which forward pass was measured, where the file says so."""
    if evidence.forward is None:
        return
    settings = evidence.settings
    kinds = {
        "small decoder": "a small decoder of Qwen2's shape",
        "transformers": "the model through transformers",
        "vllm": "vLLM's own, run eagerly",
    }
    ranks = f", the first of {settings.ranks} ranks" if settings.ranks > 1 else ""
    yield (
        "Forward pass",
        f"{kinds[evidence.forward]}{ranks}: a prompt of {settings.prompt_tokens} tokens and "
        f"{settings.decode_steps} steps of one",
    )


def share_words(shares: Shares) -> str:
    """The three shares in one phrase."""
    operators, calls, time = shares.operators, shares.calls, shares.device_time
    return (
        f"{_percent(operators.taken_over, operators.with_kernels)} of operators, "
        f"{_percent(calls.taken_over, calls.with_kernels)} of calls and "
        f"{_percent(time.taken_over_us, time.total_us)} of device time"
    )


def _share_rows(shares: Shares) -> Iterator[tuple[str, str]]:
    yield "Taken over, by operators", _counts(shares.operators)
    yield "Taken over, by calls", _counts(shares.calls)
    yield "Taken over, by device time", _time(shares.device_time)
    whole = shares.device_time.total_us
    for owner, part in (shares.owners or {}).items():
        yield (
            f"Of these, Triton kernels of {owner}",
            f"{part.operators} operators, {part.calls} calls, {_percent(part.us, whole)} of the "
            "device time",
        )


def _in_native(native: NativeRun, gems: GemsRun) -> TimeShare:
    """A slow kernel makes the share of time larger; this one it leaves alone."""
    taken = {o.name for o in gems.operators if o.device is not None and o.device.triton_calls}
    times = [(o.name in taken, o.device.us) for o in native.operators if o.device is not None]
    return TimeShare(
        taken_over_us=sum(us for is_taken, us in times if is_taken),
        total_us=sum(us for _, us in times) + (native.unattributed_us or 0.0),
    )


def _counts(share: CountShare) -> str:
    return (
        f"{_percent(share.taken_over, share.with_kernels)} "
        f"({share.taken_over} of {share.with_kernels} that run kernels; "
        f"{share.dispatched} dispatched)"
    )


def _time(share: TimeShare) -> str:
    return (
        f"{_percent(share.taken_over_us, share.total_us)} "
        f"({share.taken_over_us / 1000:.2f} of {share.total_us / 1000:.2f} ms)"
    )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none of none"


def _accuracy(calls: Sequence[ComparedCall]) -> str:
    failed = [call for call in calls if call.error or call.non_finite_mismatches]
    absolute = _worst([call.max_abs_error for call in calls])
    relative = _worst([call.relative_error for call in calls])
    text = f"{len(calls)} calls compared"
    if absolute is not None:
        text += f", at most {absolute:g} absolute"
    if relative is not None:
        text += f", {relative:g} relative"
    return text + (f"; {len(failed)} FAILED" if failed else "")


def _agreement_rows(agreement: Agreement) -> list[tuple[str, str]]:
    wide = agreement.against_float32
    first = agreement.first_difference
    return [
        (
            "Greedy text equal to native torch's",
            f"{agreement.equal_tokens} of {agreement.greedy_tokens} tokens"
            + (f", first difference at token {first}" if first is not None else ""),
        ),
        (
            "Best token equal, on the same text",
            f"{agreement.equal_best} of {agreement.positions} positions "
            f"(against float32: FlagGems {wide.flag_gems_equal_best}, "
            f"native torch {wide.native_equal_best})",
        ),
    ]


def _us(operator: Operator | None) -> float | None:
    return operator.device.us if operator is not None and operator.device is not None else None


def _worst(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _failed(calls: Sequence[ComparedCall]) -> str | None:
    for call in calls:
        if call.error:
            return call.error
        if call.non_finite_mismatches:
            return f"{call.non_finite_mismatches} values are finite on one side only"
    return None


def _why(part: NotRun) -> str:
    return f"not-run ({part.not_run})"
