"""Finds the module of a verb, runs it, and turns every ending into an exit code."""

from __future__ import annotations

import difflib
import errno
import importlib
import shlex
import sys
import traceback

from relforge import redact
from relforge.addresses import hide_credentials
from relforge.cli import COMMANDS, holding
from relforge.cli.spread import spread
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.ui.text import error as error_text


def dispatch(verb: str, words: list[str]) -> int:
    """Runs ``relforge VERB WORDS`` and returns its exit code."""
    if verb not in COMMANDS:
        near = difflib.get_close_matches(verb, COMMANDS, n=1)
        unknown = RelforgeError(
            f"unknown command {verb!r}",
            code=ExitCode.USAGE,
            hint="options come after the command: relforge plan --help"
            if verb.startswith("-")
            else (f"did you mean 'relforge {near[0]}'?" if near else "relforge --help"),
        )
        return _report(unknown)
    if "" in words:
        # Most often a variable that is not set; as a path it would be the current folder.
        before = words[words.index("") - 1] if words[0] else verb
        empty = RelforgeError(
            f"an empty word stands after {before}",
            code=ExitCode.USAGE,
            hint="is a variable in the command unset?",
        )
        return _report(empty)
    for word in words:
        # Refused or not: what is said of an address repeats no login in it.
        hide_credentials(word.partition("=")[2] if word.startswith("--") else word)
    try:
        from typer.main import get_command

        holding.begin(verb)
        module = importlib.import_module(f"relforge.cli.{verb}")
        args = spread(words, getattr(module, "SEVERAL", ()))
        get_command(module.app).main(args=args, prog_name=f"relforge {verb}")
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):
            raise ending.__context__ from None
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except RelforgeError as failed:
        return _report(_with_exact_command(failed, verb, words))
    except (Cancelled, KeyboardInterrupt):
        sys.stderr.write("interrupted; the same command continues where this one stopped\n")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        raise
    except OSError as refused:
        return _report(_from_system(refused))
    except Exception:  # noqa: BLE001 - the last line of defence, see the text
        sys.stderr.write(redact.text(traceback.format_exc()))
        sys.stderr.write("this is a bug in relforge; please report it with the lines above\n")
        return int(ExitCode.BUG)
    finally:
        holding.end()
    return int(ExitCode.DONE)


def _from_system(refused: OSError) -> RelforgeError:
    """A full disk, a read-only folder and their kind: the environment's fault, not a bug."""
    full = refused.errno in (errno.ENOSPC, errno.EDQUOT)
    return RelforgeError(
        "the disk is full" if full else f"the system refused: {refused.strerror or refused}",
        code=ExitCode.ENVIRONMENT,
        where=str(refused.filename) if refused.filename else None,
        hint="free disk space, then run the same command again"
        if full
        else "check that the folder exists and can be written; relforge doctor shows the home",
    )


def _with_exact_command(failed: RelforgeError, verb: str, words: list[str]) -> RelforgeError:
    """A locked key is opened by the same command and one option more."""
    from relforge.patching.keys.passphrase import LockedKey

    if isinstance(failed, LockedKey):
        command = ["relforge", verb, *words, "--key-passphrase-file", "FILE"]
        failed.hint = f"{shlex.join(command)}\nor run it on a terminal, where it is asked for"
    return failed


def _report(failed: RelforgeError) -> int:
    sys.stderr.write(redact.text(error_text(failed)) + "\n")
    return int(failed.code)
