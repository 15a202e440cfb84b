// Which pairs are shown, and in which order.
"use strict";

const NO_MARGIN = -32768;
const MARGIN_UNIT = 0.01;
const NO_PROBABILITY = 65535;
const PROBABILITY_UNIT = 0.0001;

/**
 * The numbers of the pairs that pass all filters, in order.
 * `run` holds the columns of all pairs, `aspect` those of the chosen aspect.
 */
function matching(run, aspect, filters) {
  const { group, first, second, generator, status } = run;
  const kind = filters.generator === "" ? null : filters.generator;
  const wanted = Number(kind);
  const bit = filters.status === "" ? 0 : 1 << Number(filters.status);
  const disagree = filters.disagreement === "" ? -1 : Number(filters.disagreement === "yes");
  const bounded = filters.least !== "" || filters.most !== "";
  const least = filters.least === "" ? 0 : Number(filters.least) / MARGIN_UNIT - 0.5;
  const most = filters.most === "" ? Infinity : Number(filters.most) / MARGIN_UNIT + 0.5;
  const found = new Uint32Array(group.length);
  let count = 0;
  for (let pair = 0; pair < group.length; pair++) {
    if (aspect.probability[pair] === NO_PROBABILITY) continue;
    if (disagree >= 0 && aspect.disagree[pair] !== disagree) continue;
    if (bit && !(status[group[pair]] & bit)) continue;
    if (kind !== null) {
      const one = generator[first[pair]];
      const other = generator[second[pair]];
      if (kind === "same" ? one !== other : kind === "different" ? one === other : one !== wanted && other !== wanted) continue;
    }
    if (bounded) {
      const margin = aspect.margin[pair];
      if (margin === NO_MARGIN || Math.abs(margin) < least || Math.abs(margin) > most) continue;
    }
    found[count++] = pair;
  }
  const rows = found.slice(0, count);
  if (filters.order === "") return rows;
  const sign = filters.order === "largest" ? -1 : 1;
  const size = (pair) => (aspect.margin[pair] === NO_MARGIN ? -sign * Infinity : Math.abs(aspect.margin[pair]));
  const keys = new Float64Array(group.length);
  for (const pair of rows) keys[pair] = sign * size(pair);
  return rows.sort((one, other) => keys[one] - keys[other] || one - other);
}

/** Whether the first image is preferred (1), the second (-1), or neither (0). */
function preferred(aspect, pair) {
  return Math.sign(aspect.probability[pair] - 0.5 / PROBABILITY_UNIT);
}
