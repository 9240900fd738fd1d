// One release: its state, stages, verdicts, measurements, contents, changes and runs.
"use strict";

board.release = (() => {
  const { el, t, when, parts } = board;
  let shown = null;

  const heading = (entry) => [
    el("p", { class: "back" }, el("a", { href: `#/${board.filter.query()}` }, `← ${t("All releases")}`)),
    el("h1", { tabindex: -1 }, entry.release),
    el("p", { class: "badges" }, board.matrix.badge(entry.state, entry.live)),
    entry.title ? el("p", { class: "title" }, entry.title) : null,
  ];

  const about = (entry, record) =>
    parts.pairs([
      [t("Model"), entry.model],
      [t("Device"), entry.device],
      [t("Variant"), entry.variant],
      [t("Engine"), entry.engine],
      [t("Recorded"), record ? when(entry.created_s) : null],
      [t("Run"), record?.run ? parts.code(record.run) : null],
      [t("Written by"), record?.relforge ? `relforge ${record.relforge}` : null],
      [t("Project at"), record?.project ? parts.code(record.project) : null],
    ]);

  const why = (entry, details) => {
    const told = entry.state === "stale" && details?.stale.length ? details.stale : entry.why;
    if (!told.length && !entry.next) return null;
    return el(
      "div",
      { class: `why ${entry.state}` },
      el("h2", {}, t(`Why it is ${entry.state}`)),
      parts.reasons(told),
      entry.next ? [el("p", {}, t("Next command")), parts.command(entry.next)] : null,
    );
  };

  const files = (record) => {
    const link = (one) => el("li", {}, el("a", { href: one.href }, one.name), one.sha256 ? [" ", parts.short(one.sha256)] : null);
    const cards = record.cards.map(link);
    const main = record.evidence.filter((one) => !one.name.includes("/attestations/") && !one.name.startsWith("evidence/logs/"));
    const rest = record.evidence.filter((one) => !main.includes(one));
    return [
      parts.section(t("Verify it"), parts.command(record.verify)),
      parts.section(t("Card"), cards.length ? el("ul", {}, cards) : null),
      parts.section(
        t("Evidence"),
        main.length ? el("ul", { class: "files" }, main.map(link)) : null,
        rest.length
          ? el("details", {}, el("summary", {}, t("Logs and attestations")), el("ul", { class: "files" }, rest.map(link)))
          : null,
      ),
    ];
  };

  const measured = (record) => [
    parts.section(
      t("Evaluation"),
      record.tasks.length ? parts.tasks(record.tasks) : null,
      parts.chart(record.charts.evaluation, t("Differences to the reference with their intervals; the table has the figures")),
    ),
    record.bench
      ? parts.section(
          t("Latency and throughput"),
          parts.levels(record.bench),
          parts.chart(record.charts.bench, t("Latencies and output tokens per second against concurrent requests; the table has the figures")),
          el("p", { class: "note" }, [record.bench.tool, record.bench.processor, `${board.number(record.bench.cores)} ${t("cores")}`, record.bench.memory].filter(Boolean).join(" · ")),
        )
      : null,
  ];

  const contents = (record) => [
    parts.section(t("Digests"), parts.pairs(record.digests.map((one) => [t(one.name), parts.code(one.value)]))),
    parts.section(
      t("Sources"),
      parts.table(
        t("Sources"),
        [
          { title: t("Source"), cell: (r) => r.name },
          { title: t("Pinned as"), cell: (r) => parts.code(r.identity) },
          { title: t("Commit or SHA-256"), cell: (r) => parts.short(r.pin) },
          { title: t("Tree as built"), cell: (r) => parts.short(r.built_tree) },
        ],
        record.sources,
      ),
    ),
    parts.section(
      t("Patches"),
      record.patches.map((set) =>
        el(
          "details",
          {},
          el("summary", {}, t("%(name)s on %(source)s: %(count)s patches", { name: set.name, source: set.source, count: board.number(set.patches.length) })),
          el("ol", {}, set.patches.map(([name, sha256]) => el("li", {}, name, " ", parts.short(sha256)))),
        ),
      ),
    ),
    parts.section(t("Image"), parts.pairs(record.facts.map((one) => [t(one.name), one.value]))),
  ];

  const changes = (record, details) => {
    const found = record.changes;
    if (!found) {
      return parts.section(t("Since the release before"), el("p", {}, t("No earlier record is known. A folder of earlier records is named with --history.")));
    }
    const shownRows = found.rows.length
      ? parts.table(
          t("Changes"),
          [
            { title: t("Part"), cell: (r) => t(r.group) },
            { title: t("Name"), cell: (r) => r.name },
            { title: t("Before"), cell: (r) => r.before },
            { title: t("After"), cell: (r) => r.after },
          ],
          found.rows,
        )
      : el("p", {}, t("Nothing that notes tell of has changed."));
    return parts.section(
      t("Since the release before"),
      el("p", {}, t("The release before is of %(created)s, image ", { created: when(Date.parse(found.created) / 1000) }), parts.short(found.digest)),
      shownRows,
      details.older.length > 1
        ? el("details", {}, el("summary", {}, t("Earlier records")), el("ul", {}, details.older.map((one) => el("li", {}, one.name, " ", parts.short(one.value)))))
        : null,
    );
  };

  const stagesOf = (entry, details) => {
    const record = details.record;
    const newest = details.history[0];
    if (record) {
      const skipped = Object.entries(record.skipped).map(([name, reason]) => el("li", {}, `${name}: ${reason}`));
      return parts.section(
        t("Stages"),
        el("p", { class: "note" }, t("What each took when it really ran, in whichever run that was.")),
        parts.timeline(record.stages),
        skipped.length ? el("details", {}, el("summary", {}, t("Skipped")), el("ul", {}, skipped)) : null,
      );
    }
    if (!newest?.stages.length) return null;
    return parts.section(
      t("Stages of its newest run"),
      parts.timeline(newest.stages.map((stage) => ({ ...stage, reason: stage.detail }))),
    );
  };

  const draw = (main, entry, details) => {
    const record = details?.record;
    main.replaceChildren(
      el(
        "article",
        { class: "release" },
        heading(entry),
        el("div", { id: "live-release", "data-release": entry.release }),
        ...[why(entry, details)].filter(Boolean),
        about(entry, record),
        details
          ? [
              stagesOf(entry, details),
              record ? [measured(record), contents(record), changes(record, details), files(record)] : null,
              parts.section(
                t("Runs"),
                board.history.table(details.history.map((run) => ({ ...run, release: entry.release })), false),
                el("p", {}, el("a", { href: board.link.pair(entry.device, entry.model) }, t("History of %(model)s on %(device)s", { model: entry.model, device: entry.device }))),
              ),
            ].flat(2).filter(Boolean)
          : el("p", { class: "empty" }, t("Its details could not be loaded.")),
      ),
    );
    board.live.drawRelease();
  };

  const render = async (main, name, current) => {
    const entry = board.releases.get(name);
    if (!entry) {
      main.replaceChildren(el("h1", { tabindex: -1 }, t("There is no such release")), el("p", {}, name), el("p", {}, el("a", { href: "#/" }, t("All releases"))));
      return;
    }
    shown = name;
    const details = await board.load(name);
    if (current()) draw(main, entry, details);
  };

  return { render, shown: () => shown };
})();
