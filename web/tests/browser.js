// A Chromium that a test in another language can drive: node tests/browser.js. Each line on stdin is {settings}, which
// opens an empty page with these settings of Playwright's newContext, or {code, data}: the body of an async function of
// (page, context, data). Each line on stdout is {value} or {error}. Requests to other hosts than the page's are counted
// in context.foreign.

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
  page.on("pageerror", (error) => context.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && context.errors.push(message.text()));
  context.on("request", (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith("http") && hostname !== "127.0.0.1") context.foreign.push(request.url());
  });
}

const AsyncFunction = (async () => {}).constructor;
for await (const line of createInterface({ input: process.stdin })) {
  const { code, data, settings } = JSON.parse(line);
  const work = settings ? begin(settings) : new AsyncFunction("page", "context", "data", code)(page, context, data);
  const late = new Promise((_, reject) => setTimeout(reject, 100_000, new Error("no answer in 100 seconds")).unref());
  const answer = await Promise.race([work, late]).then(
    (value) => ({ value }),
    (error) => ({ error: String(error.stack ?? error) }),
  );
  console.log(JSON.stringify(answer));
}
await browser.close();
