// The model's quality: expected accuracy, doubtful photos, the confusion matrix.

import { change } from "./api.js";
import { byId, make, percent } from "./dom.js";

let shownFor = null;

export function showQuality(state) {
  const model = state.model;
  byId("quality").hidden = !model;
  byId("adapt").disabled = byId("refine").disabled = !state.can_adapt || Boolean(state.work);
  if (!model) return;
  byId("adapt").classList.toggle("primary", model.worth_adapting && state.can_adapt);
  byId("adapt-note").textContent = note(state);
  const key = JSON.stringify(model);
  if (key === shownFor) return;
  shownFor = key;
  byId("expect").textContent = expectation(model);
  byId("advice").replaceChildren(...model.advice.map((line) => make("li", {}, line)));
  byId("doubts").hidden = model.doubts.length === 0;
  byId("doubt-list").replaceChildren(...model.doubts.slice(0, 24).map(doubtItem));
  showConfusion(model);
}

function note(state) {
  if (!state.can_adapt) return "The model was opened without its photos, so the network stays as it is.";
  if (state.model.refined) return "Refined. A change of photos adapts anew, without refinement.";
  if (state.model.refining_was_no_better) return "One pass was kept: refining names photos that are left out no better.";
  if (state.model.worth_adapting) return "Many photos are new: adapting the network to all of them may help.";
  return "Adapting takes seconds; refining takes several times as long, and is kept if photos left out are named better.";
}

function expectation(model) {
  if (model.accuracy === null) return "How good it is cannot be told, nor what is unknown to it: no class has two photos.";
  const [low, high] = model.interval.map(percent);
  if (!model.enough) return `How good it is cannot be told from so few photos: ${model.right} of ${model.tested} are named right when left out, anything from ${low} to ${high}.`;
  return `To expect of new photos like these: ${percent(model.accuracy)} named right (${low} to ${high}).`;
}

function doubtItem({ number, label, looks_like: other }) {
  const act = (path, members) => () => change("POST", `/v1/photos/${path}`, { numbers: [number], ...members });
  return make("li", {},
    make("img", { src: `/v1/photos/${number}/picture`, alt: `Photo ${number}` }),
    make("div", {},
      "In ", make("strong", {}, make("bdi", {}, label)), ", looks like ", make("strong", {}, make("bdi", {}, other)),
      make("div", { class: "row" },
        make("button", { type: "button", onclick: act("keep", {}) }, "Keep"),
        make("button", { type: "button", onclick: act("move", { name: other }) }, "Move"),
        make("button", { type: "button", class: "danger", onclick: act("remove", {}) }, "Remove"))));
}

function showConfusion(model) {
  const names = model.class_names;
  const any = model.confused.length > 0 && names.length <= 30;
  byId("confusion").hidden = !any;
  if (!any) return;
  const head = make("tr", {}, make("th", { scope: "col" }, "In class"), ...names.map((name) => make("th", { scope: "col" }, make("bdi", {}, name))));
  const rows = model.confusion.map((row, k) => make("tr", {},
    make("th", { scope: "row" }, make("bdi", {}, names[k])),
    ...row.map((count, j) => make("td", { class: j === k ? "right" : count ? "wrong" : "" }, count || ""))));
  byId("confusion-table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

byId("adapt").addEventListener("click", () => change("POST", "/v1/adapt", { refine: "off" }));
byId("refine").addEventListener("click", () => change("POST", "/v1/adapt", { refine: "auto" }));
byId("cancel").addEventListener("click", () => change("DELETE", "/v1/adapt"));
