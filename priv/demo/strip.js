// The pictures of the folder, to be searched by words or by the picture shown.

import { $, fault, make, time } from "./page.js";
import { call, latest } from "./api.js";

let first = [];
let total = 0;
let chosen = () => {};
let embedding = () => null;
let shown = null;

export function start(state, onChoice, currentEmbedding) {
  [first, total, chosen, embedding] = [state.pictures, state.count, onChoice, currentEmbedding];
  $("search").addEventListener("input", () => {
    press(false);
    search({ text: $("search").value.trim() });
  });
  $("alike").addEventListener("click", () => {
    press($("alike").getAttribute("aria-pressed") !== "true");
    $("search").value = "";
    if ($("alike").getAttribute("aria-pressed") === "true") again();
    else search({ text: "" });
  });
  list(first);
}

// Another picture is shown. Marks it in the strip; what is like the one before is no answer any more.
export function again(path = shown) {
  shown = path;
  $("alike").disabled = embedding() === null;
  if ($("alike").getAttribute("aria-pressed") === "true") search({ embedding: embedding() });
  else mark();
}

function mark() {
  for (const button of $("thumbs").querySelectorAll("button"))
    button.toggleAttribute("aria-current", button.dataset.path === shown);
}

const press = (pressed) => $("alike").setAttribute("aria-pressed", pressed);

const search = latest(async (query) => {
  if (query.text === "") return list(first);
  try {
    const { pictures, ms } = await call("/search", query);
    time("search", ms);
    list(pictures);
    fault();
  } catch (error) {
    fault(error.message);
  }
});

function list(pictures) {
  const count = total === 1 ? "1 picture" : `${total.toLocaleString("en")} pictures`;
  $("found").textContent = pictures.length < total ? `${pictures.length} of ${count}` : count;
  $("thumbs").replaceChildren(...pictures.map(thumb));
  $("thumbs").scrollTo(0, 0);
  mark();
}

function thumb({ path, name, score }) {
  const image = make("img", { src: "/thumbnails/" + path, alt: "", width: 112, height: 112, loading: "lazy", decoding: "async" });
  const said = score === undefined ? "" : score.toFixed(2);
  const button = make(
    "button",
    { type: "button", title: name, aria: { label: `Show ${name}${said && `, similarity ${said}`}` } },
    image,
    make("span", { className: "name", textContent: name }),
    ...(said ? [make("span", { className: "score", textContent: said })] : []),
  );
  button.dataset.path = path;
  button.addEventListener("click", () => chosen({ path, name }));
  return make("li", {}, button);
}
