"""The command line. ``relforge --help`` is printed from this table alone, so it is instant."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

from relforge.cli import streams

COMMANDS = {
    "release": "build, serve, evaluate, describe and publish a release",
    "build": "build the image of a release",
    "unpatch": "apply a (sealed) patch set and write the tree to a folder",
    "smoke": "serve the built image and probe it",
    "eval": "evaluate the served image against the reference",
    "bench": "measure the served image under load, or compare two",
    "tune": "find the operators to disable so that a failing release passes",
    "coverage": "count a model's operators, and whose kernels compute them",
    "card": "write the model card from evidence",
    "publish": "write the release folder, and send it to targets as a candidate",
    "promote": "move a published release to where people look, after verifying it",
    "withdraw": "take a release back from where it was sent",
    "notes": "say what changed between two releases",
    "rebuild": "build a release again, and say what differs from what is recorded",
    "mirror": "copy an image with its attachments between registry, folder and tar",
    "verify": "check signatures, evidence and card of a release, offline",
    "serve": "start a release on its nodes, or print how it is started",
    "explain": "say why a server did not start or died, from its log",
    "plan": "what would run, and why",
    "lock": "resolve every moving part and write the lock beside the manifest",
    "init": "write the manifests of a new release, by asking",
    "ci": "write workflows for GitHub Actions and GitLab CI",
    "check": "validate manifests, locks and templates",
    "render": "print the Dockerfile that a release is built from",
    "devices": "list the known devices",
    "weights": "pin the weights of a model as a hub has them",
    "worker": "join a Ray cluster, and run jobs of releases on this host",
    "doctor": "look at this host: engine, disk, keys, and what a device needs",
    "board": "a page of what is released, stale, failing and not run",
    "runs": "earlier runs: list, show, logs, diff; collect garbage",
    "keys": "make, show and convert keys for sealed patch sets",
    "patch": "write, seal, open, check and rebase patch sets",
    "schema": "print the JSON schema of a manifest or of --json output",
}

_HEAD = """\
Usage: relforge COMMAND [OPTIONS]

Builds, tests and publishes LLM inference images for many kinds of accelerators.

Commands:
"""
_TAIL = """
Options of most commands, given after the command:
  --help           what it does and takes
  --project DIR    the project (default: found upwards from here, else the built-in one)
  --site FILE      the site configuration

Exit codes: 0 done, 1 bug, 2 usage or manifest, 3 environment, 4 source, key or patch,
5 build, 6 gate (smoke, evaluation, benchmark, card), 7 publish, 130 interrupted.
Start with: relforge plan --device cpu_x86
"""


def help_text() -> str:
    """The top-level help."""
    rows = "".join(f"  {name:<10} {text}\n" for name, text in COMMANDS.items())
    return _HEAD + rows + _TAIL


def main(argv: list[str] | None = None) -> None:
    """Entry point of the console script; exits with a documented code."""
    words = sys.argv[1:] if argv is None else argv
    streams.prepare()
    if argv is None:
        streams.forgive()
        # Loaded modules are hundreds of thousands of objects that stay until the end. To look
        # through them again and again while they come costs 0.1 s of every command, and once more
        # when all ends another 0.1 s.
        gc.set_threshold(100_000, 10, 10)
        atexit.register(gc.freeze)
        # Else pydantic reads the metadata of every package that is installed, to look for its
        # plugins; relforge knows of none that it would want.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    code = 0
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output went away; what was wrong before that stays wrong, and what is
        # not known to have gone well is no success.
        streams.discard(sys.stdout)
        code = code or 128 + signal.SIGPIPE
    except OSError as error:
        streams.discard(sys.stdout)
        sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
        code = 3
    sys.exit(code)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        sys.stdout.write(help_text())
        return 0 if words else 2
    if words[0] in ("--version", "-V"):
        from relforge import __version__

        sys.stdout.write(f"relforge {__version__}\n")
        return 0
    from relforge.cli.dispatch import dispatch

    return dispatch(words[0], words[1:])
