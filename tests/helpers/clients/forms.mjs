// Node.js's fetch sends rows of docs/api.md's table of request forms, and prints {row: [status, answer]}.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const photo = readFileSync(process.env.PHOTO);
const base64 = photo.toString("base64");
const jpeg = new Blob([photo], { type: "image/jpeg" });
const json = { "Content-Type": "application/json" };

function form(...fields) {
  const body = new FormData();
  for (const field of fields) body.append(...field);
  return { body };
}

const requests = {
  "one photo": { headers: json, body: JSON.stringify({ image_id: "1", image_base64: base64 }) },
  "URL-safe base64": { headers: json, body: JSON.stringify({ image_base64: photo.toString("base64url") }) },
  "a Node.js Buffer": { headers: json, body: JSON.stringify(photo) },
  "a Buffer as image_base64": { headers: json, body: JSON.stringify({ image_base64: photo }) },
  "a typed array": { headers: json, body: JSON.stringify(new Uint8Array(photo)) },
  "a list of numbers": { headers: json, body: JSON.stringify([...photo]) },
  "JSON in a JSON string": { headers: json, body: JSON.stringify(JSON.stringify({ image_base64: base64 })) },
  "text instead of a photo": { headers: json, body: JSON.stringify({ image_base64: `${jpeg}` }) },
  "a photo": { headers: { "Content-Type": "image/jpeg" }, body: photo },
  "a photo without a type": { body: photo },
  gzip: { headers: { ...json, "Content-Encoding": "gzip" }, body: gzipSync(JSON.stringify({ image_base64: base64 })) },
  "a file": form(["photo", jpeg, "photo.jpg"], ["image_id", "1"], ["detail", "true"]),
  "two files": form(["front", jpeg, "a.jpg"], ["back", jpeg, "b.jpg"]),
  "two files with one name": form(["images", jpeg, "a.jpg"], ["images", jpeg, "b.jpg"]),
  "a file and JSON": form(["meta", new Blob(['{"tags": [1, 2]}'], { type: "application/json" })], ["photo", jpeg]),
  "a file called image_base64": form(["image_base64", jpeg]),
  "base64 in a form": form(["image_base64", base64]),
  "no file": form(["user", "bob"]),
  "a form without a boundary": { headers: { "Content-Type": "multipart/form-data" }, body: photo },
  "urlencoded base64": { body: new URLSearchParams({ image_base64: base64 }) },
};

const answers = {};
for (const [name, { headers, body }] of Object.entries(requests)) {
  const answer = await fetch(process.env.ADDRESS, {
    method: "POST",
    headers: { ...headers, Authorization: `Bearer ${process.env.TOKEN}` },
    body,
  });
  answers[name] = [answer.status, await answer.json()];
}
console.log(JSON.stringify(answers));
