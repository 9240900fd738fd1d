// Which releases are shown: by text and by state, kept in the address.
"use strict";

board.filter = (() => {
  const STATES = ["released", "stale", "failing", "not-run"];
  const chosen = { text: "", states: new Set() };
  const haystacks = new Map();

  const haystack = (entry) => {
    let text = haystacks.get(entry.release);
    if (text === undefined) {
      const parts = [
        entry.release, entry.device, entry.model, entry.variant, entry.engine, entry.title,
        board.deviceTitle(entry.device), board.modelTitle(entry.model), entry.digest,
        ...entry.why.map((said) => Object.values(said.values).join(" ")),
      ];
      text = parts.filter(Boolean).join("\n").toLowerCase();
      haystacks.set(entry.release, text);
    }
    return text;
  };

  // Every word has to be found somewhere.
  const fits = (entry, words) => {
    if (chosen.states.size && !chosen.states.has(entry.state)) return false;
    return words.every((word) => haystack(entry).includes(word));
  };

  const matching = () => {
    const words = chosen.text.toLowerCase().split(/\s+/).filter(Boolean);
    return board.index.releases.filter((entry) => fits(entry, words));
  };

  const query = () => {
    const asked = new URLSearchParams();
    if (chosen.text) asked.set("q", chosen.text);
    if (chosen.states.size) asked.set("state", [...chosen.states].join(","));
    const text = asked.toString();
    return text ? `?${text}` : "";
  };

  const readQuery = (text) => {
    const asked = new URLSearchParams(text);
    chosen.text = asked.get("q") ?? "";
    chosen.states = new Set((asked.get("state") ?? "").split(",").filter((s) => STATES.includes(s)));
  };

  const toggle = (state) => {
    if (!chosen.states.delete(state)) chosen.states.add(state);
  };

  const changed = (entry) => haystacks.delete(entry.release);

  return { STATES, chosen, matching, query, readQuery, toggle, changed };
})();
