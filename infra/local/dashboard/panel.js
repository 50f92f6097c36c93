// One panel: a title, a chart, and a table with the same data.

import { WINDOW_SECONDS, drawChart, fit, line } from "./chart.js";
import { element } from "./elements.js";

/** A panel that records the values of each poll for the last minutes. */
export class Panel {
  #panel;
  #times = [];
  #values = new Map(); // per series, one value per time
  #rows = new Map();
  #chart = null;
  #canvas = element("div", { className: "chart", ariaHidden: "true" });
  #body = element("tbody");
  #empty = element("p", { className: "note" }, "No data yet.");
  #table;

  constructor(panel, parent) {
    this.#panel = panel;
    const head = element("tr", {}, ...["", "now", "highest"].map(heading));
    const caption = element("caption", { className: "unseen" }, panel.title);
    this.#table = element("table", {}, caption, element("thead", {}, head), this.#body);
    this.#table.hidden = true;
    const title = element("h3", {}, panel.title);
    const note = element("p", { className: "note" }, panel.note);
    const parts = [title, note, this.#canvas, this.#empty, this.#table];
    parent.append(element("article", { className: "panel" }, ...parts));
    new ResizeObserver(() => this.#chart && fit(this.#chart, this.#canvas)).observe(this.#canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
      this.#chart?.redraw(),
    );
  }

  take(atSeconds, polls) {
    const read = this.#panel.read(polls);
    this.#times.push(atSeconds);
    for (const name of Object.keys(read)) this.#addSeries(name);
    for (const [name, values] of this.#values) values.push(read[name] ?? null);
    while (this.#times[0] < atSeconds - WINDOW_SECONDS) {
      this.#times.shift();
      for (const values of this.#values.values()) values.shift();
    }
    this.#show();
  }

  #addSeries(name) {
    if (this.#values.has(name)) return;
    this.#values.set(name, new Array(this.#times.length - 1).fill(null));
    this.#rows.set(name, this.#row(name, this.#rows.size));
    this.#empty.hidden = true;
    this.#table.hidden = false;
    this.#chart?.destroy();
    this.#chart = null;
  }

  #row(name, number) {
    const sample = svgLine(number);
    const cells = [element("td"), element("td")];
    const title = element("th", { scope: "row" }, sample, element("span", {}, name || "none"));
    this.#body.append(element("tr", {}, title, ...cells));
    return cells;
  }

  #show() {
    const names = [...this.#values.keys()];
    this.#chart ??= drawChart(this.#canvas, names, this.#panel.unit);
    this.#chart.setData([this.#times, ...this.#values.values()]);
    for (const [name, values] of this.#values) {
      const [now, highest] = this.#rows.get(name);
      const known = values.filter((value) => value !== null);
      now.textContent = this.#panel.unit(values.at(-1));
      highest.textContent = this.#panel.unit(known.length ? Math.max(...known) : null);
    }
  }
}

function heading(text) {
  return text ? element("th", { scope: "col" }, text) : element("td");
}

function svgLine(number) {
  const { colour, dash } = line(number);
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const drawn = document.createElementNS(space, "line");
  set(svg, { width: 28, height: 8, "aria-hidden": "true" });
  set(drawn, { x1: 0, x2: 28, y1: 4, y2: 4, "stroke-dasharray": dash.join(" ") });
  drawn.style.stroke = `var(${colour})`;
  svg.append(drawn);
  return svg;
}

function set(drawn, attributes) {
  for (const [name, value] of Object.entries(attributes)) drawn.setAttribute(name, value);
}
