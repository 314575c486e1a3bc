// The list of all photos: search, filter by decision, and open one to look at it or to change it.

import { debounced } from "/common/keys.js";

const $ = (id) => document.getElementById(id);
const PAUSE_MS = 200;  // after the last typed letter

export class PhotoList {
  #asked = 0;     // number of the latest request: an older answer is ignored
  #photos = [];

  // `request(path, body)` asks the server; `address(id)` is a photo's small picture; `open(photo)` shows a photo;
  // `words(photo)` describes its decision.
  constructor({ request, address, open, words, report }) {
    Object.assign(this, { request, address, open, words, report });
    $("search").addEventListener("input", debounced(() => this.#load(), PAUSE_MS));
    $("kind").addEventListener("change", () => this.#load());
    $("more").addEventListener("click", () => this.#load(this.#photos.length));
    $("close-list").addEventListener("click", () => $("list").close());
    $("rows").addEventListener("keydown", (event) => this.#walk(event));
  }

  get shown() { return $("list").open; }

  // Name the filters: [value, text] pairs.
  setKinds(kinds) {
    $("kind").replaceChildren(...kinds.map(([value, text]) => {
      const option = new Option(text, value);
      option.dataset.text = text;
      return option;
    }));
  }

  setCounts(counts) {
    for (const option of $("kind").options) {
      if (option.value in counts) option.textContent = `${option.dataset.text} (${counts[option.value]})`;
    }
  }

  // Open the list as it was left; `focus` is the id of the photo that was changed.
  async show(focus = null) {
    if (!this.shown) $("list").showModal();
    await this.#load(0, Math.max(1, this.#photos.length));
    const row = $("rows").querySelector(`[data-id="${focus}"]`);
    if (row) row.focus(); else $("search").focus();
  }

  async #load(start = 0, least = 1) {
    const number = ++this.#asked;
    const photos = start ? [...this.#photos] : [];
    const query = { text: $("search").value.slice(0, 100), kind: $("kind").value };
    let answer;
    try {
      do {
        answer = await this.request("/api/list", { ...query, start: photos.length });
        photos.push(...answer.photos);
      } while (answer.photos.length && photos.length < least);
    } catch (error) {
      $("found").textContent = error.message;
      return this.report(error);
    }
    if (number !== this.#asked) return;
    this.setCounts(answer.counts);
    $("found").textContent = `${answer.total} ${answer.total === 1 ? "photo" : "photos"}`;
    $("more").hidden = photos.length >= answer.total;
    this.#photos = photos;
    $("rows").replaceChildren(...photos.map((photo) => this.#row(photo)));
    if (start) $("rows").children[start]?.firstElementChild.focus();
  }

  #row(photo) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const picture = Object.assign(new Image(80, 60), { alt: "", loading: "lazy", src: this.address(photo.id) });
    const name = Object.assign(document.createElement("span"), { className: "row-name", textContent: photo.name });
    const decision = Object.assign(document.createElement("span"), { className: "row-decision", textContent: this.words(photo) });
    button.dataset.id = photo.id;
    button.append(picture, name, decision);
    button.onclick = () => { $("list").close(); this.open(photo); };
    const row = document.createElement("li");
    row.append(button);
    return row;
  }

  #walk(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = step && event.target.closest("li")?.[step];
    if (!next) return;
    event.preventDefault();
    next.firstElementChild.focus();
  }
}
