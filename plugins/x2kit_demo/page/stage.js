// The image shown: its choice, and the boxes and heat maps drawn over it.

import { byId, call, element, showError } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const RAMP = [[255, 245, 150], [255, 200, 40], [250, 120, 10], [215, 25, 28], [120, 0, 60]];
export const colors = [0, 1, 2, 3, 4, 5].map((number) => `var(--series-${number})`);
export const current = { image: null };
let maxUpload = Infinity;
let whenChosen = () => {};

/** Set up the choice of images; `chosen(example or null)` is called after each. */
export function setUp(model, chosen) {
  maxUpload = model.max_upload;
  whenChosen = chosen;
  byId("limit").textContent = `at most ${(maxUpload / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB, kept in memory only`;
  byId("file").addEventListener("change", (event) => upload(event.target.files[0]));
  const drop = byId("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") upload(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", (event) => upload(event.clipboardData.files[0]));
  addEventListener("resize", fit);
  byId("examples").append(...model.examples.map((example) => {
    const button = element("button", { type: "button", "aria-label": `Example: ${example.label}`, "aria-pressed": "false" },
      element("img", { src: `api/images/${example.image}/thumbnail`, alt: "", loading: "lazy" }));
    button.addEventListener("click", () => show(example.image, example.label, example));
    button.dataset.image = example.image;
    return button;
  }));
}

async function upload(file) {
  if (!file) return;
  byId("file").value = "";
  showError("picture-error", "");
  try {
    if (file.size > maxUpload) throw new Error(`${file.name} has ${file.size.toLocaleString("en")} bytes, more than the ${maxUpload.toLocaleString("en")} allowed.`);
    const found = await call("api/images", file, "application/octet-stream");
    await show(found.image, `${file.name}, ${found.width} × ${found.height}`);
  } catch (error) {
    showError("picture-error", error.message);
  }
}

/** Show an image by id. */
export async function show(image, label, example = null) {
  showError("picture-error", "");
  const shown = byId("shown");
  shown.src = `api/images/${image}`;
  shown.alt = label;
  try {
    await shown.decode();
  } catch {
    showError("picture-error", `${label} cannot be shown.`);
    return;
  }
  current.image = image;
  byId("caption").textContent = label;
  byId("stage").hidden = false;
  byId("empty").hidden = true;
  for (const button of byId("examples").children) button.setAttribute("aria-pressed", String(button.dataset.image === image));
  clear();
  fit();
  whenChosen(example);
}

/** Size the image: the width of its column, at most 55 % of the window's height (38 % of a narrow one's), small ones enlarged. */
function fit() {
  const shown = byId("shown");
  if (!shown.naturalWidth || byId("stage").hidden) return;
  const scale = Math.min(byId("drop").clientWidth / shown.naturalWidth, ((innerWidth > 760 ? 0.55 : 0.38) * innerHeight) / shown.naturalHeight);
  shown.style.width = `${Math.floor(scale * shown.naturalWidth)}px`;
  drawBoxes(boxes);
}

export function clear() {
  drawBoxes([]);
  drawHeat(null);
}

let boxes = [];

/** Draw boxes: [{relative: [x, y, width, height], color, label, style}]. */
export function drawBoxes(wanted) {
  boxes = wanted;
  const svg = byId("boxes");
  const { clientWidth: width, clientHeight: height } = byId("shown");
  svg.setAttribute("viewBox", `0 0 ${width || 1} ${height || 1}`);
  svg.replaceChildren();
  for (const { relative: [x, y, w, h], color, style = "" } of wanted) {
    for (const kind of ["halo", style]) {
      const rect = svgElement("rect", { x: x * width, y: y * height, width: w * width, height: h * height, rx: 3, class: kind });
      if (kind !== "halo") rect.style.stroke = color;
      svg.append(rect);
    }
  }
  const placed = [];
  for (const box of wanted) if (box.label) drawLabel(svg, box, width, height, placed);
}

/** Draw a label at an edge of its box where no other label is, if there is such an edge. */
function drawLabel(svg, { relative: [x, y, , h], color, label }, width, height, placed) {
  const text = svgElement("text", {});
  text.textContent = label;
  svg.append(text);
  const length = text.getComputedTextLength() + 10;
  const left = Math.max(0, Math.min(x * width, width - length));
  const free = (top) => placed.every((other) => Math.abs(other.top - top) > 19 || other.left > left + length || left > other.left + other.length);
  const tops = [y * height - 20, (y + h) * height + 1, y * height + 1, (y + h) * height - 20].map((top) => Math.max(0, Math.min(top, height - 19)));
  const top = tops.find(free) ?? tops[0];
  placed.push({ left, top, length });
  const back = svgElement("rect", { x: left, y: top, width: length, height: 19, rx: 3 });
  back.style.fill = color;
  svg.insertBefore(back, text);
  text.setAttribute("x", left + 5);
  text.setAttribute("y", top + 14);
}

function svgElement(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Draw a heat map, rows of numbers in [0, 1], interpolated over the image; null removes it. */
export function drawHeat(heat) {
  const canvas = byId("heat");
  canvas.hidden = heat === null;
  if (heat === null) return;
  const [rows, columns] = [heat.length, heat[0].length];
  const small = element("canvas", { width: columns, height: rows });
  const pixels = small.getContext("2d").createImageData(columns, rows);
  heat.flat().forEach((value, index) => pixels.data.set(colorOf(value), 4 * index));
  small.getContext("2d").putImageData(pixels, 0, 0);
  canvas.width = 512;
  canvas.height = Math.round((512 * byId("shown").naturalHeight) / byId("shown").naturalWidth);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function colorOf(value) {
  const place = Math.min(0.999, Math.max(0, value)) * (RAMP.length - 1);
  const [low, share] = [Math.floor(place), place % 1];
  const mixed = RAMP[low].map((channel, index) => channel + share * (RAMP[low + 1][index] - channel));
  return [...mixed, 255 * Math.min(0.8, 1.2 * Math.max(0, value - 0.1))];
}
