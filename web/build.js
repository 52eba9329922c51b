// node build.js          writes the page into dist/, static files for any host
// node build.js --serve  serves it on this machine and builds again at every load; HOST and PORT choose where
//
// MODEL names the model, a file that takes pictures as they are; without it one's own, if there is one, or else the
// released one.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import * as esbuild from "esbuild";

import { accuracies, modelName, reads, trainedOn, warningOf } from "./facts.js";
import { describeModel, fingerprint } from "./model_file.js";

const HERE = dirname(fileURLToPath(import.meta.url));
const OUTPUT = join(HERE, "dist");
const OWN = join(HERE, "../models/kanji_model_any_image.onnx");
const OWN_WITHOUT_PICTURES = join(HERE, "../models/kanji_model.onnx"); // which recognize.py takes
const RELEASED = join(HERE, "../models/released/hiercode_int8_quantized_quantized_int8_onnx_opset14_any_image.onnx");
const WASM = "onnxruntime-web/ort-wasm-simd-threaded.wasm";

const here = (path) => relative(process.cwd(), path);

function stop(message) {
  console.error(`error: ${message}`);
  process.exit(2);
}

const warn = (message) => console.error(`warning: ${message}`);

function findModel() {
  const { MODEL, INIT_CWD } = process.env; // npm says where it was called
  if (MODEL) return resolve(INIT_CWD ?? ".", MODEL);
  if (existsSync(OWN)) {
    console.log(`${here(OWN)} replaces the released model; MODEL=path names another`);
    return OWN;
  }
  if (existsSync(OWN_WITHOUT_PICTURES)) {
    const remedy = "convert_to_onnx.py --any-image makes the file that the page needs";
    warn(`${here(OWN_WITHOUT_PICTURES)} is not used: ${remedy}`);
  }
  if (existsSync(RELEASED)) return RELEASED;
  stop(`${here(OWN)} is missing: export one with convert_to_onnx.py --any-image, or name one by MODEL=path`);
}

/** What figures.json beside a model says of exactly this file: {figures, samples}; {} of one that is not released. */
function measured(path, bytes) {
  const table = join(dirname(path), "figures.json");
  if (!existsSync(table)) return {};
  const { files, samples } = JSON.parse(readFileSync(table, "utf8"));
  const { sha256, ...figures } = files[basename(path)] ?? {};
  return createHash("sha256").update(bytes).digest("hex") === sha256 ? { figures, samples } : {};
}

/** Says which model the page will read with; returns what the page shall know of it beside its own metadata. */
function introduce(path, bytes, model) {
  const about = { file: basename(path), fingerprint: fingerprint(bytes), ...measured(path, bytes) };
  const origin = about.figures ? "a released model" : "not a released model";
  console.log(`${here(path)}: ${modelName(model)}, ${origin}: ${reads(model.classes)}, ${bytes.length} bytes`);
  console.log(`Trained on: ${trainedOn(model)}. Reads correctly: ${accuracies(model, about).join(" ")}`);
  const warning = warningOf(model);
  if (warning) warn(`${warning} The page says so too.`);
  return about;
}

/** Copies the model once it is known to be one; with it what it confuses, if that lies beside it. */
function copyModel() {
  const path = findModel();
  if (!existsSync(path)) stop(`${path} is missing: MODEL names a file that convert_to_onnx.py --any-image wrote`);
  const bytes = readFileSync(path);
  let model;
  try {
    model = describeModel(bytes);
  } catch (error) {
    stop(`${path} is not a model for this page: ${error.message}`);
  }
  rmSync(OUTPUT, { recursive: true, force: true });
  mkdirSync(OUTPUT, { recursive: true });
  copyFileSync(path, join(OUTPUT, "model.onnx"));
  writeFileSync(join(OUTPUT, "about.json"), `${JSON.stringify(introduce(path, bytes, model))}\n`);
  const confusable = join(dirname(path), "confusable.json");
  if (existsSync(confusable)) copyFileSync(confusable, join(OUTPUT, "confusable.json"));
  else writeFileSync(join(OUTPUT, "confusable.json"), "{}\n");
}

copyModel();
copyFileSync(fileURLToPath(import.meta.resolve(WASM)), join(OUTPUT, "ort-wasm-simd-threaded.wasm"));
const context = await esbuild.context({
  absWorkingDir: HERE,
  entryPoints: ["start.js", "page.js", "recognizer.js", "style.css", "index.html"],
  loader: { ".html": "copy" },
  outdir: OUTPUT,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "linked",
  logLevel: "warning",
});
await context.rebuild();
if (process.argv.includes("--serve")) {
  const { HOST: host = "127.0.0.1", PORT = 8000 } = process.env;
  const server = await context
    .serve({ servedir: OUTPUT, host, port: Number(PORT) })
    .catch(({ message }) => stop(`it cannot be served (${message}): PORT=number chooses another port`));
  console.log(`http://${server.hosts[0]}:${server.port}`);
} else {
  await context.dispose();
  console.log(`${here(OUTPUT)}: ready for any host of static files`);
}
