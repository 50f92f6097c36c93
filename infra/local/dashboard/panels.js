// What is drawn: each panel reads its series, by name, from what changed between polls.

import { METRICS } from "./metrics.js";
import { count, duration, perSecond } from "./units.js";

const { httpRequestSeconds } = METRICS;

const answered = (polled, isOfKind) =>
  polled.rate(`${httpRequestSeconds}_count`, ({ status }) => isOfKind(status));

export const PANELS = [
  {
    group: "traffic",
    title: "Throughput by endpoint",
    note: "Requests a second.",
    unit: perSecond,
    read: (polled) => ({
      "all endpoints": polled.rate(`${httpRequestSeconds}_count`),
      ...polled.ratesBy("route", `${httpRequestSeconds}_count`),
    }),
  },
  {
    group: "traffic",
    title: "Answers: 200, 409 or 5xx",
    note: "Answers a second. 409: out of stock, mostly. 5xx must stay at zero.",
    unit: perSecond,
    read: (polled) => ({
      "2xx": answered(polled, (status) => status.startsWith("2")),
      "409 refused": answered(polled, (status) => status === "409"),
      "5xx": answered(polled, (status) => status.startsWith("5")),
    }),
  },
  {
    group: "traffic",
    title: "Latency",
    note: "From a request to its answer, over ten seconds.",
    unit: duration,
    read: (polled) => ({
      p95: polled.quantile(0.95, httpRequestSeconds),
      p99: polled.quantile(0.99, httpRequestSeconds),
    }),
  },
  {
    group: "traffic",
    title: "Postgres connections",
    note: "Of the functions. Many waiting: everybody wants the same row.",
    unit: count,
    read: (polled) => polled.levelsBy("state", METRICS.postgresConnections),
  },
  {
    group: "engine",
    title: "Expiry lag, p99",
    note: "How late holds are closed, by path, over ten seconds.",
    unit: duration,
    read: (polled) => polled.quantilesBy("path", 0.99, METRICS.expiryLagSeconds),
  },
  {
    group: "engine",
    title: "Holds expired",
    note: "Closed a second, by path. What the net closes, the prompt path did not find.",
    unit: perSecond,
    read: (polled) => polled.ratesBy("path", METRICS.holdsExpired),
  },
  {
    group: "engine",
    title: "Outbox age, p99",
    note: "How old events are when they are handed on, over ten seconds.",
    unit: duration,
    read: (polled) => ({ p99: polled.quantile(0.99, METRICS.outboxAgeSeconds) }),
  },
  {
    group: "engine",
    title: "Webhooks",
    note: "Messages a second, by what became of them.",
    unit: perSecond,
    read: (polled) => polled.ratesBy("outcome", METRICS.deliveries),
  },
  {
    group: "engine",
    title: "Refusals by path",
    note: "Refused by the sold-out marker in Redis, or by Postgres. A second.",
    unit: perSecond,
    read: (polled) => ({
      marker: polled.rate(METRICS.refusalsByMarker),
      Postgres: polled.rate(METRICS.refusalsByPostgres),
    }),
  },
  {
    group: "engine",
    title: "Cold starts",
    note: "First requests of environments, a second.",
    unit: perSecond,
    read: (polled) => ({ "cold starts": polled.rate(METRICS.coldStarts) }),
  },
  {
    group: "engine",
    title: "Environments by state",
    note: "Processes that run a function, of all functions.",
    unit: count,
    read: (polled) => polled.levelsBy("state", METRICS.environments),
  },
  {
    group: "engine",
    title: "Wait for an environment, p99",
    note: "How long events wait before a function takes them, over ten seconds.",
    unit: duration,
    read: (polled) => polled.quantilesBy("function", 0.99, METRICS.eventWaitSeconds),
  },
  {
    group: "engine",
    title: "Time in Postgres and Redis, p99",
    note: "Of one request, over ten seconds.",
    unit: duration,
    read: (polled) => ({
      Postgres: polled.quantile(0.99, METRICS.postgresDurationSeconds),
      Redis: polled.quantile(0.99, METRICS.redisDurationSeconds),
    }),
  },
  {
    group: "engine",
    title: "Books that do not agree",
    note: "Resources found with a wrong counter since the start. Must stay at zero.",
    unit: count,
    read: (polled) => ({ resources: polled.level(METRICS.resourcesDrifting) }),
  },
];
