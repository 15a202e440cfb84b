// The list of pairs: only the rows that can be seen exist, and pictures are asked for when scrolling rests.
"use strict";

const ROW_PIXELS = 88;
const MOST_ROWS = 180000; // browsers cannot lay out much more than 16 million pixels
const ROWS_BESIDE = 4;
const REST_MILLISECONDS = 70;

class PairList {
  /** `fill(row, pair)` writes a row's text and gives the places of its two images; `choose(position)` is called on a click. */
  constructor(box, fill, choose, picture) {
    this.box = box;
    this.space = box.firstElementChild;
    this.fill = fill;
    this.picture = picture;
    this.pairs = new Uint32Array(0);
    this.selected = -1;
    this.rows = new Map();
    this.spare = [];
    this.planned = false;
    this.resting = true;
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
    this.space.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) choose(Number(row.dataset.position));
    });
  }

  /** Shows other pairs; `note` stands where there is none. */
  show(pairs, note) {
    this.pairs = pairs;
    for (const row of this.rows.values()) this.drop(row);
    this.rows.clear();
    this.space.querySelector(".note")?.remove();
    const count = Math.min(pairs.length, MOST_ROWS);
    this.space.style.height = `${count * ROW_PIXELS}px`;
    if (pairs.length === 0) this.space.append(make("p", { className: "note", textContent: note }));
    this.draw();
  }

  /** Marks a row and brings it into view. */
  select(position) {
    this.rows.get(this.selected)?.setAttribute("aria-selected", "false");
    this.selected = position;
    const top = position * ROW_PIXELS;
    const height = this.box.clientHeight;
    if (height > 0) {
      if (top < this.box.scrollTop) this.box.scrollTop = top;
      else if (top + ROW_PIXELS > this.box.scrollTop + height) this.box.scrollTop = top + ROW_PIXELS - height;
    }
    this.draw();
    const row = this.rows.get(position);
    row?.setAttribute("aria-selected", "true");
    if (row) this.box.setAttribute("aria-activedescendant", row.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  /** Rows that fit on the screen. */
  get screen() {
    return Math.max(1, Math.floor(this.box.clientHeight / ROW_PIXELS) - 1);
  }

  scrolled() {
    this.resting = false;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.resting = true;
      this.draw();
    }, REST_MILLISECONDS);
    if (this.planned) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      this.draw();
    });
  }

  draw() {
    const count = Math.min(this.pairs.length, MOST_ROWS);
    const from = Math.max(0, Math.floor(this.box.scrollTop / ROW_PIXELS) - ROWS_BESIDE);
    const to = Math.min(count, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW_PIXELS) + ROWS_BESIDE);
    for (const [position, row] of this.rows) {
      if (position >= from && position < to) continue;
      this.rows.delete(position);
      this.drop(row);
    }
    for (let position = from; position < to; position++) {
      let row = this.rows.get(position);
      if (!row) {
        row = this.spare.pop() ?? this.newRow();
        this.rows.set(position, row);
        row.hidden = false;
        row.dataset.position = position;
        row.style.transform = `translateY(${position * ROW_PIXELS}px)`;
        row.setAttribute("aria-selected", String(position === this.selected));
        row.setAttribute("aria-posinset", position + 1);
        row.setAttribute("aria-setsize", count);
        row.pair = this.pairs[position];
        row.images = this.fill(row, row.pair);
        row.pictured = false;
      }
      if (this.resting && !row.pictured) {
        row.pictured = true;
        row.images.forEach((image, side) => this.picture(row.thumbs[side], image));
      }
    }
  }

  newRow() {
    const thumbs = [make("div", { className: "thumb" }, make("img", { alt: "" })), make("div", { className: "thumb" }, make("img", { alt: "" }))];
    const words = make("div", { className: "words" });
    const figures = make("div", { className: "figures" });
    const row = make("div", { className: "row", id: `row-${this.rows.size + this.spare.length}` }, ...thumbs, make("div", { className: "text" }, words, figures));
    row.setAttribute("role", "option");
    Object.assign(row, { thumbs, words, figures });
    this.space.append(row);
    return row;
  }

  drop(row) {
    row.hidden = true;
    row.pair = -1;
    for (const thumb of row.thumbs) {
      thumb.className = "thumb";
      thumb.firstElementChild.removeAttribute("src");
    }
    this.spare.push(row);
  }
}
