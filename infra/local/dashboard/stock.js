// Shows resources as bars: available, held and committed units of the total.

import { ErrorResponse, readJson } from "./api.js";
import { byId, element, say } from "./elements.js";

const READ_MAX = 200;
const SHOWN_MAX = 12;
const STATES = ["committed", "held", "available"];

/** The most recently changed resources. */
export class Stock {
  #bars = new Bars(byId("stock-list"));

  async show() {
    const prefix = encodeURIComponent(byId("stock-prefix").value);
    try {
      const path = `/api/v1/resources?limit=${READ_MAX}&prefix=${prefix}`;
      const { resources, nextCursor } = await readJson(path);
      const newest = resources.toSorted((one, other) =>
        other.updatedAt.localeCompare(one.updatedAt),
      );
      const shown = newest.slice(0, SHOWN_MAX);
      this.#bars.show(shown.toSorted((one, other) => (one.resourceId < other.resourceId ? -1 : 1)));
      say(byId("stock-note"), note(shown.length, resources.length, Boolean(nextCursor)));
    } catch (error) {
      if (!(error instanceof ErrorResponse)) throw error;
      say(byId("stock-note"), error.message);
    }
  }
}

/** A list of resources with bars. */
export class Bars {
  #list;
  #items = new Map();

  constructor(list) {
    this.#list = list;
  }

  show(resources) {
    const ids = resources.map(({ resourceId }) => resourceId);
    for (const [id, item] of this.#items) {
      if (!ids.includes(id)) {
        item.remove();
        this.#items.delete(id);
      }
    }
    resources.forEach((resource, position) => {
      const item = this.#item(resource.resourceId);
      if (this.#list.children[position] !== item) {
        this.#list.insertBefore(item, this.#list.children[position] ?? null);
      }
      draw(item, resource);
    });
  }

  #item(resourceId) {
    if (!this.#items.has(resourceId)) {
      const parts = STATES.map((state) => element("span", { className: state }));
      const item = element(
        "li",
        {},
        element("strong", {}, resourceId),
        element("div", { className: "bar", ariaHidden: "true" }, ...parts),
        element("p"),
      );
      item.dataset.resource = resourceId;
      this.#items.set(resourceId, item);
    }
    return this.#items.get(resourceId);
  }
}

function draw(item, { totalStock, ...stock }) {
  for (const state of STATES) {
    const share = totalStock ? stock[`${state}Stock`] / totalStock : 0;
    item.querySelector(`.${state}`).style.width = `${100 * share}%`;
  }
  const [available, held, committed, total] = [
    ...["availableStock", "heldStock", "committedStock"].map((state) => stock[state]),
    totalStock,
  ].map((units) => units.toLocaleString("en"));
  say(
    item.querySelector("p"),
    `${available} of ${total} available, ${held} held, ${committed} committed`,
  );
}

function note(shown, count, more) {
  if (!count) return "No resources found. POST /api/v1/resources creates one.";
  const of = more ? `the first ${count} by name; there are more` : count;
  return shown < count || more ? `The ${shown} most recently changed of ${of}.` : "";
}
