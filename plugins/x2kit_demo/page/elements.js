// Build elements of the page; texts are never parsed as HTML.

export const byId = (id) => document.getElementById(id);

/** Build an element with properties, attributes (names with -) and children. */
export function element(name, settings = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(settings)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Format a share; null (a part that the model lacks) is a dash. */
export const percent = (share) => share === null ? "–" : `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 2 : 1)} %`;

/** Build a list of texts with numbers and bars; `colors` and `about` are optional, by position. */
export function scoreList(rows, { colors = [], about = [] } = {}) {
  return element("ol", { className: "scores" }, ...rows.map(({ text, share, number }, index) => {
    const bar = element("span");
    if (share !== null) bar.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
    const swatch = colors[index] ? element("span", { className: "swatch" }) : null;
    if (swatch) swatch.style.background = colors[index];
    return element("li", {},
      element("div", { className: "line" }, swatch,
        element("span", { className: "text", dir: "auto" }, text),
        element("span", { className: "number" }, number ?? percent(share))),
      share === null ? null : element("div", { className: "meter", "aria-hidden": "true" }, bar),
      about[index] ? element("div", { className: "about" }, about[index]) : null);
  }));
}

/** Show an error in one of the alert paragraphs; an empty one hides it. */
export function showError(id, message) {
  byId(id).textContent = message;
  byId(id).hidden = !message;
}

/** Call the JSON API. Throws an Error with the server's message. */
export async function call(path, body, type = "application/json") {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : { method: "POST", body, headers: { "Content-Type": type } });
  } catch {
    throw new Error("The server does not answer. Is `x2kit demo` still running?");
  }
  const found = await response.json();
  if (!response.ok) throw new Error(found.error);
  return found;
}
