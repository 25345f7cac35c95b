// What the server says outside a stream. A browser hides why a WebSocket was not opened (the page
// sees close code 1006 for a wrong token, a full server and a missing one), plain requests do not.

import { failure, unready } from "./words.js";

/** The name of the model that answers here, or "" where nothing does. */
export async function modelName(base) {
  const answer = await ask(new URL("../version", base));
  return answer?.body?.model?.name ?? "";
}

/**
 * The models that make sound here, as `ready.generator` describes them.
 * @returns {Promise<{models: object[], code: number|null, words: string}>} `words` where they are not told
 */
export async function voices(base, token) {
  const answer = await ask(new URL("../v1/models", base), authorized(token));
  if (answer?.status === 200) {
    return { models: answer.body.data.map((model) => model.generator).filter(Boolean), code: null, words: "" };
  }
  const code = answer?.status === 401 ? 4401 : 1006;
  return { models: [], code, words: failure({ code }) };
}

/** @returns {Promise<{code: number, words: string}>} why no stream could be opened */
export async function whyClosed(base, token) {
  const ready = await ask(new URL("../readyz", base));
  if (!ready) return { code: 1006, words: failure({ code: 1006 }) };
  if (ready.status === 503) return { code: 1013, words: unready(ready.body?.reasons ?? []) };
  const models = await ask(new URL("../v1/models", base), authorized(token));
  if (models?.status === 401) return { code: 4401, words: failure({ code: 4401 }) };
  return { code: 1006, words: "The server runs, but the connection did not open; a proxy between may not pass WebSockets." };
}

const authorized = (token) => (token ? { headers: { Authorization: `Bearer ${token}` } } : {});

async function ask(url, options = {}) {
  try {
    const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(4000), ...options });
    return { status: answer.status, body: await answer.json().catch(() => null) };
  } catch {
    return null;
  }
}
