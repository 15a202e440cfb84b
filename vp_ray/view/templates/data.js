// Chunks of data as scripts: a page that is opened from a file may load scripts and pictures, and nothing else.
"use strict";

const KEPT_CHUNKS = 128;
const chunks = new Map();
const waiting = new Map();
const taken = new Map();

/** Called by every chunk with its name and content. */
function vpTake(name, value) {
  const resolve = waiting.get(name);
  waiting.delete(name);
  if (resolve) resolve(value);
  else taken.set(name, value);
}

/** The content of a chunk; read once and kept while it is among those used last. */
function chunk(name) {
  let found = chunks.get(name);
  if (found) {
    chunks.delete(name);
  } else if (taken.has(name)) {
    found = Promise.resolve(taken.get(name));
    taken.delete(name);
  } else {
    found = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      waiting.set(name, resolve);
      script.src = `data/${name}.js`;
      script.onload = () => script.remove();
      script.onerror = () => {
        waiting.delete(name);
        chunks.delete(name);
        script.remove();
        reject(new Error(`data/${name}.js cannot be read. Is vp-ray view still running?`));
      };
      document.head.append(script);
    });
  }
  chunks.set(name, found);
  if (chunks.size > KEPT_CHUNKS) chunks.delete(chunks.keys().next().value);
  return found;
}

const ARRAYS = { Uint8Array, Uint16Array, Int16Array, Uint32Array };

/** Packed columns by name as typed arrays. */
function unpacked(columns) {
  const arrays = {};
  for (const [name, { kind, data }] of Object.entries(columns)) {
    const text = atob(data);
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
    arrays[name] = new ARRAYS[kind](bytes.buffer);
  }
  return arrays;
}

/** An element with properties and children; text is always text, never markup. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
