// Calls to the server: one line of form fields, and behind it the bytes of a picture.

export class Failure extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

const GONE = "The demo does not answer. Is mix zero_shot.demo still running?";
const PAUSE_MS = 1000;

export async function call(path, fields, picture) {
  const line = new URLSearchParams(fields).toString();
  const body = new Blob(picture ? [line, "\n", picture] : [line]);
  const began = performance.now();
  let response = await ask(path, { method: "POST", body });
  // The server says when it is full, and is seldom so for long.
  if (response.status === 503) {
    await new Promise((done) => setTimeout(done, PAUSE_MS));
    response = await ask(path, { method: "POST", body });
  }
  return { ...(await answer(response)), round: performance.now() - began };
}

export async function get(path) {
  return answer(await ask(path));
}

export async function picture(path) {
  const response = await ask("/pictures/" + path);
  return response.ok ? response.blob() : answer(response);
}

async function ask(path, options) {
  try {
    return await fetch(path, options);
  } catch (_unreachable) {
    throw new Failure("gone", GONE);
  }
}

async function answer(response) {
  const json = await response.json().catch(() => ({ error: { reason: "gone", message: GONE } }));
  if (json.error) throw new Failure(json.error.reason, json.error.message);
  return json;
}

// Runs one call of `work` at a time, and of those that come meanwhile only the last.
export function latest(work) {
  let running = false;
  let waiting = null;
  return async (...words) => {
    waiting = words;
    if (running) return;
    running = true;
    while (waiting) {
      const next = waiting;
      waiting = null;
      await work(...next);
    }
    running = false;
  };
}
