// Saving a drawing as a file named by its character, as scripts/prepare_dataset.py --images and scripts/adapt.py take it.

/** The character that is drawn, as the person says; `guess` is what is offered. Null where nothing is to be saved. */
export function askCharacter(guess) {
  const answer = prompt("Which character did you draw?", guess);
  if (answer === null) return null;
  const character = answer.normalize("NFC").trim();
  if (!/^[^\x00-\x7f]$/u.test(character)) throw new Error("give the one Japanese character that you drew");
  return character;
}

/** A name that no other drawing has: 漢_20261129_084512.png. */
export function fileName(character, when = new Date()) {
  const local = new Date(when - when.getTimezoneOffset() * 60_000).toISOString();
  return `${character}_${local.slice(0, 10)}_${local.slice(11, 19)}.png`.replaceAll(/[-:]/g, "");
}

/** Gives a canvas to the browser as a PNG file to download. */
export async function download(canvas, name) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it later
}
