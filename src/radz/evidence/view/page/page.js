// The page of radz view: what is chosen, and who is told when that changes.

import * as server from "./server.js";
import { Picture, steer } from "./picture.js";
import { Rows, FILTERS, arranged, cell, filters } from "./worklist.js";
import { median, range } from "./measures.js";
import * as panel from "./panel.js";
import { Heat, Nearest } from "./beside.js";

const $ = (id) => document.getElementById(id);
const POLL = 700; // milliseconds
const STEPS = 1000; // of the threshold's slider
const state = { study: null, finding: 0, frame: 0, filter: "all", about: null, thresholds: new Map(), preset: 0 };
let list, scores, errors, strange, rows;
let inReports = new Set();

const frames = server.remembered(24, server.frame);
const picture = new Picture($("picture"), drawCorners);
const labelOf = (study, finding = state.finding) => list.labels?.[study][finding] ?? null;
const scoreOf = (study, finding = state.finding) => scores[study]?.[finding] ?? null;
const corpusOf = () => (state.study === null || $("corpus").value ? $("corpus").value || list.studies[0].corpus : list.studies[state.study].corpus);

const heat = new Heat(picture, state, () => list.findings[state.finding].text, (frame) => chooseFrame(frame));
const nearest = new Nearest(state, (study) => ({ name: list.studies[study].name, score: scoreOf(study), label: labelOf(study) }), chooseStudy);

// ---- thresholds: as moved, else of validation, else the median of the scores, which knows no label

const given = (corpus, finding) => list.thresholds[corpus]?.[list.findings[finding].name] ?? null;
function threshold(finding = state.finding, corpus = corpusOf()) {
  return state.thresholds.get(`${corpus}/${finding}`) ?? given(corpus, finding) ?? middle(finding, corpus);
}
function setThreshold(value) {
  const key = `${corpusOf()}/${state.finding}`;
  if (value === null) state.thresholds.delete(key);
  else state.thresholds.set(key, value);
  drawThreshold();
  arrange();
  drawFindings();
}

/** Scores and labels of the studies of a corpus. */
function columns(finding = state.finding, corpus = corpusOf()) {
  const inside = list.studies.map((study, i) => i).filter((i) => list.studies[i].corpus === corpus);
  return [inside.map((i) => scoreOf(i, finding)), inside.map((i) => labelOf(i, finding))];
}
let ofScores = new Map();
function middle(finding, corpus) {
  const key = `median/${corpus}/${finding}`;
  if (!ofScores.has(key)) ofScores.set(key, median(columns(finding, corpus)[0]));
  return ofScores.get(key);
}
function limits(finding) {
  const key = `${corpusOf()}/${finding}`;
  if (!ofScores.has(key)) {
    const [low, high] = range(columns(finding)[0]);
    const cut = given(corpusOf(), finding);
    ofScores.set(key, cut === null ? [low, high] : [Math.min(low, cut), Math.max(high, cut)]);
  }
  return ofScores.get(key);
}

// ---- drawing

function arrange() {
  const studies = list.studies.map((study, number) => ({
    number, name: study.name, corpus: study.corpus, score: scoreOf(number), label: labelOf(number), error: errors[number], strange: strange[number],
  }));
  const numbers = arranged(studies, {
    search: $("search").value, inReports, corpus: $("corpus").value, filter: state.filter, sort: $("sort").value, threshold: threshold(),
  });
  rows.set(numbers);
  $("count").textContent = `${numbers.length.toLocaleString("en")} of ${list.studies.length.toLocaleString("en")} studies`;
}

function fillRow(row, number) {
  const study = list.studies[number];
  const [score, label, cut] = [scoreOf(number), labelOf(number), threshold(state.finding, study.corpus)];
  const which = cell(score, label, cut);
  row.className = `row ${which ?? ""} ${errors[number] ? "fault" : ""}`;
  const first = panel.make("span", { class: "first" }, panel.make("span", { class: "name", text: study.name }), panel.labelMark(label));
  const called = score !== null && Math.fround(score) >= Math.fround(cut);
  const second = errors[number]
    ? panel.make("span", { class: "second reason", title: errors[number], text: errors[number] })
    : panel.make("span", { class: "second" }, panel.scoreBar(score, limits(state.finding), cut, called), panel.make("span", { class: `score ${called ? "called" : ""}`, text: score === null ? "waiting" : panel.digits(score) }));
  if (strange[number]) {
    const why = `out of scope: ${strange[number]}`;
    first.append(panel.make("span", { class: "wrong", title: why, "aria-label": why, text: "OUT" }));
  }
  const wrong = { fp: "false positive", fn: "false negative" }[which];
  if (wrong) first.append(panel.make("span", { class: "wrong", title: wrong, "aria-label": wrong, text: which.toUpperCase() }));
  row.append(first, second);
}

function drawFindings() {
  panel.drawFindings($("findings"), list.findings, state.finding, (k) => ({
    score: state.study === null ? null : scoreOf(state.study, k), label: state.study === null ? null : labelOf(state.study, k),
    threshold: threshold(k), limits: limits(k),
  }), chooseFinding);
}

function drawThreshold() {
  const cut = threshold();
  const [low, high] = limits(state.finding);
  const [ofAll, labels] = columns();
  $("threshold-of").textContent = list.findings[state.finding].text;
  $("threshold").value = Math.round(((cut - low) / (high - low)) * STEPS);
  $("threshold").setAttribute("aria-valuetext", panel.digits(cut, 4));
  $("threshold-value").textContent = `present from ${panel.digits(cut, 4)}`;
  const moved = state.thresholds.has(`${corpusOf()}/${state.finding}`);
  const own = given(corpusOf(), state.finding);
  $("threshold-reset").disabled = !moved;
  $("threshold-reset").textContent = own === null ? "median; validation has none" : `validation ${panel.digits(own, 4)}`;
  panel.drawDistribution($("distribution"), ofAll, labels, cut, [low, high]);
  if (list.labels) panel.drawMeasures($("measures"), ofAll, labels, cut, (name) => show({ filter: name }));
  else $("measures").replaceChildren(panel.make("p", { class: "quiet", text: `${ofAll.filter((s) => s !== null && Math.fround(s) >= Math.fround(cut)).length} of ${ofAll.filter((s) => s !== null).length} called present; without labels there is no more to count` }));
}

function drawCorners() {
  const study = list?.studies[state.study];
  $("corner-name").textContent = study ? `${study.name}\n${study.corpus === study.modality ? "" : `${study.corpus} · `}${study.modality}` : "";
  const { image } = picture;
  if (!image) {
    for (const id of ["corner-window", "corner-value"]) $(id).textContent = "";
    return;
  }
  const count = state.about?.images?.frames ?? 1;
  const reduced = image.original[1] === image.width ? "" : `\nshown at ${image.width} of ${image.original[1]} pixels across`;
  const part = count > 1 ? `\n${state.about.images.volume ? "slice" : "image"} ${state.frame + 1} of ${count}` : "";
  const rounded = (value) => (image.slope < 0.5 ? value.toPrecision(4) : Math.round(value));
  $("corner-window").textContent = `C ${rounded(picture.centre)} W ${rounded(picture.width)}${picture.zoom > 1 ? `  ×${picture.zoom.toFixed(1)}` : ""}${part}${reduced}`;
}

function hover(found) {
  const unit = state.about?.images?.volume ? " HU" : "";
  $("corner-value").textContent = found ? `${Number(found.value.toPrecision(6))}${unit}\n${found.column}, ${found.row}` : "";
}

function message(text) {
  $("message").hidden = !text;
  $("message").textContent = text;
}

// ---- choosing

/** Names are here, reports are looked through by the server. */
async function search() {
  const words = $("search").value;
  inReports = new Set();
  arrange();
  if (words.trim().length < 2 || !list.reports) return;
  const found = await server.json(`search?words=${encodeURIComponent(words)}`).catch(() => ({ studies: [] }));
  if ($("search").value !== words) return;
  inReports = new Set(found.studies);
  arrange();
}

function show({ filter }) {
  state.filter = $("filter").value = filter;
  arrange();
}

function chooseFinding(number) {
  state.finding = (number + list.findings.length) % list.findings.length;
  drawFindings();
  drawThreshold();
  arrange();
  drawReport();
  nearest.draw();
  heat.draw();
  if (document.activeElement?.getAttribute("role") === "radio" || document.activeElement === document.body) {
    $("findings").querySelector("[aria-checked=true]")?.focus({ preventScroll: false });
  }
}

function drawReport() {
  const report = state.about?.report;
  $("report-section").hidden = !report;
  if (!report) return;
  panel.drawReport($("proofs"), $("report"), report, list.findings[state.finding].name, (name) => {
    const number = list.findings.findIndex((finding) => finding.name === name);
    if (number >= 0) chooseFinding(number);
  });
}

async function chooseStudy(number) {
  if (number === null || number === state.study) return;
  Object.assign(state, { study: number, frame: 0, about: null, preset: 0 });
  rows.choose(number);
  picture.clear();
  drawFindings();
  drawThreshold();
  drawReport();
  $("slices").hidden = true;
  $("presets").replaceChildren();
  $("corner-heat").textContent = "";
  message("reading …");
  try {
    const about = await server.json(`studies/${number}`);
    if (state.study !== number) return;
    state.about = about;
    drawReport();
    if (about.error) return noteFault(number, about.error);
    const { images } = about;
    drawSteps(images);
    await chooseFrame(images.volume ? images.seen[Math.floor(images.seen.length / 2)] : 0, false);
    nearest.load();
    ahead();
  } catch (error) {
    if (state.study === number) message(server.words(error));
  }
}

/** The next study of the list is read while this one is looked at. */
function ahead() {
  const next = rows.beside(1);
  if (next !== null && next !== state.study && list.studies[next].modality !== "chest CT") frames(next, 0).catch(() => {});
}

function drawSteps(images) {
  $("slices").hidden = images.frames < 2;
  $("slice").max = images.frames - 1;
  const seen = images.seen.length < images.frames ? images.seen : [];
  $("ticks").replaceChildren(...seen.map((frame) => {
    const tick = panel.make("span");
    tick.style.left = `${(frame / Math.max(1, images.frames - 1)) * 100}%`;
    return tick;
  }));
  $("presets").replaceChildren(...Object.entries(images.presets).map(([name, [centre, width]]) => panel.make("button", {
    type: "button", title: `centre ${centre}, width ${width} HU`, onclick: () => picture.window(centre, width), text: name,
  })));
}

async function chooseFrame(frame, keep = true) {
  const { study } = state;
  const last = (state.about?.images?.frames ?? 1) - 1;
  state.frame = Math.max(0, Math.min(last, frame));
  const chosen = state.frame;
  $("slice").value = chosen;
  const { volume, seen, frames: count } = state.about.images;
  $("slice-label").textContent = `${volume ? "slice" : "image"} ${chosen + 1} / ${count}${volume ? (seen.includes(chosen) ? ", the model sees it" : "") : ""}`;
  try {
    const image = await frames(study, chosen);
    if (state.study !== study || state.frame !== chosen) return;
    message("");
    // Slices share their values, pictures of a study do not.
    picture.show(image, keep && volume);
    await heat.draw();
    for (const beside of [chosen + 1, chosen - 1]) if (volume && beside >= 0 && beside <= last) frames(study, beside).catch(() => {});
  } catch (error) {
    if (state.study !== study || state.frame !== chosen) return;
    picture.clear();
    noteFault(study, server.words(error));
  }
}

/** Says why a study is not shown, there and in its row. */
function noteFault(study, words) {
  errors[study] ||= words;
  rows.draw();
  message(words);
}

function stepFrame(steps) {
  if (state.about?.images) chooseFrame(state.frame + steps);
}

// ---- keys

const KEYS = {
  j: () => chooseStudy(rows.beside(1)),
  k: () => chooseStudy(rows.beside(-1)),
  ArrowDown: () => (document.activeElement === $("rows") ? chooseStudy(rows.beside(1)) : stepFrame(1)),
  ArrowUp: () => (document.activeElement === $("rows") ? chooseStudy(rows.beside(-1)) : stepFrame(-1)),
  PageDown: () => chooseStudy(rows.beside(10)),
  PageUp: () => chooseStudy(rows.beside(-10)),
  Home: () => chooseStudy(rows.beside(-Infinity)),
  End: () => chooseStudy(rows.beside(Infinity)),
  f: () => chooseFinding(state.finding + 1),
  F: () => chooseFinding(state.finding - 1),
  h: () => heat.toggle(),
  r: () => {
    picture.inverted = false;
    picture.place();
    picture.reset();
  },
  w: () => {
    const windows = Object.values(state.about?.images?.presets ?? {});
    if (windows.length) picture.window(...windows[++state.preset % windows.length]);
  },
  i: () => picture.invert(),
  "+": () => picture.zoomBy(1.25),
  "-": () => picture.zoomBy(0.8),
  t: () => $("threshold").focus(),
  n: () => nearest.find(),
  "/": () => $("search").focus(),
  "?": () => $("help").showModal(),
};

function onKey(event) {
  const { target, key } = event;
  if ($("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Escape") return void ($("rows").focus());
  if (target.matches("input[type=search], select")) return;
  if (target.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(key)) return;
  if (target.matches("button, [role=radio]") && (key === "Enter" || key === " ")) return;
  const act = /^[1-9]$/.test(key) ? () => Number(key) <= list.findings.length && chooseFinding(Number(key) - 1) : KEYS[key];
  if (!act) return;
  event.preventDefault();
  act();
}

// ---- beginning

/** Takes the scores that have come, and asks again while some are missing. */
async function takeScores() {
  let settled = 0;
  for (;;) {
    const found = await server.json(`scores/${settled}`);
    found.studies.forEach((study, i) => {
      scores[study] = found.scores[i];
      errors[study] = found.errors[i];
      strange[study] = found.out_of_scope[i];
    });
    settled = found.settled;
    const faults = errors.filter(Boolean).length;
    const foreign = strange.filter(Boolean).length;
    const scope = foreign ? `, ${foreign.toLocaleString("en")} out of scope` : "";
    const told = scope + (faults ? `, ${faults.toLocaleString("en")} cannot be read or have no scores` : "");
    $("progress").textContent = found.fault || (settled < found.total ? `scoring: ${settled.toLocaleString("en")} of ${found.total.toLocaleString("en")}${told}` : told.slice(2));
    if (found.studies.length) {
      ofScores = new Map();
      arrange();
      drawFindings();
      drawThreshold();
    }
    if (settled >= found.total || found.fault) return;
    await new Promise((wake) => setTimeout(wake, POLL));
  }
}

function listen() {
  document.addEventListener("keydown", onKey);
  $("search").addEventListener("input", search);
  $("sort").addEventListener("change", arrange);
  $("filter").addEventListener("change", () => show({ filter: $("filter").value }));
  $("corpus").addEventListener("change", () => {
    arrange();
    drawThreshold();
    drawFindings();
  });
  $("threshold").addEventListener("input", () => {
    const [low, high] = limits(state.finding);
    setThreshold(low + ($("threshold").value / STEPS) * (high - low));
  });
  $("threshold-reset").addEventListener("click", () => setThreshold(null));
  $("slice").addEventListener("input", () => chooseFrame(Number($("slice").value)));
  $("help-open").addEventListener("click", () => $("help").showModal());
  steer(picture, () => (state.about?.images?.frames ?? 1) > 1, stepFrame, hover);
}

async function begin() {
  server.onGone(() => ($("ended").hidden = false));
  list = await server.json("worklist");
  scores = new Array(list.studies.length).fill(null);
  errors = new Array(list.studies.length).fill("");
  strange = new Array(list.studies.length).fill("");
  document.title = `${list.title}: radz view`;
  $("title").textContent = list.title;
  $("about").textContent = list.about;
  $("scorer").textContent = `scorer ${list.scorer}`;
  $("filter").append(...filters(Boolean(list.labels)).map((name) => panel.make("option", { value: name, text: FILTERS[name] })));
  const corpora = [...new Set(list.studies.map((study) => study.corpus))];
  $("corpus-field").hidden = corpora.length < 2;
  $("corpus").append(...(corpora.length > 1 ? [["", "all"], ...corpora.map((name) => [name, name])] : [["", ""]]).map(([value, text]) => panel.make("option", { value, text })));
  rows = new Rows($("rows"), $("space"), fillRow, (number) => {
    chooseStudy(number);
    $("rows").focus();
  });
  listen();
  const scoring = takeScores();
  arrange();
  $("rows").focus();
  await chooseStudy(rows.beside(0));
  await scoring;
}

begin().catch((error) => message(server.words(error)));
