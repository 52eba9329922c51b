// From an image file to the pixels that scripts/recognize.py reads of it, transparent parts as paper.

const LONGEST_SIDE = 1024;

function draw(bitmap) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const size = (length) => Math.max(1, Math.round(length * scale));
  const canvas = Object.assign(document.createElement("canvas"), {
    width: size(bitmap.width),
    height: size(bitmap.height),
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return { canvas, context };
}

/** Black paper under light ink on a transparent ground, white paper otherwise. */
function paperUnder(data) {
  let [light, opacity] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    light += ((data[i] + data[i + 1] + data[i + 2]) / 3) * data[i + 3];
    opacity += data[i + 3];
  }
  return light / Math.max(opacity, 1) > 128 && opacity / (data.length / 4) < 128 ? "black" : "white";
}

/** An image file as an opaque canvas. Throws an Error for one that cannot be read. */
export async function readPicture(file) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name || "This file"} is not an image that this browser can read. Try a PNG or JPEG file.`);
  });
  const { canvas, context } = draw(bitmap);
  bitmap.close();
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = paperUnder(context.getImageData(0, 0, canvas.width, canvas.height).data);
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}

/** What a canvas shows as {pixels, height, width}, RGBA. */
export function pixelsOf(canvas) {
  const { data, height, width } = canvas
    .getContext("2d", { willReadFrequently: true })
    .getImageData(0, 0, canvas.width, canvas.height);
  return { pixels: new Uint8Array(data.buffer), height, width };
}

/** Whether a canvas shows one solid blot, about as wide as high, with paper around it: a dot, no character. */
export function showsDot(canvas) {
  const { pixels, height, width } = pixelsOf(canvas);
  const sum = (at) => pixels[at] + pixels[at + 1] + pixels[at + 2];
  const light = Float32Array.from({ length: height * width }, (_, i) => sum(4 * i));
  const middle = (light.reduce((a, b) => Math.min(a, b)) + light.reduce((a, b) => Math.max(a, b))) / 2;
  const isInk = (x, y) => light[y * width + x] > middle !== light[0] > middle; // the corner is paper
  const [rows, columns] = [new Set(), new Set()];
  let [ink, starts] = [0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!isInk(x, y)) continue;
      if (x === 0 || y === 0 || x === width - 1 || y === height - 1) return false;
      rows.add(y);
      columns.add(x);
      ink++;
      starts += !isInk(x - 1, y) + !isInk(x, y - 1);
    }
  }
  const [high, wide] = [rows.size, columns.size];
  const isSolid = starts <= 1.1 * (high + wide) && ink > 0.65 * high * wide; // in each row and column one run
  return ink > 0 && isSolid && high <= 2 * wide && wide <= 2 * high;
}
