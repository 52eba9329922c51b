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
    throw new Error(`${file.name || "This"} is not an image that can be read`);
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
