// Shows photos one after the other.

// Show the photo at `url` in an <img>. Resolves to whether the browser could display it, or to null if the image was
// given another photo meanwhile.
export function display(image, url, alt) {
  image.hidden = false;
  image.alt = alt;
  return new Promise((resolve) => {
    const settle = (shown) => resolve(image.getAttribute("src") === url ? shown : null);
    image.onload = () => settle(true);
    image.onerror = () => settle(false);
    image.src = url;
  });
}

// Load a photo that is probably shown next, so that it appears at once. `url` may be null.
export function preload(url) {
  if (url) new Image().src = url;
}

// Why the server does not deliver a photo: the message of its answer `{"error": {"code", "message"}}`.
export async function reasonOf(url) {
  try {
    const answer = await fetch(url);
    return answer.ok ? "the browser cannot display it" : (await answer.json()).error.message;
  } catch {
    return "the server does not answer";
  }
}
