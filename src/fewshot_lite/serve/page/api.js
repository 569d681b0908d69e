// All requests of the page, which go to the program that serves it.

import { toast } from "./dom.js";

const listeners = new Set();
let state = null;

export const current = () => state;
export const onState = (listener) => listeners.add(listener);

let lost = false;

function setState(next) {
  if (state && next.run !== state.run) location.reload(); // the program was restarted
  if (state && next.revision < state.revision) return; // overtaken by a newer response
  state = next;
  for (const listener of listeners) listener(state);
}

/** Send a request and return the response; retry while the server is busy. */
async function send(method, path, body, kind) {
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

const failure = (response, reply) => reply.error || `The program answered with ${response.status}.`;

/** Send a request and return the response; throw an Error with the server's message. */
async function request(method, path, body, kind) {
  const response = await send(method, path, body, kind);
  if (!response.ok) throw new Error(failure(response, await response.json().catch(() => ({}))));
  return response;
}

/** Run an action and show its error, if any; return whether there was none. */
async function showErrors(action, seconds) {
  try {
    await action();
    return true;
  } catch (error) {
    toast(error.message, seconds);
    return false;
  }
}

/** Change something; the page follows the state in the response, and errors are shown. */
export const change = (method, path, members = {}) => showErrors(async () => {
  const body = method === "DELETE" ? undefined : JSON.stringify(members);
  setState(await (await request(method, path, body, "application/json")).json());
});

export async function refresh() {
  const since = state ? `?since=${state.run}.${state.revision}` : "";
  const response = await request("GET", `/v1/session${since}`);
  if (response.status === 200) setState(await response.json()); // else 204: it is the same
}

/** Follow the state of the server, more often while it works. */
export async function follow() {
  for (;;) {
    if (document.visibilityState === "visible") await refresh().catch(() => {});
    await new Promise((resume) => setTimeout(resume, state && state.work ? 300 : 1000));
  }
}

const classPath = (name) => `/v1/classes/${encodeURIComponent(name)}`;
export { classPath };

/** Add a photo to a class; return the problem, or null. */
export async function addPhoto(label, blob, name) {
  const path = `${classPath(label)}/photos?name=${encodeURIComponent(name)}`;
  const response = await send("POST", path, blob, blob.type || "application/octet-stream");
  const reply = await response.json().catch(() => ({}));
  if (reply.state) setState(reply.state);
  return reply.photos ? reply.photos[0].problem : failure(response, reply);
}

/** Add files to a class, three at a time; show the problems at the end. */
export async function addPhotos(label, files) {
  const waiting = [...files];
  const problems = [];
  const worker = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        const problem = await addPhoto(label, file, file.name);
        if (problem) problems.push(`${file.name}: ${problem}`);
      } catch (error) {
        problems.push(`${file.name}: ${error.message}`);
      }
    }
  };
  await Promise.all([worker(), worker(), worker()]);
  if (problems.length === 1) toast(`Not added: ${problems[0]}`);
  else if (problems.length) toast(`Not added: ${problems.length} files, e.g. ${problems[0]}`, 10);
}

/** Return the answer for a photo, as in `classify --json`; throw if there is none. */
export async function classify(blob, name, top = 5) {
  const response = await send("POST", `/v1/classify?top=${top}&name=${encodeURIComponent(name)}`, blob, blob.type || "application/octet-stream");
  const reply = await response.json().catch(() => ({}));
  if (!Array.isArray(reply)) throw new Error(failure(response, reply));
  return reply[0]; // with status 422 the answer has a problem
}

/** Let the browser download a file. */
export function save(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}

/** Download a file that takes time to make; errors are shown. */
export const download = (path, name) => showErrors(async () => {
  const address = URL.createObjectURL(await (await request("GET", path)).blob());
  save(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
});

export const openModel = (file) => showErrors(async () => {
  const response = await request("PUT", "/v1/model/file", file, "application/octet-stream");
  setState(await response.json());
}, 10);
