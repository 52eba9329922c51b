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

const SCORES = {
  probability: (logits, temperature) => highest(probabilities(logits, temperature)),
  logit: (logits) => highest(logits),
  lead: (logits) => highest(logits) - sum(Float64Array.from(logits)) / logits.length,
  energy: (logits, temperature) =>
    highest(logits) - temperature * Math.log(highest(probabilities(logits, temperature))),
};

/** What a file's metadata says of its logits; throws RangeError where that makes no sense. */
export function confidenceOf(metadata) {
  const { temperature = 1, score = "lead", threshold = null } = JSON.parse(metadata.confidence || "{}");
  if (!(temperature >= 1e-3 && temperature <= 1e3) || !Object.hasOwn(SCORES, score) || !(threshold === null || Number.isFinite(threshold))) {
    throw new RangeError("what it says of its confidence is damaged");
  }
  return { temperature, score, threshold };
}

/** Whether logits are those of one of the model's characters; yes where the file names no threshold. */
export function isKnown(logits, { temperature, score, threshold }) {
  return threshold === null || SCORES[score](logits, temperature) >= threshold;
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
