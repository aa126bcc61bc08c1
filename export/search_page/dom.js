// Elements, and questions to the page's program.

export const byId = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A name that may break after its slashes, dashes and underscores.
export function breakable(text) {
  const whole = document.createDocumentFragment();
  for (const part of text.split(/(?<=[/_-])/)) whole.append(part, make("wbr"));
  return whole;
}

export const frame = ([left, top, right, bottom], width = 1, height = 1) =>
  `M${left * width} ${top * height}H${right * width}V${bottom * height}H${left * width}z`;

export const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

let key = "";
export const keepKey = (given) => { key = given; };
export const thumbnail = (row) => `thumbnails/${row}.jpg?v=${key}`;
export const large = (row) => `photos/${row}.jpg?v=${key}`;

// An indexed photo, or a box that says that it is not there.
export function picture(source, alt) {
  const image = make("img", { src: source, alt, loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => {
    image.replaceWith(make("span", { className: "missing", role: "img", "aria-label": `${alt}; no photo` }, "no photo"));
  });
  return image;
}

// Asks, with a photo or without one; what went wrong is an Error whose message is a sentence.
export async function ask(path, parameters = {}, photo = null, signal = undefined) {
  const given = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null));
  let response, told;
  try {
    response = await fetch(`api/${path}?${given}`, photo ? { method: "POST", body: photo, signal } : { signal });
    told = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The page’s program does not answer; is pipelines.search_app still running?");
  }
  if (!response.ok) throw new Error(told.error);
  return told;
}
