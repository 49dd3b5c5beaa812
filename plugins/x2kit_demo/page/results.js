// Draw the results of each task.

import { byId, element, percent, scoreList } from "./elements.js";
import { colors, drawBoxes, drawHeat, show } from "./stage.js";

const cosine = (value) => (value === null ? "" : `cosine ${value.toFixed(3)}`);
const pixels = (box) => box.pixels.map((side) => Math.round(side)).join(", ");

export const draw = {
  match: ({ matches }) => scoreList(
    matches.map(({ text, probability }) => ({ text, share: probability })),
    { about: matches.map(({ similarity }) => cosine(similarity)) }),

  locate: ({ locations }) => {
    drawBoxes(locationBoxes(locations));
    const rows = locations.flatMap(({ text, boxes }, index) => boxes.map((box, place) => ({ text, box, place, color: colors[index % colors.length] })));
    const list = scoreList(rows.map(({ text, box }) => ({ text, share: box.probability })), {
      colors: rows.map(({ color }) => color),
      about: rows.map(({ box, place }) => `${place ? `candidate ${place + 1}: ` : ""}x, y, width, height: ${pixels(box)} pixels`),
    });
    return element("div", {}, list, element("p", { className: "quiet" }, locations[0].method));
  },

  explain: (found) => {
    const maps = [{ word: "whole text", heat: found.heat, box: found.box }, ...found.words];
    const buttons = maps.map(({ word }) => element("button", { type: "button", dir: "auto", "aria-pressed": "false" }, word));
    const select = (index) => {
      drawHeat(maps[index].heat);
      drawBoxes(maps[index].box ? [{ relative: maps[index].box.relative, color: "#1d7fd1", style: "dashed" }] : []);
      buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === index)));
    };
    buttons.forEach((button, index) => {
      for (const kind of ["click", "focus", "mouseenter"]) button.addEventListener(kind, () => select(index));
    });
    select(0);
    return element("div", {},
      element("div", { className: "words", role: "group", "aria-label": "Heat maps" }, ...buttons),
      element("p", { className: "quiet" }, `${found.method}. The dashed box is that of the map of the whole text.`));
  },

  classify: ({ labels, chance }) => element("div", {},
    scoreList(labels.map(({ text, probability }) => ({ text, share: probability }))),
    element("p", { className: "quiet" }, `${labels.length} labels: a guess has ${percent(chance)}.`)),

  answer: ({ candidates }) => scoreList(
    candidates.map(({ text, probability }) => ({ text, share: probability })),
    { about: candidates.map(({ log_likelihood: value }) => (value === null ? "" : `log-likelihood ${value.toFixed(2)}`)) }),

  // The probability of a whole sentence is near 0 whatever it says.
  describe: ({ candidates }) => element("div", {},
    scoreList(candidates.map(({ text, log_likelihood: value }) => ({ text: text || "(empty)", share: null, number: value?.toFixed(2) ?? "" }))),
    element("p", { className: "quiet" }, "Log-likelihood in nats, higher is more likely.")),
};

/** Boxes of `locate`, the best of each text with its label. */
export function locationBoxes(locations) {
  return locations.flatMap(({ text, boxes }, index) => boxes.map((box, place) => ({
    relative: box.relative,
    color: colors[index % colors.length],
    label: place ? "" : `${text.length > 28 ? `${text.slice(0, 27)}…` : text} ${percent(box.probability)}`,
    style: place ? "faint" : "",
  }))).reverse();
}

/** Draw hits; a click shows the image and calls `chosen(hit)`. */
export function drawHits({ hits, notes }, chosen) {
  if (!hits.length) return element("p", { className: "quiet" }, "No image fulfils the filter.");
  const buttons = hits.map((hit) => {
    const name = hit.path.split("/").at(-1);
    const other = Object.entries(hit.columns ?? {}).filter(([, value]) => value !== null);
    return element("button", { type: "button", "aria-pressed": "false", title: [hit.path, ...other.map((pair) => pair.join(": "))].join("\n") },
      element("img", { src: `api/images/${hit.image}/thumbnail`, alt: name, loading: "lazy" }),
      element("span", { className: "number" }, hit.probability === null ? hit.similarity.toFixed(3) : `${percent(hit.probability)} · ${hit.similarity.toFixed(3)}`),
      element("span", { className: "path" }, name));
  });
  buttons.forEach((button, index) => button.addEventListener("click", async () => {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    await show(hits[index].image, hits[index].path.split("/").slice(-2).join("/"));
    chosen(hits[index]);
    byId("drop").scrollIntoView({ block: "nearest" });
  }));
  const reranked = hits.some((hit) => hit.probability !== null);
  return element("div", {},
    element("p", { className: "quiet" }, `${reranked ? "Matching probability · cosine similarity." : "Cosine similarity."} Choose an image to locate the text in it.`),
    ...notes.map((note) => element("p", { className: "quiet" }, note)),
    element("ol", { className: "hits" }, ...buttons.map((button) => element("li", {}, button))));
}
