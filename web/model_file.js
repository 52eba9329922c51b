// What an ONNX file says about itself. Of its protobuf only the outermost message is walked, ModelProto, whose field 14
// holds the metadata: pairs of key (field 1) and value (field 2).

import { confidenceOf } from "./confidence.js";

const METADATA_PROPS = 14;

/** Yields [field, bytes] of each length-delimited field of a protobuf message; throws RangeError if it is damaged. */
function* fields(bytes) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; factor < 2 ** 63; factor *= 128) {
      if (position >= bytes.length) break;
      const byte = bytes[position++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw new RangeError("it ends too early");
  };
  while (position < bytes.length) {
    const tag = varint();
    const wire = tag % 8;
    if (wire === 0) varint();
    else if (wire === 1 || wire === 5) position += wire === 1 ? 8 : 4;
    else if (wire === 2) {
      const length = varint();
      if (position + length > bytes.length) throw new RangeError("it ends too early");
      yield [Math.floor(tag / 8), bytes.subarray(position, (position += length))];
    } else throw new RangeError("it is not an ONNX file");
  }
}

/** The metadata of an ONNX file (Uint8Array) as an object; throws RangeError for a file that is damaged. */
export function readMetadata(bytes) {
  const text = new TextDecoder();
  const metadata = {};
  for (const [field, content] of fields(bytes)) {
    if (field !== METADATA_PROPS) continue;
    const pair = Object.fromEntries(fields(content));
    metadata[text.decode(pair[1])] = text.decode(pair[2]);
  }
  return metadata;
}

/** A number that tells a file from another (FNV-1a): crypto.subtle has none where a page is served over plain http. */
export function fingerprint(bytes) {
  return bytes.reduce((sum, byte) => Math.imul(sum ^ byte, 16777619), 2166136261) >>> 0;
}

/** What the page says of a model and needs of it; throws RangeError for a file that is not a model of the toolkit. */
export function describeModel(bytes) {
  const metadata = readMetadata(bytes);
  if (!metadata.classes) throw new RangeError("it does not name its characters");
  if (!metadata.input?.startsWith("image uint8 (N, H, W, C)")) {
    throw new RangeError("it takes no pictures as they are: convert_to_onnx.py --any-image makes one that does");
  }
  const { validation_top1: validation, test_top1: test } = JSON.parse(metadata.metrics || "{}");
  return {
    classes: [...metadata.classes],
    source: metadata.source || "not named",
    script: metadata.script || "not named",
    int8: "quantization" in metadata,
    accuracy: validation ?? test,
    measuredOn: validation === undefined ? "test" : "validation",
    newWriters: JSON.parse(metadata.config || "{}").split !== "random",
    confidence: confidenceOf(metadata),
    bytes: bytes.length,
  };
}
