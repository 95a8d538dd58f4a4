// What the page asks of the receiver. All of it is same-origin; the session is an HttpOnly cookie.
// Addresses are relative: a proxy may serve the receiver under a prefix.

const PATIENCE_MS = 6000;
const PAGE = 100;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(path, {
    credentials: "same-origin",
    signal: AbortSignal.timeout(PATIENCE_MS),
    ...options,
  });
  const isJson = (answer.headers.get("content-type") ?? "").includes("json");
  const value = isJson ? await answer.json() : null;
  if (!answer.ok) throw new Refused(answer.status, reason(value) ?? `HTTP ${answer.status}`);
  return value;
}

function reason(value) {
  for (const text of [value?.error, value?.detail]) if (typeof text === "string") return text;
  return null;
}

const post = (path, value) => ask(path, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
});

const going = (after) => (after ? `&after=${encodeURIComponent(after)}` : "");
const path = (event) => `v1/events/${encodeURIComponent(event.id)}`;
const of = (event) => `node=${encodeURIComponent(event.node)}`;

// A page may be shorter than asked for: only one that goes nowhere is the end.
const furtherPlace = async (list, { length }, next) =>
  (length === PAGE || (length && (await ask(`${list}&limit=1${going(next)}`)).next !== next) ? next : null);

export const open = async (after) => {
  const list = "v1/events?order=priority&verdict=open";
  const { events, next } = await ask(`${list}&limit=${PAGE}${going(after)}`);
  return { events, next: await furtherPlace(list, events, next) };
};
export const judged = async (after) => {
  const list = "v1/reviews?current=true";
  const { reviews, next } = await ask(`${list}&limit=${PAGE}${going(after)}`);
  return { events: reviews.map(({ event, ...review }) => ({ ...event, review })), next: await furtherPlace(list, reviews, next) };
};
export const changes = async (after) => {
  // The receiver answers as soon as something has changed, after two seconds in any case.
  const { events, next } = await ask(`v1/events?order=changed&wait=2&limit=${PAGE}${going(after)}`);
  return { events, next, more: events.length === PAGE };
};
export const summary = () => ask("v1/reviews/summary");
export const event = (which) => ask(`${path(which)}?${of(which)}`);
export const nodes = () => ask("v1/nodes");
export const judge = (which, verdict, note) =>
  post(`${path(which)}/review?${of(which)}`, { verdict, note, revision: which.data.revision });
export const session = () => ask("v1/session");
export const signIn = (token) => post("v1/session", { token });
export const signOut = () => ask("v1/session", { method: "DELETE" });
export const picture = (which, kind) => `${path(which)}/visuals/${kind}?${of(which)}`;
