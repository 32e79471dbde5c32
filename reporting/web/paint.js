"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);

/** An element with properties. */
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

/** An SVG element with attributes. */
const draw = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  return node;
};

const picture = (uri) => make("img", { src: uri, alt: "" });

/** A number as the tables show it. */
const short = (value) => {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e-4 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
};

/** The colour map at a share of 0 … 1, [r, g, b] in 0 … 255. */
const colour = (share) => {
  const place = share * (data.colours.length - 1);
  const low = Math.min(Math.floor(place), data.colours.length - 2);
  return data.colours[low].map((value, i) => value + (place - low) * (data.colours[low + 1][i] - value));
};

const luma = (pixels, at) => 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];

/** Draw a picture on a canvas at its own size; `change` may alter each pixel. */
const paint = (canvas, source, change) => {
  const { naturalWidth: width, naturalHeight: height } = source;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0);
  if (!change) return;
  const image = context.getImageData(0, 0, width, height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) change(image.data, at, x, y);
  }
  context.putImageData(image, 0, 0);
};

/** Arrow keys as steps in a list: 0 for other keys. `columns` is the width of a row. */
const stepOf = (key, columns) => ({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns })[key] ?? 0;
