"""Any server that speaks the OpenAI protocol, started by the command the manifest gives."""

from __future__ import annotations

from relforge.manifest.release import Release
from relforge.serving.engines.base import OnePort, ServerCommand, options
from relforge.serving.place import Place


class Command(OnePort):
    """``serve.command`` with its placeholders filled in, then ``serve.args``."""

    def command(self, release: Release, model_path: str, place: Place) -> ServerCommand:
        values = {
            "model_path": model_path,
            "port": str(release.serve.port),
            "served_name": release.serve.served_name,
        }
        words = (place.fill(word, "serve.command", values) for word in release.serve.command)
        return ServerCommand(argv=(*words, *options(release.serve.args)))
