// How sure the model is, and what else a character may be: scripts/inference/confidence.py and
// scripts/characters/confusable.py in short.

const LEAST_PROBABILITY = 0.01; // a candidate below that is worth no note
const CONSIDERED = 5; // of the likeliest characters

const highest = (logits) => logits.reduce((a, b) => Math.max(a, b));
const sum = (values) => values.reduce((a, b) => a + b, 0);

/** The softmax (Float64Array) of logits divided by the temperature. */
function probabilities(logits, temperature) {
  const most = highest(logits);
  const exponents = Float64Array.from(logits, (logit) => Math.exp((logit - most) / temperature));
  const all = sum(exponents);
  return exponents.map((exponent) => exponent / all);
}

/** How far the largest logit is above their mean. */
const lead = (logits) => highest(logits) - sum(Float64Array.from(logits)) / logits.length;

/** What a file's metadata says of its logits; throws RangeError where that makes no sense. */
export function confidenceOf(metadata) {
  const { temperature = 1, score = "lead", threshold = null } = JSON.parse(metadata.confidence || "{}");
  const fits = temperature >= 1e-3 && temperature <= 1e3 && (threshold === null || Number.isFinite(threshold));
  if (!fits || score !== "lead") {
    throw new RangeError("what it says of its confidence is damaged");
  }
  return { temperature, threshold };
}

/** Whether logits are those of one of the model's characters; yes where the file names no threshold. */
export function isKnown(logits, { threshold }) {
  return threshold === null || lead(logits) >= threshold;
}

/** What else the likeliest of these candidates may be; `confusable` is the content of confusable.json, or {}. */
export function looksLike(top, { mixed_up: mixedUp = {}, same_shape: sameShape = {} }) {
  if (!top.length) return [];
  const best = top[0].character;
  const mixed = (a, b) => mixedUp[a]?.[b] !== undefined || mixedUp[b]?.[a] !== undefined;
  const others = top.slice(1, CONSIDERED).filter(({ probability }) => probability >= LEAST_PROBABILITY);
  const known = others.map(({ character }) => character).filter((character) => mixed(best, character));
  return [...(sameShape[best] ?? ""), ...known];
}
