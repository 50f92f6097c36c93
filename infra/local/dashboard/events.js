// Lists the newest events and the held reservations.

import { ErrorResponse, masked, readJson } from "./api.js";
import { byId, element, say } from "./elements.js";

const PAGE_SIZE = 200;
const PAGES_MAX = 10; // per poll; the next poll continues
const SHOWN_MAX = 20;
const TOKENS_SHOWN_MAX = 3;

export class Events {
  #cursor = "";
  #newest = [];

  /** Read new events from the cursor on; initially the newest. */
  async show() {
    try {
      const more = await this.#read();
      say(byId("events-note"), more ? "Loading earlier events …" : this.#emptyNote());
    } catch (error) {
      if (!(error instanceof ErrorResponse)) throw error;
      say(byId("events-note"), error.message);
    }
  }

  /** Drop the cursor: a restarted runtime may have other data. */
  reset() {
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

  #emptyNote() {
    return this.#newest.length ? "" : "No events yet.";
  }
}

/** List the held reservations, earliest expiry first. */
export async function showReservations() {
  try {
    const path = `/api/v1/reservations?status=HELD&limit=${SHOWN_MAX}`;
    const { reservations } = await readJson(path);
    byId("reservations-list").replaceChildren(...reservations.map(reservationEntry));
    say(byId("reservations-note"), reservations.length ? "" : "No reservations are held.");
  } catch (error) {
    if (!(error instanceof ErrorResponse)) throw error;
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
  return element("li", {}, element("code", {}, masked(token)), ` ${lines}`, until);
}

function namesOf(tokens) {
  const shown = tokens.slice(0, TOKENS_SHOWN_MAX).map(masked).join(" ");
  const others = tokens.length - TOKENS_SHOWN_MAX;
  return others > 0 ? `${shown} and ${others} more` : shown;
}

function time(timestamp) {
  const shown = new Date(timestamp).toTimeString().slice(0, 8);
  return element("time", { dateTime: timestamp }, shown);
}
