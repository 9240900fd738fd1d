// Pieces that several views share: sections, tables, timelines, digests and commands to copy.
"use strict";

board.parts = (() => {
  const { el, t, say, number, signed, took } = board;

  const section = (title, ...children) => {
    const shown = children.flat(Infinity).filter(Boolean);
    return shown.length ? el("section", {}, el("h2", {}, title), shown) : null;
  };

  // Columns of { title, cell, number }. A wide table scrolls by itself, and by the keyboard.
  const table = (caption, columns, rows) => {
    if (!rows.length) return null;
    return el(
      "div",
      { class: "wide", tabindex: 0, role: "region", "aria-label": caption },
      el(
        "table",
        {},
        el("caption", { class: "hidden" }, caption),
        el("thead", {}, el("tr", {}, columns.map((c) => el("th", { scope: "col", class: c.number ? "number" : null }, c.title)))),
        el("tbody", {}, rows.map((row) =>
          el("tr", {}, columns.map((c, place) => {
            const cell = c.cell(row);
            return el(place ? "td" : "th", { class: c.number ? "number" : null, scope: place ? null : "row" }, cell ?? "–");
          })),
        )),
      ),
    );
  };

  const pairs = (rows) => {
    const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
    if (!shown.length) return null;
    return el("dl", {}, shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  };

  const code = (text) => el("code", {}, text);

  const short = (digest) => 
    digest ? el("code", { class: "short", title: digest }, digest.replace(/^sha256:/, "").slice(0, 12)) : null;

  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // A page from a file may have no clipboard: then the text is selected for the reader.
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      const selection = window.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      button.textContent = t("selected");
      return;
    }
    button.textContent = t("copied");
  };

  const command = (text) => {
    const button = el("button", { type: "button", class: "copy", "aria-label": `${t("Copy")}: ${text}` }, t("Copy"));
    button.addEventListener("click", () => copy(text, button));
    return el("div", { class: "command" }, el("code", { class: "line" }, text), button);
  };

  const verdict = (name) => (name ? el("span", { class: `verdict ${name}` }, t(name)) : null);

  // Stages one after another: where each begins, and how long it took, of all that time.
  const timeline = (stages) => {
    const whole = stages.reduce((sum, stage) => sum + (stage.seconds ?? 0), 0) || 1;
    let before = 0;
    return el(
      "ol",
      { class: "timeline" },
      stages.map((stage) => {
        const bar = el("span", { class: `bar ${stage.status} ${stage.verdict ?? ""}` });
        bar.style.marginInlineStart = `${(100 * before) / whole}%`;
        bar.style.inlineSize = `${(100 * (stage.seconds ?? 0)) / whole}%`;
        before += stage.seconds ?? 0;
        return el(
          "li",
          { "data-stage": stage.name },
          el("span", { class: "stage" }, stage.name),
          el("span", { class: "status" }, stage.verdict ? verdict(stage.verdict) : t(stage.status)),
          el("span", { class: "seconds" }, stage.seconds === null ? "–" : took(stage.seconds)),
          el("span", { class: "track", "aria-hidden": "true" }, bar),
          stage.reason ? el("span", { class: "reason" }, stage.reason) : null,
        );
      }),
    );
  };

  const interval = (task) => {
    if (task.interval_points === null || task.difference_points === null) return null;
    const [low, high] = task.interval_points.map((value) => signed(value));
    return `${signed(task.difference_points)} [${low}, ${high}]`;
  };

  const percent = (value) => (value === null || value === undefined ? null : number(value, 2));

  const tasks = (rows) => {
    const confidence = rows.find((row) => row.confidence !== null)?.confidence;
    return table(
      t("Evaluation"),
      [
        { title: t("Task"), cell: (r) => r.task },
        { title: t("Metric"), cell: (r) => r.metric },
        { title: t("Questions"), cell: (r) => (r.n === null ? null : number(r.n)), number: true },
        { title: t("Reference, %"), cell: (r) => percent(r.reference_percent), number: true },
        { title: t("This image, %"), cell: (r) => percent(r.result_percent), number: true },
        {
          title: confidence
            ? t("Difference, points, and its %(percent)s % interval", { percent: number(100 * confidence) })
            : t("Difference, points, and its interval"),
          cell: interval, number: true,
        },
        { title: t("Margin, points"), cell: (r) => (r.margin_points === null ? null : number(r.margin_points, 1)), number: true },
        { title: t("Conclusion"), cell: (r) => (r.conclusion ? t(r.conclusion) : null) },
      ],
      rows,
    );
  };

  const at = (latency, p) => {
    const found = latency.percentiles.find((one) => one.p === p);
    return found && found.ms !== null ? number(found.ms, 1) : null;
  };

  const levels = (bench) => {
    const known = bench.levels[0]?.ttft.percentiles.map((one) => one.p) ?? [];
    const high = known.length ? Math.max(...known) : null;
    const latency = (key, title) => [
      { title: `${title}, ${t("mean")}`, cell: (r) => (r[key].mean_ms === null ? null : number(r[key].mean_ms, 1)), number: true },
      ...(high === null ? [] : [{ title: `${title}, p${high}`, cell: (r) => at(r[key], high), number: true }]),
    ];
    return table(
      t("Latency and throughput"),
      [
        { title: t("Concurrent requests"), cell: (r) => number(r.concurrency), number: true },
        { title: t("Requests/s"), cell: (r) => number(r.request_per_s, 2), number: true },
        { title: t("Output tokens/s"), cell: (r) => number(r.output_tokens_per_s), number: true },
        ...latency("ttft", t("First token, ms")),
        ...latency("itl", t("Between tokens, ms")),
      ],
      bench.levels,
    );
  };

  const chart = (file, text) =>
    file
      ? el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": text },
          el("img", { class: "chart", src: file, alt: text, loading: "lazy", onerror: (e) => e.target.parentElement.remove() }))
      : null;

  const reasons = (list) => (list.length ? el("ul", { class: "reasons" }, list.map((said) => el("li", {}, say(said)))) : null);

  return { section, table, pairs, code, short, command, verdict, timeline, tasks, levels, chart, reasons };
})();
