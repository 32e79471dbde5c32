"use strict";
/** The codebook: a chosen code, and the cells of the examples that were written as it. */
const codebook = () => {
  const MOST = 28, AROUND = 1, SIDE = 72;
  const svg = find("scatter");
  const dots = [...svg.querySelectorAll(".dot")];
  const pictures = data.examples.map((example) => picture(example.input));
  const places = new Map();
  data.examples.forEach((example, i) => example.codes.forEach((code, n) => {
    if (!places.has(code)) places.set(code, []);
    places.get(code).push([i, example.kept[n]]);
  }));
  let current = 0;

  /** A cell with its surroundings, framed. */
  const patch = ([index, position]) => {
    const { grid: [rows, columns], key } = data.examples[index];
    const image = pictures[index];
    const width = image.naturalWidth / columns, height = image.naturalHeight / rows;
    const left = ((position % columns) - AROUND) * width, top = (Math.floor(position / columns) - AROUND) * height;
    const canvas = make("canvas", { width: SIDE, height: SIDE, title: key });
    const context = canvas.getContext("2d"), span = 2 * AROUND + 1;
    context.imageSmoothingEnabled = image.naturalWidth > 64;
    context.drawImage(image, left, top, span * width, span * height, 0, 0, SIDE, SIDE);
    context.lineWidth = 3;
    context.strokeStyle = "#000";
    context.strokeRect(SIDE / span, SIDE / span, SIDE / span, SIDE / span);
    context.lineWidth = 1;
    context.strokeStyle = "#fff";
    context.strokeRect(SIDE / span, SIDE / span, SIDE / span, SIDE / span);
    return canvas;
  };

  const show = (index) => {
    current = (index + dots.length) % dots.length;
    const { code, share } = dots[current].dataset;
    dots.forEach((dot, i) => dot.classList.toggle("chosen", i === current));
    const found = places.get(Number(code)) ?? [];
    const used = share ? `, ${share} % of use` : "";
    const count = found.length > MOST ? `${MOST} of ${found.length} cells` : `${found.length} ${found.length === 1 ? "cell" : "cells"}`;
    find("code-text").textContent = `code ${code}${used}: ${count} in the examples`;
    find("patches").replaceChildren(...found.slice(0, MOST).map(patch));
  };

  svg.addEventListener("pointerover", (event) => {
    const index = dots.indexOf(event.target);
    if (index >= 0) show(index);
  });
  svg.addEventListener("keydown", (event) => {
    const step = stepOf(event.key, 1);
    if (!step) return;
    event.preventDefault();
    show(current + step);
  });
  if (dots.length) Promise.all(pictures.map((image) => image.decode())).then(() => show(current)); // which the reader may have chosen meanwhile
};
