// Formats numbers.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const exact = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function count(value) {
  return value === null ? "–" : number(value);
}

export function perSecond(value) {
  return value === null ? "–" : `${number(value)}/s`;
}

export function duration(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${number(seconds * 1000)} ms` : `${number(seconds)} s`;
}

function number(value) {
  return (value < 10 ? exact : whole).format(value);
}
