// Recording of photos from the webcam into a class, while a button is held or after a countdown.

import { addPhoto, refresh } from "./api.js";
import * as camera from "./camera.js";
import { byId, counted, toast } from "./dom.js";

const EVERY = 200; // milliseconds between photos
const AT_ONCE = 4; // uploads at a time

let label = null; // the class being recorded
const wait = (time) => new Promise((resume) => setTimeout(resume, time));

/** Record photos into a class until `stopRecording` is called. */
export async function record(name) {
  if (label !== null) return;
  label = name;
  if (!camera.running() && !(await camera.start())) { label = null; return; }
  document.body.classList.add("is-recording");
  byId("recording").hidden = false;
  let taken = 0;
  const underway = new Set();
  const problems = [];
  while (label === name) {
    const next = wait(EVERY);
    if (underway.size < AT_ONCE) {
      taken += 1;
      byId("recording").textContent = `${counted(taken, "photo")} of ${name}`;
      const blob = await camera.photo();
      const sent = addPhoto(name, blob, "webcam").then((problem) => problem && problems.push(problem), (error) => problems.push(error.message));
      underway.add(sent);
      sent.finally(() => underway.delete(sent));
    }
    await next;
  }
  await Promise.all(underway);
  byId("recording").hidden = true;
  document.body.classList.remove("is-recording");
  if (problems.length) toast(`${counted(problems.length, "photo")} of ${taken} not added: ${problems[0]}`);
  await refresh().catch(() => {});
}

export function stopRecording() {
  label = null;
}

/** Count down, then record for two seconds. */
export async function recordSoon(name) {
  if (label !== null || (!camera.running() && !(await camera.start()))) return;
  document.body.classList.add("is-recording");
  for (const number of [3, 2, 1]) {
    byId("countdown").textContent = number;
    await wait(1000);
  }
  byId("countdown").textContent = "";
  setTimeout(stopRecording, 2000);
  await record(name);
}

/** Make a button record while it is held: by a pointer, by Space or by Enter. */
export function holdToRecord(button, name) {
  const begin = () => {
    button.classList.add("on");
    record(name());
  };
  const end = () => {
    if (!button.classList.contains("on")) return;
    button.classList.remove("on");
    stopRecording();
  };
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    begin();
  });
  for (const kind of ["pointerup", "pointercancel", "blur"]) button.addEventListener(kind, end);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) begin();
  });
  button.addEventListener("keyup", end);
}
