// A Chromium that a test in another language can drive: node tests/browser.js PROFILE_DIR [width height scheme].
// Each line on stdin is {code, data}: the body of an async function of (page, context, data); each line on stdout is
// {value} or {error}. Requests to other hosts than the page's are counted in context.strangers.

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

const context = await chromium.launchPersistentContext(process.argv[2], {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ARGUMENTS,
  headless: true,
  ...JSON.parse(process.argv[3] ?? "{}"),
});
const page = context.pages()[0];
page.setDefaultTimeout(60_000);
context.errors = [];
context.strangers = [];
page.on("pageerror", (error) => context.errors.push(String(error)));
page.on("console", (message) => message.type() === "error" && context.errors.push(message.text()));
context.on("request", (request) => {
  const { protocol, hostname } = new URL(request.url());
  if (protocol.startsWith("http") && hostname !== "127.0.0.1") context.strangers.push(request.url());
});

const AsyncFunction = (async () => {}).constructor;
for await (const line of createInterface({ input: process.stdin })) {
  const { code, data } = JSON.parse(line);
  const answer = await new AsyncFunction("page", "context", "data", code)(page, context, data).then(
    (value) => ({ value }),
    (error) => ({ error: String(error.stack ?? error) }),
  );
  console.log(JSON.stringify(answer));
}
await context.close();
