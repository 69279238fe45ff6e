"use strict";
// Draws one story: a row for every event, a column for every lane. Only what is in sight is in the document.

const story = JSON.parse(document.getElementById("story").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

const COLORS = ["#3b78d8", "#d9822b", "#2f9e63", "#9b51c4", "#c2407f", "#14919b", "#8a6d3b", "#5c6ac4"];
const NO_VIEW = "#8b949e";
const TIME_WIDTH = 96; // Left of the lanes.
const HEIGHTS = [5, 9, 14, 20, 26, 34]; // Of a row; below TEXT_HEIGHT without words.
const TEXT_HEIGHT = 14;
const GAP_MS = 40; // A pause that is drawn as one.
const GAP_HEIGHT = 18;
const OVERSCAN = 400; // Pixels drawn above and below what is in sight.
const LINKS_MAX = 8;

// Letter and colour of the mark of each kind; those without a letter are small dots.
const MARKS = {
  start: ["S", "#2f9e63"], crash: ["X", "#c4183c"], stop: ["X", "#7d1128"], pause: ["Z", "#8b949e"],
  resume: ["G", "#2f9e63"], view: ["V", "#9b51c4"], primary: ["P", "#b8860b"], backup: ["B", "#5c6ac4"],
  install: ["L", "#5c6ac4"], truncate: ["T", "#c4183c"], prepare: ["N", "#3b78d8"], append: ["a", "#7c8894"],
  durable: ["D", "#14919b"], commit: ["C", "#1a7f43"], apply: ["E", "#1a7f43"], repair: ["R", "#14919b"],
  checkpoint: ["K", "#7c8894"], ask: ["?", "#3b78d8"], answer: ["A", "#1a7f43"], fault: ["!", "#b35900"],
  heal: ["+", "#2f9e63"], note: ["i", "#7c8894"], violation: ["#", "#c4183c"],
};
const LEGEND = [
  ["prepare", "gives a request its number"], ["append", "takes an op, not yet durable"], ["durable", "the disk holds it"],
  ["commit", "committed"], ["apply", "executed"], ["view", "leaves its view"], ["primary", "leads"], ["backup", "follows"],
  ["crash", "dies"], ["start", "starts"], ["pause", "stops for a while"], ["fault", "harm"], ["heal", "end of harm"],
  ["ask", "a client asks"], ["answer", "a client is answered"], ["violation", "the violation"],
];

// --- What the story says ------------------------------------------------------------------------

const events = story.events;
const messages = story.messages;
const selection = new Set(story.selection.events);
const effects = events.map(() => []); // Event -> events that it caused.
for (const event of events) for (const cause of event.causes || []) effects[cause].push(event.id);
const sentWith = new Map(); // Event -> messages.
const endedWith = new Map(); // Event -> the message that arrives.
for (const message of messages) {
  if (!sentWith.has(message.sent)) sentWith.set(message.sent, []);
  sentWith.get(message.sent).push(message);
  if (message.ended !== undefined) endedWith.set(message.ended, message);
}
const statesOf = story.lanes.map(() => []);
for (const state of story.states) statesOf[state.lane].push(state);

const views = new Map(); // View -> colour, in order of appearance.
function colorOf(view) {
  if (view === undefined || view === null) return NO_VIEW;
  if (!views.has(view)) views.set(view, COLORS[views.size % COLORS.length]);
  return views.get(view);
}
for (const state of story.states) colorOf(state.fields.view);

// --- What is shown --------------------------------------------------------------------------------

let filter = "selection";
let zoom = 3;
let shown = []; // Ids of the events that have a row, in order.
let rowOf = new Map(); // Event -> row.
let tops = []; // Of each row, in pixels.
let columns = []; // Lanes that have a column.
let cursor = 0; // Row.
let chosenMessage = null;

const height = () => HEIGHTS[zoom];
const yOf = (row) => tops[row] + height() / 2;
const xOf = (lane) => TIME_WIDTH + 24 + columns.indexOf(lane) * laneWidth();
const hasWords = () => height() >= TEXT_HEIGHT;
const laneWidth = () => Math.max(34, Math.min(hasWords() ? 84 : 200, (hasWords() ? 420 : 840) / columns.length));
const lanesWidth = () => TIME_WIDTH + 24 + columns.length * laneWidth() - laneWidth() / 2 + 6;

/** The last row at or before an event, -1 before the first. */
function rowBefore(event) {
  let low = 0;
  let high = shown.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (shown[middle] <= event) low = middle + 1; else high = middle;
  }
  return low - 1;
}

function choose() {
  const current = shown[cursor];
  const keep = { selection: (e) => selection.has(e.id), busy: (e) => !e.is_idle || selection.has(e.id), all: () => true }[filter];
  shown = events.filter(keep).map((event) => event.id);
  rowOf = new Map(shown.map((id, row) => [id, row]));
  const seen = new Set(shown.map((id) => events[id].lane));
  columns = story.lanes
    .map((lane, index) => index)
    .filter((index) => story.lanes[index].kind === "replica" || (story.lanes[index].kind === "client" && seen.has(index)));
  cursor = current === undefined ? Math.max(0, shown.length - 1) : Math.max(0, rowBefore(current));
  place();
}

function place() {
  tops = [];
  let y = 8;
  let before = null;
  for (const id of shown) {
    if (before !== null && isGap(before, id)) y += GAP_HEIGHT;
    tops.push(y);
    y += height();
    before = id;
  }
  byId("canvas").style.height = `${y + 40}px`;
  byId("rows").style.left = `${lanesWidth()}px`;
  byId("canvas").style.minWidth = `${lanesWidth() + 320}px`;
  byId("slider").max = String(Math.max(0, shown.length - 1));
  nameLanes();
}

const isGap = (before, id) => events[id].time - events[before].time >= GAP_MS * 1000;

function nameLanes() {
  byId("names").replaceChildren(...columns.map((lane) => {
    const name = element("span", story.lanes[lane].kind, story.lanes[lane].name);
    name.style.left = `${xOf(lane)}px`;
    return name;
  }));
}

// --- Drawing ----------------------------------------------------------------------------------------

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function shape(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const ms = (time) => (time / 1000).toFixed(3);

function draw() {
  const scroll = byId("scroll");
  const top = Math.max(0, scroll.scrollTop - OVERSCAN);
  const bottom = scroll.scrollTop + scroll.clientHeight + OVERSCAN;
  let first = 0;
  while (first < shown.length && tops[first] + height() < top) first += 1;
  let last = first;
  while (last + 1 < shown.length && tops[last + 1] < bottom) last += 1;
  const chart = byId("chart");
  chart.setAttribute("width", lanesWidth());
  chart.setAttribute("height", byId("canvas").style.height);
  const parts = shown.length ? [
    ...drawBands(first, last), ...drawTimes(first, last), ...drawLanes(first, last), ...drawMessages(first, last),
    ...drawMarks(first, last), drawCursor(),
  ] : [];
  chart.replaceChildren(...parts);
  byId("rows").replaceChildren(...(hasWords() ? drawRows(first, last) : []));
  drawMap();
}

/** Harm done to the world, its end, and the violation go across all lanes. */
function* drawBands(first, last) {
  for (let row = first; row <= last; row += 1) {
    const event = events[shown[row]];
    if (event.lane !== 0 && event.kind !== "violation") continue;
    const name = event.kind === "violation" ? "band violation" : event.kind === "heal" ? "band heal" : "band";
    yield shape("rect", { class: name, x: 0, y: tops[row], width: lanesWidth(), height: height() });
  }
}

function* drawTimes(first, last) {
  let before = null;
  for (let row = first; row <= last; row += 1) {
    const event = events[shown[row]];
    if (row > 0 && isGap(shown[row - 1], shown[row])) {
      const y = tops[row] - GAP_HEIGHT / 2;
      const passed = (event.time - events[shown[row - 1]].time) / 1000;
      yield shape("line", { class: "gap-line", x1: TIME_WIDTH, x2: lanesWidth(), y1: y, y2: y });
      yield shape("text", { class: "gap", x: TIME_WIDTH - 8, y: y + 3 }, `${passed.toFixed(0)} ms pass`);
    }
    if (hasWords() && event.time !== before) {
      yield shape("text", { class: "time", x: TIME_WIDTH - 8, y: yOf(row) + 4 }, `${ms(event.time)} ms`);
    }
    before = event.time;
  }
}

/** Each replica's line: the colour is the view, the width the role, dots are a replica that is down. */
function* drawLanes(first, last) {
  const from = Math.max(0, tops[first] - height());
  const to = tops[last] + height() * 1.5;
  for (const lane of columns) {
    const x = xOf(lane);
    if (story.lanes[lane].kind === "client") {
      yield shape("line", { class: "lane client", x1: x, x2: x, y1: from, y2: to });
      continue;
    }
    const changes = [null, ...statesOf[lane]];
    for (let index = 0; index < changes.length; index += 1) {
      const begin = changes[index] === null ? from : Math.max(from, startOf(changes[index].event));
      const end = index + 1 < changes.length ? Math.min(to, startOf(changes[index + 1].event)) : to;
      if (begin >= end) continue;
      const fields = changes[index] === null ? { status: "down" } : changes[index].fields;
      const line = { x1: x, x2: x, y1: begin, y2: end };
      if (fields.status === "down") {
        yield shape("line", { class: "lane down", ...line });
      } else {
        const width = fields.role === "primary" ? 11 : fields.role === "backup" ? 5 : 3;
        const dash = fields.role ? {} : { "stroke-dasharray": "6 4" };
        yield shape("line", { class: "lane", stroke: colorOf(fields.view), "stroke-width": width, ...dash, ...line });
      }
    }
  }
}

/** Where an event stands, whether it has a row of its own or not. */
function startOf(event) {
  const row = rowBefore(event);
  if (row < 0) return 0;
  return shown[row] === event ? yOf(row) : tops[row] + height();
}

function* drawMessages(first, last) {
  const low = tops[first] - height();
  const high = tops[last] + height() * 2;
  const current = shown[cursor];
  for (const message of messages) {
    if (!rowOf.has(message.sent) && !(message.ended !== undefined && rowOf.has(message.ended))) continue;
    if (!columns.includes(message.source) || !columns.includes(message.destination)) continue;
    const y1 = startOf(message.sent);
    const hasArrival = message.ended !== undefined && rowOf.has(message.ended);
    const y2 = hasArrival ? yOf(rowOf.get(message.ended)) : y1 + height() * 0.9;
    if (y2 < low || y1 > high) continue;
    yield* drawMessage(message, y1, y2, hasArrival, message.sent === current || message.ended === current);
  }
}

function* drawMessage(message, y1, y2, hasArrival, isRelated) {
  const x1 = xOf(message.source);
  const x2 = xOf(message.destination);
  const fate = message.fate;
  const fails = fate === "lost" || fate === "blocked";
  const reach = fails ? 0.55 : hasArrival ? 1 : 0.8;
  const endX = x1 + (x2 - x1) * reach;
  const endY = y1 + (y2 - y1) * reach;
  const name = ["message", message.is_idle && "idle", message.is_copy && "copy", (fails || !hasArrival) && "failed",
    isRelated && "related", chosenMessage === message && "chosen"].filter(Boolean).join(" ");
  const color = message.is_idle ? NO_VIEW : colorOf(message.view);
  const path = `M${x1},${y1} L${endX},${endY}`;
  const hit = shape("path", { class: "hit", d: path });
  hit.append(shape("title", {}, titleOf(message)));
  hit.addEventListener("click", (click) => { click.stopPropagation(); chooseMessage(message); });
  yield hit;
  yield shape("path", { class: name, d: path, stroke: color });
  if (fails) {
    const d = `M${endX - 5},${endY - 5} l10,10 M${endX + 5},${endY - 5} l-10,10`;
    yield shape("path", { class: "cross", d });
  } else {
    yield shape("path", { d: arrowHead(x1, y1, endX, endY), fill: fate === "unheard" ? "var(--bad)" : color });
  }
}

function arrowHead(x1, y1, x2, y2) {
  const angle = Math.atan2(y2 - y1, x2 - x1);
  const tipX = x2 - 5 * Math.cos(angle);
  const tipY = y2 - 5 * Math.sin(angle);
  const corner = (turn) => `${tipX - 9 * Math.cos(angle + turn)},${tipY - 9 * Math.sin(angle + turn)}`;
  return `M${tipX},${tipY} L${corner(0.42)} L${corner(-0.42)} Z`;
}

function titleOf(message) {
  const ended = { lost: "lost", blocked: "stopped by the partition", flying: "still on its way", unheard: "not heard" };
  const what = ended[message.fate] || `${((message.ended_time - events[message.sent].time) / 1000).toFixed(3)} ms on its way`;
  return `${message.kind}: ${nameOf(message.source)} → ${nameOf(message.destination)}\n${what}`;
}

const nameOf = (lane) => story.lanes[lane].name;

function* drawMarks(first, last) {
  for (let row = first; row <= last; row += 1) {
    const event = events[shown[row]];
    if (!columns.includes(event.lane)) continue;
    yield* drawMark(event, xOf(event.lane), yOf(row));
  }
}

function* drawMark(event, x, y) {
  const mark = MARKS[event.kind];
  const size = Math.max(2.5, Math.min(7.5, height() / 2.8));
  if (!mark) {
    const fill = event.is_idle ? NO_VIEW : colorOf(event.view);
    yield shape("circle", { class: "mark", cx: x, cy: y, r: size * 0.55, fill });
    return;
  }
  const [letter, fill] = mark;
  if (event.kind === "violation") {
    yield shape("path", { class: "mark", d: burst(x, y, size * 1.9), fill });
  } else {
    yield shape("rect", { class: "mark", x: x - size, y: y - size, width: 2 * size, height: 2 * size, rx: size * 0.55, fill });
  }
  if (size > 5) yield shape("text", { class: "mark-text", x, y: y + 3.2 }, letter);
}

function burst(x, y, radius) {
  const points = [];
  for (let index = 0; index < 16; index += 1) {
    const distance = index % 2 ? radius * 0.62 : radius;
    const angle = (index * Math.PI) / 8;
    points.push(`${(x + distance * Math.cos(angle)).toFixed(1)},${(y + distance * Math.sin(angle)).toFixed(1)}`);
  }
  return `M${points.join(" L")} Z`;
}

function drawCursor() {
  const y = yOf(cursor);
  return shape("line", { class: "cursor-line", x1: TIME_WIDTH, x2: lanesWidth(), y1: y, y2: y });
}

function drawRows(first, last) {
  const current = shown[cursor];
  const causes = new Set(events[current].causes || []);
  const wanted = byId("find").value.trim().toLowerCase();
  const rows = [];
  for (let row = first; row <= last; row += 1) {
    const event = events[shown[row]];
    const kind = event.kind === "fault" ? "harm" : event.kind;
    const names = ["row", kind, event.is_idle && "idle", causes.has(event.id) && "cause", row === cursor && "cursor",
      wanted && event.text.toLowerCase().includes(wanted) && "found"];
    const line = element("div", names.filter(Boolean).join(" "));
    line.id = `event-${event.id}`;
    line.style.top = `${tops[row]}px`;
    line.style[event.kind === "violation" ? "minHeight" : "height"] = `${height()}px`;
    line.style.fontSize = height() < 20 ? "11px" : "13px";
    line.append(element("span", "text", event.text));
    const fate = fateOf(event);
    if (fate) line.append(element("span", "fate", fate));
    line.title = event.text;
    line.addEventListener("click", () => go(row));
    rows.push(line);
  }
  return rows;
}

/** What became of those messages that did not arrive. */
function fateOf(event) {
  const words = { lost: "lost", blocked: "cut off", flying: "on its way" };
  const sent = (sentWith.get(event.id) || []).filter((message) => words[message.fate] && !message.is_copy);
  return sent.map((message) => `→ ${nameOf(message.destination)}: ${words[message.fate]}`).join("  ");
}

/** The whole run in a narrow strip. */
function drawMap() {
  const map = byId("map");
  const scale = window.devicePixelRatio || 1;
  const tall = map.clientHeight;
  if (map.height !== Math.round(tall * scale)) {
    map.width = Math.round(28 * scale);
    map.height = Math.round(tall * scale);
  }
  const pen = map.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, 28, tall);
  const whole = byId("canvas").offsetHeight;
  const at = (y) => (y / whole) * tall;
  const replicas = columns.filter((lane) => story.lanes[lane].kind === "replica");
  const wide = 20 / replicas.length;
  replicas.forEach((lane, index) => {
    statesOf[lane].forEach((state, place) => {
      const next = statesOf[lane][place + 1];
      const begin = at(startOf(state.event));
      const end = next ? at(startOf(next.event)) : at(whole - 40);
      if (state.fields.status === "down") return;
      pen.globalAlpha = state.fields.role === "primary" ? 1 : 0.45;
      pen.fillStyle = colorOf(state.fields.view);
      pen.fillRect(4 + index * wide, begin, Math.max(1, wide - 1), Math.max(0.5, end - begin));
    });
  });
  pen.globalAlpha = 1;
  const style = getComputedStyle(document.documentElement);
  for (const [row, id] of shown.entries()) {
    const kind = events[id].kind;
    if (kind !== "violation" && kind !== "crash" && events[id].lane !== 0) continue;
    pen.fillStyle = style.getPropertyValue(kind === "heal" ? "--good" : kind === "fault" ? "--harm" : "--bad");
    pen.fillRect(kind === "violation" ? 0 : 24, at(tops[row]) - 1, kind === "violation" ? 28 : 4, kind === "violation" ? 4 : 2);
  }
  const scroll = byId("scroll");
  pen.strokeStyle = style.getPropertyValue("--accent");
  pen.lineWidth = 1.5;
  pen.strokeRect(1, at(scroll.scrollTop) + 1, 26, Math.max(6, at(scroll.clientHeight) - 2));
}

// --- The cursor -------------------------------------------------------------------------------------

function go(row, keepScroll = false) {
  if (!shown.length) return;
  cursor = Math.max(0, Math.min(shown.length - 1, row));
  chosenMessage = endedWith.get(shown[cursor]) || null;
  if (!keepScroll) {
    const scroll = byId("scroll");
    const y = yOf(cursor);
    const margin = Math.min(90, scroll.clientHeight / 4);
    if (y < scroll.scrollTop + margin) scroll.scrollTop = y - margin;
    else if (y > scroll.scrollTop + scroll.clientHeight - margin) scroll.scrollTop = y - scroll.clientHeight + margin;
  }
  refresh();
}

function refresh() {
  const event = events[shown[cursor]];
  byId("slider").value = String(cursor);
  byId("position").textContent = event ? `step ${cursor + 1} of ${shown.length}, ${ms(event.time)} ms` : "no step";
  draw();
  showLogs();
  showStates();
  showDetails();
}

function goToEvent(id) {
  if (!rowOf.has(id)) {
    filter = "all";
    byId("filter").value = filter;
    choose();
  }
  go(rowOf.get(id));
}

function chooseMessage(message) {
  chosenMessage = message;
  draw();
  showDetails();
}

// --- The panel --------------------------------------------------------------------------------------

/** A replica's state after an event, and the one before that. */
function stateAt(lane, event) {
  let now = null;
  let before = null;
  for (const state of statesOf[lane]) {
    if (state.event > event) break;
    before = now;
    now = state;
  }
  return { now, before: now && now.event === event ? before : now };
}

const replicaLanes = story.lanes.map((lane, index) => index).filter((index) => story.lanes[index].kind === "replica");

function showStates() {
  const event = shown[cursor];
  const states = replicaLanes.map((lane) => stateAt(lane, event));
  const fields = [...new Set(states.flatMap(({ now }) => (now ? Object.keys(now.fields) : [])))];
  const table = element("table");
  const head = element("tr");
  head.append(element("th"), ...replicaLanes.map((lane) => element("th", "", nameOf(lane))));
  const body = element("tbody");
  for (const field of fields) {
    const line = element("tr");
    line.append(element("th", "", field));
    for (const { now, before } of states) {
      const value = now ? now.fields[field] : undefined;
      const cell = element("td", value === "down" ? "down" : "");
      if (field === "view" && value !== undefined) {
        const dot = element("span", "dot");
        dot.style.background = colorOf(value);
        cell.append(dot);
      }
      cell.append(value === undefined || value === null ? "" : String(value));
      if (before && now && before !== now && before.fields[field] !== value) cell.classList.add("changed");
      line.append(cell);
    }
    body.append(line);
  }
  const header = element("thead");
  header.append(head);
  table.append(header, body);
  byId("states").replaceChildren(fields.length ? table : element("p", "", "Nobody is up yet."));
}

/** The newest part of each log, op above op: whoever holds something else there stands out. */
function showLogs() {
  const event = shown[cursor];
  const logs = replicaLanes.map((lane) => {
    const { now } = stateAt(lane, event);
    return new Map((now ? now.log : []).map((cell) => [cell[0], cell]));
  });
  const all = [...new Set(logs.flatMap((log) => [...log.keys()]))].sort((a, b) => a - b).slice(-9);
  const grid = element("div", "log");
  grid.style.gridTemplateColumns = `auto repeat(${all.length}, minmax(30px, 44px))`;
  grid.append(element("span", "op", all.length ? "op" : ""), ...all.map((op) => element("span", "op", op)));
  replicaLanes.forEach((lane, index) => {
    grid.append(element("span", "who", nameOf(lane)));
    for (const op of all) grid.append(logCell(logs, index, op));
  });
  byId("logs").replaceChildren(grid);
}

function logCell(logs, index, op) {
  const cell = logs[index].get(op);
  if (!cell) return element("span");
  const [, view, label, held, isCommitted] = cell;
  const others = logs.map((log) => log.get(op)).filter((other) => other && other[2] !== label && other[2] !== "?");
  const names = ["cell", held, isCommitted && "committed", others.length && label !== "?" && "differs"];
  const made = element("span", names.filter(Boolean).join(" "), label);
  made.style.background = colorOf(view);
  const how = { durable: "durable", memory: "in memory only", missing: "known, not held" }[held];
  made.title = `op ${op} of view ${view}, ${label}: ${how}${isCommitted ? ", committed" : ""}`;
  return made;
}

function showDetails() {
  const event = events[shown[cursor]];
  const parts = [];
  if (event) {
    parts.push(element("p", "what", event.text));
    parts.push(facts({ at: `${ms(event.time)} ms`, ...(event.facts || {}) }));
    parts.push(links("caused by", event.causes || []), links("leads to", effects[event.id]));
  }
  if (chosenMessage) parts.push(element("h2", "", "The message"), facts(factsOf(chosenMessage)));
  byId("details").replaceChildren(...parts.filter(Boolean));
}

function factsOf(message) {
  const sending = events[message.sent];
  const ended = message.ended_time === undefined ? "" : `${ms(message.ended_time)} ms`;
  const how = [message.fate, message.is_copy && "a copy made by the network", message.is_late && "held back"];
  return {
    message: message.kind, from: nameOf(message.source), to: nameOf(message.destination),
    sent: `${ms(sending.time)} ms`, ended, fate: how.filter(Boolean).join(", "), ...(sending.facts || {}),
  };
}

function facts(values) {
  const table = element("table", "facts");
  const body = element("tbody");
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === "") continue;
    const line = element("tr");
    line.append(element("th", "", name.replaceAll("_", " ")), element("td", "", String(value)));
    body.append(line);
  }
  table.append(body);
  return table;
}

function links(title, ids) {
  if (!ids.length) return null;
  const list = element("ul", "links");
  list.append(element("li", "", title));
  for (const id of ids.slice(0, LINKS_MAX)) {
    const item = element("li");
    const button = element("button", "", events[id].text);
    button.type = "button";
    button.addEventListener("click", () => goToEvent(id));
    item.append(button, element("small", "", `  ${ms(events[id].time)} ms`));
    list.append(item);
  }
  if (ids.length > LINKS_MAX) list.append(element("li", "", `and ${ids.length - LINKS_MAX} more`));
  return list;
}

function showLegend() {
  const entries = LEGEND.filter(([kind]) => events.some((event) => event.kind === kind)).map(([kind, text]) => {
    const icon = shape("svg", { width: 16, height: 16 });
    icon.append(
      shape("rect", { x: 1, y: 1, width: 14, height: 14, rx: 4, fill: MARKS[kind][1] }),
      shape("text", { class: "mark-text", x: 8, y: 11.5 }, MARKS[kind][0]),
    );
    return entry(icon, text);
  });
  for (const [view, color] of views) {
    const icon = shape("svg", { width: 16, height: 16 });
    icon.append(shape("rect", { x: 4, y: 0, width: 8, height: 16, fill: color }));
    entries.push(entry(icon, `view ${view}; wide: leads`));
  }
  const down = shape("svg", { width: 16, height: 16 });
  down.append(shape("line", { class: "lane down", x1: 8, x2: 8, y1: 0, y2: 16 }));
  const lost = shape("svg", { width: 16, height: 16 });
  lost.append(shape("path", { class: "cross", d: "M3,3 l10,10 M13,3 l-10,10" }));
  entries.push(entry(down, "down"), entry(lost, "lost, or cut off"));
  byId("legend").replaceChildren(...entries);
}

function entry(icon, text) {
  const made = element("span");
  made.append(icon, text);
  return made;
}

// --- Keys and buttons -------------------------------------------------------------------------------

function resize(by) {
  const middle = yOf(cursor) - byId("scroll").scrollTop;
  zoom = Math.max(0, Math.min(HEIGHTS.length - 1, zoom + by));
  place();
  byId("scroll").scrollTop = yOf(cursor) - middle;
  draw();
}

function find(from) {
  const wanted = byId("find").value.trim().toLowerCase();
  if (!wanted) return;
  for (let step = 0; step < shown.length; step += 1) {
    const row = (from + step) % shown.length;
    if (events[shown[row]].text.toLowerCase().includes(wanted)) {
      go(row);
      return;
    }
  }
  draw();
}

const KEYS = {
  ArrowRight: () => go(cursor + 1), ArrowDown: () => go(cursor + 1), ArrowLeft: () => go(cursor - 1),
  ArrowUp: () => go(cursor - 1), PageDown: () => go(cursor + 15), PageUp: () => go(cursor - 15),
  Home: () => go(0), End: () => go(shown.length - 1), "+": () => resize(1), "-": () => resize(-1),
};

document.addEventListener("keydown", (key) => {
  if (key.ctrlKey || key.metaKey || key.altKey || key.target.matches("select, input[type=search]")) return;
  const act = KEYS[key.key];
  if (act) {
    key.preventDefault();
    act();
  }
});
byId("slider").addEventListener("input", (change) => go(Number(change.target.value)));
byId("first").addEventListener("click", KEYS.Home);
byId("last").addEventListener("click", KEYS.End);
byId("back").addEventListener("click", KEYS.ArrowLeft);
byId("forward").addEventListener("click", KEYS.ArrowRight);
byId("smaller").addEventListener("click", () => resize(-1));
byId("larger").addEventListener("click", () => resize(1));
byId("verdict").addEventListener("click", () => goToEvent(story.violation));
byId("filter").addEventListener("change", (change) => {
  filter = change.target.value;
  choose();
  go(cursor);
});
byId("find").addEventListener("input", () => find(cursor));
byId("find").addEventListener("keydown", (key) => { if (key.key === "Enter") find(cursor + 1); });
byId("scroll").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
byId("scroll").addEventListener("wheel", (wheel) => {
  if (!wheel.ctrlKey) return;
  wheel.preventDefault();
  resize(wheel.deltaY < 0 ? 1 : -1);
}, { passive: false });
function followMap(at) {
  const map = byId("map");
  const share = at.offsetY / map.clientHeight;
  byId("scroll").scrollTop = share * byId("canvas").offsetHeight - byId("scroll").clientHeight / 2;
}
byId("map").addEventListener("pointerdown", followMap);
byId("map").addEventListener("pointermove", (at) => { if (at.buttons) followMap(at); });
window.addEventListener("resize", draw);

// --- Begin ------------------------------------------------------------------------------------------

byId("title").textContent = story.title;
byId("notes").textContent = story.notes.join(" · ");
byId("notes").title = story.command;
if (story.verdict) {
  byId("verdict").hidden = false;
  byId("rule").textContent = story.verdict.rule;
  byId("verdict-text").textContent = story.verdict.text;
}
byId("filter").options[0].textContent = story.selection.name;
byId("filter").value = filter;
choose();
showLegend();
go(story.violation === null || !rowOf.has(story.violation) ? 0 : rowOf.get(story.violation));
