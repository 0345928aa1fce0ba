// Counts and shares at a threshold. Scores are float32 on the server, so they are compared as such.

/** Counts over studies with a score and a label; `unlabelled` and `unscored` are those left out. */
export function confusion(scores, labels, threshold) {
  const counts = { tp: 0, fn: 0, fp: 0, tn: 0, unlabelled: 0, unscored: 0 };
  const least = Math.fround(threshold);
  for (let i = 0; i < scores.length; i++) {
    if (scores[i] === null) counts.unscored++;
    else if (labels[i] === null) counts.unlabelled++;
    else counts[kind(Math.fround(scores[i]) >= least, labels[i] === 1)]++;
  }
  return counts;
}

/** Name of the cell: called present or not, present or not. */
export function kind(called, present) {
  if (called) return present ? "tp" : "fp";
  return present ? "fn" : "tn";
}

/** Shares of the counts; null where there is nothing to take a share of. */
export function shares({ tp, fn, fp, tn }) {
  const share = (part, whole) => (whole ? part / whole : null);
  return {
    sensitivity: share(tp, tp + fn),
    specificity: share(tn, tn + fp),
    ppv: share(tp, tp + fp),
    npv: share(tn, tn + fn),
  };
}

/** Least and greatest of the scores that are there, a little apart where they are one. */
export function range(scores) {
  let low = Infinity;
  let high = -Infinity;
  for (const score of scores) {
    if (score === null) continue;
    if (score < low) low = score;
    if (score > high) high = score;
  }
  if (low > high) return [0, 1];
  return high > low ? [low, high] : [low - 0.005, high + 0.005];
}

/** Counts of scores in equal bins from low to high, by label: present, absent, and neither. */
export function histogram(scores, labels, [low, high], bins) {
  const found = { present: new Array(bins).fill(0), absent: new Array(bins).fill(0), other: new Array(bins).fill(0) };
  for (let i = 0; i < scores.length; i++) {
    if (scores[i] === null) continue;
    const bin = Math.min(bins - 1, Math.max(0, Math.floor(((scores[i] - low) / (high - low)) * bins)));
    found[labels[i] === 1 ? "present" : labels[i] === 0 ? "absent" : "other"][bin]++;
  }
  return found;
}

/** Median of the scores that are there; 0.5 without any. */
export function median(scores) {
  const sorted = scores.filter((score) => score !== null).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : 0.5;
}
