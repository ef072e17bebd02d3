// Incidents and refusals.
import { element, write } from "./list.js";

const OUTCOMES = {
  healed: "healed", not_healed: "not healed", worse: "made worse", unverified: "not verified", failed: "failed",
};
const REMEDIES = { soft: "soft heal", restart: "restart", evict: "eviction" };
const MEANS = { drain: "restart after a drain", quarantine: "quarantine" };

function remedyOf(incident) {
  return MEANS[incident.means] ?? REMEDIES[incident.remedy] ?? incident.remedy;
}

/** Time from the intention to the outcome; both are in nanoseconds since boot. */
function took(incident) {
  return incident.concluded === null ? "" : ` in ${((incident.concluded - incident.intended) / 1e9).toFixed(1)} s`;
}

/** One incident in a sentence, for screen readers. */
export function told(incident) {
  const remedy = remedyOf(incident);
  return `${incident.name}: ${remedy}, ${incident.outcome ? OUTCOMES[incident.outcome] : "under way"}`;
}

export function incidentItem(incident) {
  const item = element("li");
  const head = item.appendChild(element("header"));
  const at = new Date(incident.wall_time * 1000);
  const time = element("time", "", at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }));
  time.dateTime = at.toISOString();
  time.title = at.toLocaleString();
  head.append(element("b", "", incident.name.replace("http://", "")), time);
  const line = item.appendChild(element("div"));
  line.append(`${remedyOf(incident)}: `);
  const outcome = element("span", "outcome", incident.outcome ? OUTCOMES[incident.outcome] : "under way");
  outcome.dataset.outcome = incident.outcome ?? "pending";
  line.append(outcome, took(incident));
  const why = incident.reasons.filter((r) => r.share > 0.05).slice(0, 3);
  const because = why.map((r) => `${r.feature.replaceAll("_", " ")} ${+r.value.toFixed(2)}`).join(", ");
  const details = [
    incident.climbed_from === null ? null : `after #${incident.climbed_from} did not help`,
    because && `because ${because}`,
    incident.detail,
  ];
  item.append(element("p", "", details.filter(Boolean).join("; ")));
  if (incident.evidence) {
    // The port has no authentication, so the evidence itself is read on the node.
    const kept = element("p", "evidence", `evidence: ${incident.evidence}; on the node: `);
    kept.append(element("code", "", `paramedic incidents --evidence ${incident.id}`));
    item.append(kept);
  }
  item.querySelector("b").title = incident.name;
  return item;
}

export class Story {
  constructor(page) {
    this.page = page;
  }

  incidents(list) {
    if (this.list === list) return;
    this.list = list;
    this.page("incidents").replaceChildren(...list.map(incidentItem));
    this.page("no-incidents").hidden = list.length > 0;
  }

  refusals(soFar, now) {
    const gates = Object.keys(soFar).filter((gate) => soFar[gate] > 0 || now[gate]);
    const body = this.page("refusals").tBodies[0];
    while (body.rows.length > gates.length) body.deleteRow(-1);
    gates.forEach((gate, i) => {
      const row = body.rows[i] ?? body.insertRow();
      while (row.cells.length < 3) row.insertCell();
      row.cells[1].className = now[gate] ? "now" : "";
      [gate.replaceAll("_", " "), now[gate] ?? 0, soFar[gate]].forEach((text, j) => write(row.cells[j], String(text)));
    });
    this.page("refusals").hidden = gates.length === 0;
    this.page("no-refusals").hidden = gates.length > 0;
  }
}
