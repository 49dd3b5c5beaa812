// Tabs, forms and requests.

import { byId, call, element, showError } from "./elements.js";
import { draw, drawHits, locationBoxes } from "./results.js";
import { clear, current, drawBoxes, setUp } from "./stage.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
const panels = [...document.querySelectorAll("[role=tabpanel]")];
const model = await call("api/model");
const redraw = {};
let texts = {};

document.title = `${model.name} – x2kit demo`;
byId("name").textContent = model.name;
byId("facts").textContent = [
  ...Object.entries(model.facts).map((pair) => pair.join(" ")),
  model.languages.length ? `languages ${model.languages.join(", ")}` : "",
].filter(Boolean).join(" · ");
byId("images").textContent = model.images === null ? "" : `The index has ${model.images.toLocaleString("en")} images.`;
byId("columns").append(...Object.keys(model.columns).map((name) => element("option", { value: name })));
byId("column-names").textContent = `Columns: ${Object.entries(model.columns).map((pair) => pair.join(" ")).join(", ")}`;

setUp(model, (example) => {
  for (const panel of panels) forget(panel.id);
  texts = example?.texts ?? {};
  showTexts();
});
panels.forEach(setUpPanel);
tabs.forEach(setUpTab);
byId("language").addEventListener("change", showChips);
addEventListener("popstate", () => select(location.hash.slice(1)));
select(location.hash.slice(1));

function setUpTab(tab, index) {
  const missing = model.missing[tab.getAttribute("aria-controls")];
  tab.classList.toggle("missing", Boolean(missing));
  tab.title = missing ?? "";
  tab.addEventListener("click", () => {
    // Setting location.hash would scroll to the panel and take the focus from the tab.
    history.pushState(null, "", `#${tab.getAttribute("aria-controls")}`);
    select(tab.getAttribute("aria-controls"));
  });
  tab.addEventListener("keydown", (event) => {
    const target = { ArrowRight: index + 1, ArrowLeft: index - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
    if (target !== undefined) tabs[target % tabs.length].click();
  });
}

function select(name) {
  const usable = panels.find((panel) => !model.missing[panel.id]) ?? panels[0];
  const chosen = panels.find((panel) => panel.id === name) ?? usable;
  panels.forEach((panel, index) => {
    const selected = panel === chosen;
    panel.hidden = !selected;
    tabs[index].setAttribute("aria-selected", String(selected));
    tabs[index].tabIndex = selected ? 0 : -1;
    if (selected && document.activeElement?.role === "tab") tabs[index].focus();
  });
  byId("status").textContent = "";
  showError("error", "");
  clear();
  redraw[chosen.id]?.();
}

function setUpPanel(panel) {
  const form = panel.querySelector("form");
  const missing = model.missing[panel.id];
  if (missing) {
    form.replaceWith(element("p", { className: "warning" }, missing));
    return;
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(panel, form);
  });
}

async function submit(panel, form) {
  const button = form.querySelector(".go");
  button.disabled = true;
  byId("panels").setAttribute("aria-busy", "true");
  byId("status").textContent = "computing …";
  showError("error", "");
  try {
    const wanted = read(form);
    if (panel.id !== "search") wanted.image = current.image;
    if (wanted.image === null) throw new Error("Choose an image first.");
    const found = await call(`api/${panel.id}`, JSON.stringify(wanted));
    byId("status").textContent = `${found.seconds.toFixed(found.seconds < 1 ? 3 : 1)} s`;
    if (panel.id === "search") showHits(panel, found, wanted.text);
    else if (wanted.image === current.image) showResult(panel, found);
  } catch (error) {
    byId("status").textContent = "";
    showError("error", error.message);
  } finally {
    button.disabled = false;
    byId("panels").setAttribute("aria-busy", "false");
  }
}

/** Read the fields of a form: numbers, lists (data-list: the separator), the image's id, texts. */
function read(form) {
  const wanted = {};
  for (const field of form.querySelectorAll("[name]")) {
    const separator = field.dataset.list;
    if (separator) wanted[field.name] = field.value.split(separator).map((text) => text.trim()).filter(Boolean);
    else if (field.type === "number") wanted[field.name] = Number(field.value);
    else if (field.type === "checkbox") wanted[field.name] = field.checked ? current.image : "";
    else wanted[field.name] = field.value;
  }
  return wanted;
}

function showResult(panel, found) {
  const drawNow = () => {
    clear();
    panel.querySelector(".result").replaceChildren(draw[panel.id](found));
  };
  redraw[panel.id] = drawNow;
  if (!panel.hidden) drawNow();
}

function showHits(panel, found, text) {
  panel.querySelector(".result").replaceChildren(drawHits(found, async (hit) => {
    if (!text || model.missing.locate) return;
    try {
      const { locations } = await call("api/locate", JSON.stringify({ image: hit.image, texts: [text] }));
      if (current.image === hit.image && !panel.hidden) drawBoxes(locationBoxes(locations));
    } catch (error) {
      showError("error", error.message);
    }
  }));
}

/** Remove the results of another image; hits are not results of an image. */
function forget(name) {
  if (name === "search") return;
  delete redraw[name];
  document.querySelector(`#${name} .result`).replaceChildren();
}

function showTexts() {
  const languages = Object.keys(texts).filter((language) => texts[language].length);
  const before = byId("language").value;
  byId("texts").hidden = !languages.length;
  byId("language").replaceChildren(...languages.map((language) => element("option", { value: language }, language || "any language")));
  if (languages.includes(before)) byId("language").value = before;
  byId("language").hidden = languages.length < 2;
  showChips();
}

function showChips() {
  byId("chips").replaceChildren(...(texts[byId("language").value] ?? []).map((text) => {
    const chip = element("button", { type: "button", dir: "auto", lang: byId("language").value }, text);
    chip.addEventListener("click", () => fill(text));
    return chip;
  }));
}

/** Put an example text into the field of the selected tab; lists get a further line. */
function fill(text) {
  const field = panels.find((panel) => !panel.hidden).querySelector("[data-fill]");
  if (!field) return;
  const lines = field.dataset.list ? field.value.split("\n").filter(Boolean) : [];
  field.value = field.dataset.list ? [...lines.filter((line) => line !== text), text].join("\n") : text;
  field.focus();
}
