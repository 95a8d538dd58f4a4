// The list of events: sorted, and of its rows only those near the window exist as elements, so that
// a hundred thousand events cost no more than thirty.

import { h, s } from "./dom.js";
import { age, exactTime } from "./format.js";
import { drawing, hasPicture, signature } from "./picture.js";

const SPARE_ROWS = 8;

export const keyOf = (event) => `${event.node}/${event.id}`;

const byPriority = (a, b) =>
  b.data.priority - a.data.priority || b.data.captured_at - a.data.captured_at || (keyOf(a) < keyOf(b) ? -1 : 1);
const byJudgement = (a, b) =>
  (b.review?.cursor ?? b.changed) - (a.review?.cursor ?? a.changed) || (keyOf(a) < keyOf(b) ? -1 : 1);

export class List {
  constructor(scroll, list, { select, scrolled }) {
    this.scroll = scroll;
    this.list = list;
    this.select = select;
    this.order = byPriority;
    this.all = new Map();
    this.words = [];
    this.shown = [];
    this.rows = new Map();
    this.selected = null;
    scroll.addEventListener("scroll", () => { this.later(); scrolled(); }, { passive: true });
    list.addEventListener("click", ({ target }) => {
      const row = target.closest("li");
      if (row) select(row.dataset.key);
    });
    new ResizeObserver(() => this.later()).observe(scroll);
  }

  // The rows are of one height, set by the style: a row's place is its number times it.
  get height() {
    return this._height ||= parseFloat(getComputedStyle(this.list).getPropertyValue("--row")) || 96;
  }

  get atTop() { return this.scroll.scrollTop < 8; }
  get size() { return this.all.size; }
  has(key) { return this.all.has(key); }
  get(key) { return this.all.get(key); }
  // Whether an event belongs below all that is listed.
  isBeyond(event) { return Boolean(this.last) && this.order(this.last, event) < 0; }
  indexOf(key) { return this.shown.findIndex((event) => keyOf(event) === key); }

  clear(order) {
    this.order = order === "judged" ? byJudgement : byPriority;
    this.all.clear();
    this.scroll.scrollTop = 0;
  }

  put(events) { for (const event of events) this.all.set(keyOf(event), event); }
  drop(key) { this.all.delete(key); }

  filter(text) {
    this.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.scroll.scrollTop = 0;
    this.refresh();
  }

  matches(event) {
    if (!this.words.length) return true;
    const { degraded, answer, conflict } = event.data;
    const text = [event.node, event.camera, event.id, answer.summary, answer.severity, degraded,
      conflict ? "conflict" : "", event.review?.note ?? ""].join(" ").toLowerCase();
    return this.words.every((word) => text.includes(word));
  }

  // Sort anew. What the operator looks at stays where it is on the screen: the selected row if it is
  // in view, else the first row, but at the top of the list new rows come in above.
  refresh() {
    const anchor = this.anchor();
    const sorted = [...this.all.values()].sort(this.order);
    this.last = sorted.at(-1);
    this.shown = sorted.filter((event) => this.matches(event));
    this.list.style.height = `${this.shown.length * this.height}px`;
    if (anchor) {
      const index = this.indexOf(anchor.key);
      if (index >= 0) this.scroll.scrollTop = index * this.height - anchor.offset;
    }
    this.draw();
  }

  anchor() {
    const top = this.scroll.scrollTop;
    const index = this.selected ? this.indexOf(this.selected) : -1;
    const inView = index >= 0 && (index + 1) * this.height > top
      && index * this.height < top + this.scroll.clientHeight;
    if (inView) return { key: this.selected, offset: index * this.height - top };
    const first = this.shown[Math.floor(top / this.height)];
    if (this.atTop || !first) return null;
    return { key: keyOf(first), offset: Math.floor(top / this.height) * this.height - top };
  }

  later() {
    this.waiting ||= requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
  }

  draw() {
    const top = this.scroll.scrollTop;
    const from = Math.max(0, Math.floor(top / this.height) - SPARE_ROWS);
    const to = Math.min(this.shown.length, Math.ceil((top + this.scroll.clientHeight) / this.height) + SPARE_ROWS);
    const wanted = new Set();
    for (let index = from; index < to; index += 1) {
      const event = this.shown[index];
      const key = keyOf(event);
      wanted.add(key);
      let row = this.rows.get(key);
      if (!row) {
        row = newRow(key);
        this.rows.set(key, row);
        this.list.append(row);
      }
      row.style.transform = `translateY(${index * this.height}px)`;
      row.setAttribute("aria-posinset", index + 1);
      row.setAttribute("aria-setsize", this.shown.length);
      row.setAttribute("aria-selected", key === this.selected);
      fillRow(row, event);
    }
    for (const [key, row] of this.rows) {
      if (!wanted.has(key)) { row.remove(); this.rows.delete(key); }
    }
    const current = this.rows.get(this.selected);
    if (current) this.list.setAttribute("aria-activedescendant", current.id);
    else this.list.removeAttribute("aria-activedescendant");
  }

  tick() {
    for (const row of this.rows.values()) row.tell();
  }

  mark(key) {
    this.selected = key;
    this.draw();
  }

  reveal(key) {
    const index = this.indexOf(key);
    if (index < 0) return;
    const top = index * this.height;
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    const below = top + this.height - this.scroll.clientHeight;
    if (below > this.scroll.scrollTop) this.scroll.scrollTop = below;
  }
}

let rowNumber = 0;

function newRow(key) {
  const row = h("li", { role: "option", id: `row-${rowNumber += 1}` });
  row.dataset.key = key;
  return row;
}

function fillRow(row, event) {
  const { data } = event;
  const kind = hasPicture(event, "roi") || (data.roi && !hasPicture(event, "box")) ? "roi" : "box";
  // Without a picture the whole frame says more than a window into nothing.
  const thumbnail = hasPicture(event, kind) ? kind : "box";
  const drawn = signature(event, thumbnail, true);
  const told = JSON.stringify([data, event.verdict, drawn]);
  if (row.told === told) return;
  row.told = told;
  if (row.drawn !== drawn) {
    row.drawn = drawn;
    row.picture = h("div", { class: "thumbnail" }, drawing(event, thumbnail));
  }
  const passed = h("time", { datetime: new Date(event.data.captured_at * 1000).toISOString() });
  row.tell = () => {
    const text = age(event.data.captured_at);
    if (passed.textContent !== text) passed.textContent = text;
  };
  row.tell();
  passed.title = exactTime(event.data.captured_at);
  row.className = data.answer.severity;
  row.replaceChildren(row.picture, h("div", { class: "words" },
    h("p", { class: "line" }, severity(data), passed),
    h("p", { class: "summary" }, data.answer.summary),
    h("p", { class: "line" }, h("span", { class: "place" }, `${event.camera} · ${event.node}`), badges(event)),
  ));
}

export function severity(data) {
  const { severity: name, count } = data.answer;
  return h("strong", { class: `severity ${name}` },
    s("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, shapeOf(name)),
    name === "none" ? "no accident" : name,
    count > 1 ? h("span", { class: "times" }, ` ×${count}`) : null,
    h("span", { class: "priority", title: "Priority S, from 0 to 1" }, data.priority.toFixed(2)));
}

// A shape of its own for each severity: colour alone tells not everyone.
function shapeOf(name) {
  if (name === "severe") return s("path", { d: "M5 0l5 10H0z" });
  if (name === "moderate") return s("path", { d: "M5 0l5 5-5 5-5-5z" });
  return s("circle", { cx: 5, cy: 5, r: 3.5 });
}

export function badges(event) {
  const { data, verdict } = event;
  const said = [];
  const badge = (name, text, title) => said.push(h("span", { class: `badge ${name}`, title }, text));
  if (data.conflict) badge("conflict", "conflict", "Gate and model disagree: the higher priority stands");
  if (data.degraded) badge("degraded", "degraded", data.degraded);
  else if (data.source === "gate" && !data.conflict) badge("gate", "gate only", "Said by the gate, no model was asked");
  if (data.revision > 0) badge("revision", `r${data.revision}`, `Revision ${data.revision}`);
  if (verdict) badge(verdict, verdict, null);
  return h("span", { class: "badges" }, said);
}
