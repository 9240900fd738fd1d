"""Any server that speaks the OpenAI protocol, started by the command the manifest gives."""

from __future__ import annotations

import re

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.release import Release
from relforge.serving.engines.base import options

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")


class Command:
    """``serve.command`` with its placeholders filled in, then ``serve.args``."""

    health_path = "/health"

    def argv(self, release: Release, model_path: str) -> tuple[str, ...]:
        values = {
            "model_path": model_path,
            "port": str(release.serve.port),
            "served_name": release.serve.served_name,
        }

        def fill(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in values:
                raise RelforgeError(
                    f"serve.command has an unknown placeholder {{{name}}}",
                    code=ExitCode.USAGE,
                    where=f"release {release.name}",
                    why=f"known are {', '.join('{' + known + '}' for known in values)}",
                )
            return values[name]

        words = [_PLACEHOLDER.sub(fill, word) for word in release.serve.command]
        return (*words, *options(release.serve.args))
