"""Whether the accelerator does the work: memory in use, device files held, FlagGems' own log."""

from __future__ import annotations

import re

from relforge.serving.probes.model import ProbeFailed, ProbeNotRun, Target

# FlagScale's patched runner, and FlagGems itself where no path is given
# (flag_gems/logging_utils.py of 5.0.2; FlagScale, gpu_model_runner.py).
_LOGS = ("/tmp/gems_oplist.log.txt", "/root/.flaggems/oplist.log")  # noqa: S108 (in the container)
_OPERATOR = re.compile(r"^\[[A-Z]+\] (flag_gems\.\S+?): ", re.MULTILINE)
_PLUGIN = re.compile(r"\bOp '(\w+)'\s+using '[\w.]*flagos'")
_READ_BYTES = "1000000"


def device(target: Target) -> str:
    if target.device is None:
        raise ProbeNotRun("no container of ours: its device is not known")
    verdict, reason = target.device.judged()
    if verdict == "not-run":
        raise ProbeNotRun(reason)
    if verdict == "fail":
        raise ProbeFailed(reason)
    return reason


def flaggems(target: Target) -> str:
    """By what it recorded itself while it worked; that a variable is set says nothing."""
    if target.flaggems is not None:
        raise ProbeNotRun(target.flaggems)
    if target.host is None or target.process is None:
        raise ProbeNotRun("no container of ours: FlagGems' log cannot be read")
    named = target.settings.flaggems_log
    for path in (named,) if named else _LOGS:
        code, said = target.host.execute(["tail", "-c", _READ_BYTES, path])
        if code:
            continue
        operators = sorted(set(_OPERATOR.findall(said.decode("utf-8", "replace"))))
        if operators:
            return f"{len(operators)} operators in {path}: {_some(operators)}"
    taken = sorted(set(_PLUGIN.findall(target.process.log_text())))
    if taken:
        return f"{len(taken)} operators in the server's log: {_some(taken)}"
    raise ProbeFailed(
        "the release says that FlagGems is used, and neither its log "
        f"({named or ' or '.join(_LOGS)}) nor the server's names one operator that ran"
    )


def _some(names: list[str]) -> str:
    short = [name.rpartition(".")[2] for name in names]
    return ", ".join(short[:6]) + (", ..." if len(short) > 6 else "")
