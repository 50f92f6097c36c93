// Calls to the runtime that serves this page.

const TIMEOUT_MS = 10_000;
const OWN = { "x-openreserve-untold": "1" }; // else the page would show itself

/** An answer that is not a success: the message is for people. */
export class Refused extends Error {}

/** There was no answer. */
export class Away extends Error {}

export async function readText(path) {
  return (await call(path)).text();
}

export async function readJson(path) {
  return (await call(path)).json();
}

export async function post(path) {
  return (await call(path, { method: "POST" })).json();
}

/** The beginning of a token: the whole of it is a secret. */
export function beginningOf(token) {
  return `${token.slice(0, 8)}…`;
}

async function call(path, options = {}) {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const answer = await fetch(path, { headers: OWN, cache: "no-store", signal, ...options }).catch(
    () => {
      throw new Away(`${path} was not answered`);
    },
  );
  if (!answer.ok) throw new Refused(await reason(answer));
  return answer;
}

async function reason(answer) {
  try {
    const problem = await answer.json();
    return problem.detail ?? problem.title ?? problem.message; // API Gateway has a message alone
  } catch {
    return `The answer was ${answer.status}.`;
  }
}
