// Which part of the picture speaks for a label: drawn over it while the label's bar is hovered, focused or held.

import { $, fault, make, time } from "./page.js";
import { latest } from "./api.js";

// Colours that colour blindness does not confuse, as in the pictures of `Image.ZeroShot.explain/3`.
const AGAINST = [24, 98, 189];
const FOR = [235, 110, 0];
const UNSEEN = "rgb(150 150 150)";

let ask = null;
let maps = null;
let version = 0;
let pointed = null;
let held = null;

// `explain` returns the maps of the picture, labels and template as they are; `null` where the model has none.
export function start(explain) {
  ask = explain;
  hint();
  if (!ask) return;
  const rows = $("results");
  for (const begin of ["mouseover", "focusin"]) rows.addEventListener(begin, (event) => point(named(event)));
  rows.addEventListener("focusout", () => point(null));
  rows.addEventListener("mouseleave", () => point(rows.querySelector(":focus")?.dataset.key ?? null));
  rows.addEventListener("click", (event) => hold(named(event)));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hold(null);
  });
  new ResizeObserver(draw).observe($("frame"));
}

// The picture, the labels or their prompts have changed.
export function reset() {
  version += 1;
  maps = null;
  refresh();
}

const named = (event) => event.target.closest("[data-key]")?.dataset.key ?? null;

function point(key) {
  if (key === pointed) return;
  pointed = key;
  refresh();
}

// A click holds a map, or lets it go: where there is no mouse, nothing hovers.
function hold(key) {
  held = key === held ? null : key;
  pointed = null;
  if (held) $("frame").scrollIntoView({ block: "nearest" });
  refresh();
}

function refresh() {
  for (const row of $("results").querySelectorAll("[data-key]")) row.setAttribute("aria-pressed", row.dataset.key === held);
  if (ask && (pointed ?? held) !== null && maps === null) load();
  draw();
}

const load = latest(async () => {
  const began = version;
  try {
    const { maps: found, ms } = await ask();
    // What has changed meanwhile has asked again.
    if (began !== version) return;
    maps = new Map(found.map((map) => [map.label === null ? "none" : "label " + map.label, map]));
    time("map", ms);
  } catch (error) {
    if (began === version) maps = new Map();
    fault(error.message);
  }
  draw();
});

function draw() {
  const map = maps?.get(pointed ?? held);
  $("frame").classList.toggle("mapped", map !== undefined);
  if (!map) return hint();
  const canvas = $("map");
  const scale = devicePixelRatio;
  [canvas.width, canvas.height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
  const context = canvas.getContext("2d");
  const [picture, box] = places(map, canvas);
  context.imageSmoothingQuality = "high";
  context.fillStyle = UNSEEN;
  context.fillRect(...picture);
  // No line of it is left where both end between two pixels.
  const [x, y, width, height] = box;
  context.clearRect(x - 1, y - 1, width + 2, height + 2);
  context.drawImage(colours(map), ...box);
  explain(map);
}

// Where the picture and the map are on the canvas. The picture is as large as its frame allows, in the middle.
function places(map, canvas) {
  const [width, height] = map.size;
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const [left, top] = [(canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2];
  const [x, y, w, h] = map.box;
  const whole = [left, top, width * scale, height * scale];
  // A thumbnail in place of the picture is what the model sees of it.
  if ($("picture").dataset.cropped) {
    const side = Math.min(canvas.width, canvas.height);
    const square = [(canvas.width - side) / 2, (canvas.height - side) / 2, side, side];
    return [square, square];
  }
  return [whole, [left + x * scale, top + y * scale, w * scale, h * scale]];
}

// A pixel for each patch; the browser makes them smooth. All labels have one scale, so that they can be compared.
function colours(map) {
  const most = Math.max(...[...maps.values()].flatMap((one) => one.contrast.flat()).map(Math.abs)) || 1;
  const values = map.contrast.flat();
  const image = new ImageData(map.contrast[0].length, map.contrast.length);
  values.forEach((value, at) => {
    const part = Math.abs(value) / most;
    const [r, g, b] = (value < 0 ? AGAINST : FOR).map((channel) => 255 + (channel - 255) * part);
    image.data.set([r, g, b, 255], at * 4);
  });
  const small = new OffscreenCanvas(image.width, image.height);
  small.getContext("2d").putImageData(image, 0, 0);
  return small;
}

function hint() {
  $("where").replaceChildren(ask ? "Point at a label, or press it, to see where in the picture its score comes from." : "");
}

function explain(map) {
  const whole = map.explained !== null && map.explained >= 0 && map.explained <= 1;
  const share = whole ? ` · ${Math.round(map.explained * 100)} % accounted for` : "";
  $("where").replaceChildren(make("strong", { textContent: map.label ?? "none of these" }), `: ${place(map.contrast)}${share}`);
}

// The map in words, for who does not see it: the middle of what speaks for the label. Squared, so that many faint
// patches do not outweigh a few strong ones.
function place(rows) {
  let [sum, down, across] = [0, 0, 0];
  rows.forEach((row, y) =>
    row.forEach((value, x) => {
      const weight = Math.max(value, 0) ** 2;
      sum += weight;
      down += (weight * (y + 0.5)) / rows.length;
      across += (weight * (x + 0.5)) / row.length;
    }),
  );
  if (sum === 0) return "nowhere";
  const side = (part, before, after) => (part / sum < 0.4 ? before : part / sum > 0.6 ? after : "");
  const words = [side(down, "top", "bottom"), side(across, "left", "right")].filter((word) => word !== "");
  return words.length === 0 ? "most in the middle" : `most at the ${words.join(" ")}`;
}
