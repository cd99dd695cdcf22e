"use strict";
// Sentences side by side, attention maps and the theme. Every text is set as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const PAGE = 25;
  const KINDS = { "~": "moved", "-": "other" };
  const state = { set: 0, shown: PAGE };

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function letter(number) {
    return element("b", { class: "letter", style: `--own: var(--series-${number % 6})` }, data.letters[number]);
  }

  // Segments of a mark and a text, see differences.py.
  function marked(segments, kinds) {
    const line = element("p", { dir: "auto" });
    for (const segment of segments) {
      const kind = kinds[segment[0]];
      const text = segment.slice(1);
      line.append(kind ? element("mark", { class: kind }, text) : text);
    }
    if (!segments.length) line.append(element("span", { class: "quiet" }, "(empty)"));
    return line;
  }

  const plain = (segments) => segments.map((segment) => segment.slice(1)).join("");

  function line(label, text, facts) {
    return element("div", { class: "line" }, element("span", {}, label), text, element("span", {}, ...facts));
  }

  function translation(row, number) {
    const own = row.h[number];
    const several = data.letters.length > 1;
    const facts = [`${data.sets[state.set].metric} ${own.c.toFixed(1)}`];
    if (own.p !== null) facts.push(`, confidence ${(100 * own.p).toFixed(0)} %`);
    for (const fault of own.f || []) facts.push(element("em", { class: "fault" }, fault));
    const against = at("marks").value === "d" && own.d ? own.d : own.t;
    const made = line(several ? letter(number) : "translation", marked(against, KINDS), facts);
    if (own.m) {
      const button = element("button", { type: "button", "aria-expanded": "false" }, "attention");
      button.addEventListener("click", () => toggleMap(button, made, own.m));
      made.lastChild.append(button);
    }
    return made;
  }

  function card(row) {
    const set = data.sets[state.set];
    const made = element("div", { class: "pair", id: `sentence-${state.set}-${row.n}` });
    const place = new URLSearchParams({ sentence: `${set.name}/${row.n}` });
    const link = element("a", { href: `#${place}`, title: "link to this sentence" }, `${row.n}`);
    made.append(line(element("span", {}, link, "source"), element("p", { dir: "auto" }, row.s), []));
    row.r.forEach((segments, number) => {
      const label = row.r.length > 1 ? `reference ${number + 1}` : "reference";
      made.append(line(label, marked(segments, { "-": "missing" }), []));
    });
    row.h.forEach((_, number) => made.append(translation(row, number)));
    return made;
  }

  function toggleMap(button, after, map) {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) after.nextSibling.remove();
    else after.after(drawMap(map));
  }

  function drawMap(map) {
    const rows = map.r.length, columns = map.c.length;
    const bytes = Uint8Array.from(atob(map.w), (char) => char.charCodeAt(0));
    const layer = element("select", {}, element("option", { value: "-1" }, "mean of all layers"));
    for (let number = 0; number < map.l; number++) layer.append(element("option", { value: number }, `layer ${number + 1}`));
    const picture = element("div");
    const weight = (number, row, column) => bytes[(number * rows + row) * columns + column] / 255;
    function draw() {
      const chosen = Number(layer.value);
      const weights = (row, column) => {
        if (chosen >= 0) return weight(chosen, row, column);
        let sum = 0;
        for (let number = 0; number < map.l; number++) sum += weight(number, row, column);
        return sum / map.l;
      };
      picture.replaceChildren(heatmap(map, weights));
    }
    layer.addEventListener("change", draw);
    draw();
    const controls = element("div", { class: "controls" }, element("label", {}, "Cross-attention, ", layer), "from each word of the translation (rows) to the words of the source");
    return element("div", { class: "map" }, controls, picture);
  }

  function shape(name, attributes, text) {
    const made = document.createElementNS("http:" + "//www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function heatmap(map, weights) {
    const SIDE = 22, LETTER = 7.2;
    const longest = (words) => Math.min(24, Math.max(...words.map((word) => [...word].length)));
    const short = (word) => ([...word].length > 24 ? [...word].slice(0, 23).join("") + "…" : word);
    const left = LETTER * longest(map.r) + 10, top = LETTER * longest(map.c) + 10;
    const width = left + SIDE * map.c.length + 4, height = top + SIDE * map.r.length + 4;
    const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
    svg.append(shape("title", {}, "cross-attention"));
    svg.append(shape("rect", { class: "frame", x: left, y: top, width: SIDE * map.c.length, height: SIDE * map.r.length }));
    map.c.forEach((word, column) => {
      const x = left + SIDE * (column + 0.5) + 4;
      svg.append(shape("text", { x, y: top - 6, transform: `rotate(-90 ${x} ${top - 6})` }, short(word)));
    });
    map.r.forEach((word, row) => {
      svg.append(shape("text", { x: left - 6, y: top + SIDE * (row + 0.5) + 4, "text-anchor": "end" }, short(word)));
      map.c.forEach((other, column) => {
        const value = weights(row, column);
        if (value < 0.01) return;
        const cell = shape("rect", {
          class: "cell", x: left + SIDE * column + 0.5, y: top + SIDE * row + 0.5,
          width: SIDE - 1, height: SIDE - 1, "fill-opacity": value.toFixed(2),
        });
        cell.append(shape("title", {}, `${word} → ${other}: ${(100 * value).toFixed(0)} %`));
        svg.append(cell);
      });
    });
    return svg;
  }

  function order(set) {
    const sign = set.higher ? 1 : -1;
    const worse = (number) => (first, second) => sign * (first.h[number].c - second.h[number].c);
    const difference = (row) => sign * (row.h[1].c - row.h[0].c);
    const sure = (row) => (row.h[0].p === null ? 2 : row.h[0].p);
    const choices = [["as in the file", null]];
    data.letters.split("").forEach((name, number) => {
      const whose = data.letters.length > 1 ? ` of ${name}` : "";
      choices.push([`worst${whose} first`, worse(number)], [`best${whose} first`, (a, b) => worse(number)(b, a)]);
    });
    if (data.letters.length > 1) {
      choices.push(["greatest gain of B first", (a, b) => difference(b) - difference(a)]);
      choices.push(["greatest loss of B first", (a, b) => difference(a) - difference(b)]);
    }
    choices.push(["least confident first", (a, b) => sure(a) - sure(b)]);
    choices.push(["longest source first", (a, b) => b.s.length - a.s.length]);
    return choices;
  }

  function matching() {
    const set = data.sets[state.set];
    const slice = at("slice").value, words = at("search").value.toLowerCase();
    const text = (row) => [row.s, ...row.r.map(plain), ...row.h.map((own) => plain(own.t))].join("\n").toLowerCase();
    const rows = set.rows.filter((row) =>
      (slice === "" || row.k.includes(Number(slice))) &&
      (!at("different").checked || new Set(row.h.map((own) => plain(own.t))).size > 1) &&
      (!at("faulty").checked || row.h.some((own) => own.f)) &&
      (!at("mapped").checked || row.h.some((own) => own.m)) &&
      (words === "" || text(row).includes(words)));
    const chosen = order(set)[Number(at("order").value)][1];
    return chosen ? rows.sort(chosen) : rows;
  }

  function show() {
    const rows = matching(), set = data.sets[state.set];
    at("list").replaceChildren(...rows.slice(0, state.shown).map(card));
    at("more").hidden = rows.length <= state.shown;
    const listed = set.rows.length < set.count ? `, listed of ${set.count.toLocaleString("en")}` : "";
    at("count").textContent = `${rows.length.toLocaleString("en")} of ${set.rows.length.toLocaleString("en")} sentences${listed}`;
  }

  function renew() {
    state.shown = PAGE;
    show();
  }

  function fill(select, options) {
    select.replaceChildren(...options.map(([text, value]) => element("option", { value }, text)));
  }

  function choose(number) {
    state.set = number;
    const set = data.sets[number];
    at("set").value = String(number);
    const groups = new Map();
    set.slices.forEach(([group, label], place) => {
      if (!groups.has(group)) groups.set(group, element("optgroup", { label: group }));
      groups.get(group).append(element("option", { value: place }, label));
    });
    at("slice").replaceChildren(element("option", { value: "" }, "all sentences"), ...groups.values());
    fill(at("order"), order(set).map(([text], place) => [text, place]));
    at("mapped-label").hidden = !set.rows.some((row) => row.h.some((own) => own.m));
  }

  function numberOf(name) {
    return Math.max(0, data.sets.findIndex((set) => set.name === name));
  }

  function showSlice(button) {
    choose(numberOf(button.dataset.set));
    at("slice").value = button.dataset.slice;
    renew();
    at("sentences").scrollIntoView();
  }

  function setTheme(theme) {
    document.documentElement.style.colorScheme = theme;
    try { localStorage.setItem("nmt-report-theme", theme); } catch { /* A page from disk may have no storage. */ }
  }

  function isDark() {
    const chosen = document.documentElement.style.colorScheme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  // #theme=dark&sentence=NAME/12 opens the page in a theme and at a sentence with its attention map.
  function follow() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (["light", "dark"].includes(wanted.get("theme"))) document.documentElement.style.colorScheme = wanted.get("theme");
    const [, name, number] = /^(.*)\/(\d+)$/.exec(wanted.get("sentence") || "") || [];
    if (number === undefined) return;
    choose(numberOf(name));
    for (const id of ["different", "faulty", "mapped"]) at(id).checked = false;
    at("search").value = "";
    state.shown = data.sets[state.set].rows.findIndex((row) => row.n === Number(number)) + PAGE;
    show();
    const found = at(`sentence-${state.set}-${number}`);
    if (!found) return;
    const button = found.querySelector("button");
    if (button) button.click();
    found.scrollIntoView({ block: "center" });
  }

  function start() {
    try { document.documentElement.style.colorScheme = localStorage.getItem("nmt-report-theme") || ""; } catch { /* none */ }
    at("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
    fill(at("set"), data.sets.map((set, number) => [set.name, number]));
    choose(0);
    at("controls").hidden = false;
    at("controls").addEventListener("submit", (event) => event.preventDefault());
    at("set").addEventListener("change", () => { choose(Number(at("set").value)); renew(); });
    for (const id of ["slice", "order", "marks", "different", "faulty", "mapped"]) at(id).addEventListener("change", renew);
    at("search").addEventListener("input", renew);
    at("more").addEventListener("click", () => { state.shown += 4 * PAGE; show(); });
    for (const button of document.querySelectorAll("button[data-slice]")) button.addEventListener("click", () => showSlice(button));
    const only = at("only-differing");
    if (only) only.addEventListener("change", () => at("provenance").classList.toggle("only-differing", only.checked));
    addEventListener("hashchange", follow);
    addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
    show();
    follow();
  }

  start();
})();
