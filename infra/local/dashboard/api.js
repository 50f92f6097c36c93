// HTTP calls to the runtime that serves this page.

const TIMEOUT_MS = 10_000;
const HEADERS = { "x-openreserve-unreported": "1" }; // excludes this page's polling from metrics

/** An error response. The message is shown to the user. */
export class ErrorResponse extends Error {}

/** The runtime is unreachable. */
export class Unreachable extends Error {}

export async function readText(path) {
  return (await call(path)).text();
}

export async function readJson(path) {
  return (await call(path)).json();
}

export async function post(path) {
  return (await call(path, { method: "POST" })).json();
}

/** Tokens are secrets: show only the first characters. */
export function masked(token) {
  return `${token.slice(0, 8)}…`;
}

async function call(path, options = {}) {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(path, { headers: HEADERS, cache: "no-store", signal, ...options }).catch(
    () => {
      throw new Unreachable(`No response from ${path}`);
    },
  );
  if (!response.ok) throw new ErrorResponse(await reason(response));
  return response;
}

async function reason(response) {
  try {
    const problem = await response.json();
    return problem.detail ?? problem.title ?? problem.message; // API Gateway sends only a message
  } catch {
    return `The response status was ${response.status}.`;
  }
}
