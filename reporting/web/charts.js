"use strict";
/** A curve of training: values at the pointer, or at the step that the arrow keys reach. */
const chart = (svg) => {
  const lines = data.charts[svg.dataset.chart];
  const places = [...svg.querySelectorAll(".line")].map((path) =>
    path.getAttribute("d").slice(1).split("L").map((point) => point.split(" ").map(Number)));
  const marks = [...svg.querySelectorAll(".mark")];
  const cursor = svg.querySelector(".cursor");
  const readout = svg.closest("figure").querySelector(".readout");
  const finest = places.reduce((best, line, i) => (line.length > places[best].length ? i : best), 0);
  const resting = [...readout.childNodes].map((node) => node.cloneNode(true));
  const ends = places.map((line) => line[line.length - 1]);
  let index = places[finest].length - 1;

  const nearest = (line, x) => line.reduce((best, point, i) => (Math.abs(point[0] - x) < Math.abs(line[best][0] - x) ? i : best), 0);
  const read = (at) => {
    index = Math.max(0, Math.min(places[finest].length - 1, at));
    const x = places[finest][index][0];
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    const words = [document.createTextNode(`step ${short(lines[finest].steps[index])}`)];
    lines.forEach((line, i) => {
      const near = nearest(places[i], x);
      marks[i].setAttribute("cx", places[i][near][0]);
      marks[i].setAttribute("cy", places[i][near][1]);
      words.push(Object.assign(document.createElement("span"), { className: line.name, textContent: short(line.values[near]) }));
    });
    readout.replaceChildren(...words);
    svg.classList.add("reading");
  };
  const rest = () => {
    svg.classList.remove("reading");
    index = places[finest].length - 1;
    readout.replaceChildren(...resting.map((node) => node.cloneNode(true)));
    marks.forEach((mark, i) => {
      mark.setAttribute("cx", ends[i][0]);
      mark.setAttribute("cy", ends[i][1]);
    });
  };
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    read(nearest(places[finest], ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width));
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", rest);
  svg.addEventListener("blur", rest);
  svg.addEventListener("keydown", (event) => {
    const stride = event.shiftKey ? 10 : 1;
    const move = { ArrowLeft: -stride, ArrowRight: stride }[event.key];
    if (!move) return;
    event.preventDefault();
    read(index + move);
  });
};
