"""What a failed check means, what to do about it, and the report as people read it."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.verifying.report import Finding, Outcome, VerifyReport

_GROUPS = (
    ("What is there", ("contents", "image", "record")),
    ("What it says", ("evidence", "card", "lock", "trees")),
    ("Who says so", ("signature", "attestations", "provenance", "results", "sbom", "release",
                     "replay", "withdrawal", "platforms")),
)  # fmt: skip
_POLICY = "What the policy asks for"
_AGAIN = "get the release again from whoever made it, and verify it before it is used"
_ASK = "do not use it; ask its maker, over another way than the one it came"
_MAKER = "relforge release makes it anew from what was measured"
_ADVICE: dict[str, tuple[str, str]] = {
    "contents": ("files were changed, added or lost after they were published", _AGAIN),
    "image": ("this is not the image that was tested, or not all of it", _AGAIN),
    "record": ("the record does not belong to this image and its evidence", _AGAIN),
    "evidence": ("figures of the record are not those that were measured", _ASK),
    "card": ("the card says something that nobody measured", f"read the evidence; {_MAKER}"),
    "lock": ("it was made of other sources or packages than it says", _ASK),
    "trees": ("the image holds other sources than the lock pins", _ASK),
    "signature": ("nobody that you trust vouches for this image", _ASK),
    "attestations": ("what is said about this image is forged, lost, or by a stranger", _ASK),
    "provenance": ("the signed origin is not that of this release", _ASK),
    "results": ("what was signed about tests is not what the record says", _ASK),
    "sbom": ("the signed bill of materials is not the one that is here", _ASK),
    "release": ("record, cards or evidence are not those that were signed", _AGAIN),
    "replay": ("an older release is shown as the newest", "ask for the newest, by its digest"),
    "withdrawal": ("its maker has taken it back", "use a newer release"),
    "platforms": ("what is said about another architecture's image is not good", _ASK),
    "policy.platforms": (
        "on an architecture of this image nobody has shown that it works",
        "release it on a host of that architecture, attach what that gave, and merge again; or "
        "name the architecture under untested_platforms of the policy, with the reason",
    ),
    "policy.signers": ("it is signed by others than the policy wants", _ASK),
    "policy.stages": (
        "it did not pass what the policy asks for",
        "run the stages (relforge release), or let the policy say which releases may skip one",
    ),
    "policy.attestations": (
        "statements are missing that the policy asks for",
        "sign the release: publish.signing in the site configuration, then relforge release",
    ),
    "policy.sbom": ("nobody can say what is in the image", "relforge release makes one (sbom)"),
    "policy.vulnerabilities": (
        "known weaknesses are worse than the policy lets through",
        "update the packages, or name exceptions with their reason in the policy",
    ),
    "policy.licenses": (
        "packages are under licences that the policy forbids",
        "replace them, or allow them by name with a reason",
    ),
    "policy.labels": ("the image lacks labels that the policy asks for", _ASK),
    "policy.builder": ("it was built by another builder than the policy wants", _ASK),
    "policy.age": ("it is older than the policy allows", "ask for the newest release"),
    "policy.serial": ("an older release is shown as the newest", "ask for the newest release"),
    "policy.source": ("nobody can tell what it was made of", "commit, and release again"),
}


def finding(check: str, outcome: Outcome) -> Finding:
    """An outcome with what it means and what to do."""
    meaning, then = _ADVICE.get(check, ("", "")) if outcome.verdict == "fail" else ("", "")
    return Finding(
        check=check, verdict=outcome.verdict, reason=outcome.reason, meaning=meaning, next=then
    )


def lines(report: VerifyReport) -> Iterator[str]:
    """The report for people: groups of checks, and of what failed meaning and next step."""
    yield f"{report.folder}: {report.kind} with {report.release or 'a release without name'}"
    if report.image_digest:
        yield f"image {report.image_digest}"
    if report.created:
        yield f"made {report.created}"
    yield f"looked at: {', '.join(report.looked_at) or 'nothing'}"
    names = ", ".join(f"{key.name} ({key.keyid[:16]}...)" for key in report.keys)
    yield f"keys: {names or 'none'}"
    yield f"policy: {report.policy or 'none'}"
    by_name = {one.check: one for one in report.checks}
    groups = (*_GROUPS, (_POLICY, tuple(n for n in by_name if n.startswith("policy."))))
    for title, names_ in groups:
        found = [by_name[name] for name in names_ if name in by_name]
        if found:
            yield ""
            yield title
            yield from (line for one in found for line in _finding(one))
    yield ""
    yield _verdict(report)


def _finding(one: Finding) -> Iterator[str]:
    mark = {"pass": "ok", "fail": "FAIL", "not-run": "-"}[one.verdict]
    first, *rest = one.reason.split("; ") if one.verdict == "fail" else [one.reason]
    yield f"  {mark:<5}{one.check:<23}{first}"
    for line in rest:
        yield f"       {'':<23}{line}"
    if one.verdict == "fail":
        if one.meaning:
            yield f"       {'':<23}means: {one.meaning}"
        if one.next:
            yield f"       {'':<23}next:  {one.next}"


def _verdict(report: VerifyReport) -> str:
    failed = report.failed
    if failed:
        return f"fail: {', '.join(one.check for one in failed)}"
    if not report.signers:
        return "pass: it is whole and agrees with itself; who made it is not known"
    by = " and ".join(key.name for key in report.signers)
    return f"pass: it is whole, agrees with itself, and is signed by {by}"
