// The classes: a card for each, with its photos and buttons.

import { addPhotos, change, classPath, current } from "./api.js";
import { ask, byId, counted, form, make, setChildren, setOptions } from "./dom.js";
import { acceptDrops, pickPhotos } from "./files.js";
import { holdToRecord, recordSoon } from "./recording.js";

const cards = new Map(); // class name -> its card
const pictures = new Map(); // number -> its button

export function showCards(state) {
  const doubts = new Map((state.model?.doubts ?? []).map((doubt) => [doubt.number, doubt]));
  const seen = new Set();
  const shown = state.classes.map((found) => {
    if (!cards.has(found.name)) cards.set(found.name, makeCard(found.name));
    const card = cards.get(found.name);
    card.count.textContent = counted(found.photos.length, "photo");
    card.empty.hidden = found.photos.length > 0;
    card.photos.hidden = found.photos.length === 0;
    const buttons = found.photos.map((photo) => {
      seen.add(photo.number);
      if (!pictures.has(photo.number)) pictures.set(photo.number, makePicture(photo.number));
      return update(pictures.get(photo.number), photo, found.name, doubts.get(photo.number));
    });
    setChildren(card.photos, buttons.reverse()); // the newest first
    return card.root;
  });
  const names = new Set(state.classes.map((found) => found.name));
  for (const name of cards.keys()) if (!names.has(name)) cards.delete(name);
  for (const number of pictures.keys()) if (!seen.has(number)) pictures.delete(number);
  setChildren(byId("cards"), shown);
}

function makePicture(number) {
  const image = make("img", { src: `/v1/photos/${number}/picture`, alt: "", loading: "lazy" });
  const button = make("button", { type: "button", onclick: () => showPhoto(number) }, image);
  button.addEventListener("keydown", (event) => {
    if (event.key === "Delete") change("POST", "/v1/photos/remove", { numbers: [number] });
  });
  return button;
}

function update(button, photo, label, doubt) {
  const why = photo.problem ? `cannot be read: ${photo.problem}` : doubt ? `looks like ${doubt.looks_like}` : "";
  button.className = [photo.new && "new", photo.problem && "bad", doubt && "doubt"].filter(Boolean).join(" ");
  button.title = why;
  button.setAttribute("aria-label", `Photo ${photo.number} of ${label}${why ? `, ${why}` : ""}`);
  return button;
}

function makeCard(name) {
  const count = make("span", { class: "soft" });
  const photos = make("div", { class: "photos", role: "group", "aria-label": `Photos of ${name}` });
  const empty = make("p", { class: "empty" }, "Drop or paste photos here, or use the buttons.");
  const hold = make("button", { type: "button", class: "hold", "aria-label": `Hold to record ${name}` }, "Hold to record");
  holdToRecord(hold, () => name);
  const menu = make("details", { class: "menu" },
    make("summary", { "aria-label": `More for ${name}` }, "⋯"),
    make("div", {},
      make("button", { type: "button", onclick: () => renameClass(name) }, "Rename…"),
      make("button", { type: "button", onclick: () => mergeClass(name) }, "Merge into…"),
      make("button", { type: "button", class: "danger", onclick: () => change("DELETE", classPath(name)) }, "Remove the class")));
  const root = make("article", { class: "card", tabIndex: -1, "aria-label": name },
    make("div", { class: "card-head" }, make("h3", {}, make("bdi", {}, name)), count, menu),
    photos, empty,
    make("div", { class: "row" }, hold,
      make("button", { type: "button", "aria-label": `Record ${name} after a countdown`, title: "Counts down, then records two seconds: for when both hands are needed", onclick: () => recordSoon(name) }, "In 3 s"),
      make("button", { type: "button", "aria-label": `Add photos to ${name}`, onclick: async () => addPhotos(name, await pickPhotos()) }, "Add photos")));
  root.dataset.name = name;
  acceptDrops(root, (files) => addPhotos(name, files));
  return { root, count, photos, empty };
}

async function renameClass(name) {
  const input = make("input", { value: name, maxLength: 100, required: true, "aria-label": "Name" });
  const given = await ask((close) => form("Rename the class", [input], "Rename", close, () => input.value.trim()));
  if (given && given !== name) await change("PATCH", classPath(name), { name: given });
}

async function mergeClass(name) {
  const others = current().classes.map((found) => found.name).filter((other) => other !== name);
  if (!others.length) return;
  const select = make("select", { "aria-label": "Class" });
  setOptions(select, others);
  const into = await ask((close) => form(`Put all photos of ${name} into`, [select], "Merge", close, () => select.value));
  if (into) await change("PATCH", classPath(name), { into });
}

/** Show a photo in a dialog, to move or remove it. */
async function showPhoto(number) {
  const home = current().classes.find((found) => found.photos.some((photo) => photo.number === number));
  if (!home) return;
  const select = make("select", { "aria-label": "Class" });
  setOptions(select, current().classes.map((found) => found.name));
  select.value = home.name;
  const done = await ask((close) => {
    const contents = form(home.name, [make("img", { src: `/v1/photos/${number}/picture`, alt: `Photo ${number} of ${home.name}` }), make("label", {}, "Its class", select)], "Move", close, () => ["move", select.value]);
    contents.lastElementChild.prepend(make("button", { type: "button", class: "danger", onclick: () => close(["remove"]) }, "Remove"));
    return contents;
  });
  if (done?.[0] === "remove") await change("POST", "/v1/photos/remove", { numbers: [number] });
  if (done?.[0] === "move" && done[1] !== home.name) await change("POST", "/v1/photos/move", { numbers: [number], name: done[1] });
}

byId("new-class").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = byId("new-name");
  const name = input.value.trim();
  if (name && (await change("POST", "/v1/classes", { name }))) {
    input.value = "";
    cards.get(name)?.root.scrollIntoView({ block: "nearest" });
  }
});
