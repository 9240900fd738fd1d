// The page itself: language, theme, addresses and keys.
"use strict";

(() => {
  const { t, state } = board;
  const main = document.getElementById("main");
  const THEMES = ["auto", "light", "dark"];
  let drawing = 0;
  let opened = null; // the release that was open last, for the focus on the way back

  // A page from a file may have no storage.
  const remembered = (name) => {
    try { return localStorage.getItem(`relforge-board-${name}`); } catch { return null; }
  };
  const remember = (name, value) => {
    try { localStorage.setItem(`relforge-board-${name}`, value); } catch { /* for this visit then */ }
  };

  const applyTheme = () => {
    document.documentElement.dataset.theme = state.theme;
    const button = document.getElementById("theme");
    button.textContent = t({ auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" }[state.theme]);
  };

  const applyLanguage = () => {
    document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
    document.title = t("relforge board");
    for (const one of document.querySelectorAll("[data-text]")) one.textContent = t(one.dataset.text);
    const button = document.getElementById("language");
    button.textContent = state.language === "zh" ? "English" : "中文";
    button.lang = state.language === "zh" ? "en" : "zh";
    const asOf = board.index.as_of_s;
    document.getElementById("as-of").textContent = asOf ? ` · ${t("as of %(time)s UTC", { time: board.when(asOf) })}` : "";
    const problems = board.parts.reasons(board.index.problems);
    document.getElementById("problems").replaceChildren(
      ...(problems ? [board.el("h2", {}, t("Could not be read")), problems] : []),
    );
    applyTheme();
  };

  const decoded = (text) => {
    try { return decodeURIComponent(text); } catch { return text; }
  };

  const route = async (focus) => {
    const mine = ++drawing;
    const current = () => mine === drawing;
    const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
    const [, view = "", ...names] = path.split("/").map(decoded);
    if (view === "release") {
      opened = names[0];
      await board.release.render(main, names[0], current);
    } else if (view === "history") {
      await board.history.render(main, names[0], names[1], current);
    } else {
      board.filter.readQuery(query);
      board.matrix.render(main);
      if (focus && opened && board.matrix.focusRelease(opened)) focus = false;
    }
    if (!current()) return;
    if (focus) {
      main.querySelector("h1")?.focus();
      window.scrollTo(0, 0);
    }
  };

  document.getElementById("language").addEventListener("click", () => {
    state.language = state.language === "en" ? "zh" : "en";
    remember("language", state.language);
    applyLanguage();
    board.live.drawBand();
    route(false);
  });

  document.getElementById("theme").addEventListener("click", () => {
    state.theme = THEMES[(THEMES.indexOf(state.theme) + 1) % THEMES.length];
    remember("theme", state.theme);
    applyTheme();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const typing = event.target.closest?.("input, textarea, select");
    if (event.key === "/" && !typing) {
      const search = document.getElementById("search");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    } else if (event.key === "Escape" && location.hash.match(/^#\/(release|history)\//)) {
      location.hash = `#/${board.filter.query()}`;
    }
  });

  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });

  document.addEventListener("renewed", (event) => {
    if (location.hash === board.link.release(event.detail) || location.hash.startsWith("#/history/")) route(false);
  });
  window.addEventListener("hashchange", () => route(true));

  const wanted = remembered("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  state.language = wanted === "zh" ? "zh" : "en";
  state.theme = THEMES.includes(remembered("theme")) ? remembered("theme") : "auto";
  applyLanguage();
  route(false).then(() => performance.mark("interactive"));
  board.live.start();
})();
