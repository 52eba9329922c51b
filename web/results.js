// The list of likeliest characters, and copying one of them.

const KEYS = "1234567890";

const percent = (share) => (share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

function row({ character, probability }, index) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.character = character;
  button.setAttribute("aria-label", `${character}, ${percent(probability)}: copy`);
  button.title = `Copy ${character} (key ${KEYS[index]})`;
  button.style.setProperty("--share", probability);
  const part = (name, text, language) => {
    const span = Object.assign(document.createElement("span"), { className: name, textContent: text });
    if (language) span.lang = language;
    button.append(span);
  };
  part("character", character, "ja");
  part("percent", percent(probability));
  part("key", KEYS[index]);
  item.append(button);
  return item;
}

export function showResults(list, top) {
  list.replaceChildren(...top.map(row));
}

/** What a screen reader says of the results. */
export function spoken(top) {
  const parts = top.slice(0, 3).map(({ character, probability }) => `${character} ${percent(probability)}`);
  return parts.join(", ");
}

/** What there is to say beside the list: that it may be in vain, or what the first may be instead. */
export function noteOf(known, looksLike) {
  if (!known) return "Not one of these characters? The nearest are listed.";
  const alike = looksLike.map((character) => (/\p{scx=Katakana}/u.test(character) ? `katakana ${character}` : character));
  return alike.length ? `Looks like: ${alike.join(", ")}` : "";
}

export const buttonOfKey = (list, key) => list.querySelectorAll("button")[[...KEYS].indexOf(key)];

/** Browsers give a page its clipboard only over https and on localhost; elsewhere the old way is left. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
  const focused = document.activeElement;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus();
  if (!done) throw new Error("this browser lets no page copy here");
}
