"use strict";
(() => {
const DATA = JSON.parse(document.getElementById("data").textContent);
const [NAME, STATE, END, TOOK, ROWS, TEXT, FACTS, START] = DATA.fields.keys();
const GLYPH = {
  succeeded: "✓", reused: "↻", failed: "✗", skipped: "–", started: "▸", incomplete: "▸", interrupted: "▸",
  partial: "◐", fallback: "◐", waiting: "…", forgotten: "–", adopted: "✓",
};
const MEANING = {
  succeeded: "succeeded", reused: "reused from an earlier attempt", failed: "failed", skipped: "skipped",
  started: "started, no end recorded: it runs, or was killed", incomplete: "no end recorded: it runs, or was killed",
  interrupted: "was asked to stop", partial: "succeeded, approximate: branches are missing", fallback: "a fallback ran instead",
  waiting: "waits: retry it later", forgotten: "to be treated as never run", adopted: "written by another tool",
};
const STATES_ORDER = ["failed", "incomplete", "interrupted", "waiting", "fallback", "partial", "succeeded", "skipped", "adopted", "forgotten"];
const ATTENTION = STATES_ORDER.slice(0, 6);
const ROW = 28, CHUNK = 20, BEFORE = 30, LEAST = 5, BARS = 60;

// --- small helpers -----------------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const put = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== ""));
  return node;
};
const h = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const number = (value) => value.toLocaleString("en-US");
const many = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
const two = (value) => String(value).padStart(2, "0");
const time = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ");
const short = (value) => value >= 1e6 ? `${+(value / 1e6).toPrecision(3)} M` : value >= 1e4 ? `${+(value / 1e3).toPrecision(3)} k` : number(value);
const duration = (ms) => {
  if (ms < 0) return "";
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000), minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min${seconds % 60 ? ` ${seconds % 60} s` : ""}`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${two(minutes % 60)} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
};
const cut = (text, length) => text.length > length ? text.slice(0, length - 1) + "…" : text;
const middle = (text, length) => text.length > length ? `${text.slice(0, length >> 1)}…${text.slice(1 - (length >> 1))}` : text;
const badge = (state, words) => h("span", { class: `badge s s-${state}`, title: MEANING[state] || state }, `${GLYPH[state] || "?"} ${words || state}`);
const median = (values) => {
  const sorted = [...values].sort((one, other) => one - other), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

// --- what the document holds -------------------------------------------------------------------------------

const nameOf = (node) => DATA.names[node[NAME]];
const stateOf = (node) => DATA.states[node[STATE]];
const textOf = (node) => DATA.texts[node[TEXT] ?? 0];
const factsOf = (node) => DATA.facts[node[FACTS] ?? 0];
const valueOf = (node, field) => node[field] ?? -1;
const kindOf = (node) => DATA.kinds[node[NAME]];
const started = (node) => valueOf(node, START) >= 0;
const taken = (node) => textOf(node).startsWith("kept from ");
const hostOf = (node) => (textOf(node).match(/^(?:[^;]*, )?within (\S+)$/) || [])[1];
const KEYS = [], BY_ID = new Map(), PUBLISHED = new Map(), READERS = new Map();
const add = (map, name, value) => map.has(name) ? map.get(name).push(value) : map.set(name, [value]);

for (const pipeline of DATA.pipelines) {
  for (const key of pipeline.keys) {
    key.pipeline = pipeline;
    key.last = key.attempts[key.attempts.length - 1];
    key.id = `${pipeline.name}/${key.key}`;
    key.nodes = latestNodes(key);
    key.completeness = DATA.facts[key.last.facts].completeness || [];
    const approximate = key.completeness.some((part) => part.is_approximate);
    key.state = key.last.state === "succeeded" && approximate ? "partial" : GLYPH[key.last.state] ? key.last.state : "failed";
    key.error = DATA.texts[key.last.error];
    key.took = key.state === "forgotten" ? -1 : totalTook(key);
    KEYS.push(key);
    BY_ID.set(key.id, key);
    for (const node of key.nodes.values()) {
      const facts = factsOf(node);
      if (facts.publishes && !facts.publishes[4]) PUBLISHED.set(`${facts.publishes[0]}/${facts.publishes[1]}`, key);
      for (const [name, generation] of facts.waits || []) add(READERS, name.includes("/") ? name : `${name}/${key.key}`, { key, generation });
    }
  }
}

/** The last record of each node: of the attempt if it has ended, else of the generation. */
function latestNodes(key) {
  const found = new Map();
  for (const attempt of key.last.took >= 0 ? [key.last] : ofGeneration(key)) for (const node of attempt.nodes) found.set(node[NAME], node);
  return found;
}

function ofGeneration(key) {
  return key.attempts.filter((attempt) => attempt.generation === key.last.generation);
}

const PUBLISHERS = DATA.handovers.filter((edge) => edge[2] === "publishes").map(([pipeline, dataset]) => [pipeline, dataset.slice(1)]);

/** The key that publishes a marker, even if it has not yet: of a pipeline that publishes the dataset for other keys. */
function publisherOf(name) {
  const [dataset, key] = name.split("/");
  return PUBLISHED.get(name) ?? PUBLISHERS.filter((one) => one[1] === dataset).map(([pipeline]) => BY_ID.get(`${pipeline}/${key}`)).find(Boolean);
}

/** The keys that wait for a key's markers. */
function waitersOf(key) {
  const names = PUBLISHERS.filter((one) => one[0] === key.pipeline.name).map(([, dataset]) => `${dataset}/${key.key}`);
  return names.flatMap((name) => READERS.get(name) || []).filter((one) => !one.generation).map((one) => one.key);
}

/** How long the attempts of the last generation ran, in which a repeat adds only what it ran. */
function totalTook(key) {
  const ran = ofGeneration(key).filter((attempt) => attempt.took >= 0);
  return ran.length ? ran.reduce((sum, attempt) => sum + attempt.took, 0) : -1;
}

function rowsOf(key) {
  const done = [...key.nodes.values()].filter((node) => valueOf(node, ROWS) >= 0 && ["succeeded", "reused"].includes(stateOf(node)));
  const written = done.filter((node) => kindOf(node) === "sink" && !nameOf(node).endsWith("/quarantine"));
  return written.length ? written.reduce((sum, node) => sum + node[ROWS], 0) : -1;
}

/** What the same command would do, by the rule that a node's last real outcome in the generation decides. */
function repeated(key) {
  const found = { reuse: [], again: [], stays: [] };
  if (key.state === "adopted") return found;
  const real = new Map(), seen = new Map();
  for (const attempt of ofGeneration(key)) {
    for (const node of attempt.nodes) {
      const state = stateOf(node);
      seen.set(node[NAME], node);
      if (state !== "skipped") real.set(node[NAME], state === "reused" ? "succeeded" : state);
      else if (started(node)) real.set(node[NAME], "started");
    }
  }
  const ended = ["succeeded", "partial"].includes(key.state);
  for (const [name, node] of seen) {
    const text = textOf(node);
    const announced = factsOf(node).publishes?.[4];  // that the key failed or was skipped
    if (key.state !== "forgotten" && real.get(name) === "succeeded" && !announced) found.reuse.push(name);
    else if (!real.has(name) && (text.startsWith("not taken") || text === "nothing that ran needed it" || ended && kindOf(node) !== "branch")) found.stays.push(name);
    else found.again.push(name);
  }
  return found;
}

// --- columns of a pipeline's grid --------------------------------------------------------------------------

/** A column for each node; the branches of a fan-in are one column, which can be expanded. */
function columnsOf(pipeline) {
  const fanIns = [...new Set(pipeline.columns.filter((at) => DATA.kinds[at] === "branch").map((at) => DATA.names[at].replace(/\/[^/]*$/, "")))];
  fanIns.sort((one, other) => one.length - other.length);
  const columns = new Map();
  for (const at of pipeline.columns) {
    const name = DATA.names[at], fanIn = fanIns.find((one) => name === one || name.startsWith(`${one}/`));
    const label = fanIn ?? name;
    if (!columns.has(label)) columns.set(label, { label, fanIn: Boolean(fanIn), nodes: [], branches: [], merge: -1 });
    const column = columns.get(label);
    column.nodes.push(at);
    if (fanIn && name === fanIn) column.merge = at;
    else if (fanIn && DATA.kinds[at] === "branch") column.branches.push(at);
  }
  for (const column of columns.values()) column.branches.sort((one, other) => DATA.names[one].localeCompare(DATA.names[other], "en", { numeric: true }));
  return [...columns.values()];
}

function shownColumns(view) {
  const shown = [];
  for (const column of view.columns) {
    shown.push(column);
    if (!column.fanIn || !view.expanded.has(column.label)) continue;
    const rest = column.nodes.filter((at) => at !== column.merge && !column.branches.includes(at));
    for (const at of [...column.branches, ...rest]) shown.push({ label: DATA.names[at], nodes: [at], part: true });
  }
  return shown;
}

function cellOf(key, column) {
  const nodes = column.nodes.map((at) => key.nodes.get(at)).filter(Boolean);
  if (!nodes.length) return null;
  if (!column.fanIn) return { state: stateOf(nodes[0]), text: "", title: title(nodes[0]), nodes };
  const branches = column.branches.map((at) => key.nodes.get(at)).filter(Boolean);
  const there = branches.filter((node) => ["succeeded", "reused"].includes(stateOf(node)));
  const part = key.completeness.find((one) => one.node === column.label);
  const [arrived, expected] = part ? [part.arrived, part.expected] : [there.length, column.branches.length];
  const states = new Set(nodes.map(stateOf));
  const merge = key.nodes.get(column.merge);
  let state = merge ? stateOf(merge) : "succeeded";
  if (states.has("failed")) state = "failed";
  else if (states.has("started")) state = "started";
  else if (arrived < expected) state = arrived || !merge ? "partial" : stateOf(merge);
  const counts = DATA.states.map((one) => [branches.filter((node) => stateOf(node) === one).length, one]).filter(([count]) => count).map(([count, one]) => `${count} ${one}`);
  return { state, text: `${arrived}/${expected}`, title: `${column.label}: ${arrived} of ${expected} branches arrived${counts.length ? ` (${counts.join(", ")})` : ""}${merge ? `; the merge ${stateOf(merge)}` : ""}`, nodes };
}

function title(node) {
  const facts = [`${nameOf(node)}: ${stateOf(node)}`];
  if (valueOf(node, ROWS) >= 0) facts.push(`${number(node[ROWS])} rows`);
  if (valueOf(node, TOOK) >= 0) facts.push(duration(node[TOOK]));
  if (textOf(node)) facts.push(cut(textOf(node), 300));
  return facts.join(", ");
}

// --- filters and search ------------------------------------------------------------------------------------

const filter = { pipeline: "", states: new Set(), terms: [], order: "key" };
const contains = (values, term) => values.map((value) => value.toLowerCase().includes(term));

/** Which names, texts and states contain each term: a key is then searched by positions alone. */
function searched(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean).map((term) => ({
    term, names: contains(DATA.names, term), texts: contains(DATA.texts, term), states: contains(DATA.states, term),
  }));
}

const ofKey = (key, one) => key.id.toLowerCase().includes(one.term) || key.state.includes(one.term) || one.texts[key.last.error];
const ofNode = (node, one) => one.names[node[NAME]] || one.states[node[STATE]] || one.texts[node[TEXT] ?? 0];

/** All terms are in the key, or each is in the key or in one and the same node: "hours/07 failed". */
function matches(key, terms) {
  const left = terms.filter((one) => !ofKey(key, one));
  if (!left.length) return true;
  for (const node of key.nodes.values()) if (left.every((one) => ofNode(node, one))) return true;
  return false;
}

function isHit(key, nodes, terms) {
  const left = terms.filter((one) => !ofKey(key, one));
  return left.length > 0 && nodes.some((node) => left.every((one) => ofNode(node, one)));
}

const ORDERS = {
  key: (one, other) => one.key < other.key ? 1 : one.key > other.key ? -1 : 0,
  run: (one, other) => other.last.began - one.last.began,
  took: (one, other) => other.took - one.took,
};

const VIEWS = DATA.pipelines.map((pipeline) => ({ pipeline, columns: columnsOf(pipeline), expanded: new Set(), keys: [], current: "" }));

function apply() {
  const matching = KEYS.filter((key) => (!filter.pipeline || key.pipeline.name === filter.pipeline) && matches(key, filter.terms));
  drawStates(matching);
  const shown = filter.states.size ? matching.filter((key) => filter.states.has(key.state)) : matching;
  $("found").textContent = shown.length === KEYS.length ? "" : `${number(shown.length)} of ${many(KEYS.length, "key")}${shown.length ? "" : ": nothing matches"}`;
  $("attention").hidden = $("handovers").hidden = shown.length < KEYS.length;  // what was looked for comes first
  for (const view of VIEWS) {
    view.keys = shown.filter((key) => key.pipeline === view.pipeline).sort(ORDERS[filter.order]);
    view.section.hidden = !view.keys.length;
    if (view.keys.length) drawGrid(view);
  }
}

function drawStates(keys) {
  const counts = new Map();
  for (const key of keys) counts.set(key.state, (counts.get(key.state) || 0) + 1);
  const shown = STATES_ORDER.filter((state) => counts.has(state) || filter.states.has(state));
  const focused = document.activeElement?.dataset?.state;
  $("states").replaceChildren(...shown.map((state) => h("button", {
    type: "button", class: `s s-${state}`, "data-state": state, "aria-pressed": String(filter.states.has(state)), title: MEANING[state],
    onclick: () => { filter.states.has(state) ? filter.states.delete(state) : filter.states.add(state); apply(); },
  }, `${GLYPH[state]} ${number(counts.get(state) || 0)} ${state}`)));
  if (focused) $("states").querySelector(`[data-state="${focused}"]`)?.focus();
}

// --- the page ----------------------------------------------------------------------------------------------

function drawHeader() {
  const began = KEYS.map((key) => Math.min(...key.attempts.map((attempt) => attempt.began)));
  const ended = KEYS.map((key) => key.last.began + Math.max(key.last.took, 0));
  const least = began.reduce((one, other) => Math.min(one, other), Infinity), most = ended.reduce((one, other) => Math.max(one, other), 0);
  const runs = KEYS.reduce((sum, key) => sum + key.attempts.length, 0);
  const span = KEYS.length ? `, from ${time(least)} to ${time(most)}` : "";
  $("about").textContent = `${many(KEYS.length, "key")} of ${many(DATA.pipelines.length, "pipeline")} in ${many(runs, "attempt")}${span}. Made ${time(DATA.made)}. All times are UTC.`;
  $("pipeline").append(h("option", { value: "" }, "all"), ...DATA.pipelines.map((pipeline) => h("option", { value: pipeline.name }, pipeline.name)));
  $("of-pipeline").hidden = DATA.pipelines.length < 2;
  $("pipeline").addEventListener("change", (event) => { filter.pipeline = event.target.value; apply(); });
  $("order").addEventListener("change", (event) => { filter.order = event.target.value; apply(); });
  let later = 0;
  $("search").addEventListener("input", (event) => {
    clearTimeout(later);
    later = setTimeout(() => { filter.terms = searched(event.target.value); apply(); }, 100);
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => { Object.assign(filter, { pipeline: "", states: new Set(), terms: [], order: "key" }); apply(); });
}

function drawAttention() {
  const found = KEYS.filter((key) => ATTENTION.includes(key.state));
  found.sort((one, other) => ATTENTION.indexOf(one.state) - ATTENTION.indexOf(other.state) || other.last.began - one.last.began);
  if (!found.length) {
    $("attention").replaceChildren(h("p", {}, KEYS.length ? `Nothing needs attention: of ${many(KEYS.length, "key")} none failed, waits or is incomplete.` : "The ledger holds no runs."));
    return;
  }
  const groups = new Map();
  for (const key of found) add(groups, [key.state, key.pipeline.name, key.error.replaceAll(key.key, "").replace(/\d+/g, "0") || whyOf(key)].join("\n"), key);
  const all = [...groups.values()], list = h("ul", {}, all.slice(0, 8).map(attentionItem));
  const more = all.length > 8 ? h("button", { type: "button", onclick: (event) => { list.append(...all.slice(8, 200).map(attentionItem)); event.target.remove(); } }, `Show ${number(Math.min(all.length, 200) - 8)} more reasons`) : null;
  $("attention").replaceChildren(h("h2", {}, `Needs attention: ${many(found.length, "key")}`), list, more ? h("p", {}, more) : "");
}

/** Keys with the same reason but for numbers: the newest one, and links to the others. */
function attentionItem([key, ...others]) {
  const name = (one) => DATA.pipelines.length > 1 ? one.id : one.key;
  return h("li", { class: `s-${key.state}` }, badge(key.state, others.length ? `${number(others.length + 1)} ${key.state}` : ""), keyLink(key, name(key)),
    h("div", {}, h("span", { class: "why" }, whyOf(key)), h("small", {}, repeatWords(key), waitersPart(key)),
      others.length ? h("details", {}, h("summary", {}, `${many(others.length, "more key")} with this reason`), others.slice(0, 300).map((one, at) => [at ? ", " : "", keyLink(one, name(one))])) : ""));
}

function waitersPart(key) {
  const waiters = waitersOf(key);
  return waiters.length ? [" ", waiters.slice(0, 5).map((one, at) => [at ? ", " : "", keyLink(one, one.id)]), waiters.length > 5 ? ` and ${waiters.length - 5} more` : "", ` wait${waiters.length === 1 ? "s" : ""} for it.`] : "";
}

function failedOf(key, part) {
  const failed = [...key.nodes.values()].filter((node) => stateOf(node) === "failed" && nameOf(node).startsWith(`${part.node}/`));
  return failed.length ? `; ${many(failed.length, "branch").replace("branchs", "branches")} failed: ${textOf(failed[0])}` : "";
}

function whyOf(key) {
  if (key.error) return key.error;
  if (key.state === "partial") {
    return key.completeness.filter((part) => part.is_approximate).map((part) => `${part.node}: ${part.arrived} of ${part.expected}; missing ${cut(part.missing.join(", "), 120)}${failedOf(key, part)}`).join("; ");
  }
  const open = [...key.nodes.values()].filter((node) => stateOf(node) === "started").map(nameOf);
  return key.last.took < 0 ? `No end is recorded since ${time(key.last.began)}${DATA.made > key.last.began ? `, ${duration(DATA.made - key.last.began)} before this page was made` : ""}: ${key.holder ? `it runs, by ${key.holder}` : DATA.leases ? "it was killed, as no process holds its lease" : "it still runs, or was killed"}${open.length ? `, in ${cut(open.join(", "), 120)}` : ""}` : "";
}

function repeatWords(key) {
  const { reuse, again } = repeated(key), all = reuse.length + again.length;
  if (key.state === "adopted") return "The same command does nothing: the rows were adopted. --rerun computes them.";
  if (!again.length) return `The same command again reuses ${all === 1 ? "the node" : `all ${all} nodes`}.`;
  const open = !["succeeded", "partial"].includes(key.state), runs = `runs ${cut(listed(again), 140)}${open ? ", then what follows" : ""}.`;
  if (!reuse.length && all) return `The same command again ${runs}`;
  if (!all) return "The same command again runs everything.";
  return `The same command again reuses ${reuse.length} of ${many(all, "node")} and ${runs}`;
}

/** Names in order; many branches of one fan-in are counted. */
function listed(positions) {
  const groups = new Map();
  for (const at of positions) add(groups, DATA.kinds[at] === "branch" ? DATA.names[at].replace(/[^/]*$/, "*") : DATA.names[at], DATA.names[at]);
  return [...groups].sort().flatMap(([group, names]) => names.length > 4 ? [`${group} (${names.length} branches)`] : names.sort()).join(", ");
}

const keyLink = (key, words) => h("button", { type: "button", class: "link", onclick: () => openPanel(key) }, words ?? key.key);

function drawSections() {
  $("runs").append(legend());
  for (const view of VIEWS) {
    const box = h("div", { class: "grid", role: "table", "aria-label": `Runs of ${view.pipeline.name}` });
    const trends = h("details", { open: DATA.pipelines.length <= 4 }, h("summary", {}, `Trends of ${view.pipeline.name}: rows and duration`));
    view.box = box;
    view.section = h("section", { id: `p-${view.pipeline.name}` },
      h("h2", {}, view.pipeline.name, " ", h("small", {}, many(view.pipeline.keys.length, "key"))), box, trends);
    box.addEventListener("keydown", (event) => moveBy(view, event));
    box.addEventListener("focusin", (event) => { if (event.target.dataset.at) setCurrent(view, Number(event.target.dataset.at)); });
    box.addEventListener("click", (event) => {
      const at = event.target.closest("[data-at]")?.dataset.at ?? event.target.closest("[data-row]")?.dataset.row;
      if (at !== undefined) openPanel(view.keys[Number(at)]);
    });
    if (view.pipeline.keys.length < 2) trends.remove();
    else whenSeen(trends, () => drawTrends(view.pipeline, trends));
    $("runs").append(view.section);
  }
}

function whenSeen(element, draw) {
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    draw();
  }, { rootMargin: "300px" });
  seen.observe(element);
}

const legend = () => h("p", { class: "legend" }, ["succeeded", "reused", "partial", "failed", "skipped", "started"].map((state) => h("span", {}, h("span", { class: `s s-${state}` }, GLYPH[state]), ` ${state === "started" ? "runs or was killed" : state}`)), h("span", {}, "Enter opens a key; arrows move"));

function drawGrid(view) {
  view.shown = shownColumns(view);
  const cells = view.shown.map((column) => column.fanIn ? "3.9rem" : "2.2rem").join(" ");
  const longest = Math.min(Math.max(6, ...view.keys.map((key) => key.key.length)), 22);
  const narrow = innerWidth <= 640;
  view.box.style.setProperty("--columns", `${narrow ? Math.min(longest * .56 + 1.4, 8) : longest * .56 + 1.4}rem 7.4rem ${cells} 8.8rem 6rem minmax(14rem, 1fr)`);
  const head = h("div", { class: "row head", role: "row" }, h("span", { class: "key", role: "columnheader" }, "key"), h("span", { role: "columnheader" }, "state"),
    view.shown.map((column) => h("span", { class: "cell", role: "columnheader", title: column.label }, column.fanIn && column.branches.length ? expander(view, column) : column.part ? cut(column.label.replace(/^.*\//, "…/"), 24) : middle(column.label, 22))),
    h("span", { role: "columnheader" }, "began"), h("span", { class: "num", role: "columnheader" }, "took"), h("span", { role: "columnheader" }, "why"));
  view.chunks = [];
  for (let from = 0; from < view.keys.length; from += CHUNK) {
    const count = Math.min(CHUNK, view.keys.length - from);
    const chunk = h("div", { class: "chunk", role: "rowgroup", "data-chunk": view.chunks.length });
    chunk.style.height = `${count * ROW}px`;
    view.chunks.push({ chunk, from, count, drawn: false });
  }
  view.box.replaceChildren(head, ...view.chunks.map((one) => one.chunk));
  view.box.scrollTop = 0;
  view.observer?.disconnect();
  view.observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const one = view.chunks[Number(entry.target.dataset.chunk)];
      if (entry.isIntersecting) drawChunk(view, one);
      else clearChunk(view, one);
    }
  }, { root: view.box, rootMargin: "900px 0px" });
  view.chunks.forEach((one) => view.observer.observe(one.chunk));
  view.at = Math.max(view.keys.findIndex((key) => key.id === view.current), 0);
  drawChunk(view, view.chunks[Math.floor(view.at / CHUNK)]);
  drawChunk(view, view.chunks[0]);
}

function expander(view, column) {
  const open = view.expanded.has(column.label);
  return h("button", {
    type: "button", "aria-expanded": String(open), title: `${open ? "Collapse" : "Expand"} the ${column.branches.length} branches of ${column.label}`,
    onclick: () => {
      open ? view.expanded.delete(column.label) : view.expanded.add(column.label);
      drawGrid(view);
      [...view.box.querySelectorAll(".head button")].find((button) => button.dataset.label === column.label)?.focus();
    }, "data-label": column.label,
  }, `${open ? "−" : "+"} ${cut(column.label, 24)}`);
}

function drawChunk(view, one) {
  if (!one || one.drawn) return;
  one.drawn = true;
  const rows = view.keys.slice(one.from, one.from + one.count).map((key, offset) => drawRow(view, key, one.from + offset));
  one.chunk.replaceChildren(...rows);
}

/** Rows far out of view are removed, but for the one that the Tab key goes to: scrolling costs the same however many there are. */
function clearChunk(view, one) {
  if (!one.drawn || view.at >= one.from && view.at < one.from + one.count || matchMedia("print").matches) return;
  one.drawn = false;
  one.chunk.replaceChildren();
}

function drawRow(view, key, at) {
  const button = h("button", { type: "button", "data-at": at, tabindex: at === view.at ? 0 : -1, title: key.key, "aria-label": `${key.key}, ${key.state}` }, key.key);
  const row = h("div", { class: "row", role: "row", "data-row": at }, h("span", { class: "key", role: "rowheader" }, button), h("span", { role: "cell" }, badge(key.state)));
  for (const column of view.shown) {
    const cell = cellOf(key, column);
    if (!cell) { row.append(h("span", { class: "cell", role: "cell" })); continue; }
    const hit = filter.terms.length && isHit(key, cell.nodes, filter.terms) ? " hit" : "";
    row.append(h("span", { class: `cell s s-${cell.state}${hit}`, role: "cell", title: cell.title, "aria-label": cell.title }, cell.text ? `${GLYPH[cell.state]} ${cell.text}` : GLYPH[cell.state]));
  }
  const why = key.state === "succeeded" ? "" : whyOf(key);
  row.append(h("span", { role: "cell", title: `${time(key.last.began)} UTC` }, time(key.last.began).slice(0, 16)), h("span", { class: "num", role: "cell" }, duration(key.took)),
    h("span", { class: key.state === "failed" ? "why" : "soft", role: "cell", title: cut(why, 400) }, cut(why, 160)));
  return row;
}

function setCurrent(view, at) {
  view.box.querySelector(".key button[tabindex='0']")?.setAttribute("tabindex", "-1");
  view.at = at;
  view.current = view.keys[at].id;
  view.box.querySelector(`.key button[data-at='${at}']`)?.setAttribute("tabindex", "0");
}

function moveBy(view, event) {
  if (!event.target.dataset.at) return;
  const page = Math.max(Math.floor(view.box.clientHeight / ROW) - 6, 1), last = view.keys.length - 1;
  const to = { ArrowDown: view.at + 1, ArrowUp: view.at - 1, PageDown: view.at + page, PageUp: view.at - page, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const at = Math.min(Math.max(to, 0), last);
  drawChunk(view, view.chunks[Math.floor(at / CHUNK)]);
  setCurrent(view, at);
  view.box.querySelector(`.key button[data-at='${at}']`).focus();
}

// --- trends ------------------------------------------------------------------------------------------------

/** The values of the keys in order, each with how many times the median of the keys before it is. */
function series(pipeline, measure) {
  const points = [...pipeline.keys].sort((one, other) => -ORDERS.key(one, other)).filter((key) => ["succeeded", "partial"].includes(key.state))
    .map((key) => ({ key, value: measure(key) })).filter((point) => point.value >= 0);
  points.forEach((point, at) => {
    const before = points.slice(Math.max(at - BEFORE, 0), at).map((one) => one.value);
    const middle = before.length >= LEAST ? median(before) : 0;
    point.times = middle > 0 ? point.value / middle : 1;
  });
  return points;
}

function drawTrends(pipeline, into) {
  const chart = (words, measure, text, both) => {
    const points = series(pipeline, measure);
    const marked = points.filter((point) => point.times > 2 || (both && point.times < .5));
    const box = h("div", {}, h("h3", {}, words));
    box.append(points.length < 2 ? h("p", { class: "soft" }, points.length ? `One key only: ${text(points[0].value)}.` : "Nothing was recorded.") : "");
    if (points.length > 1) onWidth(box, (width) => lineChart(points, marked, text, width, words));
    if (marked.length) {
      box.append(h("p", {}, `${both ? "▲ more than twice, ▼ less than half" : "▲ more than twice"} the median of the ${BEFORE} keys before:`),
        h("ul", { class: "plain" }, marked.slice(-8).reverse().map((point) => h("li", {}, keyLink(point.key), ` ${point.times > 2 ? "▲" : "▼"} ${text(point.value)}, ${point.times.toFixed(1)} times the median`)),
          marked.length > 8 ? h("li", { class: "soft" }, `and ${marked.length - 8} earlier ones`) : ""));
    }
    return box;
  };
  into.append(h("div", { class: "charts" },
    chart("Rows written per key, all sinks", rowsOf, (value) => `${short(value)} rows`, true),
    chart("Duration per key, all attempts of the generation", (key) => key.took, duration, false)));
}

/** Draw into a box, and again when its width changes. */
function onWidth(box, draw) {
  const holder = h("div");
  box.append(holder);
  let drawn = 0;
  new ResizeObserver(() => {
    const width = Math.floor(holder.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    holder.replaceChildren(draw(width));
  }).observe(holder);
}

function lineChart(points, marked, text, width, words) {
  const height = 130, left = 4, right = 8, top = 18, bottom = 20, most = points.reduce((one, point) => Math.max(one, point.value), 0) || 1;
  const x = (at) => left + (width - left - right) * (points.length === 1 ? .5 : at / (points.length - 1)), y = (value) => height - bottom - (height - top - bottom) * value / most;
  const svg = s("svg", { width, height, role: "img", "aria-label": `${words}: ${points.length} keys, at most ${text(most)}, last ${text(points[points.length - 1].value)}, ${marked.length} marked` });
  for (const value of [0, most]) svg.append(s("path", { class: "axis", d: `M${left} ${y(value)}H${width - right}` }));
  svg.append(s("text", { class: "quiet", x: left, y: top - 6 }, text(most)), s("text", { class: "quiet", x: left, y: height - 5 }, points[0].key.key),
    s("text", { class: "quiet", x: width - right, y: height - 5, "text-anchor": "end" }, points[points.length - 1].key.key));
  svg.append(s("path", { class: "line", d: "M" + points.map((point, at) => `${x(at).toFixed(1)} ${y(point.value).toFixed(1)}`).join("L") }));
  points.forEach((point, at) => {
    const here = s("title", {}, `${point.key.key}: ${text(point.value)}`), px = x(at), py = y(point.value), up = point.times > 2;
    if (marked.includes(point)) svg.append(s("path", { class: "high", d: up ? `M${px - 6} ${py + 5}h12l-6 -11z` : `M${px - 6} ${py - 5}h12l-6 11z` }, here));
    else if (points.length <= 120) svg.append(s("circle", { class: "dot", cx: px, cy: py, r: 3 }, here));
  });
  return svg;
}

// --- hand-overs --------------------------------------------------------------------------------------------

function drawHandovers() {
  if (!DATA.handovers.length) return;
  if (DATA.pipelines.length < 2) $("runs").after($("handovers"));
  const box = h("div", { class: "scroll" });
  $("handovers").replaceChildren(h("h2", {}, "Hand-overs between pipelines"), h("p", { class: "soft" }, "Rounded: a pipeline. Square: a dataset's readiness markers. A broken line: some keys wait."), box);
  onWidth(box, handoverGraph);
}

/** Nodes in layers: each is one layer after the last one that leads to it; a cycle is cut. */
function layersOf(edges) {
  const layer = new Map();
  for (const [from, to] of edges) { layer.set(from, 0); layer.set(to, 0); }
  for (let round = 0; round < layer.size; round++) {
    let moved = false;
    for (const [from, to] of edges) if (layer.get(to) <= layer.get(from) && layer.get(from) + 1 < layer.size) { layer.set(to, layer.get(from) + 1); moved = true; }
    if (!moved) break;
  }
  const layers = [];
  for (const [node, at] of layer) (layers[at] ||= []).push(node);
  return layers.filter(Boolean);
}

function handoverGraph(width) {
  const edges = DATA.handovers, layers = layersOf(edges), down = width < 640, boxWidth = down ? 150 : 190, boxHeight = 34;
  const along = down ? 84 : 325, across = down ? boxWidth + 14 : 56, place = new Map();
  const widest = Math.max(...layers.map((layer) => layer.length));
  layers.forEach((layer, at) => layer.forEach((node, index) => {
    const offset = (index + (widest - layer.length) / 2) * across;
    place.set(node, down ? { x: offset + 2, y: at * along + 2 } : { x: at * along + 2, y: offset + 2 });
  }));
  const full = { width: (down ? widest * across : (layers.length - 1) * along + boxWidth) + 4, height: (down ? (layers.length - 1) * along + boxHeight : widest * across) + 4 };
  const words = edges.map(([from, to, how, done, waits]) => `${from.replace("=", "")} ${how} ${to.replace("=", "")}: ${number(done)}${waits ? `, ${number(waits)} wait` : ""}`);
  const svg = s("svg", { ...full, role: "group", "aria-label": `Hand-overs: ${words.join("; ")}` });
  svg.append(s("defs", {}, s("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { class: "tip", d: "M0 0L8 4L0 8z" }))));
  const labels = [];
  edges.forEach(([from, to, how, done, waits], at) => {
    const a = place.get(from), b = place.get(to);
    const [x1, y1, x2, y2] = down ? [a.x + boxWidth / 2, a.y + boxHeight, b.x + boxWidth / 2, b.y] : [a.x + boxWidth, a.y + boxHeight / 2, b.x, b.y + boxHeight / 2];
    const curve = down ? `M${x1} ${y1}C${x1} ${y1 + 25} ${x2} ${y2 - 25} ${x2} ${y2}` : `M${x1} ${y1}C${x1 + 50} ${y1} ${x2 - 50} ${y2} ${x2} ${y2}`;
    svg.append(s("path", { class: `edge${waits ? " waits" : ""}`, d: curve, "marker-end": "url(#tip)" }, s("title", {}, words[at])));
    const said = [done ? `${how.replace("is ", "")} ${number(done)}` : "", waits ? `${number(waits)} wait${waits === 1 ? "s" : ""}` : ""].filter(Boolean).join(", ");
    labels.push(s("text", { class: "on-edge", x: (x1 + x2) / 2, y: (y1 + y2) / 2 + 4, "text-anchor": "middle" }, said));
  });
  const made = new Set(edges.filter((edge) => edge[2] === "publishes").map((edge) => edge[1]));
  for (const [node, at] of place) {
    const dataset = node.startsWith("="), label = node.replace(/^=/, ""), known = VIEWS.find((view) => !dataset && view.pipeline.name === label);
    const elsewhere = dataset ? !made.has(node) : !known;
    const rect = s("rect", { class: `box${dataset ? " dataset" : ""}${elsewhere ? " elsewhere" : ""}`, ...at, width: boxWidth, height: boxHeight, rx: dataset ? 0 : 12 });
    const name = s("text", { x: at.x + boxWidth / 2, y: at.y + 21, "text-anchor": "middle" }, cut(label, down ? 20 : 26), s("title", {}, `${label}${elsewhere ? ", not in this ledger" : ""}`));
    svg.append(known ? s("a", { href: `#p-${label}` }, rect, name) : s("g", {}, rect, name));
  }
  svg.append(...labels);
  return svg;
}

// --- the panel of a key ------------------------------------------------------------------------------------

let shown = null;

function openPanel(key, attempt) {
  const panel = $("panel"), returnTo = shown ? shown.returnTo : document.activeElement;
  shown = { key, attempt: attempt ?? key.last, returnTo };
  panel.replaceChildren(...panelOf(key, shown.attempt));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  history.replaceState(null, "", `#key=${encodeURIComponent(key.id)}`);
}

function closePanel() {
  const back = shown?.returnTo;
  shown = null;
  history.replaceState(null, "", location.pathname + location.search);
  $("panel").replaceChildren();
  if (back?.isConnected) back.focus();
}

function panelOf(key, attempt) {
  return [topOf(key), ...whyPart(key), ...repeatPart(key), ...attemptsPart(key, attempt), ...completenessPart(key, attempt), ...timelinePart(key, attempt),
    ...choicesPart(attempt), ...expectPart(attempt), ...handoverPart(key), ...nodesPart(key, attempt)].flat(Infinity).filter((one) => one !== "");
}

function topOf(key) {
  const keys = VIEWS.find((view) => view.pipeline === key.pipeline).keys, at = keys.indexOf(key);
  const step = (to, words) => h("button", { type: "button", disabled: !keys[to] || at < 0, onclick: () => { openPanel(keys[to]); $("panel").querySelector("h2").focus(); }, "aria-label": words }, words[0], h("span", { class: "wide-only" }, words.slice(1)));
  return h("div", { class: "bar-top" }, h("h2", { id: "panel-title", tabindex: -1, autofocus: true }, `${key.pipeline.name} ${key.key} `, badge(key.state)),
    step(at - 1, "↑ previous"), step(at + 1, "↓ next"), h("button", { type: "button", onclick: () => $("panel").close() }, "Close", h("span", { class: "wide-only" }, " (Esc)")));
}

/** An error's text, with the line of the user's code marked. */
function errorText(text, soft) {
  const box = h("pre", { class: `error${soft ? " soft-error" : ""}` });
  let from = 0;
  for (const found of text.matchAll(/[^\s()|;]+, line \d+(?:, in [\w<>.]+)?/g)) {
    box.append(text.slice(from, found.index), h("mark", {}, found[0]));
    from = found.index + found[0].length;
  }
  box.append(text.slice(from));
  return box;
}

function whyPart(key) {
  const failed = [...key.nodes.values()].filter((node) => stateOf(node) === "failed" && textOf(node));
  const found = [h("h3", {}, key.state === "succeeded" ? "Result" : "Why")];
  if (key.state !== "incomplete") found.push(h("p", {}, `${MEANING[key.state][0].toUpperCase()}${MEANING[key.state].slice(1)}.`));
  if (waitersOf(key).length) found.push(h("p", {}, waitersPart(key)));
  if (key.error) found.push(errorText(key.error, key.state !== "failed"));
  else if (!["succeeded", "partial"].includes(key.state)) found.push(h("p", {}, whyOf(key)));
  const more = failed.filter((node) => !key.error.includes(textOf(node)));
  const line = (node) => h("li", {}, h("strong", {}, nameOf(node)), errorText(textOf(node)));
  if (more.length) found.push(h("p", {}, `${many(more.length, "failed node")}:`), h("ul", { class: "plain" }, more.slice(0, 30).map(line), more.length > 30 ? h("li", {}, `and ${more.length - 30} more, in the table of nodes`) : ""));
  return found;
}

function repeatPart(key) {
  const { reuse, again, stays } = repeated(key);
  const looked = again.filter((at) => DATA.kinds[at] === "branch" && stateOf(key.nodes.get(at) ?? []) === "skipped"), runs = again.filter((at) => !looked.includes(at));
  const command = key.attempts.map((attempt) => DATA.facts[attempt.facts].command).filter(Boolean).pop();
  const late = looked.length > 0 && key.state === "partial";
  return [h("h3", {}, "If it is repeated"), h("p", {}, repeatWords(key)), h("dl", {},
    reuse.length && again.length ? [h("dt", {}, "reused"), h("dd", {}, listed(reuse))] : "",
    looked.length ? [h("dt", {}, "looked for again"), h("dd", {}, listed(looked))] : "",
    runs.length ? [h("dt", {}, "run again"), h("dd", {}, listed(runs))] : "",
    stays.length ? [h("dt", {}, "skipped again"), h("dd", {}, listed(stays))] : "",
    command ? [h("dt", {}, "command"), h("dd", {}, h("code", {}, command))] : ""),
  h("p", { class: "soft" }, `If neither code nor inputs have changed since; --plan shows it for sure.${late ? " If a missing branch has arrived, what is computed from it runs again as well." : ""}`)];
}

function attemptsPart(key, attempt) {
  const button = (one) => h("button", { type: "button", "aria-pressed": String(one === attempt), onclick: () => {
    const top = $("panel").scrollTop;
    openPanel(key, one);
    $("panel").scrollTop = top;
    $("panel").querySelector(".tabs [aria-pressed=true]").focus();
  } }, `${GLYPH[one.state] || "✗"} generation ${one.generation}, attempt ${one.attempt}: ${one.state}`, h("br"), h("small", {}, `${time(one.began)}${one.took >= 0 ? `, ${duration(one.took)}` : ", no end recorded"}`));
  const facts = DATA.facts[attempt.facts], error = DATA.texts[attempt.error];
  return [h("h3", {}, `${many(key.attempts.length, "attempt")} in ${many(new Set(key.attempts.map((one) => one.generation)).size, "generation")}`),
    h("div", { class: "tabs", role: "group", "aria-label": "Attempts" }, key.attempts.map(button)),
    facts.cause ? h("p", {}, `Requested by ${facts.cause}.`) : "", facts.kept ? h("p", {}, `A partial backfill: ${many(Object.keys(facts.kept).length, "node")} taken over from earlier generations.`) : "",
    attempt !== key.last && error ? errorText(error, attempt.state !== "failed") : ""];
}

function completenessPart(key, attempt) {
  const parts = DATA.facts[attempt.facts].completeness || [];
  if (!parts.length) return [];
  return [h("h3", {}, "Completeness"), parts.map((part) => {
    const merge = attempt.nodes.find((node) => nameOf(node) === part.node), rule = merge ? factsOf(merge).rule : "";
    const meter = h("div", { class: "meter", role: "img", "aria-label": `${part.arrived} of ${part.expected}` }, h("i"));
    meter.firstChild.style.width = `${100 * part.arrived / Math.max(part.expected, 1)}%`;
    const missing = part.missing.map((branch) => {
      const node = attempt.nodes.find((one) => nameOf(one) === `${part.node}/${branch}`);
      return h("li", {}, h("strong", {}, branch), node && textOf(node) ? `: ${cut(textOf(node), 300)}` : "");
    });
    return [h("p", {}, `${part.node}: ${number(part.arrived)} of ${number(part.expected)} branches (${Math.floor(100 * part.ratio)}%)${rule ? `, required ${rule}` : ""}${part.is_approximate ? ", approximate" : ", complete"}`), meter,
      missing.length ? [h("p", {}, "Missing:"), h("ul", { class: "plain" }, missing.slice(0, 50), missing.length > 50 ? h("li", {}, `and ${missing.length - 50} more`) : "")] : ""];
  })];
}

// --- the timeline of an attempt ----------------------------------------------------------------------------

/** What ran in an attempt, with start and end in milliseconds since it began. */
function barsOf(attempt) {
  const last = attempt.nodes.reduce((most, node) => Math.max(most, stateOf(node) === "reused" ? 0 : valueOf(node, END), valueOf(node, START)), Math.max(attempt.took, 0));
  const bars = [];
  for (const node of attempt.nodes) {
    const state = stateOf(node), took = valueOf(node, TOOK), host = hostOf(node);
    if (state === "reused" || taken(node) || (state === "skipped" && !started(node))) continue;
    const open = !["succeeded", "failed"].includes(state);
    if (open && !started(node)) continue;
    const end = open ? last * 1.04 : valueOf(node, END), start = open ? node[START] : took >= 0 ? Math.max(end - took, 0) : end;
    bars.push({ node, name: nameOf(node), state, start, end, took: open ? -1 : took, open, host, upstream: factsOf(node).upstream });
  }
  for (const bar of bars) {
    const host = bar.host && bars.find((one) => one.name === bar.host);
    if (host) Object.assign(bar, { start: host.start, end: host.end, lazy: true });
  }
  bars.sort((one, other) => one.start - other.start || Boolean(one.lazy) - Boolean(other.lazy) || one.end - other.end);
  return { bars, last: Math.max(last, 1), axis: Math.max(last * (bars.some((bar) => bar.open) ? 1.04 : 1), 1) };
}

/** The nodes that a bar waited for: its recorded inputs that ran, through those that did not run themselves. */
function inputsOf(bar, bars, attempt, seen = new Set()) {
  const found = [];
  const names = [...(bar.upstream || [])];
  if (kindOf(bar.node) === "merge") for (const one of bars) if (one.name.startsWith(`${bar.name}/`)) names.push(one.node[NAME]);
  for (const name of names) {
    if (seen.has(name)) continue;
    seen.add(name);
    const there = bars.find((one) => one.node[NAME] === name && !one.lazy);
    if (there) { found.push(there); continue; }
    const node = attempt.nodes.find((one) => one[NAME] === name);
    if (node) found.push(...inputsOf({ node, name: nameOf(node), upstream: factsOf(node).upstream }, bars, attempt, seen));
  }
  return found;
}

const latest = (bars) => bars.reduce((most, bar) => !most || bar.end > most.end ? bar : most, null);

function waitedFor(bar, bars, attempt) {
  const inputs = inputsOf(bar, bars, attempt).filter((one) => one !== bar && one.end <= bar.start + 250);
  if (inputs.length) return { bar: latest(inputs), how: "input" };
  const before = bars.filter((one) => one !== bar && !one.lazy && !one.open && one.end <= bar.start + 30 && one.start < bar.start);
  return before.length ? { bar: latest(before), how: "time" } : null;
}

function criticalPath(bars, attempt) {
  const path = [], seen = new Set();
  let at = latest(bars.filter((bar) => !bar.lazy));
  while (at && !seen.has(at)) {
    seen.add(at);
    const before = waitedFor(at, bars, attempt);
    path.unshift({ bar: at, how: before?.how });
    at = before?.bar;
  }
  return path;
}

function timelinePart(key, attempt) {
  const { bars, last, axis } = barsOf(attempt);
  if (!bars.length) return [h("h3", {}, "Timeline"), h("p", {}, attempt.nodes.some((node) => stateOf(node) === "reused") ? "Nothing ran in this attempt: what it needed was reused." : `Nothing ran in this attempt${attempt.state === "waiting" ? `, which waited for ${duration(attempt.took)}` : ""}.`)];
  const path = criticalPath(bars, attempt), critical = new Map(path.map((one) => [one.bar, one]));
  const busy = path.reduce((sum, one) => sum + (one.bar.open ? 0 : one.bar.end - one.bar.start), 0), byInput = bars.some((bar) => bar.upstream);
  const box = h("div");
  const draw = (limit) => {
    let list = bars;
    if (bars.length > limit) {
      const chosen = new Set([...bars].sort((one, other) => critical.has(other) - critical.has(one) || (other.state === "failed") - (one.state === "failed") || (other.end - other.start) - (one.end - one.start)).slice(0, limit));
      list = bars.filter((bar) => chosen.has(bar));
    }
    box.replaceChildren();
    onWidth(box, (width) => gantt(list, critical, path, axis, width));
    if (list.length < bars.length) box.append(h("button", { type: "button", onclick: () => draw(Infinity) }, `Show all ${bars.length} nodes; these are the critical, failed and longest ones`));
  };
  draw(BARS);
  const reused = attempt.nodes.filter((node) => stateOf(node) === "reused" || taken(node)).length;
  return [h("h3", {}, `Timeline of generation ${attempt.generation}, attempt ${attempt.attempt}`),
    h("p", { class: "soft" }, `From ${time(attempt.began)} UTC. Thick frame and ◆: the critical path, ${byInput ? "by recorded inputs, and by time where a node has none" : "by time, as this attempt's inputs are not recorded"}. Dashed: computed within another node, or without a recorded end.${reused ? ` ${many(reused, "reused node")} took no time.` : ""}`),
    box, h("p", {}, h("strong", {}, "Critical path: "), path.map((one, at) => [at ? " → " : "", one.bar.name, ` ${one.bar.open ? "(no end)" : duration(one.bar.end - one.bar.start)}`]), `; ${duration(busy)} of ${duration(last)}${path[0].bar.start > 999 ? `, ${duration(path[0].bar.start)} passed before its first node` : ""}.`)];
}

function ticks(last, width) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 864e5];
  const step = steps.find((one) => last / one <= Math.max(width / 90, 2)) ?? Math.ceil(last / 5 / 864e5) * 864e5;
  return Array.from({ length: Math.floor(last / step) + 1 }, (_, at) => at * step);
}

/** The place of a bar's words: to its right, or to its left where they would be cut off. */
const beside = (from, to, words, width) => to + 6 + words.length * 6.8 > width ? { x: from - 6, "text-anchor": "end" } : { x: to + 6 };
const tickWords = (ms) => ms === 0 ? "0" : ms < 1000 ? `${ms} ms` : ms < 60000 ? `${ms / 1000} s` : duration(ms);

function gantt(bars, critical, path, last, width) {
  const narrow = width < 620, row = narrow ? 36 : 22, left = narrow ? 2 : Math.min(Math.max(...bars.map((bar) => bar.name.length)) * 7.6 + 40, 280), right = narrow ? 4 : 84, top = 22;
  const height = top + bars.length * row + 6, span = width - left - right, x = (ms) => left + span * ms / last;
  const svg = s("svg", { width, height, role: "img", "aria-label": `Timeline of ${bars.length} nodes; the table of nodes has the same times` });
  for (const tick of ticks(last, span)) {
    svg.append(s("path", { class: "axis", d: `M${x(tick).toFixed(1)} ${top - 4}V${height}` }),
      s("text", { class: "quiet", x: Math.max(x(tick), 2), y: 12, "text-anchor": tick === 0 ? "start" : x(tick) > width - 30 ? "end" : "middle" }, tickWords(tick)));
  }
  const middleOf = (at) => top + at * row + (narrow ? 25 : row / 2);
  if (!narrow) path.forEach((one, at) => {
    const before = path[at - 1]?.bar, from = bars.indexOf(before), to = bars.indexOf(one.bar);
    if (from >= 0 && to >= 0) svg.append(s("path", { class: "link", d: `M${x(before.end).toFixed(1)} ${middleOf(from)}V${middleOf(to) - 7}` }));
  });
  bars.forEach((bar, at) => {
    const y = middleOf(at), important = critical.has(bar), wide = Math.max(x(bar.end) - x(bar.start), 2), thick = bar.lazy ? 6 : 13;
    const words = `${bar.name}: ${bar.state}, from ${duration(bar.start)} to ${bar.open ? "no recorded end" : duration(bar.end)}${bar.lazy ? `, within ${bar.host}` : bar.open ? "" : `, took ${duration(bar.end - bar.start)}`}`;
    svg.append(s("rect", { class: `bar s-${bar.open ? "started" : bar.state}${important ? " critical" : ""}${bar.lazy ? " lazy" : ""}${bar.open ? " open" : ""}`, x: x(bar.start).toFixed(1), y: y - thick / 2, width: wide.toFixed(1), height: thick, rx: 2 }, s("title", {}, words)));
    const label = `${important ? "◆ " : ""}${GLYPH[bar.open ? "started" : bar.state]} ${cut(bar.name, narrow ? 34 : 32)}`;
    const took = bar.lazy ? `in ${cut(bar.host, 20)}` : bar.open ? "no end" : duration(bar.end - bar.start);
    if (narrow) svg.append(s("text", { class: important ? "named" : "", x: 2, y: y - 11 }, `${label}  ${took}`));
    else svg.append(s("text", { class: important ? "named" : "", x: left - 8, y: y + 4, "text-anchor": "end" }, label), s("text", { class: "quiet", y: y + 4, ...beside(x(bar.start), x(bar.start) + wide, took, width) }, took));
  });
  return svg;
}

// --- the panel's other parts -------------------------------------------------------------------------------

function choicesPart(attempt) {
  const found = attempt.nodes.filter((node) => factsOf(node).route !== undefined);
  if (!found.length) return [];
  return [h("h3", {}, "Choices"), found.map((node) => {
    const facts = factsOf(node), routes = Object.entries(facts.not_taken || {});
    return [h("p", {}, h("strong", {}, nameOf(node)), ` took ${textOf(node) || facts.route}`), routes.length ? h("ul", { class: "plain" }, routes.map(([route, why]) => h("li", {}, h("strong", {}, route), ` ${DATA.texts[why]}`))) : ""];
  })];
}

function expectPart(attempt) {
  const found = attempt.nodes.filter((node) => factsOf(node).expectations);
  if (!found.length) return [];
  const rows = found.flatMap((node) => Object.entries(factsOf(node).expectations).map(([rule, count]) => h("tr", {}, h("td", {}, nameOf(node)), h("td", {}, rule), h("td", { class: "num" }, number(count)), h("td", {}, count ? badge("partial", "violated") : badge("succeeded", "met")))));
  return [h("h3", {}, "Expectations"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["node", "rule"].map((one) => h("th", {}, one)), h("th", { class: "num" }, "violations"), h("th", {}, ""))), h("tbody", {}, rows)))];
}

function handoverPart(key) {
  const lines = [];
  for (const node of key.nodes.values()) {
    const { waits, publishes, waited } = factsOf(node);
    for (const [name, generation] of waits || []) {
      const from = publisherOf(name.includes("/") ? name : `${name}/${key.key}`);
      lines.push(h("li", {}, generation ? `read ${name}, generation ${generation}` : `waits for ${name}`, waited ? ` after waiting ${duration(waited)}` : "", from ? [", published by ", keyLink(from, from.id), generation ? "" : ` (${from.state})`] : generation ? "" : noRunOf(name, key)));
    }
    if (publishes) {
      const readers = READERS.get(`${publishes[0]}/${publishes[1]}`) || [];
      lines.push(h("li", {}, `${publishes[4] ? `announces as ${publishes[4]}:` : "publishes"} ${publishes[0]}/${publishes[1]}, generation ${publishes[2]}, revision ${publishes[3]}`, readers.length ? [", read by ", readers.map((one, at) => [at ? ", " : "", keyLink(one.key, one.key.id), one.generation ? one.generation < publishes[2] ? ` (generation ${one.generation}, out of date)` : "" : " (waits)"])] : ""));
    }
  }
  return lines.length ? [h("h3", {}, "Hand-overs"), h("ul", { class: "plain" }, lines)] : [];
}

function noRunOf(name, key) {
  const [dataset, wanted] = name.split("/"), publishers = PUBLISHERS.filter((one) => one[1] === dataset).map(([pipeline]) => pipeline);
  return publishers.length ? `; ${publishers.join(" or ")} has no run of ${wanted ?? key.key} here` : "";
}

/** The attempt that made a reused node: the last one before in which it succeeded. */
function makerOf(key, attempt, node) {
  const before = key.attempts.slice(0, key.attempts.indexOf(attempt)).reverse();
  return before.find((one) => one.nodes.some((other) => other[NAME] === node[NAME] && stateOf(other) === "succeeded" && !taken(other)));
}

function nodesPart(key, attempt) {
  const { bars } = barsOf(attempt), known = bars.some((bar) => bar.upstream);
  const byName = new Map(bars.map((bar) => [bar.name, bar]));
  const row = (node) => {
    const bar = byName.get(nameOf(node)), before = bar && !bar.lazy ? waitedFor(bar, bars, attempt) : null, facts = factsOf(node);
    const maker = stateOf(node) === "reused" || taken(node) ? makerOf(key, attempt, node) : null;
    const made = maker ? h("div", {}, "reused: made by ", h("button", { type: "button", class: "link", onclick: () => openPanel(key, maker) }, `generation ${maker.generation}, attempt ${maker.attempt}`)) : "";
    return h("tr", {}, h("td", {}, badge(stateOf(node))), h("td", {}, nameOf(node)), h("td", {}, kindOf(node)), h("td", { class: "num" }, valueOf(node, ROWS) >= 0 ? number(node[ROWS]) : ""),
      h("td", { class: "num" }, bar && !bar.lazy ? duration(bar.start) : ""), h("td", { class: "num" }, maker ? "" : duration(valueOf(node, TOOK))),
      h("td", {}, before ? `${before.bar.name}${before.how === "time" && known ? " (by time)" : ""}` : ""),
      h("td", { class: "text" }, maker && /^(succeeded in|kept from) [^;]*$/.test(textOf(node)) ? "" : textOf(node), made, facts.within ? h("div", { class: "soft" }, `within ${[].concat(facts.within).join(", ")}`) : "", facts.where ? h("div", { class: "soft" }, facts.where) : ""));
  };
  const heads = [["state"], ["node"], ["kind"], ["rows", "num"], ["start", "num"], ["took", "num"], [known ? "waited for" : "waited for, by time"], ["reason or error"]];
  return [h("h3", {}, `${many(attempt.nodes.length, "node")} of generation ${attempt.generation}, attempt ${attempt.attempt}`),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Nodes" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map(([one, kind]) => h("th", { class: kind || "" }, one)))), h("tbody", {}, attempt.nodes.map(row))))];
}

// --- start -------------------------------------------------------------------------------------------------

drawHeader();
drawAttention();
drawHandovers();
drawSections();
apply();
$("panel").addEventListener("close", closePanel);
$("panel").addEventListener("click", (event) => { if (event.target === $("panel") && event.offsetX < 0) $("panel").close(); });
addEventListener("beforeprint", () => VIEWS.forEach((view) => view.keys.length && view.chunks.forEach((one) => drawChunk(view, one))));
for (const key of KEYS) if (location.hash === `#key=${encodeURIComponent(key.id)}`) openPanel(key);
})();
