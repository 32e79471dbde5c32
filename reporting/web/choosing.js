"use strict";
/** A picture's codes and positions (Algorithm 1), all of them or those of a region (models/sampling/editing.py), one at a time. */

/** `models.sampling.choice.draw`: temperature, top-k, top-p, then the inverse of the cumulative distribution at `uniform`. */
const choose = (logits, { temperature, top_k: most, top_p: share }, uniform) => {
  let order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  if (most) order = order.slice(0, most);
  const sorted = Float64Array.from(order, (i) => logits[i] / temperature);
  const supported = sorted.reduce((count, value) => count + (value > -Infinity), 0);
  softmax(sorted, 0, sorted.length);
  let sum = 0;
  const cumulative = sorted.map((value) => (sum += value));
  let kept = 1;
  while (kept < order.length && cumulative[kept - 1] < share) kept += 1;
  const goal = uniform * cumulative[kept - 1];
  let rank = 0;
  while (rank < order.length && cumulative[rank] <= goal) rank += 1;
  return order[Math.min(rank, kept - 1, supported - 1)];
};

const logSum = (values) => {
  const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return most === -Infinity ? most : most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
};
const logSoftmax = (values) => {
  const total = logSum(values);
  return values.map((value) => value - total);
};

/** Draws a picture, code by code.
 *
 * `asked`: condition (its codes), guidance, code and position (temperature, top_k, top_p), seed and index; `stays`: position → code of
 * what stays, a Map, and `free`: the Set of cells that new codes may take (all, where a whole picture is drawn). Each step is
 * yielded as { code, position, fresh } in raster order.
 */
function* choosing(weights, config, asked, stays, free) {
  const { num_kept: count, num_positions: cells, num_codes: codes } = config;
  const seed = sampleSeed(asked.seed, asked.index);
  const numbers = uniforms(seed, 2 * count), gates = uniforms(seed + 1n, 2 * count);
  const model = new Generating(weights, config, asked.condition, asked.guidance);
  const kept = [...stays].sort(([a], [b]) => a - b);
  const ascending = config.network.position_support === "ascending";
  const used = new Set();
  let previous = -1, missing = count - kept.length;
  const freeAfter = (cell) => [...free].filter((other) => other > cell).length;

  for (let step = 0; step < count; step++) {
    const [ahead, code] = kept[0] ?? [cells, 0];
    const mayStay = kept.length > 0 && freeAfter(ahead) >= missing;
    const supported = (cell) => (ascending ? cell > previous && cell <= cells - count + step : !used.has(cell));
    const open = new Set([...free].filter((cell) => (
      missing > 0 && supported(cell) && (free.size === cells || (cell > previous && cell < ahead && freeAfter(cell) >= missing - 1)))));
    const only = (logits, wanted) => logits.map((value, cell) => (wanted(cell) ? value : -Infinity));
    const takesAll = !mayStay && Array.from({ length: cells }, (_, cell) => cell).every((cell) => !supported(cell) || open.has(cell));
    const codeLogits = model.codeLogits();
    let fresh = open.size > 0, taken = { code, position: ahead };

    if (fresh && takesAll) {
      // nothing restricts this step: what `sample` does
      const drawn = choose(codeLogits, asked.code, numbers[2 * step]);
      const places = only(model.positionLogits([drawn], true), (cell) => open.has(cell));
      taken = { code: drawn, position: choose(places, asked.position, numbers[2 * step + 1]) };
    } else if (fresh) {
      const logCode = logSoftmax(codeLogits), every = Array.from({ length: codes }, (_, c) => c);
      const logits = model.positionLogits(every, false);
      const placesOf = (c) => logSoftmax(only(logits.slice(c * cells, (c + 1) * cells), supported));
      const inside = every.map((c) => logSum(only(placesOf(c), (cell) => open.has(cell))) + logCode[c]);
      const logFresh = logSum(inside);
      const logKept = mayStay ? logCode[code] + placesOf(code)[ahead] : -Infinity;
      fresh = gates[2 * step] < Math.exp(logFresh - logSum([logFresh, logKept]));
      if (fresh) {
        const drawn = choose(inside, asked.code, numbers[2 * step]);
        const places = only(logits.slice(drawn * cells, (drawn + 1) * cells), (cell) => open.has(cell));
        taken = { code: drawn, position: choose(places, asked.position, numbers[2 * step + 1]) };
      }
      model.positionLogits([taken.code], true);
    } else model.positionLogits([taken.code], true);

    if (fresh) missing -= 1;
    else kept.shift();
    used.add(taken.position);
    previous = taken.position;
    yield { ...taken, fresh };
    if (step + 1 < count) model.advance(taken.code, taken.position);
  }
}
