// Once a second: ask the runtime, and show what it says.

import { Away, readText } from "./api.js";
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
  const begun = performance.now();
  const done = await Promise.allSettled([
    showMetrics(),
    blackFriday.show(),
    stock.show(),
    events.show(),
    showReservations(),
  ]);
  const failures = done.flatMap(({ reason }) => reason ?? []);
  tellConnection(failures.some((failure) => failure instanceof Away));
  for (const failure of failures) if (!(failure instanceof Away)) console.error(failure);
  await pause(EVERY_MS - (performance.now() - begun));
  await untilVisible();
}

async function showMetrics() {
  const text = await readText("/metrics");
  const atSeconds = Date.now() / 1_000;
  polls.add(atSeconds, parse(text));
  for (const panel of panels) panel.take(atSeconds, polls);
}

function tellConnection(isAway) {
  const connection = byId("connection");
  const wasAway = connection.dataset.state === "away";
  connection.dataset.state = isAway ? "away" : "live";
  if (isAway && !wasAway) {
    const since = new Date().toTimeString().slice(0, 8);
    say(connection, `No answer since ${since}. This page goes on when the runtime is back.`);
  } else if (!isAway) {
    if (wasAway) events.forget();
    say(connection, "Live");
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)));
}

/** Nobody looks at a page that is hidden: it lets the runtime be. */
async function untilVisible() {
  while (document.hidden) {
    await new Promise((resolve) =>
      document.addEventListener("visibilitychange", resolve, { once: true }),
    );
  }
}
