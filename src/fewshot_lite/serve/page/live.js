// Classification of the webcam's picture, and of photos that are dropped, pasted or chosen.

import { addPhoto, classify, current } from "./api.js";
import * as camera from "./camera.js";
import { byId, make, percent, setOptions, toast } from "./dom.js";

const SIDE = 320; // of the webcam's pictures, in pixels

function bars(answer) {
  return answer.labels.map(({ name, probability }) => {
    const bar = make("i");
    bar.style.width = `${100 * probability}%`;
    return make("li", {}, bar, make("bdi", {}, name), make("span", {}, percent(probability)));
  });
}

function show(answer) {
  const unknown = answer.label === "unknown";
  byId("answer").hidden = false;
  byId("label").textContent = answer.label;
  byId("label").parentElement.classList.toggle("unknown", unknown);
  byId("sure").textContent = unknown ? "none of the classes" : percent(answer.probability);
  byId("bars").replaceChildren(...bars(answer));
}

/** Classify the camera's picture again and again. */
export async function watch() {
  let rate = 0;
  for (;;) {
    const begun = performance.now();
    const ready = current()?.model && camera.running() && document.visibilityState === "visible";
    if (ready) {
      try {
        show(await classify(await camera.photo(SIDE, 0.85), "webcam"));
        const now = 1000 / (performance.now() - begun);
        rate = rate ? 0.8 * rate + 0.2 * now : now;
        byId("rate").textContent = `${rate.toFixed(0)} a second`;
      } catch {
        await new Promise((resume) => setTimeout(resume, 500));
      }
    } else {
      byId("answer").hidden = true;
      byId("rate").textContent = "";
    }
    const rest = Math.max(ready ? 50 - (performance.now() - begun) : 200, 0);
    await new Promise((resume) => setTimeout(resume, rest));
  }
}

/** Classify photos and list the answers, each with a way to correct it. */
export async function tryPhotos(files) {
  if (!current()?.model) {
    toast("There is no model yet: it needs photos of two classes at least.");
    return;
  }
  for (const file of files) {
    let answer;
    try {
      answer = await classify(file, file.name);
    } catch (error) {
      answer = { label: null, labels: [], problem: error.message };
    }
    byId("tried").prepend(triedItem(file, answer));
    while (byId("tried").children.length > 50) byId("tried").lastElementChild.remove();
  }
}

function triedItem(file, answer) {
  const address = URL.createObjectURL(file);
  const picture = make("img", { src: address, alt: "" });
  picture.addEventListener("load", () => URL.revokeObjectURL(address));
  picture.addEventListener("error", () => picture.removeAttribute("src"));
  const name = make("div", { class: "soft" }, make("bdi", {}, file.name));
  if (answer.problem) return make("li", {}, picture, make("div", {}, name, `Not named: ${answer.problem}`));
  const sure = answer.label === "unknown" ? "" : ` ${percent(answer.probability)}`;
  const select = make("select", { "aria-label": `Add ${file.name} to a class` });
  setOptions(select, current().classes.map((found) => found.name), "Add it to…");
  select.addEventListener("change", async () => {
    select.disabled = true;
    const problem = await addPhoto(select.value, file, file.name).catch((error) => error.message);
    toast(problem ? `Not added: ${problem}` : `Added to ${select.value}.`);
  });
  return make("li", {}, picture, make("div", {}, name, make("strong", {}, make("bdi", {}, answer.label), sure), make("div", {}, select)));
}

byId("correct").addEventListener("submit", async (event) => {
  event.preventDefault();
  const label = byId("right-class").value;
  if (!label || !camera.running()) return;
  const problem = await addPhoto(label, await camera.photo(), "webcam").catch((error) => error.message);
  toast(problem ? `Not added: ${problem}` : `Added to ${label}.`);
});
