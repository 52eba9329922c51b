// Pictures on stdin, each as height and width (uint32) and its grey values (float32); their normalised forms on stdout.

import { readFileSync, writeSync } from "node:fs";

import { normalize } from "../normalization.js";

const input = readFileSync(0);
const bytes = input.buffer.slice(input.byteOffset, input.byteOffset + input.byteLength);
for (let offset = 0; offset < bytes.byteLength; ) {
  const [height, width] = new Uint32Array(bytes, offset, 2);
  const values = new Float32Array(bytes, offset + 8, height * width);
  offset += 8 + values.byteLength;
  const result = Buffer.from(normalize(values, height, width).buffer);
  for (let written = 0; written < result.length; ) written += writeSync(1, result, written);
}
