// Differences between polls of /metrics: rates since the last poll, quantiles over ten seconds.

import { parseNumber } from "./prometheus.js";

const QUANTILE_SECONDS = 10;
const ALL = () => true;

/** The polls of the last seconds. Missing metrics count as zero. */
export class Polls {
  #polls = [];

  add(atSeconds, metrics) {
    this.#polls.push({ atSeconds, metrics });
    while (this.#polls.length > 2 && this.#polls[1].atSeconds <= atSeconds - QUANTILE_SECONDS) {
      this.#polls.shift();
    }
  }

  /** The increase of a counter per second. */
  rate(name, matches = ALL) {
    return sum(this.#rates(name, matches).map(({ value }) => value));
  }

  /** The rates by value of a label. */
  ratesBy(label, name) {
    return grouped(label, this.#rates(name, ALL), (group) => sum(group.map(({ value }) => value)));
  }

  /** The value of a gauge, or of a counter since the start. */
  level(name) {
    return sum(this.#series(name).map(({ value }) => value));
  }

  /** The values of a gauge by value of a label. */
  levelsBy(label, name) {
    return grouped(label, this.#series(name), (group) => sum(group.map(({ value }) => value)));
  }

  /** A quantile of the new observations of a histogram. Null without observations. */
  quantile(share, name) {
    return quantile(share, this.#newInBuckets(name));
  }

  /** The quantiles by value of a label, for values with new observations. */
  quantilesBy(label, share, name) {
    const quantiles = grouped(label, this.#newInBuckets(name), (group) => quantile(share, group));
    return Object.fromEntries(Object.entries(quantiles).filter(([, value]) => value !== null));
  }

  #series(name) {
    return this.#polls.at(-1)?.metrics.get(name) ?? [];
  }

  #rates(name, matches) {
    if (this.#polls.length < 2) return [];
    const [before, now] = this.#polls.slice(-2);
    const seconds = now.atSeconds - before.atSeconds;
    return increases(name, before, now)
      .filter(({ labels }) => matches(labels))
      .map((series) => ({ ...series, value: series.value / seconds }));
  }

  #newInBuckets(name) {
    if (this.#polls.length < 2) return [];
    return increases(`${name}_bucket`, this.#polls[0], this.#polls.at(-1));
  }
}

/** The increase of each series. A series that decreased was reset to zero. */
function increases(name, before, now) {
  const earlier = new Map();
  for (const { key, value } of before.metrics.get(name) ?? []) earlier.set(key, value);
  return (now.metrics.get(name) ?? []).map((series) => {
    const grown = series.value - (earlier.get(series.key) ?? 0);
    return { ...series, value: grown < 0 ? series.value : grown };
  });
}

/** As in Prometheus: linear interpolation within the bucket of the rank. */
function quantile(share, series) {
  const counts = grouped("le", series, (group) => sum(group.map(({ value }) => value)));
  const buckets = Object.entries(counts)
    .map(([bound, observed]) => [parseNumber(bound), observed])
    .sort(([one], [other]) => one - other);
  const rank = share * (buckets.at(-1)?.[1] ?? 0);
  if (rank === 0) return null;
  const position = buckets.findIndex(([, observed]) => observed >= rank);
  const [lower, below] = position === 0 ? [0, 0] : buckets[position - 1];
  const [upper, observed] = buckets[position];
  if (upper === Infinity) return lower;
  return lower + ((upper - lower) * (rank - below)) / (observed - below);
}

function grouped(label, series, summary) {
  const groups = new Map();
  for (const one of series) {
    const name = one.labels[label] ?? "";
    groups.set(name, [...(groups.get(name) ?? []), one]);
  }
  return Object.fromEntries([...groups].map(([name, group]) => [name, summary(group)]));
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
