// The matrix of models and devices; on a narrow screen the same as a list.
"use strict";

board.matrix = (() => {
  const { el, t, say } = board;
  const narrow = window.matchMedia("(max-width: 48rem)");
  let body = null;
  let counted = null;
  let buttons = new Map();

  const badge = (state, live) => [
    el("span", { class: `badge ${state}` }, t(state)),
    live ? el("span", { class: "badge live" }, live.stage ? `${t("running")}: ${live.stage}` : t("running")) : null,
  ];

  const label = (entry) => entry.variant ?? t("default variant");

  const cellLink = (entry, focusable, several) =>
    el(
      "a",
      {
        href: board.link.release(entry.release),
        class: `release ${entry.state}`,
        tabindex: focusable ? 0 : -1,
        "data-release": entry.release,
        title: entry.why.map(say).join("\n") || entry.release,
      },
      badge(entry.state, entry.live),
      several ? el("span", { class: "variant" }, label(entry)) : el("span", { class: "hidden" }, entry.release),
    );

  const grouped = (entries, key) => {
    const found = new Map();
    for (const entry of entries) {
      const name = key(entry);
      if (!found.has(name)) found.set(name, []);
      found.get(name).push(entry);
    }
    return found;
  };

  const sorted = (names) => [...names].sort((a, b) => a.localeCompare(b, "en"));

  const table = (entries) => {
    const devices = sorted(new Set(entries.map((entry) => entry.device)));
    const models = grouped(entries, (entry) => entry.model);
    let first = true;
    const rows = sorted(models.keys()).map((model) => {
      const byDevice = grouped(models.get(model), (entry) => entry.device);
      return el(
        "tr",
        { role: "row" },
        el("th", { scope: "row", role: "rowheader" }, el("span", {}, model)),
        devices.map((device) => {
          const found = byDevice.get(device);
          if (!found) return el("td", { role: "gridcell", class: "none" });
          const links = found.map((entry) => {
            const made = cellLink(entry, first, found.length > 1);
            first = false;
            return made;
          });
          return el("td", { role: "gridcell" }, links);
        }),
      );
    });
    const head = el(
      "tr",
      { role: "row" },
      el("th", { scope: "col", role: "columnheader" }, t("Model")),
      devices.map((device) =>
        el("th", { scope: "col", role: "columnheader", title: board.deviceTitle(device) }, device),
      ),
    );
    return el(
      "div",
      { class: "wide" },
      el(
        "table",
        { role: "grid", class: "matrix", "aria-label": t("Releases by model and device"), onkeydown: move },
        el("thead", { role: "rowgroup" }, head),
        el("tbody", { role: "rowgroup" }, rows),
      ),
    );
  };

  // One stop for the tabulator key; from there the arrow keys go from cell to cell.
  const move = (event) => {
    const links = [...event.currentTarget.querySelectorAll("a.release")];
    const at = event.target.closest("a.release");
    if (!at || event.ctrlKey || event.altKey || event.metaKey) return;
    const place = (one) => [one.closest("tr").rowIndex, one.closest("td").cellIndex];
    const [row, column] = place(at);
    const inRow = links.filter((one) => place(one)[0] === row);
    const inColumn = links.filter((one) => place(one)[1] === column);
    const beside = (list, by) => list[list.indexOf(at) + by];
    const target = {
      ArrowRight: () => beside(inRow, 1),
      ArrowLeft: () => beside(inRow, -1),
      ArrowDown: () => beside(inColumn, 1),
      ArrowUp: () => beside(inColumn, -1),
      Home: () => (event.shiftKey ? links[0] : inRow[0]),
      End: () => (event.shiftKey ? links.at(-1) : inRow.at(-1)),
    }[event.key]?.();
    if (!target) return;
    event.preventDefault();
    focusOn(target, links);
  };

  const focusOn = (target, links) => {
    for (const one of links) one.tabIndex = one === target ? 0 : -1;
    target.focus();
  };

  const list = (entries) => {
    const models = grouped(entries, (entry) => entry.model);
    return el(
      "div",
      { class: "list" },
      sorted(models.keys()).map((model) => [
        el("h2", {}, model),
        el(
          "ul",
          {},
          models.get(model).map((entry) =>
            el(
              "li",
              {},
              el(
                "a",
                { href: board.link.release(entry.release), class: `release ${entry.state}`, "data-release": entry.release },
                el("span", { class: "name" }, entry.device, entry.variant ? ` · ${entry.variant}` : ""),
                badge(entry.state, entry.live),
              ),
              entry.why.length ? el("p", { class: "because" }, say(entry.why[0])) : null,
            ),
          ),
        ),
      ]),
    );
  };

  const draw = () => {
    const entries = board.filter.matching();
    const every = board.index.releases;
    const shown = entries.length
      ? narrow.matches ? list(entries) : table(entries)
      : el("p", { class: "empty" }, every.length ? t("No release fits.") : t("The project has no release yet."));
    body.replaceChildren(shown);
    counted.textContent = t("%(shown)s of %(all)s releases", {
      shown: board.number(entries.length), all: board.number(every.length),
    });
    for (const [state, button] of buttons) {
      button.setAttribute("aria-pressed", String(board.filter.chosen.states.has(state)));
      const number = every.filter((entry) => entry.state === state).length;
      button.querySelector(".count").textContent = board.number(number);
    }
  };

  const changed = () => {
    history.replaceState(null, "", `#/${board.filter.query()}`);
    draw();
  };

  const search = () => {
    const field = el("input", {
      type: "search", id: "search", autocomplete: "off", spellcheck: "false",
      placeholder: t("Release, device, model, digest …"), "aria-label": t("Search"),
      "aria-keyshortcuts": "/",
    });
    field.value = board.filter.chosen.text;
    field.addEventListener("input", () => {
      board.filter.chosen.text = field.value;
      changed();
    });
    return field;
  };

  const render = (main) => {
    buttons = new Map(
      board.filter.STATES.map((state) => [
        state,
        el(
          "button",
          { type: "button", class: `state ${state}`, "data-state": state,
            onclick: () => { board.filter.toggle(state); changed(); } },
          el("span", {}, t(state)), " ", el("span", { class: "count" }),
        ),
      ]),
    );
    counted = el("p", { class: "counted", role: "status" });
    body = el("div", { id: "matrix" });
    main.replaceChildren(
      el("h1", { tabindex: -1 }, t("Releases")),
      el("div", { class: "filters" }, search(),
        el("div", { class: "states", role: "group", "aria-label": t("States") }, [...buttons.values()])),
      counted,
      body,
    );
    draw();
  };

  // Where the reader was: the release that was open gets the focus back.
  const focusRelease = (release) => {
    const links = [...document.querySelectorAll("#matrix a.release")];
    const target = links.find((one) => one.dataset.release === release);
    if (!target) return false;
    if (narrow.matches) target.focus();
    else focusOn(target, links);
    return true;
  };

  narrow.addEventListener("change", () => { if (body?.isConnected) draw(); });

  return { render, draw, badge, focusRelease, shown: () => Boolean(body?.isConnected) };
})();
