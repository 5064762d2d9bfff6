// Small steps on the page.

/** Return the element with an id. */
export const byId = (id) => document.getElementById(id);

/** Return a new element with properties and children (elements or text). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name.startsWith("data-") || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Change text only where it is another: a screen reader and the layout stay quiet. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return a number with fixed decimals, or a dash for none. */
export function number(value, decimals = 1, unit = "") {
  return Number.isFinite(value) ? `${value.toFixed(decimals)}${unit && ` ${unit}`}` : "–";
}

/** Return the colour of a variable of colours.css. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Return a 2D context whose units are CSS pixels, cleared. */
export function clearedContext(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Draw a JPEG into a canvas, keeping its shape. */
export async function drawPicture(canvas, blob) {
  const picture = await createImageBitmap(blob);
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
}
