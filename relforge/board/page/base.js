// What every part of the page uses: data, words, figures, and elements made without markup.
"use strict";

const board = (() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const index = read("index");
  const words = read("words");
  const releases = new Map(index.releases.map((entry) => [entry.release, entry]));
  const loaded = new Map(); // details by release
  const waiting = new Map();
  const state = { language: "en", theme: "auto" };

  // A word of ours in the page's language. What people wrote and programs said stays as it is.
  const t = (text, values) => {
    const wording = (state.language === "en" ? text : words[state.language][text]) ?? text;
    if (!values) return wording;
    return wording.replace(/%\((\w+)\)s/g, (whole, name) =>
      Object.hasOwn(values, name) ? String(values[name]) : whole,
    );
  };

  // A sentence as the data have it; values that are wordings themselves are worded, too.
  const say = (said) => {
    const values = {};
    for (const [name, value] of Object.entries(said.values)) {
      values[name] = typeof value === "string" && value.length < 40 ? t(value) : value;
    }
    return t(said.text, values);
  };

  // An element. Children are elements and texts; nothing is ever read as markup.
  const el = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else made.setAttribute(key, value === true ? "" : String(value));
    }
    made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    if (attributes.class === "wide") edge(made);
    return made;
  };

  // What is wider than its place says so at its edge: scroll bars may be hidden until one scrolls.
  const edge = (node) => {
    const look = () =>
      node.toggleAttribute("data-more", node.scrollWidth - node.clientWidth - node.scrollLeft > 1);
    node.addEventListener("scroll", look, { passive: true });
    const sizes = new ResizeObserver(look);
    for (const one of [node, ...node.children]) sizes.observe(one);
  };

  const number = (value, digits = 0) =>
    new Intl.NumberFormat(state.language, {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    }).format(value);

  const signed = (value, digits = 2) =>
    new Intl.NumberFormat(state.language, {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
      signDisplay: "exceptZero",
    }).format(value);

  const when = (seconds) => {
    if (seconds === null || seconds === undefined) return t("never");
    const date = new Date(seconds * 1000);
    if (Number.isNaN(date.getTime())) return t("never");
    return new Intl.DateTimeFormat(state.language, {
      dateStyle: "medium",
      timeStyle: "short",
      timeZone: "UTC",
    }).format(date);
  };

  const unit = (value, name, digits) =>
    new Intl.NumberFormat(state.language, {
      style: "unit",
      unit: name,
      unitDisplay: "short",
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    }).format(value);

  const took = (seconds) => {
    if (seconds === null || seconds === undefined) return "–";
    if (seconds < 10) return unit(seconds, "second", 1);
    if (seconds < 60) return unit(Math.round(seconds), "second", 0);
    const whole = Math.round(seconds);
    const hours = Math.floor(whole / 3600);
    const parts = hours ? [unit(hours, "hour", 0)] : [];
    parts.push(unit(Math.floor((whole % 3600) / 60), "minute", 0));
    if (!hours) parts.push(unit(whole % 60, "second", 0));
    return parts.join(" ");
  };

  // Details come as a script: a page from a file may load one, and may not fetch.
  const details = (release, value) => {
    loaded.set(release, value);
    for (const ready of waiting.get(release) ?? []) ready(value);
    waiting.delete(release);
  };

  const load = (release) => {
    const entry = releases.get(release);
    if (loaded.has(release)) return Promise.resolve(loaded.get(release));
    if (!entry) return Promise.resolve(null);
    return new Promise((ready) => {
      const others = waiting.get(release);
      if (others) return others.push(ready);
      waiting.set(release, [ready]);
      const script = el("script", { src: entry.file });
      const end = () => {
        script.remove();
        if (waiting.has(release)) details(release, null);
      };
      script.addEventListener("load", end);
      script.addEventListener("error", end);
      document.head.append(script);
    });
  };

  const forget = (release) => loaded.delete(release);

  const link = {
    release: (name) => `#/release/${encodeURIComponent(name)}`,
    pair: (device, model) =>
      `#/history/${encodeURIComponent(device)}/${encodeURIComponent(model)}`,
  };

  const titleOf = (rows) => {
    const titles = new Map(rows.map((row) => [row.name, row.title]));
    return (name) => titles.get(name) ?? name;
  };

  return {
    index, releases, state, words, t, say, el, number, signed, when, took, details, load, forget,
    link, deviceTitle: titleOf(index.devices), modelTitle: titleOf(index.models),
  };
})();
