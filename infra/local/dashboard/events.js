// The newest events, and the reservations that hold stock.

import { Refused, beginningOf, readJson } from "./api.js";
import { byId, element, say } from "./elements.js";

const PAGE_SIZE = 200;
const PAGES_MAX = 10; // in one go; the rest is read in the next
const SHOWN_MAX = 20;
const TOKENS_SHOWN_MAX = 3;

export class Events {
  #cursor = "";
  #newest = [];

  /** Read on from where it was; at first the newest. */
  async show() {
    try {
      const more = await this.#read();
      say(byId("events-note"), more ? "Reading what happened before …" : this.#none());
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      say(byId("events-note"), error.message);
    }
  }

  /** Begin anew: it may be another runtime that answers. */
  forget() {
    this.#cursor = "";
    this.#newest = [];
  }

  async #read() {
    for (let pages = 0; pages < PAGES_MAX; pages += 1) {
      const from = this.#cursor ? `after=${encodeURIComponent(this.#cursor)}` : "newest=true";
      const { events, cursor } = await readJson(`/api/v1/events?limit=${PAGE_SIZE}&${from}`);
      this.#cursor = cursor;
      this.#newest = [...this.#newest, ...events].slice(-SHOWN_MAX);
      if (events.length) byId("events-list").replaceChildren(...this.#newest.map(entry).reverse());
      if (events.length < PAGE_SIZE) return false;
    }
    return true;
  }

  #none() {
    return this.#newest.length ? "" : "Nothing has happened yet.";
  }
}

/** Those that end first. */
export async function showReservations() {
  try {
    const path = `/api/v1/reservations?status=HELD&limit=${SHOWN_MAX}`;
    const { reservations } = await readJson(path);
    byId("reservations-list").replaceChildren(...reservations.map(reservationEntry));
    say(byId("reservations-note"), reservations.length ? "" : "Nothing is held.");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(byId("reservations-note"), error.message);
  }
}

function entry({ type, resourceId, value, timestamp, tokens }) {
  const isOfStock = type.startsWith("STOCK_");
  const units = `${value.toLocaleString("en")} ${isOfStock ? "available" : "units"}`;
  return element(
    "li",
    {},
    time(timestamp),
    element("strong", {}, type),
    ` ${resourceId}, ${units}`,
    tokens.length ? `, ${namesOf(tokens)}` : "",
  );
}

function reservationEntry({ token, items, expiresAt }) {
  const lines = items.map(({ resourceId, quantity }) => `${quantity} × ${resourceId}`).join(", ");
  const until = element("span", {}, ", until ", time(expiresAt));
  return element("li", {}, element("code", {}, beginningOf(token)), ` ${lines}`, until);
}

function namesOf(tokens) {
  const shown = tokens.slice(0, TOKENS_SHOWN_MAX).map(beginningOf).join(" ");
  const others = tokens.length - TOKENS_SHOWN_MAX;
  return others > 0 ? `${shown} and ${others} more` : shown;
}

function time(timestamp) {
  const shown = new Date(timestamp).toTimeString().slice(0, 8);
  return element("time", { dateTime: timestamp }, shown);
}
