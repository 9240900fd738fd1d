"""Unpatch: patch sets applied, opened where they are sealed, ending in the tree the lock pins."""

from __future__ import annotations

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.project import Project
from relforge.manifest.source import PatchRepository, PatchSetRef
from relforge.patching.locate import locate, recipe_for
from relforge.patching.source import Recipe
from relforge.patching.stored import UNVERIFIED, KnownContent
from relforge.plan import Planning, Subject
from relforge.stage import Job, Skip, Stage, StageContext, StageEnv, StageInputs, StageResult


class PatchedTree(Frozen):
    """One patch set with the trees before and after.

    Whether it is sealed, and by whom, is part of this stage's key alone: what is built of the tree
    does not depend on it, what is said about it does.
    """

    name: str
    source: str
    path: str
    ships: str
    repository: PatchRepository | None
    content: str
    base_tree: str
    result_tree: str | None
    """None: nothing pins it, see the lock."""
    sealed: bool
    signer_keyid: str | None


class UnpatchInputs(StageInputs):
    """Content and tree hashes; ciphertext is never part of a key, encryption is randomised."""

    device: str
    sets: tuple[PatchedTree, ...]


class AppliedSet(PatchedTree):
    """A patch set that was applied and gave the expected tree."""

    device: str
    signer: str | None
    patches: int
    files: int


class UnpatchResult(StageResult):
    """What was proved; trees of sealed sets are not kept, whoever needs one opens it again."""

    sets: tuple[AppliedSet, ...]


class Unpatch(Stage[UnpatchInputs, UnpatchResult]):
    """Proves that every patch set applies and gives the pinned tree."""

    name = "unpatch"
    title = "patch sets"
    needs = ("sources",)
    result_type = UnpatchResult

    def plan(self, planning: Planning) -> UnpatchInputs | Skip:
        release, lock = planning.subject.release, planning.subject.lock
        located = {found.name: found for found in planning.subject.patch_sets}
        if not release.patches:
            return Skip(kind="not-needed", reason="the release has no patch set")
        sets = []
        for ref in release.patch_refs:
            locked = lock.patches[ref.name]
            sets.append(
                PatchedTree(
                    name=ref.name,
                    source=ref.source,
                    path=ref.path,
                    repository=ref.repository,
                    ships=ref.ships,
                    content=locked.content,
                    base_tree=locked.base_tree or lock.sources[ref.source].content,
                    result_tree=locked.result_tree,
                    sealed=located[ref.name].sealed,
                    signer_keyid=located[ref.name].signer_keyid,
                )
            )
        return UnpatchInputs(device=release.device, sets=tuple(sets))

    def secrets(self, inputs: UnpatchInputs, subject: Subject) -> tuple[str, ...]:  # noqa: ARG002
        return ("identities",) if subject.sealed else ()

    def run(self, job: Job[UnpatchInputs], ctx: StageContext) -> UnpatchResult:
        from relforge.patching.tree.making import materialise

        applied = []
        for patch_set in job.inputs.sets:
            ctx.cancel.check()
            wanted = AppliedSet(
                **patch_set.model_dump(),
                device=job.inputs.device,
                signer=None,
                patches=0,
                files=0,
            )
            tree = materialise(
                recipe_of(wanted, job.env),
                dest=None,
                home=job.env.home,
                epoch=0,
                cancel=ctx.cancel,
            )
            ctx.line(
                f"{patch_set.source}: {patch_set.base_tree} + {len(tree.patches)} patches "
                f"= {tree.tree}"
            )
            if patch_set.result_tree is None:
                ctx.line(UNVERIFIED.format(name=patch_set.name))
            applied.append(
                wanted.model_copy(
                    update={
                        "result_tree": tree.tree,
                        "signer": tree.signer,
                        "patches": len(tree.patches),
                        "files": tree.files_changed,
                    }
                )
            )
        return UnpatchResult(sets=tuple(applied))

    def outcome(self, result: UnpatchResult) -> str:
        return "; ".join(
            f"{s.patches} patches on {s.source}"
            + (f", sealed, signed by {s.signer}" if s.sealed else "")
            for s in result.sets
        )


def recipe_of(patch_set: AppliedSet, env: StageEnv) -> Recipe:
    """How the planned tree is made on this host.

    Raises RelforgeError (SOURCE) when the patch set is no longer the one that was planned.
    """
    from relforge.sources.api import store_of

    project = Project(env.project_roots)
    device = project.device(patch_set.device)
    ref = PatchSetRef.model_validate(
        patch_set.model_dump(include={"name", "source", "path", "repository", "ships"})
    )
    known = KnownContent(patch_set.content, patch_set.sealed)
    located = locate(project, env.site, device, ref, known=known)
    if located.content_sha256 != patch_set.content:
        raise RelforgeError(
            f"patch set {patch_set.name} was changed since the plan was made",
            code=ExitCode.SOURCE,
            where=located.where,
            hint="run the same command again",
        )
    return recipe_for(
        located,
        git_dir=store_of(env.home).git_dir,
        base_tree=patch_set.base_tree,
        device=device,
        site=env.site,
        expected_tree=patch_set.result_tree,
    )
