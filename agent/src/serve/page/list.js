// The list of targets. Only visible rows exist, whether there are five targets or 500.
import { draw } from "./chart.js";
import { STATES, VITALS, verdict, vitalText } from "./model.js";

/** Creates an element with a class and a text, which is never markup. */
export function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Writes a text only if it changes, which avoids layouts. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const IN_ROW = [0, 1, 2, 3];

class Row {
  constructor(id) {
    this.root = element("div", "row");
    this.root.id = `row-${id}`;
    this.root.setAttribute("role", "option");
    this.state = this.root.appendChild(element("span", "state"));
    const name = this.root.appendChild(element("div", "name"));
    this.name = name.appendChild(element("span"));
    this.from = name.appendChild(element("small"));
    this.vitals = IN_ROW.map((vital) => {
      const cell = this.root.appendChild(element("div", "vital"));
      cell.append(element("label", "", VITALS[vital].short ?? VITALS[vital].name));
      return { text: cell.appendChild(element("span")), canvas: cell.appendChild(element("canvas")) };
    });
    const cell = this.root.appendChild(element("div", "verdict"));
    this.verdict = cell.appendChild(element("span"));
    this.why = cell.appendChild(element("small"));
  }

  show(patient, index, of, top, sizes) {
    const { view, state } = patient;
    this.uid = patient.uid;
    if (this.top !== top || this.of !== of) {
      [this.top, this.of] = [top, of];
      this.root.style.transform = `translateY(${top}px)`;
      this.root.setAttribute("aria-posinset", index + 1);
      this.root.setAttribute("aria-setsize", of);
    }
    // Scrolling does not change rows that stay visible.
    if (this.view === view && this.sizes === sizes) return;
    [this.view, this.sizes] = [view, sizes];
    this.state.dataset.state = state;
    write(this.state, STATES[state]);
    const slash = view.name.includes("://") ? -1 : view.name.indexOf("/");
    write(this.name, slash < 0 ? view.name.replace("http://", "") : view.name.slice(slash + 1));
    write(this.from, slash < 0 ? `up to ${view.ceiling}` : `${view.name.slice(0, slash)} · up to ${view.ceiling}`);
    this.root.title = view.name;
    write(this.verdict, verdict(view.decision));
    const sure = view.decision ? `${Math.round(view.decision.confidence * 100)} % sure` : "";
    write(this.why, view.refused_by ? `gate: ${view.refused_by.replaceAll("_", " ")}` : view.left_alone ? `left alone: ${view.left_alone}` : [sure, reason(view)].filter(Boolean).join(", "));
    const label = `${view.name}: ${STATES[state]}, ${verdict(view.decision)}`;
    this.root.setAttribute("aria-label", view.refused_by ? `${label}, refused by ${view.refused_by}` : label);
    this.vitals.forEach(({ text, canvas }, i) => {
      const vital = VITALS[IN_ROW[i]];
      write(text, view.decision ? vitalText(vital, view.features) : "–");
      draw(canvas, patient.history, IN_ROW[i], sizes.chart, sizes.height);
    });
  }
}

/** The strongest reason of a verdict that calls for a remedy. */
function reason(view) {
  const first = view.decision && view.decision.action !== "no_action" ? view.reasons?.[0] : null;
  return first ? first.feature.replaceAll("_", " ") : "";
}

export class List {
  patients = [];
  rows = [];
  active = null;
  selected = null;

  constructor(root, choose) {
    this.root = root;
    this.choose = choose;
    root.addEventListener("click", (event) => {
      const row = this.rows.find(({ root: r }) => r.contains(event.target));
      if (row) { this.active = row.uid; choose(row.uid); }
    });
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("focus", () => { this.active ??= this.patients[0]?.uid ?? null; this.later(); });
    addEventListener("scroll", () => this.later(), { passive: true });
    const again = () => { this.sizes = null; this.later(); };
    addEventListener("resize", again);
    // The charts are drawn in the theme's colours.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  }

  show(patients) {
    this.patients = patients;
    this.later();
  }

  /** Renders once before the next frame, for any number of changes. */
  later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.render(); });
  }

  key(event) {
    const page = Math.max(1, Math.floor(innerHeight / this.height()) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step !== undefined) {
      event.preventDefault();
      const at = this.patients.findIndex(({ uid }) => uid === this.active);
      const next = Math.max(0, Math.min(this.patients.length - 1, at + step));
      this.active = this.patients[next]?.uid ?? null;
      this.reveal(next);
      if (this.selected) this.choose(this.active, false);
      this.later();
    } else if ((event.key === "Enter" || event.key === " ") && this.active) {
      event.preventDefault();
      this.choose(this.active);
    }
  }

  height() {
    return Number.parseFloat(getComputedStyle(this.root).getPropertyValue("--row"));
  }

  reveal(index) {
    const [top, height] = [this.root.getBoundingClientRect().top + index * this.height(), this.height()];
    if (top < 0) scrollBy(0, top - height);
    else if (top + height > innerHeight) scrollBy(0, top + 2 * height - innerHeight);
  }

  render() {
    const height = this.height();
    const total = this.patients.length;
    this.root.style.height = `${total * height}px`;
    const above = Math.max(0, -this.root.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(above / height) - 2);
    const last = Math.min(total, Math.ceil((above + innerHeight) / height) + 2);
    while (this.rows.length < last - first) {
      const row = new Row(this.rows.length);
      this.rows.push(row);
      this.root.append(row.root);
    }
    this.sizes ??= this.measure();
    let active = null;
    this.rows.forEach((row, i) => {
      // A target keeps its row while others scroll in and out.
      const index = first + ((i - first) % this.rows.length + this.rows.length) % this.rows.length;
      row.root.hidden = index >= last;
      if (index >= last) { row.uid = null; return; }
      const patient = this.patients[index];
      row.show(patient, index, total, index * height, this.sizes);
      row.root.classList.toggle("active", patient.uid === this.active);
      row.root.setAttribute("aria-selected", patient.uid === this.selected);
      if (patient.uid === this.active) active = row.root.id;
    });
    if (active) this.root.setAttribute("aria-activedescendant", active);
    else this.root.removeAttribute("aria-activedescendant");
  }

  /** The size of a chart, the same in every row. */
  measure() {
    const row = this.rows[0];
    if (!row) return null;
    // A hidden row has no size. The next render hides it again if needed.
    row.root.hidden = false;
    const box = row.vitals[0].canvas.getBoundingClientRect();
    return { chart: box.width, height: box.height };
  }
}
