// What has been drawn: strokes of points (x, y) between 0 and 1, or an image in their place. A drawing never changes;
// each step makes a new one, so that undoing is going back.

import { showsDot } from "./picture.js";

const SIDE = 256; // of the picture that is recognised, whatever the size on the screen
const PEN = 0.04; // of the side
const LEAST = 0.6; // of the side: smaller drawings are enlarged to that, lest the pen fill them
const BLOT = 1.5 * PEN; // on paper, the pen has filled what is no larger
const SHORT = 0.2; // of the side: a straight stroke up to that may be the dot that 字 begins with
const LEVEL = 0.36; // the slope up to which a stroke may be 一
const STRAIGHT = 0.95; // the least distance of a straight stroke's ends, of its length

export const EMPTY = { strokes: [], image: null };

export const isEmpty = ({ strokes, image }) => !strokes.length && !image;

export const withStroke = ({ strokes }, stroke) => ({ strokes: [...strokes, stroke], image: null });

export const ofImage = (image) => ({ strokes: [], image });

/** Where strokes lie: their middle, and the longer side of the rectangle around them. */
function extent(strokes) {
  const ends = [0, 1].map((axis) => {
    const places = strokes.flat().map((point) => point[axis]);
    return [places.reduce((a, b) => Math.min(a, b)), places.reduce((a, b) => Math.max(a, b))];
  });
  return {
    middle: ends.map(([low, high]) => (low + high) / 2),
    size: Math.max(...ends.map(([low, high]) => high - low)),
  };
}

/** Whether a stroke is straight and not level: no character is. */
function isSlanted(points) {
  const length = points.slice(1).reduce((sum, [x, y], i) => sum + Math.hypot(x - points[i][0], y - points[i][1]), 0);
  const [across, down] = [0, 1].map((axis) => points.at(-1)[axis] - points[0][axis]);
  return Math.hypot(across, down) > STRAIGHT * length && Math.abs(down) > LEVEL * Math.abs(across);
}

/** Whether there is only a dot so far: a blot, or one short slanted stroke, as 字 and 永 begin. */
export function isDot({ strokes, image }) {
  if (image) return showsDot(image);
  if (!strokes.length) return false;
  const { size } = extent(strokes);
  return size < BLOT || (strokes.length === 1 && size < SHORT && isSlanted(strokes[0]));
}

/** A small drawing enlarged, in the middle; a larger one as it is. */
function enlarged(strokes) {
  const { middle, size } = extent(strokes);
  if (size >= LEAST) return strokes;
  const scale = LEAST / Math.max(size, BLOT);
  const moved = (point) => point.map((place, axis) => 0.5 + (place - middle[axis]) * scale);
  return strokes.map((stroke) => stroke.map(moved));
}

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
  paintStrokes(context, enlarged(strokes), SIDE, "black");
  return canvas;
}
