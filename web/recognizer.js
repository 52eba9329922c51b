// A worker that holds the model. It says {model} or {error} once; a message {id, values, height, width}, grey values
// 0 to 255, is answered with {id, normalized, logits, top, known, looksLike}; `top` is empty for a picture without ink.

import * as ort from "onnxruntime-web/wasm";

import { isKnown, looksLike, probabilities } from "./confidence.js";
import { describeModel } from "./model_file.js";
import { CANVAS, normalize } from "./normalization.js";

const TOP = 10;

ort.env.wasm.numThreads = 1; // more would need a host that sends COOP and COEP headers
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.logLevel = "error";

/** The model's file; a host that answers with a page of its own where a file is missing counts as missing. */
async function fetchModel(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the file is missing (status ${response.status})`);
  return new Uint8Array(await response.arrayBuffer());
}

/** What the model mixes up; a host that lacks the file has nothing to tell. */
async function fetchConfusable(url) {
  const response = await fetch(url);
  return response.ok ? response.json().catch(() => ({})) : {};
}

async function load() {
  const bytes = await fetchModel(new URL("model.onnx", import.meta.url));
  const model = describeModel(bytes);
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  await run(session, new Float32Array(CANVAS * CANVAS)); // the first run is slow: not the reader's
  return { model, session, confusable: await fetchConfusable(new URL("confusable.json", import.meta.url)) };
}

async function run(session, image) {
  const { logits } = await session.run({ input_image: new ort.Tensor("float32", image, [1, 1, CANVAS, CANVAS]) });
  return logits.data;
}

/** The likeliest classes with their probabilities, likeliest first. */
function likeliest(logits, { classes, confidence }) {
  const shares = probabilities(logits, confidence.temperature);
  const order = [...classes.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, TOP);
  return order.map((label) => ({ character: classes[label], probability: shares[label] }));
}

async function recognize({ id, values, height, width }) {
  const { model, session, confusable } = await loaded;
  const normalized = normalize(values, height, width);
  const logits = await run(session, normalized);
  const top = normalized.some(Boolean) ? likeliest(logits, model) : [];
  const known = isKnown(logits, model.confidence);
  self.postMessage({ id, normalized, logits, top, known, looksLike: looksLike(top, confusable) });
}

const loaded = load();
loaded.then(
  ({ model }) => self.postMessage({ model }),
  (error) => self.postMessage({ error: error.message || String(error) }),
);
self.onmessage = ({ data }) => {
  recognize(data).catch((error) => self.postMessage({ id: data.id, error: error.message }));
};
