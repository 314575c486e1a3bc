// Keyboard shortcuts that work on every keyboard layout.
//
//   const shortcuts = new Shortcuts({ enabled: () => checkbox.checked, busy: () => page.busy });
//   shortcuts.add(["z"], undo, undoButton);
//
// A shortcut has a short name of its key: a character ("z", "+", "1") or a named key ("enter", "arrowright"). Keys are
// ignored while somebody types, with Ctrl, Alt or Meta, and while `busy`. A held key acts once.

const FLASH_MS = 180;

export class Shortcuts {
  #byKey = new Map();

  constructor({ enabled = () => true, busy = () => false } = {}) {
    Object.assign(this, { enabled, busy });
    document.addEventListener("keydown", (event) => this.#handle(event));
    // A button that was clicked with a mouse keeps no focus: Enter is a shortcut there, and would press it again.
    document.addEventListener("click", (event) => { if (event.detail) event.target.closest?.("button")?.blur(); }, true);
  }

  // `act` may return false: the key then keeps its meaning in the browser. `element`, if any, flashes.
  add(keys, act, element = null) {
    for (const key of keys) this.#byKey.set(key, { act, element });
  }

  clear() { this.#byKey.clear(); }

  // The key's own character if it is a Latin letter or a shortcut, else the character of its place on a US keyboard: on
  // a French keyboard the key of 1 gives "&", on a Russian or Korean one the key of Z gives another letter. In the row
  // of digits the digit goes first, if it is a shortcut: there the French 6 gives "-", and the Czech 1 gives "+".
  #name({ key, code }) {
    const character = key.toLowerCase();
    const digit = /^Digit(.)$/.exec(code)?.[1];
    if (this.#byKey.has(digit)) return digit;
    if (this.#byKey.has(character) || /^[a-z]$/.test(character)) return character;
    return code.replace(/^(Key|Digit|Numpad)(?=.$)/, "").toLowerCase();
  }

  #handle(event) {
    // A field of a dialog that has just been closed keeps the focus until the next frame: nobody types there any more.
    const typing = event.target.matches?.("input:not([type=checkbox]), textarea, select") && event.target.checkVisibility();
    if (typing || !this.enabled() || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.defaultPrevented || document.querySelector("dialog:modal")) return;
    const name = this.#name(event);
    if (name === "enter" && event.target.matches?.("button, a, summary")) return;  // it presses that
    const shortcut = this.#byKey.get(name);
    if (!shortcut) return;
    if (event.repeat || this.busy()) return event.preventDefault();
    if (shortcut.act() === false) return;
    event.preventDefault();
    shortcut.element?.classList.add("hit");
    setTimeout(() => shortcut.element?.classList.remove("hit"), FLASH_MS);
  }
}

// Call `act` once, `ms` after the last of several calls.
export function debounced(act, ms) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(act, ms); };
}
