// A worker that holds the model. It says {model, about} or {error} once; a message {id, pixels, height, width}, RGBA,
// is answered with {id, logits, top, known, looksLike}; `top` is empty for a picture without ink.

import * as ort from "onnxruntime-web/wasm";

import { isKnown, looksLike } from "./confidence.js";
import { describeModel, fingerprint } from "./model_file.js";

const FIRST = { pixels: new Uint8Array(4 * 256 * 256), height: 256, width: 256 }; // as large as a drawing

ort.env.wasm.numThreads = 1; // more would need a host that sends COOP and COEP headers
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.logLevel = "error";

/** A file beside this one. */
async function fetchFile(name) {
  const response = await fetch(new URL(name, import.meta.url)).catch(() => {
    throw new Error(`the connection failed while ${name} was fetched`);
  });
  if (!response.ok) throw new Error(`its file ${name} is missing from this site (status ${response.status})`);
  return response;
}

/** The content of a JSON file that a site may lack. */
const fetchTable = (name) =>
  fetchFile(name)
    .then((response) => response.json())
    .catch(() => ({}));

async function load() {
  const bytes = new Uint8Array(await (await fetchFile("model.onnx")).arrayBuffer());
  const model = describeModel(bytes);
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  await run(session, FIRST); // the first run is slow: not the reader's
  const [confusable, built] = await Promise.all([fetchTable("confusable.json"), fetchTable("about.json")]);
  const about = built.fingerprint === fingerprint(bytes) ? built : {}; // the model may have been replaced since
  return { model, about, session, confusable };
}

/** What the model makes of a picture: logits, and the likeliest classes with their probabilities, likeliest first. */
async function run(session, { pixels, height, width }) {
  const { logits, classes, probabilities } = await session.run({
    image: new ort.Tensor("uint8", pixels, [1, height, width, 4]),
  });
  const top = [...classes.data].map((label, i) => ({ label: Number(label), probability: probabilities.data[i] }));
  return { logits: logits.data, top };
}

async function recognize({ id, ...picture }) {
  const { model, session, confusable } = await loaded;
  const { logits, top } = await run(session, picture);
  const named = top.map(({ label, probability }) => ({ character: model.classes[label], probability }));
  const listed = logits.some(Boolean) ? named : []; // they are all 0 for a picture without ink
  const known = isKnown(logits, model.confidence);
  self.postMessage({ id, logits, top: listed, known, looksLike: looksLike(listed, confusable) });
}

const loaded = load();
loaded.then(
  ({ model, about }) => self.postMessage({ model, about }),
  (error) => self.postMessage({ error: error.message || String(error) }),
);
self.onmessage = ({ data }) => {
  recognize(data).catch((error) => self.postMessage({ id: data.id, error: error.message }));
};
