// One target: its verdict with reasons, its refusal, and every vital sign.
import { draw } from "./chart.js";
import { element, write } from "./list.js";
import { STATES, VITALS, verdict, vitalText } from "./model.js";
import { incidentItem } from "./story.js";

const PART = { absent: "Its process has ended; waiting for a successor.", exhausted: "Every permitted remedy was tried and none helped: an operator must look." };

export class Detail {
  constructor(root, close) {
    this.root = root;
    const head = root.appendChild(element("div", "detail-head"));
    this.name = head.appendChild(element("h2"));
    this.name.id = "detail-name";
    this.close = head.appendChild(element("button", "", "Close"));
    this.close.type = "button";
    this.close.addEventListener("click", close);
    this.state = root.appendChild(element("span", "state"));
    this.says = root.appendChild(element("p", "says"));
    this.held = root.appendChild(element("p", "held"));
    this.because = root.appendChild(element("h3", "", "Because"));
    this.reasons = root.appendChild(element("div"));
    root.append(element("h3", "", "Vital signs"));
    this.vitals = VITALS.map((vital) => {
      const line = root.appendChild(element("div", "big"));
      line.append(element("span", "", vital.name));
      return { text: line.appendChild(element("span")), canvas: line.appendChild(element("canvas")) };
    });
    root.append(element("h3", "", "About"));
    this.facts = root.appendChild(element("dl"));
    this.done = root.appendChild(element("h3", "", "Incidents of this target"));
    this.incidents = root.appendChild(element("ol"));
    this.incidents.id = "own";
    addEventListener("resize", () => { this.sizes = null; });
  }

  show(patient, incidents) {
    const { view, state } = patient;
    write(this.name, view.name);
    this.state.dataset.state = state;
    write(this.state, STATES[state]);
    const { decision } = view;
    const by = decision ? `${verdict(decision)}, ${Math.round(decision.confidence * 100)} % sure, by the ${decision.source}` : verdict(null);
    write(this.says, `Verdict: ${by}. ${PART[state] ?? ""}`);
    const held = view.refused_by ? `Refused by the gate ${view.refused_by}: ${view.refused_why}` : view.left_alone ? `Left alone: ${view.left_alone}` : "";
    write(this.held, held);
    this.held.hidden = !held;
    const reasons = view.reasons ?? [];
    this.because.hidden = reasons.length === 0;
    while (this.reasons.children.length > reasons.length) this.reasons.lastChild.remove();
    reasons.forEach((reason, i) => {
      const line = this.reasons.children[i] ?? this.reasons.appendChild(reasonLine());
      write(line.children[0], reason.feature.replaceAll("_", " "));
      write(line.children[1], String(+reason.value.toFixed(3)));
      const share = Math.round(Math.min(1, Math.max(0, reason.share)) * 100);
      line.children[2].firstChild.style.width = `${share}%`;
      line.children[2].setAttribute("aria-valuenow", share);
      line.children[2].title = `share of the verdict: ${share} %`;
    });
    this.sizes ??= this.vitals[0].canvas.getBoundingClientRect();
    this.vitals.forEach(({ text, canvas }, i) => {
      write(text, decision ? vitalText(VITALS[i], view.features) : "–");
      if (this.sizes.width) draw(canvas, patient.history, i, this.sizes.width, this.sizes.height);
    });
    const facts = [["Consent", view.capped ? `up to ${view.ceiling}; ${view.capped}` : `up to ${view.ceiling}`], ["Instance", view.id.instance], ["Uid", view.id.uid]];
    if (view.health) facts.push(["Health check", `${view.health.result.replaceAll("_", " ")}: ${view.health.reason} (GET ${view.health.path})`]);
    if (view.blind) facts.push(["Not seen", view.blind]);
    if (view.tls) facts.push(["In TLS", view.tls]);
    if (view.resize) facts.push(["Resize in place", view.resize]);
    if (view.remembered.length) facts.push(["Earlier remedies", `${view.remembered.join("; ")}.`]);
    if (view.shared) facts.push(["Cgroup", "shared with others"]);
    const written = JSON.stringify(facts);
    if (written !== this.written) {
      this.written = written;
      this.facts.replaceChildren(...facts.flatMap(([term, text]) => [element("dt", "", term), element("dd", "", text)]));
    }
    if (this.list !== incidents || this.uid !== patient.uid) {
      [this.list, this.uid] = [incidents, patient.uid];
      const own = incidents.filter(({ target }) => target.uid === patient.uid);
      this.incidents.replaceChildren(...own.map(incidentItem));
      this.done.hidden = own.length === 0;
    }
  }
}

function reasonLine() {
  const line = element("div", "reason");
  line.append(element("span"), element("span"));
  const meter = line.appendChild(element("div", "share"));
  meter.setAttribute("role", "meter");
  meter.setAttribute("aria-label", "share of the verdict, in percent");
  meter.append(element("i"));
  return line;
}
