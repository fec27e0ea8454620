// The labels as chips, and the field that adds to them.

import { $, keep, kept, listed, make } from "./page.js";

let labels = [];
let changed = () => {};
let most = 1;

export function start(initial, limit, onChange) {
  labels = kept().labels ?? initial;
  most = limit;
  changed = onChange;
  draw();

  const field = $("label");
  field.addEventListener("input", () => {
    if (/[,\n]/.test(field.value)) take();
    else changed();
  });
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter") take();
    else if (event.key === "Backspace" && field.value === "" && labels.length > 0) edit(labels.length - 1, event);
  });
  field.addEventListener("blur", take);
  $("chips").addEventListener("click", (event) => {
    if (event.target === $("chips")) field.focus();
  });
}

// What is being typed is a label already.
export const draft = () => {
  const text = $("label").value.trim();
  return text === "" || labels.includes(text) ? null : text;
};

export const all = () => (draft() ? [...labels, draft()] : labels);

function take() {
  const field = $("label");
  const added = listed(field.value).filter((label, at, list) => !labels.includes(label) && list.indexOf(label) === at);
  if (field.value !== "") set([...labels, ...added].slice(0, most));
  field.value = "";
}

function set(next) {
  labels = next;
  keep({ labels });
  draw();
  changed();
}

// Back into the field, to be changed there.
function edit(at, event) {
  event.preventDefault();
  const label = labels[at];
  take();
  set(labels.filter((other) => other !== label));
  $("label").value = label;
  $("label").focus();
  changed();
}

function remove(at) {
  set(labels.filter((_, other) => other !== at));
  const next = $("labels").querySelectorAll(".remove")[Math.min(at, labels.length - 1)];
  (next ?? $("label")).focus();
}

function draw() {
  $("labels").replaceChildren(
    ...labels.map((label, at) => {
      const text = make("button", { type: "button", className: "text", textContent: label, aria: { label: `Change ${label}` } });
      const cross = make("button", { type: "button", className: "remove", textContent: "×", aria: { label: `Remove ${label}` } });
      text.addEventListener("click", (event) => edit(at, event));
      cross.addEventListener("click", () => remove(at));
      return make("li", { className: "chip" }, text, cross);
    }),
  );
}
