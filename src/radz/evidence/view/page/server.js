// What the page asks the server. Paths are relative: the address of the page holds the token.

/** Called once when the server is gone. */
let gone = () => {};
export function onGone(handler) {
  gone = handler;
}

/** The server's own words on what is wrong. */
class Fault extends Error {}

/** What is wrong, in words. */
export function words(error) {
  return error instanceof Fault ? error.message : `the page failed: ${error.message}`;
}

async function ask(path) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    gone();
    throw new Fault("radz view does not answer any more");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Fault(told.error || `${response.status}`);
}

export async function json(path) {
  return (await ask(path)).json();
}

export async function bitmap(path) {
  return createImageBitmap(await (await ask(path)).blob());
}

/** Levels of an image, and by what they are shown. */
export async function frame(study, number) {
  const response = await ask(`studies/${study}/frames/${number}`);
  const about = JSON.parse(response.headers.get("X-Frame"));
  const bytes = await response.arrayBuffer();
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) throw new Fault("this machine orders bytes otherwise");
  return { ...about, levels: new Uint16Array(bytes) };
}

/** Remembers the last so many answers; one that failed is asked for again. */
export function remembered(most, make) {
  const kept = new Map();
  return (...key) => {
    const name = key.join("/");
    let found = kept.get(name);
    if (!found) {
      found = make(...key);
      found.catch(() => kept.delete(name));
    }
    kept.delete(name);
    kept.set(name, found);
    if (kept.size > most) kept.delete(kept.keys().next().value);
    return found;
  };
}
