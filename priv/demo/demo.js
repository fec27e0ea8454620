// The page: a picture, its labels, and how well they fit. The picture's embedding is kept here and sent along.

import { call, get, latest, picture as fetchPicture } from "./api.js";
import * as labels from "./labels.js";
import { $, fault, keep, kept, listed, make, time } from "./page.js";
import * as map from "./map.js";
import * as results from "./results.js";
import * as stage from "./stage.js";
import * as strip from "./strip.js";

const EMBEDDED = "emoji-clip";

let state = null;
let current = { picture: null, embedding: null };

async function start() {
  try {
    state = await get("/state");
  } catch (error) {
    return fault(error.message);
  }
  about(state.model);
  controls();
  stage.start((file) => look(file, file.name || "pasted picture"));
  map.start(state.explains ? () => call("/explain", asked(), current.picture) : null);
  labels.start(state.labels, state.max_labels, classify);
  strip.start(state, fromStrip, () => current.embedding);
  const before = state.pictures.find(({ path }) => path === kept().picture);
  if (state.pictures.length > 0) fromStrip(before ?? state.pictures[0]);
}

function about(model) {
  const note = model.name === EMBEDDED ? "knows emoji, and no photographs" : `${model.dim} dimensions`;
  $("model").replaceChildren(make("strong", { textContent: model.name }), ` ${note} · ${model.device}`);
}

async function fromStrip({ path, name }) {
  try {
    const picture = await fetchPicture(path);
    keep({ picture: path });
    await look(picture, name, path);
  } catch (error) {
    fault(error.message);
  }
}

// `path` is that of a picture in the strip.
const look = latest(async (picture, name, path) => {
  if (picture.size > state.max_bytes)
    return fault(`${name} is larger than ${state.max_bytes / 1e6} MB.`);
  try {
    const { embedding, ms } = await call("/embed", {}, picture);
    current = { picture, embedding };
    stage.show(picture, name, path && "/thumbnails/" + path);
    time("picture", ms);
    fault();
    strip.again(path ?? null);
    await classify();
  } catch (error) {
    fault(`${name}: ${error.message}`);
  }
});

const template = () => $("template").value || $("own-template").value;

// What the scores depend on beside the picture.
function asked() {
  const others = $("none").checked ? listed($("others").value) : [];
  return [
    ...labels.all().map((label) => ["label", label]),
    ...others.map((prompt) => ["other", prompt]),
    ["template", template()],
    ["scores", $("scores").value],
  ];
}

const classify = latest(async () => {
  if (!current.embedding || labels.all().length === 0) return results.clear();
  if ($("template").value === "" && !template().includes("{label}")) return fault("A template needs {label} in it.");
  const draft = labels.draft();
  try {
    const answer = await call("/classify", [...asked(), ["embedding", current.embedding]]);
    results.show(answer.results, draft, $("scores").value === "cosines");
    map.reset();
    time("labels", answer.ms);
    time("round trip", answer.round);
    fault();
  } catch (error) {
    // The server began again with another model.
    if (error.reason === "wrong_model") location.reload();
    else fault(error.message);
  }
});

function controls() {
  const { template: begun, others } = { template: state.template, ...kept() };
  const known = [...$("template").options].some((option) => option.value === begun);
  $("template").value = known ? begun : "";
  $("own-template").value = known ? "a drawing of {label}" : begun;
  if (others !== undefined) {
    $("none").checked = others.on;
    $("others").value = others.text;
  }
  $("scores").value = kept().scores ?? "shares";
  for (const id of ["template", "own-template", "scores", "none", "others"]) $(id).addEventListener("input", changed);
  reveal();
}

function reveal() {
  $("own-template").hidden = $("template").value !== "";
  $("others").hidden = !$("none").checked;
}

function changed() {
  reveal();
  keep({ template: template(), scores: $("scores").value, others: { on: $("none").checked, text: $("others").value } });
  classify();
}

start();
