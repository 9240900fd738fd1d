"""Renders the Dockerfile of a release: a pure function of manifests, lock and templates."""

from __future__ import annotations

import json
import math
import re
import shlex
import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen, content_key
from relforge.manifest.build import Compiled, PackageBuild, Precompiled, Scripts

if TYPE_CHECKING:
    import jinja2

    from relforge.lock import Lock
    from relforge.manifest.release import Release
    from relforge.plan import Subject

LABEL = "org.relforge"


class PackagePlan(Frozen):
    """One package of the image, as templates see it."""

    name: str
    """Name of the source; also the name of its build context."""
    distribution: str
    stage: str
    role: str
    """Which block it belongs to: ``vllm``, ``flaggems``, ``plugin`` or ``other``."""
    mode: str
    prebuilt: bool
    env: dict[str, str]
    bytecode_skip: tuple[str, ...] = ()
    precompiled_source: str | None = None
    """The wheel source that carries the native libraries; also its build context."""
    reads: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    native_env: dict[str, str] = {}
    extra_sources: dict[str, str] = {}
    folder: str = "."
    """Where the tree's own scripts are started."""


class Health(Frozen):
    """How the image asks its own server whether it is ready."""

    script: str
    start_s: int
    """How long the server may take before a failed look counts."""


def render_dockerfile(subject: Subject) -> str:
    """The Dockerfile text. Raises RelforgeError (USAGE) naming template and line."""
    import jinja2

    path = template_path(subject)
    try:
        lines = render_in(environment(subject.project.roots), subject).split("\n")
        return "\n".join(compress(lines, kept(lines)))
    except jinja2.TemplateNotFound as error:
        raise RelforgeError(
            f"the template {error.name} does not exist",
            code=ExitCode.USAGE,
            where=f"release {subject.release.name}",
            hint="correct build.template in the release, or template in the device",
        ) from error
    except jinja2.TemplateError as error:
        if _in_blocks(error):
            raise _unfit_blocks(subject.release, "build.blocks", str(error.message)) from error
        line = getattr(error, "lineno", None) or _template_line(error, subject.project.roots)
        raise RelforgeError(
            f"the template {path} cannot be rendered",
            code=ExitCode.USAGE,
            where=f"{path}:{line}" if line else path,
            why=str(error.message),
        ) from error


def template_path(subject: Subject) -> str:
    """The template of a release: its own, else its device's."""
    return subject.release.build.template or subject.device.template


def render_in(environment: jinja2.Environment, subject: Subject) -> str:
    """The Dockerfile text by templates of that environment, before empty lines go.

    Raises RelforgeError (USAGE) for a block that the template does not have, and Jinja's errors.
    """
    template = _with_blocks(environment, template_path(subject), subject.release)
    return template.render(context(subject))


def _with_blocks(environment: jinja2.Environment, path: str, release: Release) -> jinja2.Template:
    """The template, with the blocks that the release overrides.

    Raises RelforgeError (USAGE) for a block that the template lacks, or that is no template.
    """
    import jinja2

    template = environment.get_template(path)
    blocks = release.build.blocks
    if not blocks:
        return template
    known = _block_names(environment, path)
    for name in blocks:
        if name not in known:
            raise RelforgeError(
                f"the template {path} has no block {name!r}",
                code=ExitCode.USAGE,
                where=f"release {release.name}, build.blocks.{name}",
                why=f"it has {', '.join(known)}",
                hint="correct the name, or put the text into one of these",
            )
    for name, body in blocks.items():
        try:
            environment.parse(body)
        except jinja2.TemplateSyntaxError as error:
            why = f"line {error.lineno} of it: {error.message}"
            raise _unfit_blocks(release, f"build.blocks.{name}", why) from error
    text = "".join(
        f"{{% block {name} %}}{body}{{% endblock %}}" for name, body in sorted(blocks.items())
    )
    return environment.from_string(f"{{% extends {json.dumps(path)} %}}{text}")


def _block_names(environment: jinja2.Environment, path: str) -> tuple[str, ...]:
    """Of a template and of those that it extends."""
    from jinja2 import nodes

    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, path)
    tree = environment.parse(source)
    names = [block.name for block in tree.find_all(nodes.Block)]
    for parent in tree.find_all(nodes.Extends):
        if isinstance(parent.template, nodes.Const):
            names += _block_names(environment, str(parent.template.value))
    return tuple(dict.fromkeys(names))


def kept(lines: Sequence[str]) -> list[bool]:
    """Which lines stay: one empty line between steps, whatever blocks left out, and none at the
    beginning."""
    return [bool(line or before) for before, line in pairwise(("", *lines))]


@lru_cache(maxsize=8)
def environment(roots: tuple[Path, ...]) -> jinja2.Environment:
    """Templates of a project. Compiling one takes 40 ms, so that it is done once; one that was
    changed since is read again."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([str(root) for root in roots]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is a Dockerfile; `shq` quotes what needs it
    )
    environment.filters["shq"] = quoted
    environment.filters["exec"] = exec_form
    return environment


def context(subject: Subject) -> dict[str, Any]:
    """What templates may use."""
    device, build = subject.device, subject.release.build
    brought = device.stack.environment
    venv = brought.prefix if brought else "/opt/venv"
    return {
        "release": subject.release,
        "device": device,
        "model": subject.model,
        "lock": subject.lock,
        "compiles": any(p.native.mode == "compiled" for p in build.packages),
        "packages": tuple(_package(subject.lock, p) for p in build.packages),
        "contexts": tuple(sorted(subject.release.sources)),
        "labels": labels(subject),
        "venv": venv,
        "brought": brought is not None,
        "vendor_base": device.base.bootstrap is None,
        "python": f"{venv}/bin/python" if brought else "python3",
        "site_packages": f"{venv}/lib/python{device.python}/site-packages",
        "health": _health(subject.release),
    }


def _health(release: Release) -> Health:
    from relforge.serving.engines import engine_of

    engine, serve = engine_of(release.engine), release.serve
    return Health(
        script="import http.client, sys; "
        f"c = http.client.HTTPConnection('127.0.0.1', {engine.health_port(release)}, timeout=8); "
        f"c.request('GET', {engine.health_path!r}); sys.exit(c.getresponse().status != 200)",
        start_s=math.ceil(serve.ready_timeout_s),
    )


def quoted(value: object) -> str:
    """Jinja filter ``shq``: one shell word."""
    return shlex.quote(str(value))


def exec_form(argv: tuple[str, ...]) -> str:
    """Jinja filter ``exec``: an argv list in Dockerfile's exec form."""
    return json.dumps([str(word) for word in argv])


def labels(subject: Subject) -> dict[str, str]:
    """OCI labels of the image; every value is known before the build."""
    release, lock = subject.release, subject.lock
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(lock.source_date_epoch))
    main = release.build.packages[0].source if release.build.packages else None
    found = {
        "org.opencontainers.image.title": release.name,
        "org.opencontainers.image.created": created,
        f"{LABEL}.release": release.name,
        f"{LABEL}.device": release.device,
        f"{LABEL}.lock": content_key(lock),
    }
    if main is not None:
        source = lock.sources[main]
        found["org.opencontainers.image.source"] = source.identity
        found["org.opencontainers.image.revision"] = lock.tree(main)
        found["org.opencontainers.image.version"] = getattr(
            release.sources[main], "version", source.commit or lock.tree(main)
        )
    for name in sorted(lock.sources):
        found[f"{LABEL}.tree.{name}"] = lock.tree(name)
    return found


def _package(lock: Lock, build: PackageBuild) -> PackagePlan:
    plan = PackagePlan(
        name=build.source,
        distribution=build.distribution,
        stage=re.sub(r"[-_.]+", "-", build.distribution).lower(),
        role=_role(build),
        mode=build.native.mode,
        prebuilt=build.prebuilt,
        env=build.env,
        bytecode_skip=build.bytecode_skip,
    )
    if isinstance(build.native, Precompiled):
        # {precompiled} in a value stands for the wheel's file name.
        file_name = lock.sources[build.native.wheel].file_name or ""
        env = {n: v.replace("{precompiled}", file_name) for n, v in build.env.items()}
        return plan.model_copy(update={"precompiled_source": build.native.wheel, "env": env})
    if isinstance(build.native, Compiled):
        return plan.model_copy(
            update={
                "reads": build.native.reads,
                "commands": build.native.commands,
                "native_env": build.native.env,
                "extra_sources": build.native.extra_sources,
            }
        )
    if isinstance(build.native, Scripts):
        return plan.model_copy(
            update={"commands": build.native.commands, "folder": build.native.folder}
        )
    return plan


def _role(build: PackageBuild) -> str:
    if build.plugin:
        return "plugin"
    name = re.sub(r"[-_.]+", "_", build.distribution).lower()
    return {"vllm": "vllm", "flag_gems": "flaggems"}.get(name, "other")


def _in_blocks(error: Exception) -> bool:
    """Whether it was raised in the text of ``build.blocks``, which no file holds."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.endswith(".j2") or file == "<template>":
            last = file
        trace = trace.tb_next
    return last == "<template>"


def _unfit_blocks(release: Release, key: str, why: str) -> RelforgeError:
    return RelforgeError(
        f"the blocks of {release.name} cannot be rendered",
        code=ExitCode.USAGE,
        where=f"release {release.name}, {key}",
        why=why,
        hint="correct the text there; relforge render prints what comes out",
    )


def _template_line(error: Exception, roots: tuple[Path, ...]) -> int | None:
    """The innermost template line in a traceback: undefined names carry no line of their own."""
    trace, line = error.__traceback__, None
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.suffix == ".j2" and any(file.is_relative_to(root) for root in roots):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
