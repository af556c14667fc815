// What a slate is made of: watch time, label, durations, authors.

const mean = (values) => (values.length ? values.reduce((sum, v) => sum + v, 0) / values.length : NaN);

/** Figures of the best `k` items of a slate.
 *
 * authors: how many there are; effective: the inverse Simpson index, the number of authors with equal parts that
 * would be as diverse. Items of unknown authors are left out of both.
 */
export function mixOf(items, k, candidates) {
  const known = new Map(candidates.map((c) => [String(c.video_id), c]));
  const best = items.slice(0, k);
  const authors = new Map();
  for (const item of best) {
    const author = known.get(item.video_id)?.author_id;
    if (author != null) authors.set(author, (authors.get(author) ?? 0) + 1);
  }
  const named = [...authors.values()].reduce((sum, n) => sum + n, 0);
  const repeated = [...authors.values()].reduce((sum, n) => sum + (n / named) ** 2, 0);
  return {
    predicted: mean(best.map((i) => i.watch_time_s)),
    expected: mean(best.map((i) => i.expected_watch_time_s ?? NaN)),
    label: mean(best.map((i) => i.objectives.interest ?? NaN)),
    duration: mean(best.filter((i) => i.watch_ratio > 0).map((i) => i.watch_time_s / i.watch_ratio)),
    authors: named ? authors.size : NaN,
    effective: named ? 1 / repeated : NaN,
  };
}

/** Kendall's tau of two orders of the same videos: 1 the same, −1 reversed. */
export function kendallTau(before, after) {
  const rank = new Map(after.map((id, i) => [id, i]));
  const ranks = before.filter((id) => rank.has(id)).map((id) => rank.get(id));
  let agreeing = 0,
    pairs = 0;
  for (let i = 0; i < ranks.length; i++) {
    for (let j = i + 1; j < ranks.length; j++) {
      pairs += 1;
      agreeing += ranks[i] < ranks[j] ? 1 : -1;
    }
  }
  return pairs ? agreeing / pairs : NaN;
}
