// A shop that reserves, commits, releases and lists, with the types that openapi-typescript makes.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: [string, string, string, string]; exitCode: number };

type Reservation = components["schemas"]["ReservationView"];

const [, , baseUrl, resourceId] = process.argv;
const client = createClient<paths>({ baseUrl });

async function reserve(quantity: number): Promise<Reservation | string> {
  const { data, error } = await client.POST("/api/v1/reserve", {
    params: { header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { resourceId, quantity },
  });
  if (data) return data;
  if ("message" in error) return `gateway: ${error.message}`;
  if (error.code === "out_of_stock") {
    return error.items.map((item) => `${item.requested} of ${item.available}`).join();
  }
  return error.code;
}

async function reserveItems(): Promise<Reservation> {
  const { data } = await client.POST("/api/v1/reserve", {
    params: { header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { items: [{ resourceId, quantity: 1 }], ttlSeconds: 60 },
  });
  if (!data) throw new Error("nothing was held");
  return data;
}

async function settle(): Promise<string[]> {
  const held = await reserve(1);
  if (typeof held === "string") throw new Error(held);
  const committed = await client.POST("/api/v1/commit", { body: { token: held.token } });
  const several = await reserveItems();
  const released = await client.POST("/api/v1/release", { body: { token: several.token } });
  const again = await client.POST("/api/v1/commit", {
    body: { token: several.token, ifExpired: "reacquire" },
  });
  const problem = again.error && "code" in again.error ? again.error.code : "none";
  return [held.status, committed.data?.status ?? "", released.data?.status ?? "", problem];
}

async function listed(): Promise<Record<string, number>> {
  const resources = await client.GET("/api/v1/resources", {
    params: { query: { prefix: resourceId, limit: 10 } },
  });
  const reservations = await client.GET("/api/v1/reservations", {
    params: { query: { resourceId, status: "COMMITTED" } },
  });
  const read = await client.GET("/api/v1/resources/{resourceId}", {
    params: { path: { resourceId } },
  });
  return {
    resources: resources.data?.resources.length ?? -1,
    committed: reservations.data?.reservations.length ?? -1,
    available: read.data?.availableStock ?? -1,
  };
}

// What the document forbids does not compile.
export async function mistakes(): Promise<void> {
  // @ts-expect-error The header Idempotency-Key is mandatory.
  await client.POST("/api/v1/reserve", { body: { resourceId, quantity: 1 } });
  // @ts-expect-error There is no such status.
  await client.GET("/api/v1/reservations", { params: { query: { status: "BOUGHT" } } });
  // @ts-expect-error There is no such way.
  await client.POST("/api/v1/commit", { body: { token: "", ifExpired: "hope" } });
  const params = { header: { "Idempotency-Key": "k" } };
  // @ts-expect-error One form or the other: a quantity needs its resource.
  await client.POST("/api/v1/reserve", { params, body: { quantity: 1 } });
}

await client.POST("/api/v1/resources", { body: { resourceId, totalStock: 2 } });
const settled = await settle();
const shortage = await reserve(9);
console.log(JSON.stringify({ settled, shortage, ...(await listed()) }));
