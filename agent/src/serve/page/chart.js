// Small charts on a canvas: one vital sign over the last minutes.
import { SPAN, VITALS } from "./model.js";

let inks;

/** The theme's colours, read once for each theme. */
function colours() {
  if (!inks) {
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    inks = { line: ink("--accent"), bad: ink("--dead"), base: ink("--line") };
  }
  return inks;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { inks = undefined; });

/** Draws vital sign number `vital` of a target's history. The caller passes the sizes, because reading
    them from the page would cause a layout for every chart. */
export function draw(canvas, history, vital, width, height) {
  const scale = devicePixelRatio;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, width, height);
  const { line, bad, base } = colours();
  const sign = VITALS[vital];
  const end = Date.now() / 1000;
  // The known history fills the chart, until it spans five minutes.
  const span = Math.min(SPAN, Math.max(60, end - history.first()));
  let [most, last] = [sign.most, 0];
  history.each(vital, (time, value) => { if (!sign.fixed && end - time <= span) most = Math.max(most, value); last = value; });
  const [floor, room] = [height - 1.5, height - 4];
  g.fillStyle = base;
  g.fillRect(0, height - 1, width, 1);
  if (!history.length) return;
  const x = (time) => Math.max(0, width - 2 - ((end - time) / span) * (width - 2));
  const y = (value) => floor - Math.min(1, value / most) * room;
  const colour = sign.bad !== undefined && last > sign.bad ? bad : line;
  g.beginPath();
  let [first, right] = [null, 0];
  history.each(vital, (time, value) => {
    if (end - time > span) return;
    right = x(time);
    if (first === null) { first = right; g.moveTo(right, y(value)); } else g.lineTo(right, y(value));
  });
  if (first === null) return;
  g.strokeStyle = colour;
  g.lineWidth = 1.4;
  g.lineJoin = "round";
  g.stroke();
  g.lineTo(right, floor);
  g.lineTo(first, floor);
  g.globalAlpha = 0.13;
  g.fillStyle = colour;
  g.fill();
  g.globalAlpha = 1;
  g.beginPath();
  g.arc(right, y(last), 1.8, 0, 7);
  g.fill();
}
