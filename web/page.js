// The page: a drawing goes to the recognizer after each change, what comes back is listed.

import { EMPTY, isDot, isEmpty, ofImage, pictureOf, show, withStroke } from "./drawing.js";
import { accuracies, describedModel, drawable, reads, trainedOn, warningOf } from "./facts.js";
import { followPen } from "./pen.js";
import { pixelsOf, readPicture } from "./picture.js";
import { buttonOfKey, copy, noteOf, showResults, spoken } from "./results.js";
import { askCharacter, download, fileName } from "./saving.js";

const ONLY_A_DOT = "Only a dot so far: draw a whole character.";
const PICTURE_OF_A_DOT = "This picture shows only a dot. Choose one of a whole character.";
const BLANK =
  "This picture is blank: there is nothing to read. " +
  "Choose one of a character in dark ink on light paper, or in light ink on dark.";
const REMEDY =
  "If this is your site, run “npm run build” again and copy all of dist/ to it. " +
  "Otherwise reload the page, or come back later.";

const element = (id) => document.getElementById(id);
const isBroken = () => document.body.dataset.state === "broken";
const canvas = element("drawing");
const list = element("results");
const recognizer = new Worker(new URL("recognizer.js", import.meta.url), { type: "module" });

const history = [EMPTY]; // the last one is what is seen
const undone = []; // the last one is the next to come back
let underWay = null;
let asked = 0; // the number of the latest question; answers to earlier ones are out of date
let picture = null; // what it was about

const drawing = () => history.at(-1);

function paint() {
  show(canvas, drawing(), underWay, getComputedStyle(canvas).color);
}

function change(next) {
  history.push(next);
  undone.length = 0;
  changed();
}

function changed() {
  underWay = null;
  const empty = isEmpty(drawing());
  element("undo").disabled = history.length < 2;
  element("redo").disabled = !undone.length;
  element("clear").disabled = empty;
  element("save").disabled = !drawing().strokes.length;
  element("invitation").hidden = !empty;
  paint();
  asked++;
  if (isBroken()) return;
  if (empty) showAnswer([]);
  else if (isDot(drawing())) showAnswer([], { note: drawing().image ? PICTURE_OF_A_DOT : ONLY_A_DOT });
  else ask(pixelsOf(pictureOf(drawing())));
}

function ask(pixels) {
  picture = pixels;
  recognizer.postMessage({ id: asked, ...pixels });
}

function undo() {
  if (history.length < 2) return;
  undone.push(history.pop());
  changed();
}

function redo() {
  if (!undone.length) return;
  history.push(undone.pop());
  changed();
}

function clear() {
  if (!isEmpty(drawing())) change(EMPTY);
}

/** Writes a text where it is shown, and shows that place only if there is one. */
function write(id, text) {
  element(id).textContent = text;
  element(id).hidden = !text;
}

/** Lists the likeliest characters, or says why there are none. */
function showAnswer(top, { note = "", problem = "" } = {}) {
  showResults(list, top);
  write("note", note);
  write("problem", problem);
  element("hint").hidden = !top.length;
  element("waiting").hidden = Boolean(top.length || note || problem);
  element("status").textContent = [top.length ? `Likeliest: ${spoken(top)}.` : "", note].join(" ").trim();
}

const complain = (problem) => showAnswer([], { problem });

/** Says once, and until the page is loaded again, why it reads nothing. */
function fail(problem) {
  if (isBroken()) return;
  document.body.dataset.state = "broken";
  complain(problem);
}

/** Says why what was given cannot be read; an undo brings back what was drawn before. */
function refuse(problem) {
  if (isEmpty(drawing())) changed();
  else change(EMPTY);
  if (!isBroken()) complain(problem);
}

function showModel(model, about) {
  element("model-classes").textContent = reads(model.classes);
  element("model-accuracy").innerText = accuracies(model, about).join("\n");
  element("model-name").textContent = describedModel(model, about);
  element("model-source").textContent = trainedOn(model);
  element("licence").hidden = !model.source.includes("KanjiVG");
  write("warning", warningOf(model));
  document.body.dataset.state = "ready";
  element("invitation-text").textContent = `Draw one ${drawable(model.classes)}`;
}

recognizer.onmessage = ({ data }) => {
  const { id, model, about, error, logits, top, known, looksLike } = data;
  if (model) return showModel(model, about);
  if (error && id === undefined) return fail(`The model cannot be used: ${error}. ${REMEDY}`);
  if (id !== asked || isBroken()) return;
  if (error) return complain(`This could not be read: ${error}.`);
  if (top.length) showAnswer(top, { note: noteOf(known, looksLike) });
  else complain(BLANK);
  document.dispatchEvent(new CustomEvent("recognized", { detail: { picture, logits, top, known, looksLike } }));
};
recognizer.onerror = () =>
  fail(`The model cannot be used: this browser is too old, or recognizer.js is missing. ${REMEDY}`);

async function openImage(file) {
  try {
    change(ofImage(await readPicture(file)));
  } catch (error) {
    refuse(error.message);
  }
}

function notify(text) {
  element("notice").textContent = text;
  element("notice").classList.remove("shown");
  requestAnimationFrame(() => element("notice").classList.add("shown"));
}

async function copyResult(button) {
  const { character } = button.dataset;
  try {
    await copy(character);
    notify(`Copied ${character}`);
  } catch (error) {
    notify(`Not copied: ${error.message}`);
  }
}

/** Saves the drawing under the character that the person names, and makes room for the next. */
async function save() {
  if (!drawing().strokes.length) return;
  try {
    const character = askCharacter(list.querySelector("button")?.dataset.character ?? "");
    if (!character) return;
    const name = fileName(character);
    await download(pictureOf(drawing()), name);
    clear();
    notify(`Saved ${name}`);
  } catch (error) {
    notify(`Not saved: ${error.message}`);
  }
}

followPen(
  canvas,
  (points) => {
    underWay = points;
    element("invitation").hidden = true;
    paint();
  },
  (points) => (points ? change(withStroke(drawing(), points)) : changed()),
);

element("undo").onclick = undo;
element("redo").onclick = redo;
element("clear").onclick = clear;
element("save").onclick = save;
element("open").onclick = () => element("file").click();
element("file").onchange = ({ target }) => {
  if (target.files.length) openImage(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
};
list.onclick = ({ target }) => target.closest("button") && copyResult(target.closest("button"));

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  const button = buttonOfKey(list, key);
  if (event.altKey || event.repeat) return;
  if (event.ctrlKey || event.metaKey) {
    if (key === "y" || (key === "z" && event.shiftKey)) redo();
    else if (key === "z") undo();
    else if (key === "s") save();
    else return;
  } else if (["escape", "delete", "backspace"].includes(key)) clear();
  else if (button) copyResult(button);
  else return;
  event.preventDefault();
});

/** The first image among the files of a paste or a drop, or else whatever file there is, to be complained of. */
function imageIn(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find(({ type }) => type.startsWith("image/")) ?? files[0];
}

document.addEventListener("paste", ({ clipboardData }) => {
  const file = imageIn(clipboardData);
  if (file) openImage(file);
  else refuse("What was pasted is not an image. Copy an image of one character, then paste it here.");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = imageIn(event.dataTransfer);
  if (file) openImage(file);
  else refuse("What was dropped is not an image file. Drop a PNG or JPEG file of one character.");
});

new ResizeObserver(() => {
  canvas.width = canvas.height = Math.round(canvas.clientWidth * devicePixelRatio);
  paint();
}).observe(canvas);
document.body.dataset.state = "loading";
element("invitation-text").textContent = "Loading the model …";
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
