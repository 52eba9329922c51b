// A Chromium that a test in another language can drive: node tests/browser.js. Each line on stdin is {settings}, which
// opens an empty page with these settings of Playwright's newContext, or {code, data}: the body of an async function of
// (page, context, data, and the functions below). Each line on stdout is {value} or {error}. context.requests are the
// addresses that the page and its worker asked for, context.foreign those on other hosts than the page's.

import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ARGUMENTS,
  headless: true,
});
let context, page;

/** Leaves the page, with all that it kept, for an empty one that has nothing of it. */
async function begin(settings) {
  await context?.close();
  context = await browser.newContext(settings);
  page = await context.newPage();
  page.setDefaultTimeout(60_000);
  context.errors = [];
  context.foreign = [];
  context.requests = [];
  page.on("pageerror", (error) => context.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && context.errors.push(message.text()));
  page.on("websocket", (socket) => context.foreign.push(socket.url()));
  context.on("request", (request) => {
    context.requests.push(request.url());
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith("http") && hostname !== "127.0.0.1") context.foreign.push(request.url());
  });
}

/** Does something that changes the drawing; what the page answers once these events have come, one after the other. */
async function answerAfter(action, events = ["recognized"]) {
  await page.evaluate((names) => {
    const options = { capture: true, once: true };
    const next = (name) => new Promise((resolve) => document.addEventListener(name, resolve, options));
    const last = names.reduce((before, name) => before.then(() => next(name)), Promise.resolve());
    window.answer = last.then((event) => event.detail);
  }, events);
  await action();
  return page.evaluate(async () => {
    const text = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    const { picture, logits, top, known, looksLike } = await window.answer;
    const shape = [picture.height, picture.width, 4];
    return { pixels: text(picture.pixels), shape, logits: text(new Uint8Array(logits.buffer)), top, known, looksLike };
  });
}

async function placesOf(stroke) {
  const box = await page.locator("#drawing").boundingBox();
  return stroke.map(([x, y]) => ({ x: box.x + x * box.width, y: box.y + y * box.height }));
}

async function drawStroke(stroke) {
  const [first, ...others] = await placesOf(stroke);
  await page.mouse.move(first.x, first.y);
  await page.mouse.down();
  for (const { x, y } of others) await page.mouse.move(x, y);
  await page.mouse.up();
}

/** Draws strokes with the mouse; what the page answers to the last. */
async function draw(strokes) {
  for (const stroke of strokes.slice(0, -1)) await drawStroke(stroke);
  return answerAfter(() => drawStroke(strokes.at(-1)), ["pointerup", "recognized"]); // an earlier answer may be under way
}

/** Draws strokes with a finger. */
async function drawByFinger(strokes) {
  const session = await context.newCDPSession(page);
  const touch = (type, touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
  for (const stroke of strokes) {
    const [first, ...others] = await placesOf(stroke);
    await touch("touchStart", [first]);
    for (const place of others) await touch("touchMove", [place]);
    await touch("touchEnd", []);
  }
}

/** Pastes, drops or chooses a file. */
async function give({ event, base64, name }) {
  if (event === "choose") {
    return page.setInputFiles("#file", { name, mimeType: "image/png", buffer: Buffer.from(base64, "base64") });
  }
  return page.evaluate(({ event, base64, name }) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
    const details = { bubbles: true, cancelable: true };
    const made = event === "paste" ? new ClipboardEvent("paste", { ...details, clipboardData: transfer })
                                   : new DragEvent("drop", { ...details, dataTransfer: transfer });
    document.getElementById("drawing").dispatchEvent(made);
  }, { event, base64, name });
}

const TOOLS = { answerAfter, draw, drawStroke, drawByFinger, give };
const AsyncFunction = (async () => {}).constructor;
const perform = (code, data) =>
  new AsyncFunction("page", "context", "data", ...Object.keys(TOOLS), code)(page, context, data, ...Object.values(TOOLS));
for await (const line of createInterface({ input: process.stdin })) {
  const { code, data, settings } = JSON.parse(line);
  const work = settings ? begin(settings) : perform(code, data);
  const late = new Promise((_, reject) => setTimeout(reject, 100_000, new Error("no answer in 100 seconds")).unref());
  const answer = await Promise.race([work, late]).then(
    (value) => ({ value }),
    (error) => ({ error: String(error.stack ?? error) }),
  );
  console.log(JSON.stringify(answer));
}
await browser.close();
