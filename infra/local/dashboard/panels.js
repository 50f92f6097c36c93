// The panels. Each reads its series by name from the polls.

import { METRICS } from "./metrics.js";
import { count, duration, perSecond } from "./units.js";

const { httpRequestSeconds } = METRICS;

const answered = (polled, isOfKind) =>
  polled.rate(`${httpRequestSeconds}_count`, ({ status }) => isOfKind(status));

export const PANELS = [
  {
    group: "traffic",
    title: "Throughput by endpoint",
    note: "Requests per second.",
    unit: perSecond,
    read: (polled) => ({
      "all endpoints": polled.rate(`${httpRequestSeconds}_count`),
      ...polled.ratesBy("route", `${httpRequestSeconds}_count`),
    }),
  },
  {
    group: "traffic",
    title: "Responses: 2xx, 409 or 5xx",
    note: "Responses per second. 409 mostly means out of stock. 5xx must stay at zero.",
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
    note: "Time from request to response, over ten seconds.",
    unit: duration,
    read: (polled) => ({
      p95: polled.quantile(0.95, httpRequestSeconds),
      p99: polled.quantile(0.99, httpRequestSeconds),
    }),
  },
  {
    group: "traffic",
    title: "Postgres connections",
    note: "Connections of the functions. Many waiting: contention for one row.",
    unit: count,
    read: (polled) => polled.levelsBy("state", METRICS.postgresConnections),
  },
  {
    group: "engine",
    title: "Expiry lag, p99",
    note: "Delay between the deadline of a hold and its expiry, by path, over ten seconds.",
    unit: duration,
    read: (polled) => polled.quantilesBy("path", 0.99, METRICS.expiryLagSeconds),
  },
  {
    group: "engine",
    title: "Holds expired",
    note: "Expired per second, by path. The scheduled sweep expires what the prompt path missed.",
    unit: perSecond,
    read: (polled) => polled.ratesBy("path", METRICS.holdsExpired),
  },
  {
    group: "engine",
    title: "Outbox age, p99",
    note: "Age of events when they are published, over ten seconds.",
    unit: duration,
    read: (polled) => ({ p99: polled.quantile(0.99, METRICS.outboxAgeSeconds) }),
  },
  {
    group: "engine",
    title: "Webhooks",
    note: "Deliveries per second, by outcome.",
    unit: perSecond,
    read: (polled) => polled.ratesBy("outcome", METRICS.deliveries),
  },
  {
    group: "engine",
    title: "Refusals by path",
    note: "Refusals per second by the sold-out marker in Redis, and by Postgres.",
    unit: perSecond,
    read: (polled) => ({
      marker: polled.rate(METRICS.refusalsByMarker),
      Postgres: polled.rate(METRICS.refusalsByPostgres),
    }),
  },
  {
    group: "engine",
    title: "Cold starts",
    note: "First requests of environments, per second.",
    unit: perSecond,
    read: (polled) => ({ "cold starts": polled.rate(METRICS.coldStarts) }),
  },
  {
    group: "engine",
    title: "Environments by state",
    note: "Processes of all functions.",
    unit: count,
    read: (polled) => polled.levelsBy("state", METRICS.environments),
  },
  {
    group: "engine",
    title: "Wait for an environment, p99",
    note: "Time that events wait for an environment, over ten seconds.",
    unit: duration,
    read: (polled) => polled.quantilesBy("function", 0.99, METRICS.eventWaitSeconds),
  },
  {
    group: "engine",
    title: "Time in Postgres and Redis, p99",
    note: "Per request, over ten seconds.",
    unit: duration,
    read: (polled) => ({
      Postgres: polled.quantile(0.99, METRICS.postgresDurationSeconds),
      Redis: polled.quantile(0.99, METRICS.redisDurationSeconds),
    }),
  },
  {
    group: "engine",
    title: "Stock drift",
    note: "Resources whose counters differed from their reservations, since start. Must stay at zero.",
    unit: count,
    read: (polled) => ({ resources: polled.level(METRICS.resourcesDrifting) }),
  },
];
