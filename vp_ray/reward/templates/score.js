// Sends dropped, chosen or pasted images with the prompt and draws the scores as bars around zero.
"use strict";

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const LEAST_SCALE = 3;
let images = [];
let asked = 0;

function say(text, failed = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("caution", failed);
}

function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function take(files) {
  const chosen = [...files].filter((file) => file.type.startsWith("image/"));
  if (!chosen.length) return say("That is no image.", true);
  images.forEach((image) => URL.revokeObjectURL(image.address));
  images = chosen.map((file) => ({ file, address: URL.createObjectURL(file) }));
  draw(images.map(() => null));
  byId("send").disabled = false;
  if (byId("prompt").value.trim()) return void score();
  say("Write the prompt that the image was made for.");
  byId("prompt").focus();
}

function headers() {
  const token = byId("token").value;
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function answerOf(response) {
  const type = response.headers.get("Content-Type") || "";
  const body = type.startsWith("application/json") ? await response.json() : {};
  if (response.ok) return body;
  throw new Error(body.error ? sentence(body.error.message) : `The service answered ${response.status}.`);
}

async function score() {
  const mine = ++asked;
  const form = new FormData();
  images.forEach((image) => form.append("images", image.file));
  form.append("prompts", byId("prompt").value);
  if (byId("model").value) form.append("model", byId("model").value);
  say("Scoring …");
  const began = performance.now();
  try {
    const answer = await answerOf(await fetch("v1/score", { method: "POST", headers: headers(), body: form }));
    if (mine !== asked) return;
    draw(answer.results);
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    say(`${images.length === 1 ? "1 image" : `${images.length} images`} by ${answer.model} in ${seconds} s`);
  } catch (error) {
    if (mine === asked) say(error.message, true);
  }
}

/** The shared half width of all bars, so that images can be compared. */
function scaleOf(results) {
  const values = results.flatMap((result) => (result && result.scores ? Object.values(result.scores) : []));
  return Math.max(LEAST_SCALE, ...values.map((value) => Math.ceil(Math.abs(value))));
}

function draw(results) {
  const scale = scaleOf(results);
  byId("results").replaceChildren(...images.map((image, place) => card(image, results[place], scale)));
  if (results.some((result) => result && result.scores)) {
    byId("results").append(made("p", "scale", `Bars reach from \u2212${scale} to ${scale}.`));
  }
}

function card(image, result, scale) {
  const figure = made("figure", "image");
  const left = made("div");
  const picture = made("img");
  picture.alt = "";
  picture.addEventListener("load", () => figure.classList.toggle("small", picture.naturalWidth < 144), { once: true });
  picture.addEventListener("error", () => picture.remove(), { once: true });
  picture.src = image.address;
  left.append(picture, made("figcaption", "", image.file.name));
  figure.append(left);
  if (result && result.error) figure.append(made("p", "caution", sentence(result.error.message)));
  if (result && result.scores) figure.append(bars(result.scores, scale));
  return figure;
}

function bars(scores, scale) {
  const list = made("div", "bars");
  const names = Object.keys(scores).sort((a, b) => (b === "overall") - (a === "overall"));
  names.forEach((name) => {
    const row = made("div", name === "overall" ? "bar first" : "bar");
    row.append(
      made("span", "", sentence(name.replaceAll("_", " "))),
      track(scores[name], scale),
      made("output", "", scores[name].toFixed(2).replace("-", "\u2212")),
    );
    list.append(row);
  });
  return list;
}

function track(value, scale) {
  const box = made("div", "track");
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "-1 0 2 1");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  const length = Math.min(1, Math.abs(value) / scale);
  drawing.append(rectangle(value < 0 ? "below" : "value", value < 0 ? -length : 0, length), rectangle("zero", -0.002, 0.004));
  box.append(drawing);
  return box;
}

function rectangle(className, x, width) {
  const element = document.createElementNS(SVG, "rect");
  const places = { class: className, x, y: 0, width, height: 1 };
  Object.entries(places).forEach(([name, value]) => element.setAttribute(name, value));
  return element;
}

async function start() {
  const health = await answerOf(await fetch("health"));
  byId("tokens").hidden = !health.token_needed;
  byId("models").hidden = health.models.length < 2;
  byId("model").replaceChildren(...health.models.map((name) => made("option", "", name)));
}

function listen() {
  const drop = byId("drop");
  byId("files").addEventListener("change", (event) => event.target.files.length && take(event.target.files));
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    score();
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || !images.length) return;
    event.preventDefault();
    score();
  });
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
  window.addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files));
}

listen();
start().catch((error) => say(error.message, true));
