// The status page: shows the agent's events. It cannot change anything on the node.
import { Detail } from "./detail.js";
import { List, element, write } from "./list.js";
import { Model, STATES } from "./model.js";
import { Story, told } from "./story.js";

const page = (id) => document.getElementById(id);
const model = new Model();
const story = new Story(page);
const detail = new Detail(page("detail"), () => choose(null));
const list = new List(page("list"), choose);
// As in style.css.
const phone = matchMedia("(max-width: 880px)");
/** Maximum time between two events, which come twice a second, in milliseconds. A hanging agent keeps the connection, so only their absence shows it. */
const SILENCE = 6000;
/** Delay before reconnecting, in milliseconds. */
const RETRY = 3000;
let state = null;
let source = null;
/** The timeout of the source, or the delay before the next one. */
let timer = null;
/** Time of the last event, or when the page became visible. */
let heard = new Date();

function choose(uid, focus = true) {
  const patient = model.patients.get(uid);
  const inside = page("detail").contains(document.activeElement);
  list.selected = patient ? uid : null;
  page("detail").hidden = !patient;
  cover();
  if (patient) {
    detail.show(patient, model.incidents);
    if (focus) {
      page("detail").parentElement.scrollTop = 0;
      detail.close.focus({ preventScroll: true });
    }
  } else if (inside) {
    // A focus elsewhere, perhaps in the filter, stays.
    page("list").focus({ preventScroll: true });
  }
  list.later();
}

/** On a phone the detail covers the other parts, which are inert meanwhile. */
function cover() {
  const covers = phone.matches && !page("detail").hidden;
  for (const part of document.querySelectorAll("body > header, #patients, aside > :not(#detail)")) part.inert = covers;
  if (covers && !page("detail").contains(document.activeElement)) detail.close.focus({ preventScroll: true });
}

function show() {
  const patients = model.shown(state, page("filter").value);
  list.show(patients);
  states();
  story.incidents(model.incidents);
  story.refusals(model.refusals, model.heldBack());
  const selected = list.selected && model.patients.get(list.selected);
  if (selected) detail.show(selected, model.incidents);
  else if (list.selected) choose(null);
  page("empty").hidden = patients.length > 0;
  write(page("empty"), model.patients.size ? "No target matches the filter." : "No targets. On a cluster, pods consent by the label paramedic.dev/heal.");
  if (model.about) about(model.about);
}

function about({ node, version, max_remedy, dry_run, journal }) {
  write(page("node"), node);
  document.title = `${node} · Paramedic`;
  const parts = [`version ${version}`, dry_run ? "dry run: no remedy is applied" : `heals up to ${max_remedy}`];
  if (!journal) parts.push("no journal");
  write(page("agent"), parts.join(" · "));
}

/** A button for each state with targets, and one for all. */
function states() {
  const counts = model.counts();
  if (state && !counts[state]) state = null;
  const wanted = [["", "all", model.patients.size], ...Object.keys(STATES).filter((s) => counts[s]).map((s) => [s, STATES[s], counts[s]])];
  const root = page("states");
  while (root.children.length > wanted.length) root.lastChild.remove();
  wanted.forEach(([key, name, n], i) => {
    const button = root.children[i] ?? root.appendChild(element("button"));
    button.type = "button";
    button.dataset.key = key;
    button.setAttribute("aria-pressed", (state ?? "") === key);
    write(button, `${n} ${name}`);
  });
}

function listen() {
  hush();
  // A hidden page must not cost the agent anything.
  if (document.hidden) return;
  source = new EventSource("events");
  source.onmessage = ({ data }) => {
    heard = new Date();
    clearTimeout(timer);
    timer = setTimeout(lose, SILENCE);
    const news = model.take(JSON.parse(data));
    // The last three, in chronological order.
    if (news.length) write(page("news"), news.slice(0, 3).reverse().map(told).join(". "));
    show();
    connection(true);
  };
  source.onerror = lose;
  timer = setTimeout(lose, SILENCE);
}

function hush() {
  source?.close();
  source = null;
  clearTimeout(timer);
}

/** Shows that events are missing, and reconnects after a delay. */
function lose() {
  hush();
  connection(false);
  timer = setTimeout(listen, RETRY);
}

function connection(live) {
  const status = page("connection");
  status.dataset.live = live ? "yes" : "no";
  write(status, live ? "live" : `no answer since ${heard.toLocaleTimeString()}; trying again`);
}

page("states").addEventListener("click", ({ target }) => {
  if (target.dataset.key === undefined) return;
  state = target.dataset.key || null;
  show();
});
page("filter").addEventListener("input", show);
addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (event.target === page("filter")) { page("filter").value = ""; show(); page("list").focus(); } else if (list.selected) choose(null);
  } else if (event.key === "/" && event.target !== page("filter")) {
    event.preventDefault();
    page("filter").focus();
  }
});
phone.addEventListener("change", cover);
document.addEventListener("visibilitychange", () => {
  heard = new Date();
  listen();
});
listen();
