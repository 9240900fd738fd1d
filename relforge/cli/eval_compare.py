"""``relforge eval compare``: is a result as good as its reference?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import JsonOption, ProjectOption, print_json, to_stderr
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import Project, find_project

if TYPE_CHECKING:
    from relforge.evaluation.compare import Comparison
    from relforge.evaluation.statistics.figures import Figure, FigureComparison
    from relforge.evaluation.statistics.judging import Conclusion
    from relforge.evaluation.statistics.sets import Compared


def compare(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Results: the reference's, then the one to judge.", metavar="FILE..."),
    ] = None,
    ref: Annotated[
        str | None, typer.Option("--ref", help="The reference in percent.", metavar="PERCENT")
    ] = None,
    result: Annotated[
        str | None, typer.Option("--result", help="The result in percent.", metavar="PERCENT")
    ] = None,
    ref_k: Annotated[
        int | None, typer.Option("--ref-k", help="Right answers of the reference.", min=0)
    ] = None,
    result_k: Annotated[
        int | None, typer.Option("--result-k", help="Right answers of the result.", min=0)
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", help="Questions asked, where the figures do not say.", min=1),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="The loss that is accepted, in points.", metavar="POINTS"),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="CSV or YAML: task, metric, ref, result, n, margin."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="A reference of the project.", metavar="NAME"),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option("--release", help="What is reported of a release.", metavar="NAME"),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="Only these tasks.", metavar="NAME")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Which metric is meant.", metavar="NAME")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--column", help="A model of an AISBench summary.", metavar="NAME"),
    ] = None,
    subset: Annotated[
        bool,
        typer.Option("--subset", help="The result answered only some of the questions."),
    ] = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Says whether a result is non-inferior to its reference, inferior, or nobody can tell.

    Two files with answers are compared question by question, figures in percent as shares of n.

    Ends with 0 for non-inferior, 6 for inferior and inconclusive, 2 for what cannot be compared.
    """
    tasks, named = tuple(task or ()), tuple(files or ())
    numbers = [one is not None for one in (ref, result, ref_k, result_k)]
    sides = bool(named or reference or release)
    if any(numbers) + (table is not None) + sides != 1:
        raise _usage(
            "it is not clear what to compare",
            "give numbers (--ref and --result, or --ref-k and --result-k), --table, or two sides",
        )
    if any(numbers):
        if numbers not in ([True, True, False, False], [False, False, True, True]):
            raise _usage("a number is missing", "--ref goes with --result, --ref-k with --result-k")
        name, metric_name = tasks[0] if tasks else "task", metric or "accuracy"
        if ref is not None and result is not None:
            pair = _printed(name, metric_name, n, ref, result)
        else:
            pair = _counted(name, metric_name, n, ref_k or 0, result_k or 0)
        raise _show_figures(_judged(*pair, _accepted(margin)), json_)
    if table is not None:
        raise _show_several(_of_table(table, n, margin, tasks), json_)
    place = find_project(Path.cwd(), project)
    if margin is None and release is not None:
        declared = place.release(release).evaluation
        margins = {one.margin_points for one in declared.each} if declared else set()
        # Several tasks may have several; then it has to be said which is meant.
        margin = margins.pop() if len(margins) == 1 else None
    accepted = _accepted(margin)
    if len(named) == 2 and not (reference or release):
        from relforge.evaluation.importing import has_answers, is_evidence

        if all(has_answers(path) for path in named):
            if any(is_evidence(path) for path in named):
                if n is not None or tasks or metric or column:
                    raise _usage(
                        "evidence says its task, metric and n itself",
                        "leave out --n, --task, --metric and --column",
                    )
            elif n is not None or tasks or column:
                raise _usage(
                    "samples say their task and n themselves", "leave out --n, --task and --column"
                )
            raise _show_answers(_of_answers(named[0], named[1], accepted, subset, metric), json_)
    if subset:
        raise _usage(
            "figures have no questions to choose from", "--subset is for two evidence files"
        )
    left, right = _sides(place, list(named), reference, release, tasks, column)
    raise _show_several(_of_sides(left, right, tasks, metric, n, accepted), json_)


def _printed(task: str, metric: str, n: int | None, ref: str, result: str) -> tuple[Figure, Figure]:
    from relforge.evaluation.importing.table import figure_of

    return (
        figure_of(task, metric, ref, n, "--ref"),
        figure_of(task, metric, result, n, "--result"),
    )


def _counted(
    task: str, metric: str, n: int | None, ref_k: int, result_k: int
) -> tuple[Figure, Figure]:
    from relforge.evaluation.statistics.datasets import dataset_of
    from relforge.evaluation.statistics.figures import Figure

    known = dataset_of(task)
    asked = n or (known.n if known else None)
    if asked is None:
        raise _usage("nobody says how many questions were asked", "name them: --n")
    pair = []
    for option, k in (("--ref-k", ref_k), ("--result-k", result_k)):
        if k > asked:
            raise _usage(f"{option}: {k} of {asked} cannot be right", "correct it, or --n")
        exact = Decimal(100 * k) / asked
        pair.append(
            Figure(
                task=task,
                metric=metric,
                percent=round(exact, 8),
                off_by=Decimal("1e-8"),
                n=asked,
                assumed=n is None,
                where=option,
            )
        )
    return pair[0], pair[1]


def _of_table(table: Path, n: int | None, margin: float | None, tasks: Sequence[str]) -> Compared:
    from relforge.evaluation.importing.table import comparisons
    from relforge.evaluation.statistics.sets import together

    rows = comparisons(table, tasks)
    return together(
        _judged(_with_n(left, n), _with_n(right, n), _accepted(own or margin, right.where))
        for own, left, right in rows
    )


def _of_sides(
    left: Sequence[Figure],
    right: Sequence[Figure],
    tasks: Sequence[str],
    metric: str | None,
    n: int | None,
    margin: float,
) -> Compared:
    from relforge.evaluation.statistics.sets import matched, together

    return together(
        _judged(_with_n(one, n), _with_n(other, n), margin)
        for one, other in matched(left, right, tasks=tasks, metric=metric)
    )


def _of_answers(
    reference: Path, result: Path, margin: float, subset: bool, metric: str | None
) -> Comparison:
    from relforge.evaluation.compare import compare as compare_answers
    from relforge.evaluation.importing import read_answers

    before, after = read_answers(reference, metric), read_answers(result, metric)
    try:
        if subset:
            before = before.only(outcome.id for outcome in after.outcomes)
        return compare_answers(before, after, margin_points=margin)
    except RelforgeError as refused:
        if refused.code is ExitCode.GATE:
            # A gate that cannot be judged has failed; here it is the choice of files that is wrong.
            refused.code, refused.where = ExitCode.USAGE, f"{reference}, {result}"
            if before.n > after.n and not subset:
                refused.hint = "--subset, where the result answered only some of the questions"
        raise


def _sides(
    project: Project,
    files: list[Path],
    reference: str | None,
    release: str | None,
    tasks: Sequence[str],
    column: str | None,
) -> tuple[Sequence[Figure], Sequence[Figure]]:
    from relforge.evaluation.importing import read_figures
    from relforge.evaluation.statistics.sets import of_reference, of_release

    if len(files) + (reference is not None) + (release is not None) != 2:
        raise _usage(
            "two sides are compared",
            "the reference is a file or --reference, the result a file or --release",
        )
    left = (
        of_reference(project.reference(reference))
        if reference is not None
        else read_figures(files.pop(0), tasks=tasks, column=column)
    )
    right = (
        of_release(project.release(release))
        if release is not None
        else read_figures(files.pop(0), tasks=tasks, column=column)
    )
    return left, right


def _with_n(figure: Figure, n: int | None) -> Figure:
    return figure if figure.n is not None or n is None else figure.model_copy(update={"n": n})


def _judged(reference: Figure, result: Figure, margin: float) -> FigureComparison:
    from relforge.evaluation.statistics.figures import compare_figures

    return compare_figures(reference, result, margin_points=margin)


def _accepted(margin: float | None, where: str | None = None) -> float:
    if margin is None:
        raise _usage("no margin is declared", "say which loss is accepted: --margin POINTS", where)
    if not 0 < margin <= 100:
        raise _usage(f"a margin of {margin:g} points is none", "more than 0, at most 100", where)
    return margin


def _show_figures(judged: FigureComparison, as_json: bool) -> typer.Exit:
    from relforge.evaluation.output import of_figures, output

    if as_json:
        print_json(output(judged))
    else:
        sys.stdout.write(f"{of_figures(judged)}\n")
    return _exit(judged.conclusion)


def _show_answers(comparison: Comparison, as_json: bool) -> typer.Exit:
    from relforge.evaluation.output import of_answers, output

    if as_json:
        print_json(output(comparison))
    else:
        sys.stdout.write(f"{of_answers(comparison)}\n")
    return _exit(comparison.conclusion)


def _show_several(compared: Compared, as_json: bool) -> typer.Exit:
    from relforge.evaluation.output import markdown, rows_output, together_sentence

    said = together_sentence(compared.overall, len(compared.rows))
    if as_json:
        print_json(rows_output(compared))
        to_stderr(said)
    else:
        sys.stdout.write(f"{markdown(compared)}\n\n{said}\n")
    return _exit(compared.overall.conclusion)


def _exit(conclusion: Conclusion) -> typer.Exit:
    return typer.Exit(0 if conclusion == "non-inferior" else int(ExitCode.GATE))


def _usage(what: str, hint: str, where: str | None = None) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, where=where, hint=hint)
