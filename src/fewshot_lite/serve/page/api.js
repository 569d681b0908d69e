// Every request that the page makes, all to the program that served it.

import { toast } from "./dom.js";

const listeners = new Set();
let state = null;

export const current = () => state;
export const onState = (listener) => listeners.add(listener);

let lost = false;

function take(found) {
  if (state && found.run !== state.run) location.reload(); // the program was started anew
  if (state && found.revision < state.revision) return; // an answer that was overtaken
  state = found;
  for (const listener of listeners) listener(state);
}

/** A request; throws an Error with the server's line, or returns the response. */
export async function request(method, path, body, kind) {
  const headers = kind ? { "content-type": kind } : {};
  for (let tries = 0; ; tries += 1) {
    let response;
    try {
      response = await fetch(path, { method, body, headers });
    } catch {
      if (!lost) toast("The program does not answer. Is it still running?");
      lost = true;
      throw new Error("The program does not answer.");
    }
    if (lost) { lost = false; toast("The program is there again."); }
    if (response.status === 503 && tries < 20) {
      const pause = Number(response.headers.get("retry-after")) || 1;
      await new Promise((resume) => setTimeout(resume, pause * 1000 * (0.5 + Math.random())));
      continue;
    }
    return response;
  }
}

async function failed(response) {
  const found = await response.json().catch(() => ({}));
  return new Error(found.error || `The program answered with ${response.status}.`);
}

/** A change; the page follows the state that comes back, and errors are shown. */
export async function change(method, path, members = {}) {
  try {
    const response = await request(method, path, method === "DELETE" ? undefined : JSON.stringify(members), "application/json");
    if (!response.ok) throw await failed(response);
    take(await response.json());
    return true;
  } catch (error) {
    toast(error.message);
    return false;
  }
}

export async function refresh() {
  const since = state ? `?since=${state.run}.${state.revision}` : "";
  const response = await request("GET", `/v1/session${since}`);
  if (response.status === 200) take(await response.json());
  else if (response.status !== 204) throw await failed(response);
}

/** Keep up with the server, more often while it is at work. */
export async function follow() {
  for (;;) {
    if (document.visibilityState === "visible") await refresh().catch(() => {});
    await new Promise((resume) => setTimeout(resume, state && state.work ? 300 : 1000));
  }
}

const classPath = (name) => `/v1/classes/${encodeURIComponent(name)}`;
export { classPath };

/** Add one photo to a class; returns why it was not added, or null. */
export async function addPhoto(label, blob, name) {
  const path = `${classPath(label)}/photos?name=${encodeURIComponent(name)}`;
  const response = await request("POST", path, blob, blob.type || "application/octet-stream");
  const found = await response.json().catch(() => ({}));
  if (found.state) take(found.state);
  if (found.photos) return found.photos[0].problem;
  return found.error || `The program answered with ${response.status}.`;
}

/** Add files to a class, a few at a time, and tell in the end what was not added. */
export async function addPhotos(label, files) {
  const waiting = [...files];
  const problems = [];
  const one = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        const problem = await addPhoto(label, file, file.name);
        if (problem) problems.push(`${file.name}: ${problem}`);
      } catch (error) {
        problems.push(`${file.name}: ${error.message}`);
      }
    }
  };
  await Promise.all([one(), one(), one()]);
  if (problems.length === 1) toast(`Not added: ${problems[0]}`);
  else if (problems.length) toast(`Not added: ${problems.length} files, e.g. ${problems[0]}`, 10);
}

/** The answer for one photo, as `classify --json` has it; throws where there is none. */
export async function classify(blob, name, top = 5) {
  const response = await request("POST", `/v1/classify?top=${top}&name=${encodeURIComponent(name)}`, blob, blob.type || "application/octet-stream");
  if (!response.ok && response.status !== 422) throw await failed(response);
  const found = await response.json();
  if (!Array.isArray(found)) throw new Error(found.error);
  return found[0];
}

/** Save what an address gives as a file, as it comes. */
export function save(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}

/** Save what an address gives as a file, once it is there; errors are shown. */
export async function download(path, name) {
  try {
    const response = await request("GET", path);
    if (!response.ok) throw await failed(response);
    const address = URL.createObjectURL(await response.blob());
    save(address, name);
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (error) {
    toast(error.message);
  }
}

export async function openModel(file) {
  try {
    const response = await request("PUT", "/v1/model/file", file, "application/octet-stream");
    if (!response.ok) throw await failed(response);
    take(await response.json());
  } catch (error) {
    toast(error.message, 10);
  }
}
