// The names of the metrics at /metrics. No other file of this page has them.

export const METRICS = Object.freeze({
  httpRequestSeconds: "openreserve_http_request_seconds",
  postgresConnections: "openreserve_postgres_connections",
  expiryLagSeconds: "openreserve_expiry_lag_seconds",
  holdsExpired: "openreserve_holds_expired_total",
  outboxAgeSeconds: "openreserve_outbox_age_seconds",
  deliveries: "openreserve_deliveries_total",
  refusalsByMarker: "openreserve_refusals_by_marker_total",
  refusalsByPostgres: "openreserve_refusals_by_postgres_total",
  coldStarts: "openreserve_cold_starts_total",
  environments: "openreserve_environments",
  eventWaitSeconds: "openreserve_event_wait_seconds",
  postgresDurationSeconds: "openreserve_postgres_duration_seconds",
  redisDurationSeconds: "openreserve_redis_duration_seconds",
  resourcesDrifting: "openreserve_resources_drifting_total",
});
