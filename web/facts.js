// What the page and the build say of a model, for someone who knows nothing of this toolkit.

const LEAST_ACCURACY = 80; // %; a model below has hardly been trained: one short epoch gives more

const NAMES = {
  train_etl9g_model: "CNN",
  train_hiercode: "HierCode",
  train_radical_rnn: "Radical RNN",
  train_vit: "Vision Transformer",
};
const KINDS = { kanji: /\p{Script=Han}/u, hiragana: /\p{Script=Hiragana}/u, katakana: /\p{Script=Katakana}/u };
const SOURCES = {
  "KanjiVG stand-in": "Synthetic handwriting: strokes of KanjiVG, as made-up writers would draw them",
  ETL9G: "ETL9G: handwriting by real people",
};

const counted = (number) => number.toLocaleString("en");
const percent = (share) => `${Number(share.toFixed(2))} %`;

/** How many of the characters are of each kind, most first: [["kanji", 2965], ["hiragana", 71]]. */
export function kindsOf(classes) {
  const counts = new Map();
  for (const character of classes) {
    const kind = Object.keys(KINDS).find((name) => KINDS[name].test(character)) ?? "others";
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].sort((one, other) => other[1] - one[1]);
}

const all = (parts, last) => [parts.slice(0, -1).join(", "), parts.at(-1)].filter(Boolean).join(` ${last} `);

/** What to draw: "kanji or hiragana". */
export const drawable = (classes) =>
  all(kindsOf(classes).map(([kind]) => (kind === "others" ? "other character" : kind)), "or");

export const reads = (classes) => all(kindsOf(classes).map(([kind, count]) => `${counted(count)} ${kind}`), "and");

export const modelName = ({ script, int8 }) =>
  (NAMES[script] ?? script.replace(/^train_/, "")) + (int8 ? ", INT8" : "");

/** The model's name and size, and where it comes from; `about` is what build.js knows of its file, or {}. */
export function describedModel(model, { file, figures }) {
  const name = `${modelName(model)}, ${(model.bytes / 1e6).toFixed(1)} MB`;
  if (figures) return `${name}. Released with this page.`;
  return file ? `${name}. From ${file}, not a released model.` : `${name}. Not a released model.`;
}

/** What a model learned from, in words; of samples "drawn as training went" the same as of files. */
export function trainedOn({ source }) {
  const [first, ...then] = source.split("; "); // what adapt.py says was learned in addition
  return [SOURCES[first.split(", ")[0]] ?? first, ...then].join("; ");
}

/** The accuracy that a model's own metadata names, as a sentence. */
function ownAccuracy({ accuracy, measuredOn, source, newWriters }) {
  if (accuracy === undefined) return "Not known: the model’s file names no accuracy.";
  const writers = source.includes("stand-in") ? "made-up writers" : "writers";
  const seen = newWriters ? "that it was not trained on" : "whose other samples it was trained on";
  return `${percent(accuracy)} of ${measuredOn} samples by ${writers} ${seen}.`;
}

/** How well it reads, in sentences: the measured figures of a released model, or else what its metadata says. */
export function accuracies(model, { figures, samples }) {
  if (!figures) return [ownAccuracy(model)];
  const real = figures["real drawings"];
  const known = figures["read and stated as known"];
  const madeUp = figures["made-up writers"];
  const sentences = [];
  if (real !== undefined) {
    sentences.push(`${percent(real)} of ${counted(samples["real drawings"])} drawings by real people.`);
  }
  if (known !== undefined) sentences.push(`${percent(known)} of them without a note of doubt.`);
  if (madeUp !== undefined) {
    sentences.push(`${percent(madeUp)} of ${counted(samples["made-up writers"])} samples by new made-up writers.`);
  }
  return sentences;
}

/** A warning for a model whose own metadata shows that it has hardly been trained, else "". */
export function warningOf({ accuracy, measuredOn }) {
  if (accuracy === undefined || accuracy >= LEAST_ACCURACY) return "";
  const share = `${percent(accuracy)} of its ${measuredOn} samples`;
  return `This model has hardly been trained: it reads only ${share}. Expect wrong answers.`;
}
