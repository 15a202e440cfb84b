// A prompt's images side by side, with the levels, rationales and orders of every judgement.
"use strict";

const ORDINALS = ["1st", "2nd", "3rd"];
const ordinal = (place) => ORDINALS[place] ?? `${place + 1}th`;
const words = (name) => name.replaceAll("_", " ");
const sentence = (name) => words(name).charAt(0).toUpperCase() + words(name).slice(1);

/**
 * The parts of the pane of one prompt. `group` is its entry in a chunk, `roles` what each image is in the pair,
 * `heading` what stands above and below the prompt; `picture(thumb, place)` asks for a picture, and `whole(place)` is
 * the address of the picture at its full size, where there is one.
 */
function detail(group, roles, heading, aspects, picture, whole) {
  const head = make("tr");
  group.images.forEach((image, slot) => head.append(imageCell(group, image, slot, roles[slot], picture, whole)));
  const body = make("tbody");
  for (const aspect of aspects) {
    if (group.judgements.some((judgement) => judgement.levels[aspect])) body.append(...aspectRows(group, aspect));
  }
  const table = make("table", { className: "matrix" }, make("thead", {}, head), body);
  table.style.setProperty("--columns", group.images.length);
  const scroll = make("div", { className: "scroll" }, table);
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "Images and levels");
  const parts = [
    make("p", { className: "eyebrow", textContent: heading.place }),
    make("h1", { textContent: group.prompt }),
    make("p", { className: "summary" }, ...heading.summary),
    scroll,
  ];
  if (group.judgements.length > 0) parts.push(make("h2", { textContent: "Judgements" }), judgementList(group));
  return parts;
}

function imageCell(group, image, slot, role, picture, whole) {
  const thumb = make("div", { className: "thumb" });
  if (image.made) {
    thumb.append(make("img", { alt: `Image ${slot + 1} by ${image.generator} for: ${group.prompt}`, decoding: "async" }));
    if (image.width <= 200) thumb.firstElementChild.classList.add("pixels");
    picture(thumb, group.start + slot);
    thumb.addEventListener("click", () => thumb.classList.remove("blurred"));
  } else {
    thumb.append(make("span", { className: "absent", textContent: image.status }));
  }
  const places = group.judgements.map((judgement) => judgement.order.indexOf(slot)).filter((place) => place >= 0);
  const made = [
    places.length ? `shown ${places.map(ordinal).join(", ")}` : null,
    image.guidance_scale === null ? null : `guidance ${Number(image.guidance_scale.toFixed(2))}`,
    image.steps === null ? null : `${image.steps} steps`,
    image.seed === null ? null : `seed ${image.seed}`,
    ...(image.flags ?? []).map(words),
  ].filter((part) => part !== null);
  const caption = make(
    "figcaption",
    {},
    make("span", { className: "role", textContent: role ?? "" }),
    make("b", { textContent: `${slot + 1}. ${image.generator}` }),
    ...(made.length ? [make("br"), made.join(", ")] : []),
    ...(whole && image.made ? [make("br"), make("a", { href: whole(group.start + slot), target: "_blank", rel: "noopener", textContent: "whole picture" })] : []),
  );
  const cell = make("th", { className: { preferred: "preferred", "the other": "other", tied: "other" }[role] ?? "" }, make("figure", {}, thumb, caption));
  cell.scope = "col";
  return cell;
}

function aspectRows(group, aspect) {
  const title = make("th", { scope: "rowgroup", colSpan: group.images.length }, make("span", { textContent: sentence(aspect) }));
  const row = make("tr");
  group.images.forEach((image, slot) => {
    const chips = make("div", { className: "levels" });
    const reasons = make("ul", { className: "rationales" });
    group.judgements.forEach((judgement, number) => {
      const said = judgement.levels[aspect]?.[slot];
      const title = `${judgement.annotator}, judgement ${number + 1}: ${said ? `level ${said[0]}` : words(judgement.status)}`;
      chips.append(make("span", { className: `level level${said ? said[0] : 0}`, textContent: said ? said[0] : "–", title }));
      if (said && said[1]) reasons.append(make("li", {}, make("i", { textContent: number + 1 }), said[1]));
    });
    row.append(make("td", {}, chips, reasons.children.length ? reasons : null));
  });
  return [make("tr", { className: "aspect" }, title), row];
}

function judgementList(group) {
  const list = make("ol", { className: "judgements" });
  group.judgements.forEach((judgement, number) => {
    const scored = judgement.status === "scored";
    const order = judgement.order.length ? `, shown in the order ${judgement.order.map((slot) => slot + 1).join(" ")}` : "";
    list.append(
      make(
        "li",
        {},
        make("b", { textContent: number + 1 }),
        make("span", {}, `${judgement.annotator}: `, make("span", { className: scored ? "" : "caution", textContent: words(judgement.status) }), order),
      ),
    );
  });
  return list;
}
