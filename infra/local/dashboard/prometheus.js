// The text format of Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const VALUES = { "+Inf": Infinity, "-Inf": -Infinity };
const UNESCAPED = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };

/** Each metric's name, and its series: [{key, labels, value}]. */
export function parse(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue; // a comment, or empty
    const [, name, key = "", value] = found;
    if (!metrics.has(name)) metrics.set(name, []);
    metrics.get(name).push({ key, labels: parseLabels(key), value: parseNumber(value) });
  }
  return metrics;
}

export function parseNumber(text) {
  return VALUES[text] ?? Number(text);
}

function parseLabels(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(LABEL)) {
    labels[name] = value.replace(/\\[\\"n]/g, (escaped) => UNESCAPED[escaped]);
  }
  return labels;
}
