// Asks for the state of the folder twice a second, and draws again what has changed. No text becomes HTML.
"use strict";

const PACE = 500; // milliseconds between two looks
const at = new URLSearchParams(location.search).get("at") || "";
const byId = (id) => document.getElementById(id);
const drawn = new Map(); // what each part shows, as JSON
const picked = new Map(); // section -> the round that was chosen; none: the newest
let tag = "", lastRound = null, misses = 0, since = null;

// ------------------------------------------------------------------------------------------------ elements

function make(name, facts = {}, ...children) {
  const element = document.createElement(name);
  put(element, facts);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

function svg(name, facts = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  put(element, facts);
  element.append(...children);
  return element;
}

function put(element, facts) {
  for (const [key, value] of Object.entries(facts)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
}

function below(path) {
  return "?at=" + encodeURIComponent([at, path].filter(Boolean).join("/"));
}

// ------------------------------------------------------------------------------------------------ numbers

function bytes(value) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (Math.abs(value) < 1000) return trim(value) + " " + unit;
    value /= 1000;
  }
  return trim(value) + " TB";
}

function seconds(value) {
  if (value < 60) return trim(value) + " s";
  const minutes = Math.round(value / 60);
  return minutes < 60 ? minutes + " min" : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}

const trim = (value) => String(Number(Number(value).toPrecision(3)));
const SAY = { bytes, seconds, share: (value) => value.toFixed(3), "": trim };

function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * size).find((n) => n >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-6; i++) found.push(i * step);
  return found;
}

// ------------------------------------------------------------------------------------------------ charts

const WIDE = 340, HIGH = 190, LEFT = 48, RIGHT = 14, TOP = 8, BOTTOM = 24;

function chart(facts) {
  const xs = facts.lines.flatMap((line) => line.x), ys = facts.lines.flatMap((line) => line.y);
  const say = SAY[facts.unit] || trim;
  const low = Math.min(...xs), high = Math.max(...xs, low + 1);
  let bottom = Math.min(...ys), top = Math.max(...ys);
  if (facts.unit === "bytes" || facts.unit === "seconds") bottom = Math.min(0, bottom);
  const room = (top - bottom) * 0.08 || Math.abs(top) * 0.1 || 1;
  top += room;
  if (bottom !== 0) bottom -= room;
  const x = (value) => LEFT + ((value - low) / (high - low)) * (WIDE - LEFT - RIGHT);
  const y = (value) => HIGH - BOTTOM - ((value - bottom) / (top - bottom)) * (HIGH - TOP - BOTTOM);

  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, "aria-hidden": "true" });
  for (const value of ticks(bottom, top, 5)) {
    picture.append(
      svg("line", { class: "axis", x1: LEFT, x2: WIDE - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" },
        facts.unit === "share" ? trim(value) : say(value)));
  }
  for (const value of ticks(low, high, 6).filter(Number.isInteger)) {
    picture.append(svg("text", { class: "tick", x: x(value), y: HIGH - 8, "text-anchor": "middle" }, String(value)));
  }
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: HIGH - BOTTOM, visibility: "hidden" });
  picture.append(cursor);
  for (const line of facts.lines) {
    const last = line.x.length - 1, colour = "c-" + line.colour;
    const points = line.x.map((value, i) => x(value).toFixed(1) + "," + y(line.y[i]).toFixed(1)).join(" ");
    picture.append(svg("polyline", { class: `curve ${colour}${line.thin ? " thin" : ""}`, points }));
    if (!line.thin) picture.append(svg("circle", { class: "dot " + colour, cx: x(line.x[last]), cy: y(line.y[last]), r: 3 }));
  }
  return figure(facts, picture, cursor, { x, say, low, high });
}

function figure(facts, picture, cursor, { x, say, low, high }) {
  const thick = facts.lines.filter((line) => !line.thin), told = thick.length ? thick : facts.lines.slice(0, 8);
  const rounds = [...new Set(facts.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  const value = (line, round) => line.y[line.x.indexOf(round)];
  const texts = (round, lines) => lines.filter((line) => line.x.includes(round))
    .map((line) => `${line.name} ${say(value(line, round))}`).join(", ");
  const read = make("p", { class: "read" });
  let where = rounds.length - 1;
  const show = (index, loud) => {
    where = Math.max(0, Math.min(rounds.length - 1, index));
    const round = rounds[where];
    put(cursor, { x1: x(round), x2: x(round), visibility: "visible" });
    read.textContent = `Round ${round}: ${texts(round, loud ? facts.lines : told)}`;
    slider.setAttribute("aria-valuenow", round);
    slider.setAttribute("aria-valuetext", read.textContent);
  };
  const slider = make("div", {
    class: "plot", role: "slider", tabindex: "0", "aria-label": facts.title + ", by round",
    "aria-valuemin": rounds[0], "aria-valuemax": rounds.at(-1), "aria-valuenow": rounds.at(-1),
    "aria-valuetext": `Round ${rounds.at(-1)}: ${texts(rounds.at(-1), facts.lines)}`,
    onkeydown: (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10 }[event.key];
      const next = event.key === "Home" ? 0 : event.key === "End" ? rounds.length - 1 : step && where + step;
      if (next === undefined) return;
      event.preventDefault();
      show(next, true);
    },
    onpointermove: (event) => {
      const box = picture.getBoundingClientRect();
      const here = low + (((event.clientX - box.left) / box.width) * WIDE - LEFT) / (WIDE - LEFT - RIGHT) * (high - low);
      show(rounds.reduce((best, round, i) => Math.abs(round - here) < Math.abs(rounds[best] - here) ? i : best, 0), true);
    },
    onpointerleave: () => { put(cursor, { visibility: "hidden" }); read.textContent = newest; },
    onblur: () => { put(cursor, { visibility: "hidden" }); read.textContent = newest; },
  }, picture);
  const newest = `Round ${rounds.at(-1)}: ${texts(rounds.at(-1), told)}`;
  read.textContent = newest;
  const many = facts.lines.length > told.length;
  const legend = facts.lines.length < 2 ? null : make("ul", { class: "legend" },
    ...told.map((line) => key(line.colour, line.name, line.thin)),
    many && thick.length ? key(facts.lines.find((line) => line.thin).colour, "each client", true) : null);
  return make("figure", { class: "chart" }, make("h3", {}, facts.title), slider, read, legend);
}

function key(colour, name, thin) {
  return make("li", {}, svg("svg", { viewBox: "0 0 18 8", class: "c-" + colour, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 18, y1: 4, y2: 4, class: "curve" + (thin ? " thin" : "") })), name);
}

function spark(values) {
  if (values.length < 2) return null;
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const points = values.map((v, i) => [4 + (152 * i) / (values.length - 1), 26 - (22 * (v - low)) / span]);
  return svg("svg", { viewBox: "0 0 160 30", class: "c-blue", "aria-hidden": "true" },
    svg("polyline", { class: "curve", points: points.map((p) => p.map((n) => n.toFixed(1)).join(",")).join(" ") }),
    svg("circle", { class: "dot", cx: points.at(-1)[0], cy: points.at(-1)[1], r: 3 }));
}

// ------------------------------------------------------------------------------------------------ parts

function table(facts, name) {
  const css = (i) => (facts.numbers.includes(i) ? "n" : null);
  const head = make("tr", {}, ...facts.head.map((text, i) =>
    text ? make("th", { scope: "col", class: css(i) }, text) : make("td", { class: css(i) })));
  const rows = facts.rows.map((row) => make("tr", {}, ...row.map((cell, i) => make("td", { class: css(i) }, ...inside(cell)))));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name + ", table" },
    make("table", { class: facts.head.length > 6 ? "many" : null }, make("thead", {}, head), make("tbody", {}, ...rows)));
}

function inside(cell) {
  if (typeof cell === "string") return [cell];
  const text = cell.at ? make("a", { href: below(cell.at) }, cell.text) : cell.text;
  const main = cell.css || cell.bold ? make(cell.bold ? "b" : "span", { class: cell.css || null }, text) : text;
  return cell.small ? [main, make("small", {}, cell.small)] : [main];
}

function pictures(all, name) {
  const chosen = picked.get(name);
  const found = all.findIndex((one) => one.round === chosen);
  const now = found < 0 ? all.length - 1 : found, one = all[now];
  const go = (index, focus) => {
    if (index >= all.length - 1) picked.delete(name); // the newest, whichever that is
    else picked.set(name, all[index].round);
    box.replaceWith(pictures(all, name));
    byId("pick-" + focus).focus();
  };
  const image = (kind, caption, alt) => {
    if (!one[kind]) return null;
    const src = `picture?${new URLSearchParams({ at, name: one[kind].name, mark: one[kind].mark })}`;
    return make("figure", { class: kind }, make("figcaption", {}, caption),
      make("a", { href: src, target: "_blank", title: "At full size" }, make("img", { alt, src })));
  };
  const says = one.says ? one.says + "." : "";
  const step = (id, text, to) => make("button", { id: "pick-" + id, type: "button", "aria-disabled": to < 0 || to >= all.length ? "true" : null,
    onclick: () => { if (to >= 0 && to < all.length) go(to, id); } }, text);
  const picker = all.length < 2 ? null : make("div", { class: "picker" },
    step("back", "Earlier", now - 1),
    make("input", { id: "pick-range", type: "range", min: 0, max: all.length - 1, value: now, "aria-label": "Round",
      "aria-valuetext": "Round " + one.round, onchange: (event) => go(Number(event.target.value), "range") }),
    step("on", "Later", now + 1));
  const box = make("div", {},
    picker,
    make("p", { role: "status" }, `Round ${one.round}${now === all.length - 1 ? ", the newest" : ""}. ${says}`),
    make("div", { class: "pictures" },
      image("samples", "What the generator draws", `Samples of the generator after round ${one.round}, by class`),
      image("labels", "What the vote did to the labels", `Pictures of round ${one.round} with their labels. ${says}`)));
  return box;
}

function part(facts) {
  const id = "s-" + facts.id.replace(/\W+/g, "-");
  const list = (lines) => make("ul", {}, ...lines.map((text) => make("li", {}, text)));
  return make("section", { "aria-labelledby": id },
    make("h2", { id }, facts.title),
    facts.note ? make("p", { class: "note" }, facts.note) : null,
    facts.bullets ? list(facts.bullets) : null,
    facts.pictures ? pictures(facts.pictures, facts.id) : null,
    facts.charts ? make("div", { class: "charts" }, ...facts.charts.map(chart)) : null,
    facts.table ? table(facts.table, facts.title) : null,
    facts.lines ? make("pre", { tabindex: "0", role: "region", "aria-label": facts.title + ", text" }, facts.lines.join("\n")) : null);
}

function card(facts) {
  return make("li", { class: "card" },
    make("div", { class: "name" }, facts.name), make("div", { class: "after" }, facts.after),
    make("div", { class: "before" }, "from " + facts.before),
    make("div", { class: facts.better || null }, facts.change), spark(facts.curve), make("div", { class: "about" }, facts.note));
}

function alerted(warnings) {
  return make("ul", { class: "alerts", "aria-label": "Warnings" }, ...warnings.map((one) =>
    make("li", { class: "alert is-" + one.level }, make("p", {}, make("b", {}, one.name), ": " + one.message + ". " + one.advice))));
}

// ------------------------------------------------------------------------------------------------ the page

// Draws a part again if what it shows is new; what has the focus in it keeps it.
function update(holder, name, facts, draw) {
  const text = JSON.stringify(facts), old = holder.querySelector(`:scope > [data-part="${CSS.escape(name)}"]`);
  if (old && drawn.get(name) === text) return old;
  drawn.set(name, text);
  const made = draw(facts);
  made.dataset.part = name;
  if (!old) return made;
  const focusable = "a, button, input, [tabindex]";
  const focused = [...old.querySelectorAll(focusable)].indexOf(document.activeElement);
  const log = old.querySelector("pre"), end = log && log.scrollHeight - log.scrollTop - log.clientHeight < 20;
  const offsets = [...old.querySelectorAll("pre, .scroll")].map((box) => [box.scrollTop, box.scrollLeft]);
  old.replaceWith(made);
  made.querySelectorAll("pre, .scroll").forEach((box, i) => { if (offsets[i]) [box.scrollTop, box.scrollLeft] = offsets[i]; });
  if (end) made.querySelector("pre").scrollTop = 1e9;
  if (focused >= 0) made.querySelectorAll(focusable)[focused]?.focus({ preventScroll: true });
  return made;
}

function arrange(holder, parts) {
  const wanted = new Set(parts);
  for (const child of [...holder.children]) if (!wanted.has(child)) child.remove();
  parts.forEach((one, i) => { if (holder.children[i] !== one) holder.insertBefore(one, holder.children[i] || null); });
}

function show(view) {
  document.title = `${view.state ? view.state + ": " : ""}${view.title}`;
  byId("title").textContent = view.title;
  byId("state").textContent = view.state;
  byId("state").hidden = !view.state;
  byId("state").className = "badge" + (["running", "finished", "up"].includes(view.state) ? " good" : "");
  byId("facts").textContent = (view.facts || []).join(" · ");
  byId("folder").textContent = view.folder || "";
  progress(view);
  const above = byId("up");
  if (at && !above.children.length) above.append(make("a", { href: "?" }, "Back to all"));
  const some = (key, draw) => (view[key] && view[key].length ? [update(byId(key), key, view[key], draw)] : []);
  arrange(byId("alerts"), some("alerts", alerted));
  arrange(byId("cards"), some("cards", (all) => make("ul", { class: "cards", "aria-label": "Scores" }, ...all.map(card))));
  arrange(byId("sections"), (view.sections || []).map((one) => update(byId("sections"), one.id, one, part)));
  performance.mark("drawn");
}

function progress(view) {
  const facts = view.progress || {}, what = facts.what || "rounds";
  byId("progress").hidden = !facts.planned || view.state === "finished";
  since = facts.since === undefined ? null : Date.now() - 1000 * facts.since;
  if (facts.planned) byId("bar").value = (facts.done || 0) / facts.planned;
  byId("progress").dataset.facts = JSON.stringify({ ...facts, what });
  pace();
  if (lastRound !== null && facts.done > lastRound) {
    const scores = (view.cards || []).slice(0, 4).map((one) => `${one.name} ${one.after}`).join(", ");
    byId("news").textContent = `${what === "rounds" ? "Round" : "Runs:"} ${facts.done} of ${facts.planned} done. ${scores}`;
  }
  lastRound = facts.done ?? lastRound ?? 0;
}

// How far it is, how long a round takes, and what is left; time runs on between two states.
function pace() {
  const facts = JSON.parse(byId("progress").dataset.facts || "{}");
  if (!facts.planned) return;
  const parts = [facts.done === null ? "setting up" : `${facts.done} of ${facts.planned} ${facts.what}`];
  if (facts.each) parts.push(`${seconds(facts.each)} a round`);
  if (since !== null) {
    const passed = (Date.now() - since) / 1000;
    parts.push(`the last one ${seconds(Math.floor(passed))} ago`);
    const rest = facts.each * (facts.planned - facts.done) - passed;
    if (facts.each && rest > 1) parts.push(`about ${seconds(Math.ceil(rest))} left`);
  }
  byId("pace").textContent = parts.join(" · ");
}

async function look() {
  try {
    const answer = await fetch("state?" + new URLSearchParams({ at }), { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (answer.status === 200) {
      const view = await answer.json();
      tag = answer.headers.get("ETag") || "";
      show(view);
    } else if (answer.status !== 304) throw new Error("status " + answer.status);
    misses = 0;
    byId("lost").textContent = "";
  } catch (error) {
    misses += 1;
    if (misses === 2) {
      byId("lost").textContent = error instanceof TypeError
        ? `What serves this page has ended; shown is what it said last, at ${new Date().toLocaleTimeString()}.`
        : `This page cannot show the folder: ${error.message}.`;
    }
  }
  pace();
  setTimeout(look, misses > 2 ? 10 * PACE : PACE);
}

look();
