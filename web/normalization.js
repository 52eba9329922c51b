// The input contract in JavaScript: a port of scripts/normalization.py, step by step under the same names, with the
// same constants; tests/test_web.py compares the two pixel by pixel. A picture is {values, height, width}, row by row.

export const CANVAS = 64;
const CONTENT = 52;
const WORKING_SIDE = 256;
const PAPER_GRID = 64;
const INK = 0.44;
const FLOOR = 0.2;
const SOLID = 0.8;
const REST = 2 / 3;
const NOISE = 3.5;
const LEAST_CONTRAST = 12;

const picture = (height, width, values = new Float32Array(height * width)) => ({ values, height, width });

const map = ({ values, height, width }, change) => picture(height, width, values.map(change));

const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

const smallest = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);

/** Halves go to the even neighbour, as in Python. */
function round(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

function transpose({ values, height, width }) {
  const result = picture(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) result.values[x * height + y] = values[y * width + x];
  }
  return result;
}

/** One row of weights {first, weights} for each output pixel: resampling_matrix() without its zeros. */
function resamplingRows(start, scale, sizeIn, sizeOut) {
  const radius = Math.max(1, 1 / scale);
  return Array.from({ length: sizeOut }, (_, output) => {
    const centre = start + (output + 0.5) / scale;
    const first = Math.min(sizeIn, Math.max(0, Math.floor(centre - radius - 1)));
    const stop = Math.max(first, Math.min(sizeIn, Math.ceil(centre + radius + 1)));
    const weights = new Float32Array(stop - first);
    for (let i = 0; i < weights.length; i++) {
      const distance = Math.fround(Math.fround((first + i + 0.5) / radius) - Math.fround(centre / radius));
      weights[i] = Math.max(1 - Math.abs(distance), 0);
    }
    const sum = Math.max(weights.reduce((a, b) => a + b, 0), 0.5 * radius);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** rows @ image */
function resampleRows(rows, { values, width }) {
  const result = picture(rows.length, width);
  const line = new Float64Array(width);
  for (const [output, { first, weights }] of rows.entries()) {
    line.fill(0);
    for (let i = 0; i < weights.length; i++) {
      const offset = (first + i) * width;
      if (weights[i]) for (let x = 0; x < width; x++) line[x] += weights[i] * values[offset + x];
    }
    result.values.set(line, output * width);
  }
  return result;
}

/** rows @ image @ columns.T */
function resample(rows, columns, image) {
  return transpose(resampleRows(columns, transpose(resampleRows(rows, image))));
}

function shrink(image, height, width) {
  const rows = resamplingRows(0, height / image.height, image.height, height);
  return resample(rows, resamplingRows(0, width / image.width, image.width, width), image);
}

/** shrink() to the proportions of a picture of (height, width) whose longer side has become `side`. */
function shrinkTo(image, side, { height, width }) {
  const size = (length) => Math.max(1, round((length * side) / Math.max(height, width)));
  return shrink(image, size(height), size(width));
}

function solidLevel(values) {
  let sum = 0;
  let squares = 0;
  for (const value of values) {
    sum += value;
    squares += value * value;
  }
  return Math.max(squares / Math.max(sum, 1e-6) / SOLID, 1e-6);
}

const count = (values) => values.reduce((sum, value) => sum + (value ? 1 : 0), 0);

/** Sums over windows of 2 reach + 1 pixels down each column. */
function columnSums({ values, height, width }, reach) {
  const result = picture(height, width);
  for (let x = 0; x < width; x++) {
    let sum = 0;
    for (let y = -reach; y < height; y++) {
      if (y + reach < height) sum += values[(y + reach) * width + x];
      if (y - reach > 0) sum -= values[(y - reach - 1) * width + x];
      if (y >= 0) result.values[y * width + x] = sum;
    }
  }
  return result;
}

function edgeSteps({ values, height, width }) {
  let steps = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = values[y * width + x];
      if (x + 1 < width && here !== values[y * width + x + 1]) steps++;
      if (y + 1 < height && here !== values[(y + 1) * width + x]) steps++;
    }
  }
  return steps;
}

function withoutSpecks(mask) {
  const penWidth = (2.5 * count(mask.values)) / Math.max(edgeSteps(mask), 1);
  const reach = Math.max(2, round(0.035 * Math.max(mask.height, mask.width)));
  const least = Math.trunc(Math.min(0.5 * penWidth ** 2 + 1, reach * penWidth * 0.5));
  const sums = transpose(columnSums(transpose(columnSums(mask, reach)), reach)).values;
  return map(mask, (value, i) => (value && sums[i] > least ? 1 : 0));
}

function fragmentEnd(hasInk, atEdge) {
  const length = hasInk.length;
  const band = round(0.12 * length);
  const gap = Math.min(length, Math.max(2, round(0.025 * length)));
  const last = Math.min(length, band + gap) - gap;
  let end = 0;
  let reached = false;
  for (let i = 0; i < last; i++) {
    reached ||= Boolean(hasInk[i] && atEdge[i]);
    if (reached && hasInk[i] && !hasInk.subarray(i + 1, i + 1 + gap).includes(1)) end = i + 1;
  }
  return end;
}

/** First and one-past-last line between the fragments at either end of a profile. */
function betweenFragments(hasInk, atEdge) {
  const end = hasInk.length - fragmentEnd(hasInk.slice().reverse(), atEdge.slice().reverse());
  return [fragmentEnd(hasInk, atEdge), end];
}

/** Which columns, and which rows, have ink between the rows `top` and `bottom`. */
function profiles({ values, height, width }, top = 0, bottom = height) {
  const columns = new Uint8Array(width);
  const rows = new Uint8Array(height);
  for (let y = top; y < bottom; y++) {
    for (let x = 0; x < width; x++) if (values[y * width + x]) columns[x] = rows[y] = 1;
  }
  return { columns, rows };
}

function withoutEdgeFragments(mask) {
  const { height, width } = mask;
  const margin = Math.max(1, round(0.04 * Math.max(height, width)));
  const inside = (x, y) => x >= margin && x < width - margin && y >= margin && y < height - margin;
  const atEdge = (image) => map(image, (value, i) => (value && !inside(i % width, Math.floor(i / width)) ? 1 : 0));
  const edge = atEdge(mask);
  if (!count(edge.values)) return mask;

  const { columns } = profiles(mask, round(0.12 * height), round(0.88 * height));
  const [left, right] = betweenFragments(columns, profiles(edge).columns);
  const middle = map(mask, (value, i) => (i % width >= left && i % width < right ? value : 0));
  const [top, bottom] = betweenFragments(profiles(middle).rows, profiles(atEdge(middle)).rows);
  const rest = map(middle, (value, i) => (i >= top * width && i < bottom * width ? value : 0));
  return !count(atEdge(rest).values) && count(rest.values) > REST * count(mask.values) ? rest : mask;
}

/** First and one-past-last 1 of a profile; [0, 0] without one. */
const inkSpan = (profile) => [Math.max(0, profile.indexOf(1)), profile.lastIndexOf(1) + 1];

/** The weights that place one axis of the ink's box; they read nothing beyond 2 pixels around it. */
function axisRows([low, high], scale, size) {
  const reach = 2 + Math.trunc(2 * Math.max(1, 1 / scale)) + 1;
  const start = Math.max(0, low - reach);
  const stop = Math.min(size, high + reach);
  const rows = resamplingRows((low + high) / 2 - CANVAS / 2 / scale - start, scale, stop - start, CANVAS);
  return rows.map(({ first, weights }) => {
    const near = (pixel) => pixel >= low - 2 && pixel < high + 2;
    return { first: start + first, weights: weights.map((weight, i) => (near(start + first + i) ? weight : 0)) };
  });
}

function place(ink) {
  const level = solidLevel(ink.values);
  const dark = map(ink, (value) => (value > Math.fround(INK * level) ? 1 : 0));
  const mask = withoutEdgeFragments(withoutSpecks(dark));
  if (!count(mask.values)) return picture(CANVAS, CANVAS);

  const { rows, columns } = profiles(mask);
  const [down, across] = [inkSpan(rows), inkSpan(columns)];
  const scale = CONTENT / Math.max(down[1] - down[0], across[1] - across[0]);
  const stretched = map(ink, (value, i) => {
    const dropped = dark.values[i] !== mask.values[i];
    return dropped ? 0 : Math.min(1, Math.max(0, (value / level - FLOOR) / (1 - FLOOR)));
  });
  const placed = resample(axisRows(down, scale, ink.height), axisRows(across, scale, ink.width), stretched);
  const solid = solidLevel(placed.values);
  return map(placed, (value) => Math.min(value / solid, 1));
}

/** Each column longer by `reach` at both ends, the values beyond given by beyond(column, index). */
function extendColumns({ values, height, width }, reach, beyond) {
  const result = picture(height + 2 * reach, width);
  for (let x = 0; x < width; x++) {
    const column = Float32Array.from({ length: height }, (_, y) => values[y * width + x]);
    for (let y = 0; y < result.height; y++) result.values[y * width + x] = beyond(column, y - reach);
  }
  return result;
}

/** Each value of a column becomes what `reduce` makes of the 2 reach + 1 values from it on: shorter by 2 reach. */
function slideColumns({ values, height, width }, reach, reduce) {
  const result = picture(height - 2 * reach, width);
  const window = new Float32Array(2 * reach + 1);
  for (let y = 0; y < result.height; y++) {
    for (let x = 0; x < width; x++) {
      for (let i = 0; i < window.length; i++) window[i] = values[(y + i) * width + x];
      result.values[y * width + x] = reduce(window);
    }
  }
  return result;
}

/** The same step for the columns and then for the rows. */
const bothWays = (image, step) => transpose(step(transpose(step(image))));

const nearest = (line, index) => line[Math.min(line.length - 1, Math.max(0, index))];

/** Beyond the border the light goes on rising or falling as it does within. */
function reflected(line, index) {
  const end = line.length - 1;
  if (!end) return line[0];
  if (index < 0) return 2 * line[0] - reflected(line, -index);
  return index > end ? 2 * line[end] - reflected(line, 2 * end - index) : line[index];
}

function paperOf(cells) {
  const reach = PAPER_GRID / 8;
  const [low, high] = [smallest(cells.values), largest(cells.values)];
  let closed = cells;
  for (const reduce of [largest, smallest]) {
    const extended = bothWays(closed, (image) => extendColumns(image, reach, reflected));
    const clipped = map(extended, (value) => Math.min(high, Math.max(low, value)));
    closed = bothWays(clipped, (image) => slideColumns(image, reach, reduce));
  }
  return closed;
}

function isLightOnDark(cells) {
  const reach = PAPER_GRID / 4;
  const mean = (window) => window.reduce((a, b) => a + b, 0) / window.length;
  const padded = bothWays(cells, (image) => extendColumns(image, reach, nearest));
  const around = bothWays(padded, (image) => slideColumns(image, reach, mean)).values;
  return cells.values.reduce((sum, value, i) => sum + Math.fround(value - around[i]) ** 3, 0) > 0;
}

/** The median difference of horizontal neighbours; a row's first pixel counts with 0. */
function noiseOf({ values, width }) {
  const steps = values.map((value, i) => (i % width ? Math.abs(value - values[i - 1]) : 0)).sort();
  return (steps[(steps.length - 1) >> 1] + steps[steps.length >> 1]) / 2;
}

function inkOf(image) {
  let grey = Math.max(image.height, image.width) > WORKING_SIDE ? shrinkTo(image, WORKING_SIDE, image) : image;
  let cells = shrinkTo(grey, PAPER_GRID, image);
  if (isLightOnDark(cells)) [grey, cells] = [grey, cells].map((one) => map(one, (value) => 255 - value));
  const paper = shrink(paperOf(cells), grey.height, grey.width).values;
  const ink = map(grey, (value, i) => Math.max(paper[i] - value, 0));
  const darkest = largest(ink.values);
  if (darkest < LEAST_CONTRAST) return picture(grey.height, grey.width);
  const noise = Math.fround(Math.min(NOISE * noiseOf(grey), 0.35 * darkest));
  return map(ink, (value, i) => (value < noise ? 0 : value / Math.max(paper[i], 1)));
}

/** Grey values Float32Array 0 to 255, (height, width), to the contract: Float32Array of 64 x 64, ink 1 on paper 0. */
export function normalize(values, height, width) {
  if (!height || !width || values.length !== height * width) {
    throw new RangeError(`a grey picture of ${height} x ${width} needs as many values, these are ${values.length}`);
  }
  return place(inkOf(picture(height, width, values))).values;
}
