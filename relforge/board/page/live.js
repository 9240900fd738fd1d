// What happens now, where the board is served: stages tick, and a release that ends is drawn anew.
"use strict";

board.live = (() => {
  const { el, t, took, parts } = board;
  const LINES = 12;
  const runs = new Map(); // run -> { releases: release -> { stages, at, since, lines, why } }
  let connected = null;

  const of = (run, release) => {
    if (!runs.has(run)) runs.set(run, new Map());
    const releases = runs.get(run);
    if (!releases.has(release)) releases.set(release, { stages: [], at: null, since: null, lines: [], why: null });
    return releases.get(release);
  };

  const note = (run, event) => {
    if (event.type === "run-started") return event.releases.forEach((release) => of(run, release));
    if (event.type === "run-finished") return runs.delete(run);
    const one = of(run, event.release);
    if (event.type === "stage-started") Object.assign(one, { at: event.stage, since: event.time_s, why: null, lines: [] });
    else if (event.type === "stage-waiting") one.why = event.why;
    else if (event.type === "stage-retried") one.why = `${event.attempt}/${event.of}: ${event.why}`;
    else if (event.type === "stage-line") one.lines = [...one.lines, event.text].slice(-LINES);
    else if (event.type === "stage-finished") {
      one.stages = one.stages.filter((stage) => stage.name !== event.stage);
      one.stages.push({ name: event.stage, status: event.status, verdict: event.verdict, seconds: event.seconds, reason: event.detail });
      if (one.at === event.stage) Object.assign(one, { at: null, since: null, why: null });
    } else if (event.type === "release-finished") runs.get(run).delete(event.release);
    const entry = board.releases.get(event.release);
    if (entry && event.type.startsWith("stage")) {
      entry.live = { run, stage: one.at, since_s: one.since ?? event.time_s };
    }
    return undefined;
  };

  const running = () =>
    [...runs].flatMap(([run, releases]) => [...releases].map(([release, one]) => ({ run, release, ...one })));

  const elapsed = (since) => {
    const made = el("span", { class: "elapsed" });
    const tick = () => { made.textContent = took(Math.max(0, Math.round(Date.now() / 1000 - since))); };
    made.dataset.since = since;
    tick();
    return made;
  };

  const drawBand = () => {
    const band = document.getElementById("live");
    const found = running();
    band.hidden = connected === null;
    const title = connected === false ? t("The server is gone; trying again") : found.length ? t("Running now") : t("Following; nothing runs now");
    band.replaceChildren(
      el("h2", { class: connected ? "on" : "off" }, title),
      el("ul", {}, found.slice(0, 20).map((one) =>
        el("li", { "data-release": one.release },
          el("a", { href: board.link.release(one.release) }, one.release), " ",
          el("span", { class: "at" }, one.at ?? t("between two stages")), " ",
          one.since ? elapsed(one.since) : null,
          one.why ? el("span", { class: "waits" }, ` ${one.why}`) : null))),
    );
  };

  const drawRelease = () => {
    const place = document.getElementById("live-release");
    if (!place) return;
    const found = running().filter((one) => one.release === place.dataset.release);
    const entry = board.releases.get(place.dataset.release);
    const badges = document.querySelector("article.release .badges");
    badges.replaceChildren(...board.matrix.badge(entry.state, entry.live).filter(Boolean));
    place.replaceChildren(...found.map((one) =>
      el("section", { class: "now" },
        el("h2", {}, t("Running now"), " ", parts.code(one.run)),
        parts.timeline([...one.stages, ...(one.at ? [{ name: one.at, status: "running", seconds: null, verdict: null, reason: one.why }] : [])]),
        one.lines.length ? el("pre", { tabindex: 0, "aria-label": t("Log") }, one.lines.join("\n")) : null)));
  };

  const draw = () => {
    drawBand();
    drawRelease();
    if (board.matrix.shown()) {
      const focused = document.activeElement?.dataset?.release;
      board.matrix.draw();
      if (focused) board.matrix.focusRelease(focused);
    }
  };

  // A release was made anew by the server: its line in the matrix, and what is open of it.
  const renewed = (entry) => {
    const known = board.releases.get(entry.release);
    if (known) Object.assign(known, entry);
    else {
      board.index.releases.push(entry);
      board.releases.set(entry.release, entry);
    }
    board.filter.changed(board.releases.get(entry.release));
    board.forget(entry.release);
    document.dispatchEvent(new CustomEvent("renewed", { detail: entry.release }));
  };

  const start = () => {
    const address = document.body.dataset.events;
    if (!address) return;
    const source = new EventSource(address);
    source.addEventListener("open", () => { connected = true; runs.clear(); draw(); });
    source.addEventListener("error", () => { connected = false; drawBand(); });
    source.addEventListener("run", (message) => {
      const { run, events } = JSON.parse(message.data);
      for (const event of events) note(run, event);
      draw();
    });
    // Another server than the one that made this page: nobody knows what it missed.
    source.addEventListener("stale", () => location.reload());
    source.addEventListener("release", (message) => { renewed(JSON.parse(message.data)); draw(); });
    setInterval(() => {
      for (const one of document.querySelectorAll(".elapsed")) {
        one.textContent = took(Math.max(0, Math.round(Date.now() / 1000 - Number(one.dataset.since))));
      }
    }, 1000);
  };

  return { start, drawBand, drawRelease };
})();
