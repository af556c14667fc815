// What the served log says of a user's events.

/** By event id: how often it came again (`duplicate`) and with more feedback (`merged`), and by how many
 * milliseconds it was late, if it came after a newer event of the user. */
export function marksOf(lines) {
  const arrivals = new Map();
  for (const line of lines.toSorted((a, b) => a.logged_at_ms - b.logged_at_ms)) {
    if (!arrivals.has(line.event_id)) arrivals.set(line.event_id, []);
    arrivals.get(line.event_id).push(line);
  }
  const marks = new Map();
  let newest_ms = -Infinity, // of the events that had come before
    pending_ms = -Infinity, // and of those of the same moment, which were one request
    moment_ms = -Infinity;
  for (const [id, [first, ...later]] of arrivals) {
    if (first.logged_at_ms > moment_ms) [newest_ms, moment_ms] = [Math.max(newest_ms, pending_ms), first.logged_at_ms];
    const came = (outcome) => later.filter((line) => line.outcome === outcome).length;
    marks.set(id, {
      duplicate: came("duplicate"),
      merged: came("merged"),
      late_ms: first.timestamp_ms < newest_ms ? Math.max(0, first.logged_at_ms - first.timestamp_ms) : 0,
    });
    pending_ms = Math.max(pending_ms, first.timestamp_ms);
  }
  return marks;
}
