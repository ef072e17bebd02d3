// The state of the node: events contain the changes, and the model keeps the rest.

/** The vital signs in column order, with their formats. */
export const VITALS = [
  { key: "http_request_rate", name: "Requests/s", short: "Req/s", most: 1, text: (v) => count(v) },
  { key: "http_5xx_ratio", name: "5xx", most: 1, fixed: true, bad: 0, text: (v) => percent(v * 100) },
  { key: "cpu_usage", name: "CPU", most: 100, fixed: true, bad: 80, text: percent },
  { key: "memory_usage", name: "Memory", most: 100, fixed: true, bad: 80, text: percent },
  { key: "error_count", name: "Errors counted", most: 1, bad: 5, text: (v) => count(v) },
  { key: "tcp_reset_rate", name: "TCP resets/s", most: 1, text: (v) => count(v) },
  { key: "cpu_throttled_ratio", name: "CPU throttled", most: 1, fixed: true, text: (v) => percent(v * 100) },
  { key: "health_latency", name: "/health latency", most: 0.05, text: (v) => `${(v * 1000).toFixed(v < 0.01 ? 1 : 0)} ms` },
  { key: "health_failures", name: "/health failures", most: 3, bad: 0, text: (v) => `${v}×` },
  { key: "upstream_5xx_rate", name: "Upstream 5xx/s", most: 1, text: (v) => count(v) },
];

/** The states in words, most urgent first. */
export const STATES = {
  exhausted: "exhausted", healing: "healing", verifying: "verifying", sick: "sick",
  unknown: "not sampled yet", absent: "absent", well: "well",
};
const URGENCY = Object.keys(STATES);

const ACTIONS = { no_action: "no action", reset_errors: "reset", restart_service: "restart" };

/** Length of the charts: five minutes, in seconds. There are two events a second. */
export const SPAN = 300;
const KEPT = 2 * SPAN;

export function count(v) {
  return v >= 100 ? v.toFixed(0) : v >= 10 || v === 0 || Number.isInteger(v) ? v.toFixed(v >= 10 ? 0 : 1) : v.toFixed(v < 0.1 ? 2 : 1);
}

export function percent(v) {
  return `${v > 0 && v < 1 ? v.toFixed(1) : v.toFixed(0)} %`;
}

/** A vital sign as text; one that the kernel cannot see has no value. */
export function vitalText(vital, features) {
  const value = features[vital.key];
  return value === null || value === undefined ? "not seen" : vital.text(value);
}

/** A decision in a few words. */
export function verdict(decision) {
  return decision ? ACTIONS[decision.action] ?? decision.action : "none yet";
}

export function stateOf(view) {
  if (view.exhausted && view.state === "watching") return "exhausted";
  if (view.state !== "watching") return view.state;
  if (view.absent) return "absent";
  if (!view.decision) return "unknown";
  return view.decision.action === "no_action" ? "well" : "sick";
}

/** The last minutes of one target: a ring buffer of times and vital signs. */
class History {
  constructor() {
    this.times = new Float64Array(KEPT);
    this.values = VITALS.map(() => new Float32Array(KEPT));
    this.length = 0;
    this.next = 0;
  }

  add(time, features) {
    this.times[this.next] = time;
    VITALS.forEach((vital, i) => { this.values[i][this.next] = features[vital.key] ?? NaN; });
    this.next = (this.next + 1) % KEPT;
    this.length = Math.min(this.length + 1, KEPT);
  }

  /** The oldest stored time. */
  first() {
    return this.times[(this.next - this.length + KEPT) % KEPT];
  }

  /** Calls `point` with each time and value, oldest first. */
  each(vital, point) {
    for (let i = 0; i < this.length; i += 1) {
      const at = (this.next - this.length + i + KEPT) % KEPT;
      const value = this.values[vital][at];
      // A missing value is a gap and not a zero.
      if (!Number.isNaN(value)) point(this.times[at], value);
    }
  }
}

export class Model {
  patients = new Map();
  incidents = [];
  refusals = {};
  about = null;

  /** Applies an event; returns the incidents that began or ended. */
  take(event) {
    const now = Date.now() / 1000;
    for (const view of event.targets) {
      const uid = view.id.uid;
      const known = this.patients.get(uid);
      const history = known?.history ?? new History();
      if (view.decision) history.add(now, view.features);
      const state = stateOf(view);
      this.patients.set(uid, { uid, view, state, history, urgency: URGENCY.indexOf(state) });
    }
    if (event.roster) {
      const present = new Set(event.roster);
      for (const uid of this.patients.keys()) if (!present.has(uid)) this.patients.delete(uid);
    }
    // Incidents in the first event happened before.
    const last = this.incidents[0]?.id ?? (this.about ? 0 : Infinity);
    const known = new Map(this.incidents.map(({ id, outcome }) => [id, outcome]));
    this.about = event.about ?? this.about;
    this.refusals = event.refusals ?? this.refusals;
    this.incidents = event.incidents ?? this.incidents;
    return this.incidents.filter(({ id, outcome }) => known.has(id) ? known.get(id) !== outcome : id > last);
  }

  /** The visible targets, most urgent first. */
  shown(state, text) {
    const wanted = text.trim().toLowerCase();
    const fits = (p) => (!state || p.state === state) && p.view.name.toLowerCase().includes(wanted);
    const order = (a, b) => a.urgency - b.urgency || (a.view.name < b.view.name ? -1 : 1);
    return [...this.patients.values()].filter(fits).sort(order);
  }

  /** Number of targets in each state. */
  counts() {
    const counts = {};
    for (const patient of this.patients.values()) counts[patient.state] = (counts[patient.state] ?? 0) + 1;
    return counts;
  }

  /** Number of targets that each gate refuses now. */
  heldBack() {
    const held = {};
    for (const { view } of this.patients.values()) {
      if (view.refused_by) held[view.refused_by] = (held[view.refused_by] ?? 0) + 1;
    }
    return held;
  }
}
