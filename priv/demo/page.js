// Small things that every part of the page needs.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const { aria = {}, ...own } = properties;
  const element = Object.assign(document.createElement(tag), own);
  for (const [name, value] of Object.entries(aria)) element.setAttribute("aria-" + name, value);
  element.append(...children);
  return element;
}

// What a tab keeps when it is reloaded.
export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem("demo")) ?? {};
  } catch (_damaged) {
    return {};
  }
}

export const keep = (part) => sessionStorage.setItem("demo", JSON.stringify({ ...kept(), ...part }));

export function fault(message) {
  $("fault").textContent = message ?? "";
  $("fault").hidden = !message;
}

// How long each step took, in the foot.
const times = new Map();

export function time(name, ms) {
  times.set(name, ms);
  $("timings").replaceChildren(
    ...[...times].map(([step, took]) =>
      make("div", {}, make("dt", { textContent: step }), make("dd", { textContent: `${took < 10 ? took.toFixed(1) : Math.round(took)} ms` })),
    ),
  );
}

// "a dog, a cat" as a list.
export const listed = (text) => text.split(/[,\n]/).map((part) => part.trim()).filter((part) => part !== "");

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
