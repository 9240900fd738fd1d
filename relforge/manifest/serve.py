"""How a release is served: the ``serve`` section of its manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import (
    EnvName,
    Line,
    Name,
    Port,
    PositiveInt,
    Reason,
    RelativePath,
    Seconds,
)
from relforge.manifest.facts import Source

# What `docker run --mount` and `--tmpfs` take: no comma or colon, which separate there.
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^,:\x00-\x1f\x7f]*$", max_length=1024)]
"""On the host, without comma and colon."""
Capability = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
"""Of Linux, without ``CAP_``: ``SYS_PTRACE``."""
DeviceFile = Annotated[
    str, StringConstraints(pattern=r"^/dev/[^,:\s]+(:/dev/[^,:\s]+(:[rwm]{1,3})?)?$")
]
"""On the host; with ``:`` also in the container, and the access that is given."""


def _climbs(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("must not climb with '..'")
    return path


ContainerPath = Annotated[AbsolutePath, AfterValidator(_climbs)]
"""In the container; it never climbs with ``..``."""


class ServeMount(Frozen):
    """A path of the host inside the container, beside the weights.

    Without ``host`` the path is the site's: ``--mount NAME=PATH``, or ``mounts`` of the node in the
    nodes file; ``holds`` then says in cards what belongs there.
    """

    name: Name
    """As sites and nodes files name it."""
    container: ContainerPath
    """Where it is mounted."""
    host: AbsolutePath | None = None
    """The path on every host; without one the site says it."""
    read_only: bool = True
    """Whether the server can write there."""
    holds: Reason | None = Field(default=None, exclude_if=lambda holds: holds is None)
    """What belongs there, in words for cards."""


class Tmpfs(Frozen):
    """Memory mounted as a folder; never set-user-id, never device files."""

    size_bytes: PositiveInt
    """At most."""
    executable: bool = False
    """Whether programs in it may be started."""


class TreeConfig(Frozen):
    """The configuration of a model that FlagScale's own tree has, in the image.

    ``folder`` has ``serve/<name>.yaml``. Its parallel sizes count, and ``serve.args`` change or add
    to the rest.
    """

    folder: ContainerPath
    """In the image."""
    source: Source
    """Where it says that it lies there."""


class FlagScale(Frozen):
    """What FlagScale's runner is told beside the engine's arguments.

    ``before_start`` are argv lists that run in the server's shell first, such as
    ``[source, /opt/conda/bin/activate, inference]``. The rest is for several nodes: the port of
    ssh, and what Ray calls an accelerator (``gpu``, ``cpu``, or a name such as ``npu``).
    """

    name: Name | None = None
    """Of the two configuration files; without one that of the model."""
    before_start: tuple[Annotated[tuple[Line, ...], Field(min_length=1)], ...] = ()
    """Commands in the server's shell, before it starts."""
    tree_config: TreeConfig | None = None
    """None: the model's file is written from this manifest."""
    ssh_port: Port = 22
    """Between nodes."""
    resource: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = "gpu"
    """What Ray calls an accelerator."""


LOCAL_MOUNTS = ("paddlenlp", "exported")
"""The site's mounts for ``PaddleLocal``: the checkout with its scripts, and the exported graph."""


class PaddleLocal(Frozen):
    """Inference without a server, by PaddleNLP's ``predictor.py`` and ``export_model.py``.

    Three steps (``relforge serve --local STEP --print ...``): ``dynamic`` runs the weights as they
    are, ``export`` writes a static graph of them, ``static`` runs that. The scripts come from a
    checkout of PaddleNLP on the host, the mount ``paddlenlp``.
    """

    model: Line
    """What PaddleNLP loads: the name of weights that it fetches."""
    scripts: RelativePath
    """The folder of both scripts in the checkout."""
    quantization: Line
    """As ``predictor.py`` names it."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Of what is not quantized."""
    total_max_length: PositiveInt | None = None
    """Prompt and answer together, in tokens."""
    max_length: PositiveInt | None = None
    """The answer, in tokens."""
    append_attention: bool = True
    """Whether that kernel is used."""
    mla_matrix_absorption: bool = False
    """Whether MLA's matrices are absorbed."""
    mla_tensor_cores: bool | None = None
    """On Hopper only; None for models without MLA."""
    weight_block_size: tuple[PositiveInt, PositiveInt] | None = None
    """Of block-wise quantization: rows and columns."""


class PaddleNLP(Frozen):
    """What PaddleNLP's serving image is told beside its variables.

    ``static_graph`` names a graph built by PaddleNLP, which the image downloads into the mounted
    folder; without one the folder itself holds the exported graph.
    """

    static_graph: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$")]
        | None
    ) = None
    """A graph that PaddleNLP built."""
    health_port: Port = 8110
    """Where it says whether it is ready."""
    local: PaddleLocal | None = None
    """Inference without a server."""


class Group(Frozen):
    """Nodes that are one server among several of a launch: prefill and decode apart.

    ``args`` and ``env`` stand beside those of ``serve``, and before them where both say something.
    """

    name: Name
    """In names of containers."""
    role: Literal["prefill", "decode"]
    """``prefill`` reads prompts, ``decode`` writes answers."""
    port: Port
    """Of its server."""
    nodes: PositiveInt = 1
    """How many hosts it has."""
    tensor_parallel: PositiveInt = 1
    """Of all its nodes together."""
    pipeline_parallel: PositiveInt = 1
    """Of all its nodes together."""
    data_parallel: PositiveInt = 1
    """Of all its nodes together."""
    args: dict[str, JsonValue] = {}
    """Options of its servers alone."""
    env: dict[EnvName, Line] = {}
    """Variables of its servers alone."""


class Proxy(Frozen):
    """What answers requests in front of groups, on ``serve.port`` of the first node.

    In ``command`` the words {prefill_addresses}, {prefill_ports}, {decode_addresses} and
    {decode_ports} become one word for each group of that role, {address} and {port} the proxy's.
    """

    command: Annotated[tuple[Line, ...], Field(min_length=1)]
    """The whole argv."""
    health_path: Annotated[str, StringConstraints(pattern=r"^/[\w/.-]*$")]
    """What answers 200 when it is ready."""
    mount: Line | None = None
    """Of ``serve.mounts``, where the program lies; groups do not get it."""
    source: Source
    """Where the command stands."""


_SHM_BYTES = 64 * 1024 * 1024  # the engine's own
_PARALLEL = ("tensor_parallel", "pipeline_parallel", "data_parallel")
_OF_GROUP = {"port", "nodes", *_PARALLEL}


class Serve(Frozen):
    """How the image serves the model, on one node or on several.

    Values of ``env`` may name what differs between nodes: {address}, {interface},
    {interfaces.NAME}, {node}, {rank}, {first_address}, {addresses}, and {indices} of the node's
    accelerators; ``{{address}}`` stands for the text ``{address}``.
    """

    port: Port = 8000
    """That the server listens on."""
    served_name: Name
    """What requests call the model."""
    model_path: str = "/models/{model}"
    """Where the weights are mounted."""
    args: dict[str, JsonValue] = {}
    """Options of the engine's server, without the leading dashes; ``true`` is a bare flag."""
    command: tuple[str, ...] = ()
    """For the engine ``command``: the whole argv, with {model_path}, {port}, {served_name}."""
    env: dict[EnvName, Line] = {}
    """Variables of the server."""
    shm_bytes: PositiveInt = _SHM_BYTES
    """Shared memory of the container."""
    memory_bytes: PositiveInt | None = None
    """The container's limit of memory; without one there is none."""
    ready_timeout_s: Seconds = 600.0
    """How long it may take until the server answers."""
    profile: Literal["toolkit", "raw", "privileged"] | None = None
    """The device's launch profile; without one its first, that with the least privilege."""
    tensor_parallel: PositiveInt = 1
    """Ranks that share each layer, of all nodes together."""
    pipeline_parallel: PositiveInt = 1
    """Ranks that hold layers one after the other, of all nodes together."""
    data_parallel: PositiveInt = 1
    """Of all nodes together, as the other two are."""
    nodes: PositiveInt = 1
    """How many hosts share the ranks."""
    rendezvous_port: Port = 29550
    """Of the first node, where the ranks of several nodes find each other."""
    network: Literal["host"] | None = None
    """``host``: the host's own network."""
    ipc: Literal["host"] | None = None
    """``host``: shared memory of the host."""
    pid: Literal["host"] | None = None
    """``host``: processes of the host are seen."""
    uts: Literal["host"] | None = None
    """``host``: the host's own name."""
    devices: tuple[DeviceFile, ...] = ()
    """Device files beside those of the device's launch profile."""
    cap_add: tuple[Capability, ...] = ()
    """Capabilities of Linux beside those of the launch profile."""
    security_opt: tuple[Line, ...] = ()
    """As ``docker run --security-opt`` takes them."""
    ulimits: dict[Name, Annotated[int, Field(ge=-1)]] = {}
    """Soft and hard limit alike; -1 is no limit."""
    tmpfs: dict[ContainerPath, Tmpfs] = {}
    """``/dev/shm`` here takes the place of ``shm_bytes``."""
    mounts: tuple[ServeMount, ...] = ()
    """Paths of the host, beside the weights."""
    profile_mounts: bool = True
    """False: those of the launch profile are left out, and ``mounts`` are all there are."""
    workdir: ContainerPath | None = None
    """The folder that the server starts in; without one the image's."""
    flagscale: FlagScale | None = None
    """For the engine ``flagscale``."""
    paddlenlp: PaddleNLP | None = None
    """For the engine ``paddlenlp``."""
    proxy: Proxy | None = None
    """What answers in front of ``groups``."""
    groups: tuple[Group, ...] = ()
    """With ``proxy``: the servers behind it, in the order of their hosts."""

    def of_group(self, group: Group) -> Serve:
        """How one group is served, as a launch of its own."""
        return self.model_copy(
            update={
                **group.model_dump(include=_OF_GROUP),
                "args": {**self.args, **group.args},
                "env": {**self.env, **group.env},
                "mounts": tuple(
                    m for m in self.mounts if self.proxy is None or m.name != self.proxy.mount
                ),
                "proxy": None,
                "groups": (),
            }
        )

    @property
    def servers(self) -> tuple[Serve, ...]:
        """Every server of the launch: the groups, or this one alone."""
        return tuple(self.of_group(group) for group in self.groups) or (self,)

    @property
    def accelerators(self) -> int:
        """Ranks of all nodes and servers together, each on an accelerator of its own."""
        if self.groups:
            return sum(self.of_group(group).accelerators for group in self.groups)
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @model_validator(mode="after")
    def _consistent(self) -> Serve:
        if bool(self.groups) != (self.proxy is not None):
            raise ValueError("proxy and groups belong together")
        if not self.groups and self.accelerators % self.nodes:
            raise ValueError(
                f"tensor x pipeline x data parallel is {self.accelerators}, which "
                f"{self.nodes} nodes cannot share evenly"
            )
        if self.flagscale is not None and self.flagscale.tree_config is not None:
            own = [name for name in _PARALLEL if getattr(self, name) != 1]
            if own or self.nodes > 1:
                raise ValueError(
                    "flagscale.tree_config says how the model is shared, on one node: leave out "
                    + ", ".join([*own, *(["nodes"] if self.nodes > 1 else [])])
                )
        if "/dev/shm" in self.tmpfs and self.shm_bytes != _SHM_BYTES:  # noqa: S108
            raise ValueError("tmpfs /dev/shm and shm_bytes say the same thing; keep one of them")
        if self.groups:
            total = sum(group.nodes for group in self.groups)
            own = [name for name in _PARALLEL if getattr(self, name) != 1]
            if own or total != self.nodes:
                raise ValueError(
                    f"groups have {total} nodes together and say how each is parallel: set nodes: "
                    f"{total}" + (f" and leave out {', '.join(own)}" if own else "")
                )
            shared = [g for g in self.groups if g.nodes > 1 and g.data_parallel % g.nodes]
            if shared:
                raise ValueError(f"group {shared[0].name} cannot share its ranks evenly")
        for what, values in (
            ("groups name", [group.name for group in self.groups]),
            ("mounts name", [mount.name for mount in self.mounts]),
            ("a container path of mounts and tmpfs", [m.container for m in self.mounts]
             + list(self.tmpfs)),
        ):  # fmt: skip
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{what} stands twice: {', '.join(twice)}")
        return self
