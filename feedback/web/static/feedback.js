// Everything works without this script. With it: keys, zoom, several photos with progress, drag and drop, paste.

import { Shortcuts } from "/common/keys.js";
import { Zoom } from "/common/zoom.js";

const shortcuts = new Shortcuts();
for (const element of document.querySelectorAll("[data-key]")) {
  shortcuts.add([element.dataset.key], () => element.click(), element);
}
const stage = document.getElementById("stage");
if (stage) new Zoom(stage, stage.querySelector("img")).keys(shortcuts);

document.getElementById("decide")?.addEventListener("submit", (event) => {
  const { target } = event;
  // A second press must not judge a photo that is not visible yet.
  if (target.dataset.sent) return event.preventDefault();
  target.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => { delete document.getElementById("decide")?.dataset.sent; });

const form = document.getElementById("upload");
if (form) {
  const said = document.getElementById("said");
  const input = document.getElementById("file");
  const csrf = form.elements.csrf.value;
  let busy = false;

  const add = (parent, name, text, more = {}) => {
    const element = Object.assign(document.createElement(name), more);
    if (text) element.textContent = text;
    parent.append(element);
    return element;
  };

  const send = (file) => new Promise((done) => {
    const card = add(document.getElementById("sent"), "li");
    const link = add(card, "a", "", { href: "#" });
    const picture = add(link, "img", "", { alt: "", src: URL.createObjectURL(file) });
    picture.onload = () => URL.revokeObjectURL(picture.src);
    const state = add(link, "b", "sending");
    add(link, "small", file.name);
    const bar = add(card, "progress", "", { max: 1, value: 0 });
    bar.setAttribute("aria-label", `Sending ${file.name}`);
    const body = new FormData();
    body.append("csrf", csrf);
    body.append("file", file, file.name || "photo");
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.timeout = 120_000;
    request.upload.onprogress = ({ loaded, total }) => { bar.value = total ? loaded / total : 0; };
    request.onloadend = async () => {
      bar.remove();
      const answer = request.response;
      if (request.status === 200 && answer?.url) {
        link.href = answer.url;
        const result = await (await fetch(answer.url, { headers: { Accept: "application/json" } })).json();
        state.textContent = `${result.label}${result.unsure ? " (unsure)" : ""}`;
        return done(answer.url);
      }
      state.textContent = answer?.error?.message ?? "the server does not answer: try again";
      link.removeAttribute("href");
      done(null);
    };
    request.send(body);
  });

  const sendAll = async (files) => {
    const photos = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
    if (!photos.length || busy) return;
    busy = true;
    const urls = [];
    for (const [index, file] of photos.entries()) {
      said.textContent = `Photo ${index + 1} of ${photos.length}`;
      urls.push(await send(file));
    }
    busy = false;
    input.value = "";
    const good = urls.filter(Boolean);
    said.textContent = `${good.length} of ${photos.length} uploaded.`;
    if (good.length === 1 && photos.length === 1) location.assign(good[0]);
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); sendAll(input.files); });
  input.addEventListener("change", () => sendAll(input.files));
  sendAll(input.files); // chosen before this script was loaded
  for (const name of ["dragover", "dragleave", "drop"]) {
    form.addEventListener(name, (event) => {
      event.preventDefault();
      form.classList.toggle("over", name === "dragover");
      if (name === "drop") sendAll(event.dataTransfer.files);
    });
  }
  document.addEventListener("paste", (event) => sendAll(event.clipboardData.files));
}
