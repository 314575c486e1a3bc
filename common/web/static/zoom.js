// Enlarges the photo in a stage: click or double tap, wheel, pinch, drag, buttons, and keys.
//
//   const zoom = new Zoom(stage, image);       stage: an element of class "stage" around the image
//   zoom.keys(shortcuts);                      + - 0, and the arrows while the photo is enlarged
//   zoom.reset();                              when another photo is shown
//
// The photo is moved by a transform, so nothing else on the page moves.

const MOST = 12;
const STEP = 1.5;
const CLICK = 3;          // a click shows three times the size
const DRAG_PIXELS = 4;    // less is a click

export class Zoom {
  #scale = 1; #x = 0; #y = 0;
  #pointers = new Map();
  #moved = false;

  constructor(stage, image) {
    Object.assign(this, { stage, image });
    this.#addButtons();
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => this.#up(event));
    image.draggable = false;
    image.addEventListener("click", (event) => this.#click(event));
    addEventListener("resize", () => this.reset());
  }

  get active() { return this.#scale > 1; }

  reset() { this.#place(1, 0, 0); }

  by(factor, at = this.#middle()) {
    const scale = Math.min(MOST, Math.max(1, this.#scale * factor));
    const grown = scale / this.#scale;
    this.#place(scale, at.x - (at.x - this.#x) * grown, at.y - (at.y - this.#y) * grown);
  }

  pan(x, y) { this.#place(this.#scale, this.#x + x, this.#y + y); }

  // Add the keys of zoom. While the photo is enlarged the arrows move it; else `arrowright` does `otherwise`.
  keys(shortcuts, otherwise = {}) {
    shortcuts.add(["+", "=", "equal"], () => this.by(STEP), this.buttons.in);
    shortcuts.add(["-", "minus"], () => this.by(1 / STEP), this.buttons.out);
    shortcuts.add(["0"], () => this.reset(), this.buttons.fit);
    const ways = { arrowleft: [1, 0], arrowright: [-1, 0], arrowup: [0, 1], arrowdown: [0, -1] };
    for (const [key, [x, y]] of Object.entries(ways)) {
      const move = () => this.pan(x * this.stage.clientWidth / 5, y * this.stage.clientHeight / 5);
      shortcuts.add([key], () => this.active ? move() : (otherwise[key] ?? (() => false))());
    }
  }

  #addButtons() {
    const bar = document.createElement("div");
    bar.className = "zoom";
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Zoom");
    const kinds = [["out", "−", "Zoom out", "-"], ["fit", "fit", "Show the whole photo", "0"], ["in", "+", "Zoom in", "+"]];
    this.buttons = Object.fromEntries(kinds.map(([name, sign, label, key]) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: sign, title: `${label} (${key})` });
      button.setAttribute("aria-label", label);
      button.setAttribute("aria-keyshortcuts", key);
      bar.append(button);
      return [name, button];
    }));
    this.buttons.out.onclick = () => this.by(1 / STEP);
    this.buttons.fit.onclick = () => this.reset();
    this.buttons.in.onclick = () => this.by(STEP);
    this.stage.append(bar);
  }

  #wheel(event) {
    if (event.deltaY > 0 && !this.active) return;  // the page may scroll
    event.preventDefault();
    this.by(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), this.#at(event));
  }

  #click(event) {
    if (this.#moved) return;
    if (this.active) this.reset(); else this.by(CLICK, this.#at(event));
  }

  #down(event) {
    if (event.target !== this.image) return;
    if (!this.#pointers.size) this.#moved = false;
    this.#pointers.set(event.pointerId, this.#at(event));
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#at(event);
    const others = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    if (!others.length && !this.#moved && distance(before, now) < DRAG_PIXELS) return;
    if (!this.#moved) this.stage.setPointerCapture(event.pointerId);  // not earlier: the stage would get the click
    this.#moved = true;
    this.#pointers.set(event.pointerId, now);
    if (others.length) this.by(distance(others[0], now) / Math.max(1, distance(others[0], before)), others[0]);
    else if (this.active) this.pan(now.x - before.x, now.y - before.y);
  }

  #up(event) { this.#pointers.delete(event.pointerId); }

  #at({ clientX, clientY }) {
    const box = this.stage.getBoundingClientRect();
    return { x: clientX - box.left, y: clientY - box.top };
  }

  #middle() { return { x: this.stage.clientWidth / 2, y: this.stage.clientHeight / 2 }; }

  #place(scale, x, y) {
    this.#scale = scale < 1.01 ? 1 : scale;
    const least = 1 - this.#scale;
    this.#x = Math.min(0, Math.max(least * this.stage.clientWidth, x));
    this.#y = Math.min(0, Math.max(least * this.stage.clientHeight, y));
    this.image.style.transform = this.active ? `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})` : "";
    this.stage.classList.toggle("zoomed", this.active);
  }
}

function distance(one, other) { return Math.hypot(one.x - other.x, one.y - other.y); }
