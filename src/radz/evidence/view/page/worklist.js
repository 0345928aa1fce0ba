// The worklist: which studies are shown in what order, and the rows that are in sight.

import { kind } from "./measures.js";

const HEIGHT = 46; // of a row in CSS pixels, as in page.css
const BEYOND = 6;
export const FILTERS = {
  all: "all studies",
  fp: "false positives",
  fn: "false negatives",
  tp: "true positives",
  tn: "true negatives",
  called: "called present",
  present: "labelled present",
  absent: "labelled absent",
  faults: "cannot be read",
  strange: "out of scope",
};
const WITH_LABELS = ["fp", "fn", "tp", "tn", "present", "absent"];

/** Filters that say something here. */
export function filters(labelled) {
  return Object.keys(FILTERS).filter((name) => labelled || !WITH_LABELS.includes(name));
}

/** Which cell of the confusion a study is in, or null without score or label. */
export function cell(score, label, threshold) {
  if (score === null || label === null) return null;
  return kind(Math.fround(score) >= Math.fround(threshold), label === 1);
}

function passes(filter, study, threshold) {
  const { score, label, error, strange } = study;
  if (filter === "all") return true;
  if (filter === "faults") return Boolean(error);
  if (filter === "strange") return Boolean(strange);
  if (filter === "called") return score !== null && Math.fround(score) >= Math.fround(threshold);
  if (filter === "present" || filter === "absent") return label === (filter === "present" ? 1 : 0);
  return cell(score, label, threshold) === filter;
}

const ORDERS = {
  listed: (a, b) => a.number - b.number,
  high: (a, b) => (b.score ?? -1) - (a.score ?? -1) || a.number - b.number,
  low: (a, b) => (a.score ?? 2) - (b.score ?? 2) || a.number - b.number,
  name: (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.number - b.number),
};

/** Numbers of the studies that pass, in order. `studies` have number, name, corpus, score, label, error and strange. */
export function arranged(studies, { search, inReports, corpus, filter, sort, threshold }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = studies.filter(
    (study) =>
      (!corpus || study.corpus === corpus) &&
      (inReports.has(study.number) || words.every((word) => study.name.toLowerCase().includes(word))) &&
      passes(filter, study, threshold),
  );
  const away = (study) => (study.score === null ? Infinity : Math.abs(study.score - threshold));
  const order = sort === "near" ? (a, b) => away(a) - away(b) || a.number - b.number : ORDERS[sort];
  return found.sort(order).map((study) => study.number);
}

/** A list of which only the rows in sight are elements of the page. */
export class Rows {
  /** `fill(element, number)` says what a row shows, `choose(number)` is called when one is clicked. */
  constructor(box, space, fill, choose) {
    Object.assign(this, { box, space, fill, numbers: [], chosen: null });
    box.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(box);
    // At pressing as well: rows that are drawn anew before the button is released would lose the click.
    for (const pressed of ["mousedown", "click"]) {
      space.addEventListener(pressed, (event) => {
        const row = event.target.closest("[role=option]");
        if (row && event.button === 0) choose(Number(row.dataset.number));
      });
    }
  }

  set(numbers) {
    this.numbers = numbers;
    this.space.style.height = `${numbers.length * HEIGHT}px`;
    this.draw();
  }

  choose(number) {
    this.chosen = number;
    const at = this.numbers.indexOf(number);
    const { scrollTop, clientHeight } = this.box;
    if (at >= 0 && at * HEIGHT < scrollTop) this.box.scrollTop = at * HEIGHT;
    if (at >= 0 && (at + 1) * HEIGHT > scrollTop + clientHeight) this.box.scrollTop = (at + 1) * HEIGHT - clientHeight;
    this.draw();
  }

  /** The study so many rows away; at the ends, the last one. */
  beside(steps) {
    if (!this.numbers.length) return null;
    const at = this.numbers.indexOf(this.chosen);
    if (at < 0) return this.numbers[0];
    return this.numbers[Math.max(0, Math.min(this.numbers.length - 1, at + steps))];
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - BEYOND);
    const last = Math.min(this.numbers.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / HEIGHT) + BEYOND);
    const rows = [];
    for (let at = first; at < last; at++) {
      const number = this.numbers[at];
      const row = document.createElement("div");
      row.id = `row-${number}`;
      row.dataset.number = number;
      row.style.top = `${at * HEIGHT}px`;
      row.setAttribute("role", "option");
      row.setAttribute("aria-posinset", at + 1);
      row.setAttribute("aria-setsize", this.numbers.length);
      row.setAttribute("aria-selected", number === this.chosen);
      this.fill(row, number);
      rows.push(row);
    }
    this.space.replaceChildren(...rows);
    if (this.numbers.includes(this.chosen)) this.box.setAttribute("aria-activedescendant", `row-${this.chosen}`);
    else this.box.removeAttribute("aria-activedescendant");
  }
}
