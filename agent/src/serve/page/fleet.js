// The page of all nodes: asks every agent through the API server, with the rights of whoever opened the way to it (`kubectl proxy`). It cannot change anything.
import { element, write } from "./list.js";
import { STATES, stateOf, verdict } from "./model.js";

/** Where `kubectl proxy`, or another way to the API server, shows this page. */
const HERE = /^(.*)\/api\/v1\/namespaces\/([^/]+)\/pods\/([^/]+)\/proxy\/fleet$/;
const AGENTS = "app.kubernetes.io/name=paramedic,app.kubernetes.io/component=agent";
/** Interval of the questions, and the time within which an agent answers, in milliseconds. */
const EVERY = 5000;
const LIMIT = 2500;
/** Agents that are asked at the same time: a browser has six connections to one server. */
const AT_ONCE = 6;
/** Rows of targets; more of them are counted. */
const MOST = 200;
const URGENCY = Object.keys(STATES);

const page = (id) => document.getElementById(id);
const [, root, namespace] = HERE.exec(location.pathname) ?? [];

async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(LIMIT), headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`the API server or the agent answers ${answer.status}`);
  return answer.json();
}

/** The agents by their nodes. */
async function agents() {
  const list = await get(`${root}/api/v1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(AGENTS)}`);
  const found = list.items.filter(({ spec }) => spec.nodeName).map(({ metadata, spec }) => ({ node: spec.nodeName, pod: metadata.name }));
  return found.sort((a, b) => (a.node < b.node ? -1 : 1));
}

/** What one agent tells, or why it tells nothing. */
async function ask(agent) {
  const at = `${root}/api/v1/namespaces/${namespace}/pods/${encodeURIComponent(agent.pod)}:9100/proxy/`;
  const told = { ...agent, at, targets: [], version: "–", trouble: null };
  try {
    // One version older, it does not tell of itself.
    const [about, targets] = await Promise.all([get(`${at}api/v1/about`).catch(() => null), get(`${at}api/v1/targets`)]);
    told.targets = targets.map((view) => ({ view, state: stateOf(view) }));
    told.version = about?.version ?? "–";
    told.dry = about?.dry_run;
    if (about?.pending.length) told.trouble = `not ready: ${about.pending[0]}`;
  } catch (error) {
    told.trouble = error.name === "TimeoutError" ? `no answer within ${LIMIT} ms` : error.message;
  }
  return told;
}

/** All of them, a few at a time. */
async function askAll(all) {
  const told = [];
  const next = all.entries();
  const worker = async () => { for (const [i, agent] of next) told[i] = await ask(agent); };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return told;
}

function counts(targets) {
  const parts = URGENCY.map((state) => [targets.filter((target) => target.state === state).length, STATES[state]]);
  return parts.filter(([n]) => n).map(([n, name]) => `${n} ${name}`).join(", ");
}

/** Writes rows of cells into a table. A cell is a text, or a text with a link or a state, and so are all others of its column. */
function fill(table, rows) {
  const body = table.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, i) => {
    const row = body.rows[i] ?? body.insertRow();
    cells.forEach((cell, k) => {
      const at = row.cells[k] ?? row.insertCell();
      const inner = at.firstElementChild ?? at.appendChild(element(cell.href ? "a" : "span"));
      if (cell.href) inner.href = cell.href;
      if (cell.state) [inner.className, inner.dataset.state] = ["state", cell.state];
      write(inner, cell.text ?? cell);
    });
  });
}

function show(told) {
  const nodes = told.map((agent) => [
    { text: agent.node, href: agent.at }, agent.version, String(agent.targets.length),
    agent.trouble ?? [counts(agent.targets), agent.dry ? "dry run" : ""].filter(Boolean).join(", "),
  ]);
  fill(page("nodes"), nodes);
  const ill = told.flatMap((agent) => agent.targets.filter(({ state }) => state !== "well").map((target) => ({ ...target, agent })));
  ill.sort((a, b) => URGENCY.indexOf(a.state) - URGENCY.indexOf(b.state) || (a.view.name < b.view.name ? -1 : 1));
  const urgent = ill.slice(0, MOST).map(({ view, state, agent }) => [
    { text: STATES[state], state }, view.name, { text: agent.node, href: agent.at }, verdict(view.decision),
    view.refused_by ? `gate: ${view.refused_by.replaceAll("_", " ")}` : view.left_alone ?? "",
  ]);
  fill(page("urgent"), urgent);
  page("urgent").hidden = ill.length === 0;
  page("all-well").hidden = ill.length > 0;
  const silent = told.filter(({ trouble }) => trouble).length;
  const targets = told.reduce((sum, agent) => sum + agent.targets.length, 0);
  const more = ill.length > MOST ? ` · ${ill.length - MOST} more are not well` : "";
  write(page("agent"), `${targets} targets on ${told.length} nodes${silent ? ` · ${silent} of the agents need a look` : ""}${more}`);
}

async function look() {
  // A hidden page must not cost the agents anything.
  if (!document.hidden) {
    try {
      const all = await agents();
      if (!all.length) throw new Error(`no agents in the namespace ${namespace}`);
      show(await askAll(all));
      page("connection").dataset.live = "yes";
      write(page("connection"), `as of ${new Date().toLocaleTimeString()}`);
    } catch (error) {
      page("connection").dataset.live = "no";
      write(page("connection"), `cannot list the agents: ${error.message}; trying again`);
    }
  }
  setTimeout(look, EVERY);
}

if (namespace) look();
else write(page("connection"), "open this page through the API server: run `kubectl proxy`, and see docs/fleet.md for the address");
