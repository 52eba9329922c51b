// What has been drawn: strokes of points (x, y) between 0 and 1, or an image in their place. A drawing never changes;
// each step makes a new one, so that undoing is going back.

const SIDE = 256; // of the picture that is recognised, whatever the size on the screen
const PEN = 0.04; // of the side

export const EMPTY = { strokes: [], image: null };

export const isEmpty = ({ strokes, image }) => !strokes.length && !image;

export const withStroke = ({ strokes }, stroke) => ({ strokes: [...strokes, stroke], image: null });

export const ofImage = (image) => ({ strokes: [], image });

/** A smooth line through the points: curves from middle to middle; a dot for a single point. */
function trace(context, points, side) {
  const at = ([x, y]) => [x * side, y * side];
  context.beginPath();
  context.moveTo(...at(points[0]));
  for (let i = 1; i < points.length - 1; i++) {
    const middle = [(points[i][0] + points[i + 1][0]) / 2, (points[i][1] + points[i + 1][1]) / 2];
    context.quadraticCurveTo(...at(points[i]), ...at(middle));
  }
  const [x, y] = at(points.at(-1));
  context.lineTo(x + 0.01, y); // a line of no length at all would leave no dot
  context.stroke();
}

function paintStrokes(context, strokes, side, ink) {
  Object.assign(context, { strokeStyle: ink, lineWidth: PEN * side, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) trace(context, stroke, side);
}

/** Shows a drawing, and the stroke that is under way, on a square canvas that lets the paper through. */
export function show(canvas, { strokes, image }, underWay, ink) {
  const context = canvas.getContext("2d");
  const side = canvas.width;
  context.clearRect(0, 0, side, side);
  if (image && !underWay) {
    const scale = side / Math.max(image.width, image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    context.drawImage(image, (side - width) / 2, (side - height) / 2, width, height);
  }
  paintStrokes(context, underWay ? [...strokes, underWay] : strokes, side, ink);
}

/** A canvas with the picture to recognise: the image itself, or the strokes in black on white. */
export function pictureOf({ strokes, image }) {
  if (image) return image;
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, SIDE, SIDE);
  paintStrokes(context, strokes, SIDE, "black");
  return canvas;
}
