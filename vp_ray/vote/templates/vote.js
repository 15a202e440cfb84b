"use strict";
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", s: "skip" };
const element = (id) => document.getElementById(id);
let rater = "", shown = null, busy = false;

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options || {});
  const found = await answer.json();
  if (!answer.ok) throw new Error(typeof found.error === "string" ? found.error : "This vote was not understood.");
  return found;
}

function picture(side, id) {
  return new Promise((resolve, reject) => {
    const image = element(side);
    image.onload = () => {
      image.classList.toggle("pixels", image.naturalWidth < 128);
      resolve();
    };
    image.onerror = () => reject(new Error("An image cannot be loaded."));
    image.src = ["/pictures", encodeURIComponent(rater), id, side].join("/");
  });
}

async function show(state) {
  element("who").hidden = true;
  element("count").textContent = `${state.answered} of ${state.total}`;
  shown = state.ballot;
  element("ballot").hidden = shown === null;
  element("end").hidden = shown !== null;
  if (shown === null) return;
  element("prompt").textContent = shown.prompt;
  // Both appear together, so that neither has the eye first.
  element("ballot").classList.add("waiting");
  await Promise.all([picture("left", shown.id), picture("right", shown.id)]);
  element("ballot").classList.remove("waiting");
}

async function go(path, body) {
  if (busy) return;
  busy = true;
  try {
    await show(await ask(path, body));
    element("failure").hidden = true;
  } catch (error) {
    element("failure").textContent = error.message;
    element("failure").hidden = false;
  } finally {
    busy = false;
  }
}

const choose = (choice) => shown && go("/api/votes", { rater, ballot: shown.id, choice });
const undo = () => rater && go("/api/undo", { rater });

element("who").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = new FormData(event.target).get("rater");
  go(`/api/next?rater=${encodeURIComponent(rater)}`);
});
for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => choose(button.dataset.choice));
}
element("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (!rater || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input")) return;
  const choice = KEYS[event.key];
  if (choice) event.preventDefault();
  if (choice) choose(choice);
  else if (event.key === "u") undo();
});
