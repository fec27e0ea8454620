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

export function show(results, draft) {
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
    row.querySelector(".bar").style.setProperty("--score", result.score);
    row.querySelector(".score").textContent = percent(result.score);
    if ($("results").children[at] !== row) $("results").insertBefore(row, $("results").children[at] ?? null);
  });

  move(before);
  say(results[0]);
}

const key = (result) => (result.label === null ? "none" : "label " + result.label);
const name = (result) => result.label ?? NONE;
const percent = (score) => `${(score * 100).toFixed(1)} %`;

function add(result) {
  const bar = make("span", { className: "bar" });
  // From nothing to its score.
  bar.style.setProperty("--score", 0);
  const row = make(
    "li",
    { className: result.label === null ? "none" : "" },
    make("span", { className: "name", textContent: name(result) }),
    make("span", { className: "track" }, bar),
    make("span", { className: "score" }),
  );
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
function say(best) {
  clearTimeout(saying);
  saying = setTimeout(() => {
    $("said").textContent = best ? `Best: ${name(best)}, ${percent(best.score)}` : "";
  }, SAY_MS);
}
