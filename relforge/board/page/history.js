// The runs of a device-model pair, newest first: state, duration, digest, verdicts, stages.
"use strict";

board.history = (() => {
  const { el, t, when, took, parts } = board;
  const PAGE = 50;

  const stages = (run) => {
    if (!run.stages.length) return el("p", {}, t("Its stages: "), parts.code(`relforge runs show ${run.run}`));
    return parts.timeline(run.stages.map((stage) => ({ ...stage, reason: stage.detail })));
  };

  const verdicts = (run) => {
    const found = Object.entries(run.verdicts);
    if (!found.length) return "–";
    return found.map(([stage, verdict]) => [el("span", { class: `verdict ${verdict}` }, `${stage}: ${t(verdict)}`), " "]).flat();
  };

  const row = (run, withRelease) => {
    const open = el("details", { class: "run" }, el("summary", {}, parts.code(run.run)));
    open.addEventListener("toggle", () => {
      if (!open.open || open.childElementCount > 1) return;
      open.append(
        el("p", {}, parts.code(run.command)),
        run.error ? el("p", { class: "error" }, run.error) : el("p", {}),
        ...(run.next ? [parts.command(run.next)] : []),
        stages(run),
      );
    });
    return el(
      "tr",
      { "data-run": run.run },
      el("th", { scope: "row" }, open),
      withRelease ? el("td", {}, el("a", { href: board.link.release(run.release) }, run.release)) : null,
      el("td", { class: "when" }, when(run.started_s)),
      el("td", {}, el("span", { class: `outcome ${run.state}` }, t(run.state))),
      el("td", { class: "number" }, took(run.seconds)),
      el("td", {}, parts.short(run.digest) ?? "–"),
      el("td", { class: "verdicts" }, verdicts(run)),
    );
  };

  const table = (runs, withRelease) => {
    if (!runs.length) return el("p", {}, t("No run of it is known."));
    const body = el("tbody");
    const more = el("button", { type: "button", class: "more" });
    let shown = 0;
    const add = () => {
      body.append(...runs.slice(shown, shown + PAGE).map((run) => row(run, withRelease)));
      shown = Math.min(shown + PAGE, runs.length);
      more.hidden = shown === runs.length;
      more.textContent = t("Show more: %(shown)s of %(all)s are shown", { shown: board.number(shown), all: board.number(runs.length) });
    };
    more.addEventListener("click", add);
    add();
    const head = [t("Run"), withRelease ? t("Release") : null, t("Began, UTC"), t("State"), t("Duration"), t("Image"), t("Verdicts")];
    return [
      el(
        "div",
        { class: "wide", tabindex: 0, role: "region", "aria-label": t("Runs") },
        el("table", { class: "runs" }, el("caption", { class: "hidden" }, t("Runs")),
          el("thead", {}, el("tr", {}, head.filter(Boolean).map((text) => el("th", { scope: "col" }, text)))), body),
      ),
      more,
    ];
  };

  const render = async (main, device, model, current) => {
    const entries = board.index.releases.filter((one) => one.device === device && one.model === model);
    const found = await Promise.all(entries.map((entry) => board.load(entry.release)));
    if (!current()) return;
    const runs = found
      .flatMap((details, place) => (details?.history ?? []).map((run) => ({ ...run, release: entries[place].release })))
      .sort((a, b) => b.started_s - a.started_s);
    main.replaceChildren(
      el("article", {},
        el("p", { class: "back" }, el("a", { href: `#/${board.filter.query()}` }, `← ${t("All releases")}`)),
        el("h1", { tabindex: -1 }, t("History of %(model)s on %(device)s", { model, device })),
        el("ul", { class: "pair" }, entries.map((entry) =>
          el("li", {}, el("a", { href: board.link.release(entry.release) }, entry.release), " ", board.matrix.badge(entry.state, entry.live)))),
        table(runs, entries.length > 1),
      ),
    );
  };

  return { table, render };
})();
