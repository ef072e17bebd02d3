// The status page: listens, and shows what it hears. Nothing here can change anything on the node.
import { Detail } from "./detail.js";
import { List, element, write } from "./list.js";
import { Model, STATES } from "./model.js";
import { Story, told } from "./story.js";

const page = (id) => document.getElementById(id);
const model = new Model();
const story = new Story(page);
const detail = new Detail(page("detail"), () => choose(null));
const list = new List(page("list"), choose);
let state = null;
let source = null;
let lost = null;

function choose(uid, focus = true) {
  const patient = model.patients.get(uid);
  list.selected = patient ? uid : null;
  page("detail").hidden = !patient;
  if (patient) {
    detail.show(patient, model.incidents);
    if (focus) {
      page("detail").parentElement.scrollTop = 0;
      detail.close.focus({ preventScroll: true });
    }
  } else {
    page("list").focus({ preventScroll: true });
  }
  list.later();
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
  write(page("empty"), model.patients.size ? "No patient fits the filter." : "Nobody is watched. On a cluster, pods consent by the label paramedic.dev/heal.");
  if (model.about) about(model.about);
}

function about({ node, version, max_action, dry_run, journal }) {
  write(page("node"), node);
  document.title = `${node} · Paramedic`;
  const parts = [`version ${version}`, dry_run ? "dry run: nothing is healed" : `heals up to ${max_action}`];
  if (!journal) parts.push("no journal");
  write(page("agent"), parts.join(" · "));
}

/** A button for each state that somebody is in, and one for all. */
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
  if (source) return;
  source = new EventSource("events");
  source.onmessage = ({ data }) => {
    lost = null;
    const begun = model.take(JSON.parse(data));
    if (begun.length) write(page("news"), told(begun[0]));
    show();
    connection();
  };
  source.onerror = () => {
    lost ??= new Date();
    connection();
    // A refusal (too many listeners) ends the source; an end of the agent does not.
    if (source?.readyState === EventSource.CLOSED) { source = null; setTimeout(listen, 5000); }
  };
}

function connection() {
  const status = page("connection");
  status.dataset.live = lost ? "no" : "yes";
  write(status, lost ? `no answer since ${lost.toLocaleTimeString()}; trying again` : "live");
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
// A page that nobody sees costs the agent nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { source?.close(); source = null; } else listen();
});
listen();
