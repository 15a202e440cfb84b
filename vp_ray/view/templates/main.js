// Wires the page: filters, list, pane and keys; what is chosen stands in the address, so that it can be kept.
"use strict";

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const EMPTY = { aspect: "", generator: "", status: "", disagreement: "", least: "", most: "", order: "" };

let index, run, aspect, list;
let filters = { ...EMPTY };
let pairs = new Uint32Array(0);
let position = -1;
let drawn = 0;
let firstPicture = true;

function fail(error) {
  byId("failure").textContent = error.message;
  byId("failure").hidden = false;
}

function fixed(value, digits) {
  return value.toFixed(digits).replace("-", "\u2212");
}

function marginOf(pair) {
  return aspect.margin[pair] === NO_MARGIN ? null : aspect.margin[pair] * MARGIN_UNIT;
}

/** Asks for a picture; the place of an image among all is its name. */
function picture(thumb, image) {
  thumb.classList.toggle("blurred", run.blurred[image] === 1);
  const element = thumb.firstElementChild;
  if (firstPicture) {
    firstPicture = false;
    element.addEventListener("load", () => requestAnimationFrame(() => performance.mark("first-picture")), { once: true });
  }
  element.src = address(image);
}

function address(image) {
  return `thumbs/${Math.floor(image / 1000)}/${image}.webp?${index.version}`;
}

/** Preferred image first; ties as they are. */
function sides(pair) {
  const both = [run.first[pair], run.second[pair]];
  return preferred(aspect, pair) < 0 ? both.reverse() : both;
}

function fillRow(row, pair) {
  const group = run.group[pair];
  const place = Math.floor(group / index.promptsPerChunk);
  row.words.textContent = "";
  chunk(`prompts/${place}`).then(({ prompts }) => {
    if (row.pair === pair) row.words.textContent = prompts[group - place * index.promptsPerChunk];
  }, fail);
  const images = sides(pair);
  const tied = preferred(aspect, pair) === 0;
  row.thumbs[0].classList.toggle("preferred", !tied);
  images.forEach((image, side) => row.thumbs[side].classList.toggle("blurred", run.blurred[image] === 1));
  const names = images.map((image) => index.generators[run.generator[image]]);
  const margin = marginOf(pair);
  row.figures.replaceChildren(
    tied ? "tie" : margin === null ? "" : fixed(Math.abs(margin), 2),
    aspect.disagree[pair] ? make("span", { className: "caution", textContent: ", disagree" }) : "",
    names[0] === names[1] ? `, both ${names[0]}` : `, ${names[0]} ${tied ? "and" : "over"} ${names[1]}`,
  );
  return images;
}

function heading(pair, group) {
  const chance = aspect.probability[pair] * PROBABILITY_UNIT;
  const tied = preferred(aspect, pair) === 0;
  const margin = marginOf(pair);
  const share = Math.max(chance, 1 - chance);
  const certain = share >= 0.9995 && share < 1 ? "> 99.9" : fixed(100 * share, 1);
  const said = tied ? "a tie" : `preferred with ${certain}\u00a0%`;
  const summary = [make("b", { textContent: `${sentence(filters.aspect)}: ${said}` })];
  if (margin !== null) summary.push(`, margin ${fixed(Math.abs(margin), 2)}`);
  summary.push(". ");
  if (aspect.disagree[pair]) summary.push(make("span", { className: "caution", textContent: "Its judgements disagree about this pair." }));
  return { place: `Pair ${number.format(position + 1)} of ${number.format(pairs.length)}, split ${group.split}`, summary };
}

async function draw(pair, since) {
  const ticket = ++drawn;
  const place = Math.floor(run.group[pair] / index.groupsPerChunk);
  const { groups } = await chunk(`groups/${place}`);
  if (ticket !== drawn) return;
  const group = groups[run.group[pair] - place * index.groupsPerChunk];
  const roles = group.images.map(() => null);
  const tied = preferred(aspect, pair) === 0;
  sides(pair).forEach((image, side) => (roles[image - group.start] = tied ? "tied" : ["preferred", "the other"][side]));
  const pane = byId("detail");
  const back = make("button", { className: "back", type: "button", textContent: "Back to the list" });
  back.addEventListener("click", () => document.body.classList.remove("detailed"));
  const whole = index.served ? (image) => `pictures/${image}?${index.version}` : null;
  pane.replaceChildren(back, ...detail(group, roles, heading(pair, group), index.rated, picture, whole));
  pane.scrollTop = 0;
  const scroll = pane.querySelector(".scroll");
  scroll.scrollLeft = scroll.querySelector(".preferred, .other").offsetLeft - scroll.querySelector("table").offsetLeft;
  if (since !== undefined) measure(pane, since);
  prefetch();
}

/** What a key press took until the text and until all pictures of the prompt were there. */
function measure(pane, since) {
  requestAnimationFrame(() => performance.measure("page-text", { start: since, end: performance.now() }));
  const images = [...pane.querySelectorAll("img")].map((image) => image.decode().catch(() => null));
  Promise.all(images).then(() => performance.measure("page-pictures", { start: since, end: performance.now() }));
}

/** The chunk and the pictures of the pairs around, so that paging need not wait. */
function prefetch() {
  for (const near of [position + 1, position + 2, position - 1]) {
    if (near < 0 || near >= pairs.length) continue;
    const group = run.group[pairs[near]];
    const place = Math.floor(group / index.groupsPerChunk);
    chunk(`groups/${place}`).then(({ groups }) => {
      const { start, images } = groups[group - place * index.groupsPerChunk];
      images.forEach((image, slot) => {
        if (image.made) new Image().src = address(start + slot);
      });
    }, fail);
  }
}

function select(next, since) {
  if (pairs.length === 0) return;
  position = Math.min(Math.max(next, 0), pairs.length - 1);
  list.select(position);
  remember();
  draw(pairs[position], since).catch(fail);
}

function remember() {
  const words = new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== ""));
  if (pairs.length) words.set("pair", pairs[position]);
  history.replaceState(null, "", `#${words}`);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(EMPTY)) filters[name] = words.get(name) ?? "";
  if (!index.aspects.includes(filters.aspect)) filters.aspect = index.aspects[0];
  return words.has("pair") ? Number(words.get("pair")) : null;
}

/** Applies the filters and stays at the pair where it still passes. */
async function apply(pair) {
  const { columns } = await chunk(`aspect-${filters.aspect}`);
  aspect = unpackedOnce(filters.aspect, columns);
  pairs = matching(run, aspect, filters);
  byId("count").textContent = `${number.format(pairs.length)} of ${number.format(run.group.length)} pairs`;
  list.show(pairs, "No pair passes these filters.");
  if (pairs.length === 0) {
    position = -1;
    drawn += 1;
    byId("detail").replaceChildren();
    remember();
    return;
  }
  select(Math.max(0, pair === null ? 0 : pairs.indexOf(pair)));
}

const columnsOf = new Map();
function unpackedOnce(name, columns) {
  if (!columnsOf.has(name)) columnsOf.set(name, unpacked(columns));
  return columnsOf.get(name);
}

function fillForm(form) {
  const options = (name, choices) => form.elements[name].replaceChildren(...choices.map(([value, text]) => make("option", { value, textContent: text })));
  options("aspect", index.aspects.map((name) => [name, words(name)]));
  options("generator", [["", "any"], ["different", "two different ones"], ["same", "twice the same"], ...index.generators.map((name, place) => [String(place), name])]);
  options("status", [["", "any"], ...index.statuses.map((name, place) => [String(place), words(name)])]);
  for (const name of ["status", "disagreement"]) form.elements[name].closest("label").hidden = !index.judged;
  for (const [name, value] of Object.entries(filters)) form.elements[name].value = value;
}

const MOVES = {
  ArrowDown: () => position + 1,
  j: () => position + 1,
  ArrowUp: () => position - 1,
  k: () => position - 1,
  PageDown: () => position + list.screen,
  PageUp: () => position - list.screen,
  Home: () => 0,
  End: () => pairs.length - 1,
};
const SWITCHES = { r: "no-rationales", b: "plain" };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, button, summary")) return;
  if (event.key in MOVES) {
    event.preventDefault();
    select(MOVES[event.key](), event.timeStamp);
  } else if (event.key in SWITCHES) {
    document.body.classList.toggle(SWITCHES[event.key]);
  } else if (event.key === "Enter") {
    document.body.classList.add("detailed");
    select(position);
  } else if (event.key === "Escape") {
    document.body.classList.remove("detailed");
  }
}

async function start() {
  index = await chunk("index");
  run = unpacked(index.columns);
  document.title = `${index.title}: preferences`;
  byId("title").textContent = index.title;
  if (index.prompts < index.total) {
    byId("part").textContent = `, ${number.format(index.prompts)} of its ${number.format(index.total)} prompts`;
  }
  const pair = recall();
  const form = document.querySelector("#filters form");
  fillForm(form);
  if (matchMedia("(max-width: 56rem)").matches) byId("filters").open = false;
  list = new PairList(
    byId("list"),
    fillRow,
    (chosen) => {
      document.body.classList.add("detailed");
      select(chosen);
    },
    picture,
  );
  form.addEventListener("input", () => {
    for (const name of Object.keys(EMPTY)) filters[name] = form.elements[name].value;
    apply(pairs[position] ?? null).catch(fail);
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    filters = { ...EMPTY, aspect: index.aspects[0] };
    fillForm(form);
    apply(pairs[position] ?? null).catch(fail);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", pressed);
  window.addEventListener("hashchange", () => {
    const chosen = recall();
    fillForm(form);
    apply(chosen).catch(fail);
  });
  await apply(pair);
}

start().catch(fail);
