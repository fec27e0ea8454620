// The scores as bars, in their order.

import { $, make, still } from "./page.js";

const NONE = "none of these";
const MOVE_MS = 220;
const SAY_MS = 700;

const rows = new Map();
let saying = 0;

export function clear() {
  rows.clear();
  $("results").replaceChildren();
}

export function show(results, draft, cosines) {
  const text = cosines ? (score) => score.toFixed(3) : (score) => `${(score * 100).toFixed(1)} %`;
  const before = new Map([...rows].map(([key, row]) => [key, row.offsetTop]));
  const keys = new Set(results.map(key));
  for (const [old, row] of rows)
    if (!keys.has(old)) {
      row.remove();
      rows.delete(old);
    }

  results.forEach((result, at) => {
    const row = rows.get(key(result)) ?? add(result);
    row.classList.toggle("draft", result.label !== null && result.label === draft);
    row.classList.toggle("best", at === 0);
    row.querySelector(".bar").style.setProperty("--score", Math.max(0, result.score));
    row.querySelector(".score").textContent = text(result.score);
    if ($("results").children[at] !== row) $("results").insertBefore(row, $("results").children[at] ?? null);
  });

  move(before);
  say(results[0] && `Best: ${name(results[0])}, ${text(results[0].score)}`);
}

const key = (result) => (result.label === null ? "none" : "label " + result.label);
const name = (result) => result.label ?? NONE;

function add(result) {
  const bar = make("span", { className: "bar" });
  // From nothing to its score.
  bar.style.setProperty("--score", 0);
  const button = make(
    "button",
    { type: "button", title: name(result), aria: { pressed: false } },
    make("span", { className: "name", textContent: name(result) }),
    make("span", { className: "track" }, bar),
    make("span", { className: "score" }),
  );
  button.dataset.key = key(result);
  const row = make("li", { className: result.label === null ? "none" : "" }, button);
  rows.set(key(result), row);
  $("results").append(row);
  row.offsetTop;
  return row;
}

// Rows slide from where they were.
function move(before) {
  if (still()) return;
  for (const [row, element] of rows) {
    const from = before.get(row);
    const way = from === undefined ? 0 : from - element.offsetTop;
    if (way !== 0) element.animate([{ transform: `translateY(${way}px)` }, { transform: "none" }], { duration: MOVE_MS, easing: "ease-out" });
  }
}

// To a screen reader, once the typing pauses.
function say(sentence) {
  clearTimeout(saying);
  saying = setTimeout(() => ($("said").textContent = sentence ?? ""), SAY_MS);
}
