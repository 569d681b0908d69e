// Files that are dropped, pasted or chosen.

import { byId } from "./dom.js";

/** Let the user choose photos; resolve with the files. */
export function pickPhotos() {
  const picker = byId("picker");
  return new Promise((resolve) => {
    picker.value = "";
    picker.onchange = () => resolve([...picker.files]);
    picker.oncancel = () => resolve([]);
    picker.click();
  });
}

/** Accept files dropped on an element: `take` gets files, `takeFolders` a list of [name, files]. */
export function acceptDrops(element, take, takeFolders = null) {
  let depth = 0;
  const mark = (on) => element.classList.toggle("over", on);
  element.addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; mark(true); });
  element.addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) mark(false); });
  element.addEventListener("dragover", (event) => event.preventDefault());
  element.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    depth = 0;
    mark(false);
    const { files, folders } = await dropped(event.dataTransfer);
    if (folders.length && takeFolders) takeFolders(folders);
    else take([...files, ...folders.flatMap(([, inside]) => inside)]);
  });
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return { files: [...transfer.files], folders: [] };
  const files = await Promise.all(entries.filter((entry) => entry.isFile).map(fileOf));
  const folders = [];
  for (const entry of entries.filter((found) => found.isDirectory)) folders.push(...(await classFolders(entry)));
  return { files, folders };
}

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

async function listed(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return found.filter((entry) => !entry.name.startsWith("."));
    found.push(...part);
  }
}

/** Return a folder of photos as one class, a folder of folders as a class for each. */
async function classFolders(folder) {
  const inside = await listed(folder);
  const files = await Promise.all(inside.filter((entry) => entry.isFile).map(fileOf));
  const deeper = await Promise.all(inside.filter((entry) => entry.isDirectory).map(classFolders));
  return files.length ? [[folder.name, [...files, ...deeper.flat().flatMap(([, found]) => found)]]] : deeper.flat();
}
