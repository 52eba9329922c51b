// node build.js          writes the page into dist/, static files for any host
// node build.js --serve  serves it on this machine and builds again at every load; HOST and PORT choose where
//
// MODEL names the model, a file that takes pictures as they are; without it ../models/kanji_model_any_image.onnx, one's
// own, or else the released one.

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import * as esbuild from "esbuild";

import { describeModel } from "./model_file.js";

const HERE = dirname(fileURLToPath(import.meta.url));
const OUTPUT = join(HERE, "dist");
const MODELS = [
  "../models/kanji_model_any_image.onnx",
  "../models/released/cnn_int8_quantized_quantized_int8_onnx_opset14_any_image.onnx",
];
const WASM = "onnxruntime-web/ort-wasm-simd-threaded.wasm";

function stop(message) {
  console.error(`error: ${message}`);
  process.exit(2);
}

function findModel() {
  const { MODEL, INIT_CWD } = process.env; // npm says where it was called
  if (MODEL) return resolve(INIT_CWD ?? ".", MODEL);
  const path = MODELS.map((one) => join(HERE, one)).find(existsSync);
  if (!path) stop(`${MODELS[0]} is missing: export one with convert_to_onnx.py --any-image, or name one by MODEL=path`);
  return path;
}

/** Copies the model once it is known to be one, and says which; with it what it mixes up, if that lies beside it. */
function copyModel() {
  const path = findModel();
  if (!existsSync(path)) stop(`${path} is missing: MODEL names a file that scripts/convert_to_onnx.py --any-image wrote`);
  try {
    const { classes, source, bytes } = describeModel(readFileSync(path));
    console.log(`${relative(process.cwd(), path)}: ${classes.length} characters, ${bytes} bytes, trained on ${source}`);
  } catch (error) {
    stop(`${path} is not a model for this page: ${error.message}`);
  }
  rmSync(OUTPUT, { recursive: true, force: true });
  mkdirSync(OUTPUT, { recursive: true });
  copyFileSync(path, join(OUTPUT, "model.onnx"));
  const confusable = join(dirname(path), "confusable.json");
  if (existsSync(confusable)) copyFileSync(confusable, join(OUTPUT, "confusable.json"));
  else writeFileSync(join(OUTPUT, "confusable.json"), "{}\n");
}

copyModel();
copyFileSync(fileURLToPath(import.meta.resolve(WASM)), join(OUTPUT, "ort-wasm-simd-threaded.wasm"));
const context = await esbuild.context({
  absWorkingDir: HERE,
  entryPoints: ["page.js", "recognizer.js", "style.css", "index.html"],
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
  console.log(`${relative(process.cwd(), OUTPUT)}: ready for any host of static files`);
}
