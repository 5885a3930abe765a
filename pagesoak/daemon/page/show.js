// Words and elements of the page. Texts from runs are only ever set as text, never as HTML.

export const PAGES_PER_MIB = 256;

export function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

// Changes a text only when it is another: what is read aloud is not read again each second.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function whole(number) {
  return number === null || number === undefined ? "-" : Math.round(number).toLocaleString("en");
}

export function mib(pages) {
  return (pages / PAGES_PER_MIB).toLocaleString("en", { maximumFractionDigits: 1 }) + " MiB";
}

export function pages(number) {
  return number === null || number === undefined ? "-" : `${whole(number)} pages (${mib(number)})`;
}

// A time on the soak's clock, to the hundredth: 3.40 s, or 6d 23:00:00.10.
export function at(seconds) {
  if (seconds < 3600) return `${seconds.toFixed(2)} s`;
  const two = (number) => String(number).padStart(2, "0");
  const days = Math.floor(seconds / 86400);
  const rest = (seconds % 60).toFixed(2).padStart(5, "0");
  return `${days ? `${days}d ` : ""}${two(Math.floor((seconds % 86400) / 3600))}:${two(Math.floor((seconds % 3600) / 60))}:${rest}`;
}

export function bytes(number) {
  const gib = number / 2 ** 30;
  if (gib >= 1) return gib.toLocaleString("en", { maximumFractionDigits: 1 }) + " GiB";
  return (number / 2 ** 20).toLocaleString("en", { maximumFractionDigits: 0 }) + " MiB";
}

// A length of time to be read at a glance, as `pagesoak list` has it: 42s, 3m20s, 5h02m, 12d4h.
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  const full = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (full < 60) return `${full}s`;
  if (full < 3600) return `${Math.floor(full / 60)}m${two(full % 60)}s`;
  if (full < 86400) return `${Math.floor(full / 3600)}h${two(Math.floor((full % 3600) / 60))}m`;
  return `${Math.floor(full / 86400)}d${Math.floor((full % 86400) / 3600)}h`;
}

// A time on the soak's clock for the axis: fine where the step is fine.
export function clock(seconds, step) {
  if (step < 1) return seconds.toFixed(step < 0.1 ? 2 : 1) + "s";
  return seconds === 0 ? "0s" : span(seconds);
}

export function replaceRows(body, rows) {
  body.replaceChildren(...rows);
}

export function row(cells) {
  const made = element("tr");
  for (const cell of cells) made.append(cell instanceof Node ? cell : element("td", cell));
  return made;
}
