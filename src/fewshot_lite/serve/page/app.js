// The page: shows the state of the program and handles what the user does.

import { addPhotos, change, current, download, follow, onState, openModel, save } from "./api.js";
import { showCards } from "./cards.js";
import { byId, counted, percent, setOptions } from "./dom.js";
import { acceptDrops, pickPhotos } from "./files.js";
import { tryPhotos, watch } from "./live.js";
import { showQuality } from "./quality.js";

onState((state) => {
  const photos = state.classes.reduce((sum, found) => sum + found.photos.length, 0);
  const model = state.model;
  const known = model?.accuracy != null && model.enough;
  byId("summary").textContent = photos
    ? `${counted(state.classes.length, "class", "classes")}, ${counted(photos, "photo")}${known ? `; expect ${percent(model.accuracy)} right` : ""}`
    : "Add two classes and a few photos of each: with the camera, or from files.";
  byId("undo").disabled = !state.undo;
  byId("undo").title = state.undo ? `${state.undo} (Ctrl+Z)` : "";
  byId("folder").textContent = state.folder;
  showWork(state.work);
  byId("problem").hidden = !state.problem;
  byId("problem").textContent = state.problem ?? "";
  for (const id of ["save", "export"]) byId(id).disabled = !model;
  byId("download").disabled = !photos;
  byId("open").disabled = photos > 0;
  byId("open").title = photos ? "There are photos here; open a model with: fewshot-lite serve MODEL" : "";
  setOptions(byId("right-class"), state.classes.map((found) => found.name), "choose…");
  showCards(state);
  showQuality(state);
});

function showWork(work) {
  byId("work").hidden = !work || !(work.can_be_cancelled || work.total > 8);
  if (!work) return;
  byId("work-text").textContent = work.total > 1 ? `${work.what}: ${work.done} of ${work.total}` : `${work.what}…`;
  if (work.total > 1) { byId("work-bar").max = work.total; byId("work-bar").value = work.done; }
  else byId("work-bar").removeAttribute("value");
  byId("cancel").hidden = !work.can_be_cancelled;
}

byId("undo").addEventListener("click", () => change("POST", "/v1/undo"));
byId("save").addEventListener("click", () => download("/v1/model/file", "personal.safetensors"));
byId("download").addEventListener("click", () => save("/v1/photos.zip", "photos.zip"));
byId("export").addEventListener("click", async (event) => {
  event.target.disabled = true;
  event.target.textContent = "Exporting…";
  await download("/v1/model/onnx", "personal.onnx");
  event.target.textContent = "Export to ONNX";
  event.target.disabled = false;
});
byId("open").addEventListener("click", () => { byId("model-picker").value = ""; byId("model-picker").click(); });
byId("model-picker").addEventListener("change", (event) => { if (event.target.files[0]) openModel(event.target.files[0]); });
byId("try-pick").addEventListener("click", async () => tryPhotos(await pickPhotos()));

acceptDrops(byId("try"), tryPhotos);
acceptDrops(byId("new-class"), () => byId("new-name").focus(), async (folders) => {
  for (const [name, files] of folders) {
    const there = current().classes.some((found) => found.name === name);
    if (there || (await change("POST", "/v1/classes", { name }))) await addPhotos(name, files);
  }
});
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());

document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (!files.length) return;
  event.preventDefault();
  const card = document.activeElement?.closest?.("[data-name]") ?? document.querySelector("[data-name]:hover");
  if (card) addPhotos(card.dataset.name, files);
  else tryPhotos(files);
});

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.target.closest("input")) {
    event.preventDefault();
    if (!byId("undo").disabled) change("POST", "/v1/undo");
  }
});

// Menus close when a button in them or anything outside is clicked, and by Escape.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target) || event.target.closest("button")) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest?.("details.menu[open]");
  if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
});

follow();
watch();
