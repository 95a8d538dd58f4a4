// Nodes and their links: the dot in the header, and the table behind it.

import { h } from "./dom.js";
import { age, duration, exactTime, many, rate } from "./format.js";

const FINE = ["starting", "live", "ended", "online"]; // states of cameras
const MOST_SHOWN = 200;
const WORST_FIRST = ["lost", "late", "online"];

// A camera without pictures is worth as much attention as a node that is late.
export function worst(nodes) {
  const state = WORST_FIRST.find((one) => nodes.some((node) => node.state === one)) ?? "none";
  return state === "online" && camerasAway(nodes) ? "late" : state;
}

export function inBrief(nodes) {
  if (!nodes.length) return "no node";
  const said = [many(nodes.length, "node")];
  for (const state of WORST_FIRST.slice(0, 2)) {
    const count = nodes.filter((node) => node.state === state).length;
    if (count) said.push(`${count} ${state}`);
  }
  const away = camerasAway(nodes);
  if (away) said.push(`${many(away, "camera")} away`);
  return said.join(", ");
}

const camerasAway = (nodes) => nodes.flatMap((node) => Object.values(node.status?.cameras ?? {}))
  .filter((state) => !FINE.includes(state)).length;

export function table(nodes) {
  if (!nodes.length) return h("p", { class: "dim" }, "No node has reported yet.");
  const ordered = [...nodes].sort((a, b) => WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state));
  const left = ordered.length - MOST_SHOWN;
  return h("div", {},
    h("ul", { class: "nodes" }, ordered.slice(0, MOST_SHOWN).map(card)),
    left > 0 ? h("p", { class: "dim" }, `${left.toLocaleString()} more`) : null);
}

function card(node) {
  const status = node.status ?? {};
  const { bytes_per_s: bytes, round_trip_s: trip } = status.uplink ?? {};
  const waiting = status.waiting ?? {};
  const dropped = Object.entries(status.dropped ?? {}).filter(([, count]) => count);
  const facts = [
    ["not fit for use", status.not_fit],
    ["link", typeof bytes === "number" ? rate(bytes) + (typeof trip === "number" ? `, ${duration(trip)} round trip` : "") : null],
    ["waiting", `${many(waiting.alerts ?? 0, "alert")}, ${many(waiting.visuals ?? 0, "picture")}`],
    ["dropped", dropped.length ? dropped.map(([reason, count]) => `${reason} ${count.toLocaleString()}`).join(", ") : "nothing"],
  ].filter(([, value]) => value);
  const cameras = Object.entries(status.cameras ?? {});
  return h("li", {},
    h("h3", {}, h("i", { class: node.state, "aria-hidden": "true" }), node.node,
      h("span", { class: "dim", title: exactTime(node.seen_at) }, ` ${node.state}, seen ${age(node.seen_at) === "now" ? "now" : `${age(node.seen_at)} ago`}`)),
    h("dl", {}, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("p", { class: "cameras" }, cameras.map(([name, state]) =>
      h("span", { class: `badge camera ${FINE.includes(state) ? "fine" : "degraded"}` }, `${name} ${state}`))));
}
