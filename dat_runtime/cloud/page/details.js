// The selected event: evidence, verdict, facts, history.

import * as api from "./api.js";
import { h } from "./dom.js";
import { age, duration, exactTime, timeOf } from "./format.js";
import { badges, keyOf, severity } from "./list.js";
import { drawing, hasPicture, signature } from "./picture.js";

export class Details {
  constructor(root, { judge, back }) {
    this.root = root;
    this.judge = judge;
    this.back = back;
    this.boxes = true;
    this.nothing();
  }

  nothing() {
    this.event = null;
    this.root.replaceChildren(h("p", { class: "hint" },
      "Select an event. ", h("kbd", {}, "j"), " and ", h("kbd", {}, "k"), " move, ",
      h("kbd", {}, "?"), " lists the keys."));
  }

  show(event) {
    if (!this.event || keyOf(this.event) !== keyOf(event)) this.begin();
    this.event = event;
    this.fillHead();
    this.fillFigures();
    this.fillVerdict();
    // Revisions, visuals and verdicts all raise `changed`.
    if (this.known !== event.changed) {
      this.known = event.changed;
      this.fillPast(event);
    }
  }

  // A note that is being written survives whatever arrives for the event.
  begin() {
    this.head = h("div", { class: "head" });
    this.figures = h("div", { class: "figures" });
    this.facts = h("div", { class: "facts" });
    this.history = h("div", { class: "history" });
    this.root.replaceChildren(this.head, this.figures, this.form(), this.facts, this.history);
    this.root.scrollTop = 0;
    this.drawn = null;
    this.known = null;
    this.past = null;
    this.reviews = [];
  }

  fillHead() {
    const { data, camera, node } = this.event;
    this.head.replaceChildren(
      h("button", { type: "button", class: "back quiet", onclick: this.back }, "← Events"),
      h("h2", {}, severity(data), badges(this.event)),
      h("p", { class: "lead" }, data.answer.summary || "No summary."),
      h("p", { class: "dim" }, `${camera} · ${node} · `, moment(data.captured_at), `, ${age(data.captured_at)} ago`.replace("now ago", "now")),
      data.degraded ? h("p", { class: "note degraded" }, `Degraded: ${data.degraded}`) : "",
      data.conflict ? h("p", { class: "note conflict" }, "Gate and model disagree: the higher priority stands.") : "",
    );
  }

  fillFigures() {
    const { event, boxes } = this;
    const kinds = event.data.roi ? ["roi", "box"] : ["box"];
    const shown = kinds.map((kind) => [kind, this.pictured(kind)]);
    const drawn = shown.map(([kind, which]) => signature(which, kind, boxes)).join();
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.figures.replaceChildren(...shown.map(([kind, which]) => this.figure(kind, which)));
  }

  // The event as it was at the revision that its picture shows: the boxes of another do not fit it.
  pictured(kind) {
    const { event, past } = this;
    const revision = past?.visual_revisions?.[kind] ?? event.data.revision;
    const earlier = past?.history.find((one) => one.revision === revision);
    return earlier && hasPicture(event, kind) ? { ...event, data: earlier.data } : event;
  }

  figure(kind, shown) {
    const { width, height } = shown.data.frame;
    const caption = h("figcaption", {}, kind === "roi" ? "ROI" : "Whole frame");
    const note = (text) => caption.append(h("span", { class: "dim" }, ` · ${text}`));
    if (kind === "box") note(`${width} × ${height}`);
    if (!hasPicture(shown, kind)) note("no picture yet");
    else if (shown.data.revision !== this.event.data.revision) note(`of revision ${shown.data.revision}`);
    return h("figure", { class: kind }, drawing(shown, kind, { boxes: this.boxes, large: true }), caption);
  }

  form() {
    const button = (verdict, text, key, name) => h("button", {
      type: "button", class: name, onclick: () => this.judge(verdict), "aria-keyshortcuts": key,
    }, text, " ", h("kbd", {}, key));
    this.note = h("textarea", { id: "note", rows: 2, maxlength: 1000, placeholder: "Note (optional)", "aria-label": "Note" });
    this.confirm = button("confirmed", "Confirm", "c", "confirm");
    this.dismiss = button("dismissed", "Dismiss", "d", "dismiss");
    this.reopen = button("open", "Open again", "u", "quiet");
    this.judged = h("p", { class: "judged" });
    return h("div", { class: "verdict" }, this.judged, this.note,
      h("div", { class: "buttons" }, this.confirm, this.dismiss, this.reopen));
  }

  fillVerdict() {
    const { verdict } = this.event;
    const latest = this.reviews[0];
    this.reopen.hidden = !verdict;
    this.confirm.setAttribute("aria-pressed", verdict === "confirmed");
    this.dismiss.setAttribute("aria-pressed", verdict === "dismissed");
    this.judged.hidden = !latest || (!verdict && !latest.note);
    if (latest) this.judged.replaceChildren(
      h("strong", {}, WORDS[latest.verdict]), ` by ${latest.by}, `, moment(latest.at), latest.note ? `: ${latest.note}` : "");
  }

  busy(isBusy) {
    for (const button of [this.confirm, this.dismiss, this.reopen]) if (button) button.disabled = isBusy;
  }

  async fillPast(event) {
    let told;
    try {
      told = await api.event(event);
    } catch {
      this.known = null; // the list says that the link is lost; the next change asks again
      return;
    }
    if (!this.event || keyOf(this.event) !== keyOf(event)) return;
    this.past = told;
    this.reviews = told.reviews;
    this.fillFigures();
    this.fillVerdict();
    this.fillFacts(told);
    this.fillHistory(told);
  }

  fillFacts({ data, history, id, received_at: received, visuals_at: arrived = {}, visual_revisions: of = {} }) {
    const first = history.at(-1);
    const facts = [
      ["Captured", moment(data.captured_at), "the node's clock"],
      ["Received", moment(received), since(data.captured_at, received)],
    ];
    for (const [kind, name] of [["roi", "ROI"], ["box", "Boxed image"]]) {
      if (!arrived[kind]) continue;
      // From the alert that the picture belongs to.
      const alert = history.find(({ revision }) => revision === of[kind]) ?? first;
      facts.push([name, moment(arrived[kind]), since(alert.received_at, arrived[kind])]);
    }
    if (data.revision > 0) facts.push(["First", moment(first.data.captured_at), `revision ${first.revision}`]);
    facts.push(["Said by", data.source === "mllm" ? "the model" : "the gate", `score ${data.answer.score.toFixed(2)}`]);
    for (const [name, value] of Object.entries(data.versions)) {
      if (value !== null) facts.push([name, short(String(value)), null, String(value)]);
    }
    facts.push(["Event", id]);
    this.facts.replaceChildren(h("h3", {}, "Facts"), h("dl", {}, facts.map(([name, value, extra, title]) =>
      h("div", {}, h("dt", {}, name), h("dd", { title }, value, extra ? h("span", { class: "dim" }, ` ${extra}`) : null)))));
  }

  fillHistory({ history, reviews }) {
    const lines = [
      ...history.map(({ revision, received_at: at, data }) => [at, revision ? `Revision ${revision}` : "Alert", inWords(data)]),
      ...reviews.map(({ at, verdict, by, note: words }) => [at, WORDS[verdict], `by ${by}${words ? `: ${words}` : ""}`]),
    ].sort((a, b) => a[0] - b[0]);
    this.history.replaceChildren(h("h3", {}, "History"), h("ol", {}, lines.map(([at, what, text]) =>
      h("li", {}, moment(at), h("strong", {}, what), " ", text))));
  }
}

export const WORDS = { confirmed: "Confirmed", dismissed: "Dismissed", open: "Opened again" };

const moment = (seconds) =>
  h("time", { datetime: new Date(seconds * 1000).toISOString(), title: exactTime(seconds) }, timeOf(seconds));

function since(start, end) {
  const passed = end - start;
  return passed < -0.05 ? `${duration(passed)}: the clocks differ` : `+${duration(Math.max(0, passed))}`;
}

const short = (text) => (text.length > 20 ? `${text.slice(0, 16)}…` : text);

const inWords = ({ answer, priority, source, degraded }) =>
  `${answer.severity}, priority ${priority.toFixed(2)}, by ${source === "mllm" ? "the model" : "the gate"}${degraded ? ` (${degraded})` : ""}: ${answer.summary}`;
