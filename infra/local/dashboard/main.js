// Polls the runtime once a second, and updates the page.

import { Unreachable, readText } from "./api.js";
import { BlackFriday } from "./black_friday.js";
import { byId, say } from "./elements.js";
import { Events, showReservations } from "./events.js";
import { Panel } from "./panel.js";
import { PANELS } from "./panels.js";
import { Polls } from "./polls.js";
import { parse } from "./prometheus.js";
import { Stock } from "./stock.js";

const EVERY_MS = 1_000;

const polls = new Polls();
const panels = PANELS.map(
  (panel) => new Panel(panel, document.querySelector(`[data-group="${panel.group}"]`)),
);
const blackFriday = new BlackFriday();
const stock = new Stock();
const events = new Events();

for (;;) {
  const startedAt = performance.now();
  const results = await Promise.allSettled([
    showMetrics(),
    blackFriday.show(),
    stock.show(),
    events.show(),
    showReservations(),
  ]);
  const failures = results.flatMap(({ reason }) => reason ?? []);
  showConnection(failures.some((failure) => failure instanceof Unreachable));
  for (const failure of failures) if (!(failure instanceof Unreachable)) console.error(failure);
  await pause(EVERY_MS - (performance.now() - startedAt));
  await untilVisible();
}

async function showMetrics() {
  const text = await readText("/metrics");
  const atSeconds = Date.now() / 1_000;
  polls.add(atSeconds, parse(text));
  for (const panel of panels) panel.take(atSeconds, polls);
}

function showConnection(isUnreachable) {
  const connection = byId("connection");
  const wasUnreachable = connection.dataset.state === "unreachable";
  connection.dataset.state = isUnreachable ? "unreachable" : "live";
  if (isUnreachable && !wasUnreachable) {
    const since = new Date().toTimeString().slice(0, 8);
    say(connection, `No response since ${since}. This page reconnects automatically.`);
  } else if (!isUnreachable) {
    if (wasUnreachable) events.reset();
    say(connection, "Live");
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)));
}

/** Pause polling while the page is hidden. */
async function untilVisible() {
  while (document.hidden) {
    await new Promise((resolve) =>
      document.addEventListener("visibilitychange", resolve, { once: true }),
    );
  }
}
