// The page: a drawing goes to the recognizer after each change, what comes back is listed.

import { EMPTY, isEmpty, ofImage, pictureOf, show, withStroke } from "./drawing.js";
import { followPen } from "./pen.js";
import { pixelsOf, readPicture } from "./picture.js";
import { buttonOfKey, copy, noteOf, showResults, spoken } from "./results.js";

const element = (id) => document.getElementById(id);
const canvas = element("drawing");
const list = element("results");
const recognizer = new Worker(new URL("recognizer.js", import.meta.url), { type: "module" });

const history = [EMPTY]; // the last one is what is seen
let underWay = null;
let asked = 0; // the number of the latest question; answers to earlier ones are out of date
let picture = null; // what it was about

const drawing = () => history.at(-1);

function paint() {
  show(canvas, drawing(), underWay, getComputedStyle(canvas).color);
}

function change(next) {
  history.push(next);
  changed();
}

function changed() {
  underWay = null;
  const empty = isEmpty(drawing());
  element("undo").disabled = history.length < 2;
  element("clear").disabled = empty;
  element("invitation").hidden = !empty;
  paint();
  asked++;
  if (document.body.dataset.state !== "broken") complain("");
  if (empty) showAnswer([], "", "");
  else ask(pixelsOf(pictureOf(drawing())));
}

function ask(pixels) {
  picture = pixels;
  recognizer.postMessage({ id: asked, ...pixels });
}

function undo() {
  if (history.length < 2) return;
  history.pop();
  changed();
}

function clear() {
  if (!isEmpty(drawing())) change(EMPTY);
}

function showAnswer(top, note, status) {
  showResults(list, top);
  element("hint").hidden = !top.length;
  element("note").textContent = note;
  element("note").hidden = !note;
  element("status").textContent = status;
}

function complain(message) {
  element("problem").textContent = message;
  element("problem").hidden = !message;
}

function showModel({ classes, source, script, accuracy, newWriters, bytes }) {
  const facts = {
    "model-script": script,
    "model-source": source,
    "model-size": `${(bytes / 1e6).toFixed(1)} MB`,
    "model-classes": `${classes.length.toLocaleString("en")} characters`,
    "model-accuracy": accuracy === undefined ? "not named" : `${accuracy.toFixed(1)} %`,
  };
  for (const [id, fact] of Object.entries(facts)) element(id).textContent = fact;
  if (!newWriters) element("accuracy-of").textContent = "Of samples it has not seen, it reads";
  element("licence").hidden = !source.includes("KanjiVG");
  document.body.dataset.state = "ready";
  element("invitation-text").textContent = "Draw one character";
}

recognizer.onmessage = ({ data }) => {
  const { id, model, error, logits, top, known, looksLike } = data;
  if (model) return showModel(model);
  if (error && id === undefined) {
    document.body.dataset.state = "broken";
    return complain(`The model cannot be used: ${error}.`);
  }
  if (id !== asked || document.body.dataset.state === "broken") return;
  if (error) return complain(`This could not be recognised: ${error}.`);
  const note = top.length ? noteOf(known, looksLike) : "";
  if (top.length) showAnswer(top, note, [`Likeliest: ${spoken(top)}.`, note].join(" ").trim());
  else showAnswer([], "", "There is nothing to recognise here.");
  document.dispatchEvent(new CustomEvent("recognized", { detail: { picture, logits, top, known, looksLike } }));
};
recognizer.onerror = () => {
  document.body.dataset.state = "broken";
  complain("The recogniser could not be started: this browser is too old, or files of the page are missing.");
};

async function openImage(file) {
  try {
    change(ofImage(await readPicture(file)));
  } catch (error) {
    complain(`${error.message}.`);
  }
}

async function copyResult(button) {
  const { character } = button.dataset;
  try {
    await copy(character);
    element("notice").textContent = `Copied ${character}`;
  } catch (error) {
    element("notice").textContent = `Not copied: ${error.message}`;
  }
  element("notice").classList.remove("shown");
  requestAnimationFrame(() => element("notice").classList.add("shown"));
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
element("clear").onclick = clear;
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
    if (key !== "z" || event.shiftKey) return;
    undo();
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
  else complain("What was pasted is not an image.");
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
  else complain("What was dropped is not an image file.");
});

new ResizeObserver(() => {
  canvas.width = canvas.height = Math.round(canvas.clientWidth * devicePixelRatio);
  paint();
}).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
