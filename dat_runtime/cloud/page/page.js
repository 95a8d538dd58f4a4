// The page: it loads the most urgent events, then asks what has changed, again and again.

import * as api from "./api.js";
import { Details, WORDS } from "./details.js";
import { byId, h, show } from "./dom.js";
import { calibrate, many, timeOf, now } from "./format.js";
import { keyOf, List } from "./list.js";
import { inBrief, table, worst } from "./nodes.js";
import { chime } from "./sound.js";

const PAUSE_MS = 200; // what comes within it is shown together
const PAUSE_LOST_MS = 1000;
const LOST_AFTER_MS = 1500;
const NODES_MS = 5000;
const COUNT_MS = 1000;
const MOST_LISTED = 5000;
const MOST_ROUNDS = 4; // of changes without a pause, before the list is loaded anew

const page = {
  view: "open",
  cursor: null, // of the changes
  older: null, // of the list's next page
  held: new Map(), // new events that wait for the operator to look up
  known: { at: null, lost: false },
  counts: { open: 0, judged: 0 },
  last: null, // the last verdict, to undo
  loading: 0,
};

const list = new List(byId("scroll"), byId("list"), { select: open, scrolled: () => { loadOlderNearEnd(); if (list.atTop && !details.event) takeIn(); } });
const details = new Details(byId("details"), { judge, back: close });

// Loading

async function load() {
  const turn = page.loading += 1;
  const { name, reviews } = await api.session();
  show(byId("sign-out"), name !== "");
  byId("sign-out").title = name;
  document.body.classList.toggle("only-reads", !reviews);
  // The place in the changes is taken first, so that nothing falls between it and the list.
  const summary = await api.summary();
  const first = await api[page.view]();
  if (turn !== page.loading) return;
  page.cursor ??= summary.changed;
  list.clear(page.view);
  list.put(first.events);
  page.older = first.next;
  page.held.clear();
  counted(summary);
  list.refresh();
  pill();
  told();
  document.body.dataset.ready = page.view;
  if (!page.begun) { page.begun = true; fromAddress(); }
}

async function loadOlderNearEnd() {
  const { scrollTop, clientHeight, scrollHeight } = list.scroll;
  if (!page.older || page.busy || list.size >= MOST_LISTED) return;
  if (scrollTop + clientHeight < scrollHeight - 1500) return;
  page.busy = true;
  const turn = page.loading;
  try {
    const more = await api[page.view](page.older);
    if (turn === page.loading) {
      list.put(more.events.filter((event) => !page.held.has(keyOf(event))));
      page.older = more.next;
      list.refresh();
      told();
    }
  } catch { /* the next round says that the link is lost */ }
  page.busy = false;
  if (list.words.length) loadOlderNearEnd();
}

// Changes

async function follow() {
  for (let rounds = 0; ;) {
    let pause = PAUSE_MS;
    try {
      if (page.cursor === null) await load();
      const { events, next, more } = await api.changes(page.cursor);
      page.cursor = next;
      if (events.length) changed(events);
      reached();
      rounds = more ? rounds + 1 : 0;
      if (more) pause = 0;
      if (rounds > MOST_ROUNDS) page.cursor = null; // far behind: load anew
    } catch (error) {
      pause = PAUSE_LOST_MS;
      if (!(error instanceof api.Refused)) missed();
      else if (error.status === 401) await signIn();
      else if (error.status === 400) page.cursor = null;
      else missed();
    }
    await new Promise((done) => setTimeout(done, pause));
  }
}

function changed(events) {
  let severe = 0;
  const isReading = Boolean(details.event) || !list.atTop;
  for (const event of events) {
    const key = keyOf(event);
    if (details.event && keyOf(details.event) === key) details.show(event);
    if (!belongs(event)) { list.drop(key); page.held.delete(key); continue; }
    if (list.has(key)) { list.put([{ ...event, review: list.get(key).review }]); continue; }
    // A page of the list that is not loaded yet will bring it.
    if (page.older && list.isBeyond(event)) continue;
    if (!page.held.has(key) && event.data.answer.severity === "severe") severe += 1;
    if (isReading && page.view === "open") page.held.set(key, event);
    else list.put([event]);
  }
  list.refresh();
  pill();
  told();
  countSoon();
  if (severe && page.view === "open") {
    chime();
    say(many(severe, "new severe event"));
  }
}

const belongs = (event) => (event.verdict === null) === (page.view === "open");

function takeIn() {
  if (!page.held.size) return;
  list.put(page.held.values());
  page.held.clear();
  list.refresh();
  pill();
  told();
}

function pill() {
  const severe = [...page.held.values()].filter((event) => event.data.answer.severity === "severe").length;
  const button = byId("pill");
  show(button, page.held.size > 0);
  button.classList.toggle("severe", severe > 0);
  button.textContent = `↑ ${page.held.size} new${severe ? `, ${severe} severe` : ""}`;
}

// What is known

function counted({ now: clock, open: unjudged, confirmed, dismissed }) {
  calibrate(clock);
  const counts = { open: unjudged, judged: confirmed + dismissed };
  page.counts = counts;
  byId("count-open").textContent = counts.open.toLocaleString();
  byId("count-judged").textContent = counts.judged.toLocaleString();
  document.title = counts.open ? `(${counts.open.toLocaleString()}) DAT review` : "DAT review";
}

// Counting reads more of the store than following does: at most once a second.
function countSoon() {
  page.counting ||= setTimeout(async () => {
    page.counting = 0;
    try { counted(await api.summary()); told(); } catch { /* follow() tells */ }
  }, COUNT_MS);
}

function told() {
  const total = page.counts[page.view];
  let text = "";
  if (!list.size) text = page.view === "open" ? "Nothing is open. New events appear here by themselves." : "Nothing has been judged yet.";
  else if (list.words.length) text = `${list.shown.length.toLocaleString()} match, of ${many(list.size, "loaded event")}${page.older ? ` (${total.toLocaleString()} in all)` : ""}`;
  else if (list.size >= MOST_LISTED) text = `The first ${list.size.toLocaleString()} of ${total.toLocaleString()} are listed.`;
  else if (page.older) text = "Loading older ones…";
  byId("tail").textContent = text;
  if (page.view === "judged" && list.size) {
    byId("tail").append(" ", h("a", { href: "v1/reviews/export", download: "reviews.zip" }, "Download as a training set"));
  }
  byId("tail").classList.toggle("nothing", !list.size);
}

function reached() {
  page.known.at = now();
  page.known.since = performance.now();
  if (page.known.lost) say("The receiver answers again");
  page.known.lost = false;
  show(byId("lost"), false);
  document.body.classList.remove("is-lost");
}

function missed() {
  if (page.known.since && performance.now() - page.known.since < LOST_AFTER_MS) return;
  page.known.lost = true;
  const banner = byId("lost");
  const what = page.known.at ? `Showing what was known at ${timeOf(page.known.at)}.` : "Nothing is known yet.";
  banner.textContent = `The receiver does not answer. ${what} Trying again.`;
  show(banner, true);
  document.body.classList.add("is-lost");
}

async function watchNodes() {
  clearTimeout(page.watching);
  try {
    const { nodes } = await api.nodes();
    page.nodes = nodes;
    byId("link").className = `quiet ${worst(nodes)}`;
    byId("link-text").textContent = inBrief(nodes);
    if (byId("nodes").open) byId("nodes-body").replaceChildren(table(nodes));
  } catch { /* follow() tells */ }
  page.watching = setTimeout(watchNodes, NODES_MS);
}

// Selecting

function open(key, { fromAddress = false } = {}) {
  const event = list.get(key) ?? page.held.get(key);
  if (!event) return;
  list.mark(key);
  list.reveal(key);
  details.show(event);
  document.body.classList.add("reading");
  const address = `#${encodeURIComponent(event.node)}/${encodeURIComponent(event.id)}`;
  if (!fromAddress && location.hash !== address) {
    // One step back leads to the list, however many events were looked at.
    if (location.hash) history.replaceState(null, "", address);
    else { history.pushState(null, "", address); page.stepped = true; }
  }
}

function close() {
  if (location.hash && page.stepped) { page.stepped = false; history.back(); return; }
  // The page was opened by a link to the event: a step back would leave it.
  history.replaceState(null, "", location.pathname);
  closed();
}

function closed() {
  const key = list.selected;
  list.mark(null);
  details.nothing();
  document.body.classList.remove("reading");
  list.list.focus({ preventScroll: true });
  if (key) list.reveal(key);
  if (list.atTop) takeIn();
}

async function fromAddress() {
  if (!location.hash) { page.stepped = false; if (details.event) closed(); return; }
  const [node, id] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const key = `${node}/${id}`;
  if (list.get(key)) { open(key, { fromAddress: true }); return; }
  try {
    details.show(await api.event({ node, id }));
    list.mark(key);
    document.body.classList.add("reading");
  } catch { closed(); }
}

function move(step) {
  const index = list.indexOf(list.selected);
  const next = list.shown[index < 0 ? 0 : Math.min(Math.max(index + step, 0), list.shown.length - 1)];
  if (next) open(keyOf(next));
}

// Judging

async function judge(verdict, event = details.event, note = details.note?.value.trim() ?? "") {
  if (!event || page.judging) return;
  page.judging = true;
  details.busy(true);
  try {
    const judged = await api.judge(event, verdict, note);
    page.last = verdict === "open" ? null : judged;
    const index = list.indexOf(keyOf(judged));
    arrived(judged);
    toast(`${WORDS[verdict]}: ${judged.camera}, ${judged.data.answer.severity}`, page.last && { text: "Undo", run: undo });
    if (verdict === "open" || page.view === "judged") select(judged);
    else next(index);
  } catch (error) {
    if (error instanceof api.Refused && error.status === 401) signIn();
    const isAnswer = error instanceof api.Refused;
    const why = isAnswer ? error.message : "the receiver does not answer";
    // What became worse is to be looked at again before it is judged.
    const again = { text: "Try again", run: () => judge(verdict, event, note) };
    toast(`Not saved: ${why}`, isAnswer && error.status === 409 ? null : again);
  }
  page.judging = false;
  details.busy(false);
}

function arrived(event) {
  const key = keyOf(event);
  if (belongs(event)) list.put([event]);
  else list.drop(key);
  takeIn();
  list.refresh();
  told();
  countSoon();
}

function select(event) {
  details.show(event);
  list.mark(keyOf(event));
}

// The row that took the judged one's place.
function next(index) {
  const event = list.shown[Math.min(Math.max(index, 0), list.shown.length - 1)];
  if (event) open(keyOf(event));
  else close();
}

function undo() {
  const event = details.event?.verdict ? details.event : page.last;
  if (event) judge("open", event, "");
}

// Saying

let toastEnds = 0;
function toast(text, action) {
  clearTimeout(toastEnds);
  byId("toast").replaceChildren(h("span", {}, text),
    action ? h("button", { type: "button", onclick: () => { byId("toast").replaceChildren(); action.run(); } }, action.text) : "");
  toastEnds = setTimeout(() => byId("toast").replaceChildren(), 8000);
}

const say = (text) => { byId("spoken").textContent = text; };

// Signing in and out

let signedIn = null;
function signIn() {
  signedIn ??= new Promise((done) => {
    const dialog = byId("sign-in");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    byId("sign-in-form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await api.signIn(byId("token").value.trim());
        byId("token").value = "";
        byId("sign-in-problem").textContent = "";
        dialog.close();
        signedIn = null;
        done();
        watchNodes();
      } catch (error) {
        byId("sign-in-problem").textContent = error instanceof api.Refused
          ? "This token is not known." : "The receiver does not answer.";
      }
    };
    dialog.showModal();
  });
  return signedIn;
}

// Wiring

function setView(view) {
  if (view === page.view) return;
  page.view = view;
  for (const name of ["open", "judged"]) byId(`tab-${name}`).setAttribute("aria-pressed", name === view);
  const order = view === "open" ? "Most urgent first" : "Latest verdict first";
  byId("order").textContent = order;
  byId("list").setAttribute("aria-label", `${view === "open" ? "Open" : "Judged"} events. ${order}`);
  load().catch(missed);
}

const KEYS = {
  j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
  c: () => judge("confirmed"), d: () => judge("dismissed"), u: undo,
  m: () => details.note?.focus(), n: () => { takeIn(); list.scroll.scrollTop = 0; },
  b: () => { details.boxes = !details.boxes; if (details.event) details.show(details.event); },
  o: () => setView(page.view === "open" ? "judged" : "open"),
  "/": () => byId("filter").focus(), "?": () => byId("help").showModal(),
  Home: () => { if (list.shown[0]) open(keyOf(list.shown[0])); },
  Enter: () => { if (!details.event) move(0); },
  Escape: () => { if (details.event) close(); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isWriting = event.target.matches("input, textarea");
  if (isWriting) {
    if (event.key === "Escape") {
      event.target.blur();
      if (event.target.id === "filter") { event.target.value = ""; list.filter(""); told(); }
      list.list.focus({ preventScroll: true });
    }
    return;
  }
  if (event.key === "Enter" && event.target.matches("button, a")) return;
  // A key that is held down moves on, and judges nothing.
  if (event.repeat && "cdu".includes(event.key)) return;
  const act = KEYS[event.key];
  if (act) { event.preventDefault(); act(); }
});

byId("tab-open").onclick = () => setView("open");
byId("tab-judged").onclick = () => setView("judged");
byId("filter").oninput = (event) => { list.filter(event.target.value); told(); loadOlderNearEnd(); };
byId("pill").onclick = KEYS.n;
byId("help-button").onclick = KEYS["?"];
byId("link").onclick = () => { byId("nodes-body").replaceChildren(table(page.nodes ?? [])); byId("nodes").showModal(); };
byId("sign-out").onclick = async () => { await api.signOut().catch(() => {}); location.reload(); };
byId("sound").onclick = ({ currentTarget: button }) => {
  const isOn = chime.toggle();
  button.setAttribute("aria-pressed", isOn);
};
window.addEventListener("popstate", fromAddress);
setInterval(() => list.tick(), 1000);

follow();
watchNodes();
