// The column on the right: findings, threshold with its counts, report, nearest cases.

import { confusion, histogram, shares } from "./measures.js";

const BINS = 40;
const SEEN = {
  label: "its label was in training",
  text: "training knew its name only",
  none: "training never named it",
};
const CELLS = [
  ["tp", "true positives", "called present, is present"],
  ["fn", "false negatives", "not called, is present"],
  ["fp", "false positives", "called present, is absent"],
  ["tn", "true negatives", "not called, is absent"],
];
const STATE = { present: "●", absent: "○", uncertain: "◐" };

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export const digits = (value, number = 3) => (value === null || value === undefined ? "–" : value.toFixed(number));

/** How a label is shown, and read aloud. */
export function labelMark(label) {
  if (label === 1) return make("span", { class: "mark present", title: "labelled present", "aria-label": "labelled present", text: "●" });
  if (label === 0) return make("span", { class: "mark absent", title: "labelled absent", "aria-label": "labelled absent", text: "○" });
  return make("span", { class: "mark", "aria-hidden": "true", text: " " });
}

/** A bar for a score within low..high, its threshold marked. */
export function scoreBar(score, [low, high], threshold, called) {
  const place = (value) => `${Math.max(0, Math.min(100, ((value - low) / (high - low)) * 100))}%`;
  const fill = make("span", { class: called ? "fill called" : "fill" });
  fill.style.width = score === null ? "0" : place(score);
  const tick = make("span", { class: "tick" });
  tick.style.left = place(threshold);
  return make("span", { class: "bar", "aria-hidden": "true" }, fill, tick);
}

export function drawFindings(box, findings, chosen, of, choose) {
  box.replaceChildren(...findings.map((finding, k) => {
    const { score, label, threshold, limits } = of(k);
    const called = score !== null && Math.fround(score) >= Math.fround(threshold);
    const words = score === null ? "no score" : `score ${digits(score)}, ${called ? "called present" : "not called"}`;
    const row = make("button", {
      type: "button", role: "radio", "aria-checked": k === chosen, class: "finding", tabindex: k === chosen ? 0 : -1,
      title: [finding.text, SEEN[finding.seen]].filter(Boolean).join(": "),
      "aria-label": `${finding.text}, ${words}${label === 1 ? ", labelled present" : label === 0 ? ", labelled absent" : ""}`,
      onclick: () => choose(k),
    },
    k < 9 ? make("kbd", { text: k + 1 }) : make("span", { class: "nokey" }),
    make("span", { class: `name ${["text", "none"].includes(finding.seen) ? "unseen" : ""}`, text: finding.text }),
    scoreBar(score, limits, threshold, called),
    make("span", { class: `score ${called ? "called" : ""}`, text: digits(score) }),
    labelMark(label));
    return row;
  }));
}

/** Where the scores of both kinds lie, above the slider. */
export function drawDistribution(box, scores, labels, threshold, limits) {
  const bins = histogram(scores, labels, limits, BINS);
  const space = "http://www.w3.org/2000/svg";
  const shape = (tag, attributes) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const picture = shape("svg", { viewBox: `0 0 ${BINS} 40`, preserveAspectRatio: "none" });
  // Each kind by its own greatest bin: findings are rare, and their few scores are what the threshold is set by.
  for (const [name, up] of [["present", true], ["absent", false], ["other", false]]) {
    const most = Math.max(...bins[name], 1);
    bins[name].forEach((count, k) => {
      const high = (count / most) * 19;
      if (count) picture.append(shape("rect", { class: name, x: k + 0.08, width: 0.84, y: up ? 20 - high : 20.5, height: high }));
    });
  }
  const at = ((threshold - limits[0]) / (limits[1] - limits[0])) * BINS;
  picture.append(shape("line", { class: "axis", x1: 0, x2: BINS, y1: 20.25, y2: 20.25 }));
  picture.append(shape("line", { class: "cut", x1: at, x2: at, y1: 0, y2: 40 }));
  box.replaceChildren(picture);
}

/** Counts and shares at the threshold; a click on a count lists those studies. */
export function drawMeasures(box, scores, labels, threshold, list) {
  const counts = confusion(scores, labels, threshold);
  const found = shares(counts);
  const table = make("div", { class: "confusion", role: "group", "aria-label": "confusion" });
  table.append(make("span"), make("span", { class: "head", text: "called" }), make("span", { class: "head", text: "not called" }));
  for (const [title, cells] of [["present", CELLS.slice(0, 2)], ["absent", CELLS.slice(2)]]) {
    table.append(make("span", { class: "head side", text: title }));
    for (const [name, words, meaning] of cells) {
      const value = counts[name].toLocaleString("en");
      table.append(make("button", {
        type: "button", class: `cell ${name}`, "data-cell": name, title: `list the ${words} (${meaning})`, "aria-label": `${value} ${words}; list them`,
        onclick: () => list(name), text: value,
      }));
    }
  }
  const values = [
    ["sensitivity", found.sensitivity], ["specificity", found.specificity],
    ["positive predictive value", found.ppv], ["negative predictive value", found.npv],
  ];
  const shown = make("dl", { class: "shares" });
  for (const [name, value] of values) {
    shown.append(make("dt", { text: name }), make("dd", { "data-share": name, text: value === null ? "–" : `${(100 * value).toFixed(1)} %` }));
  }
  const left = [[counts.unlabelled, "without a label"], [counts.unscored, "without a score"]].filter(([count]) => count);
  const note = left.map(([count, words]) => `${count.toLocaleString("en")} ${words}`).join(", ");
  box.replaceChildren(shown, table, make("p", { class: "quiet", text: note ? `left out: ${note}` : "" }));
}

/** A report with the words that prove, and what they prove. `chosen` is the name of the finding that is looked at. */
export function drawReport(proofs, text, report, chosen, choose) {
  proofs.replaceChildren(...report.proofs.map((proof) => make("button", {
    type: "button", class: `proof ${proof.state} ${proof.finding === chosen ? "chosen" : ""}`, title: proof.sentence,
    onclick: () => choose(proof.finding), text: `${STATE[proof.state]} ${proof.text}`,
  })));
  text.replaceChildren(...report.parts.map((part) => {
    if (!part.sentence) return document.createTextNode(part.text);
    if (!part.says.length) return make("span", { class: "sentence", text: part.text });
    const says = part.says.find((one) => one.finding === chosen) || part.says[0];
    const title = part.says.map((one) => `${one.finding.replaceAll("_", " ")}: ${one.state}`).join("; ");
    return make("mark", { class: `${says.state} ${says.finding === chosen ? "chosen" : ""}`, title, text: part.text });
  }));
}

export function drawNearest(box, cases, of, choose) {
  box.replaceChildren(...cases.map(({ study, cosine }) => {
    const { name, score, label } = of(study);
    return make("button", {
      type: "button", class: "case", title: `${name}: cosine ${digits(cosine, 4)}, score ${digits(score)}`, onclick: () => choose(study),
    },
    make("img", { src: `studies/${study}/thumbnail`, alt: `study ${name}`, width: 72, height: 72, loading: "lazy" }),
    make("span", { class: "quiet", text: digits(cosine, 4) }),
    make("span", {}, labelMark(label), make("span", { text: digits(score, 2) })));
  }));
}
