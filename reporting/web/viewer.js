"use strict";
/** Held-out images: what the model scores, keeps and paints back, at the number of cells that the slider says. */
const viewer = () => {
  const NAMES = ["input", "importance", "kept", "reconstruction"];
  const panels = Object.fromEntries(NAMES.map((name) => [name, find(`panel-${name}`)]));
  const frames = [...document.querySelectorAll("#panels .cell")];
  const slider = find("share");
  const pictures = data.examples.map((example) => ({
    input: picture(example.input),
    made: example.made.map((made) => picture(made.image)),
  }));
  let current = 0;
  let pointed = null;

  const example = () => data.examples[current];
  const cellAt = (x, y, width, height) => {
    const [rows, columns] = example().grid;
    return Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width);
  };
  /** Which stored reconstruction is from the number of cells nearest to `count`. */
  const nearestMade = (count) => {
    const gaps = example().made.map((made) => Math.abs(made.count - count));
    return gaps.indexOf(Math.min(...gaps));
  };

  const drawPanels = (count) => {
    const { scores, order } = example();
    const { input, made } = pictures[current];
    const low = Math.min(...scores), high = Math.max(...scores);
    const heat = scores.map((score) => colour(high > low ? (score - low) / (high - low) : 0));
    const kept = new Set(order.slice(0, count));
    const cell = (x, y) => cellAt(x, y, input.naturalWidth, input.naturalHeight);
    paint(panels.input, input);
    paint(panels.importance, input, (pixels, at, x, y) => {
      const grey = luma(pixels, at), tint = heat[cell(x, y)];
      for (let i = 0; i < 3; i++) pixels[at + i] = data.heat * tint[i] + (1 - data.heat) * grey;
    });
    paint(panels.kept, input, (pixels, at, x, y) => {
      if (kept.has(cell(x, y))) return;
      pixels.fill(data.faded * luma(pixels, at) + (1 - data.faded) * data.fog, at, at + 3);
    });
    paint(panels.reconstruction, made[nearestMade(count)]);
  };

  const drawQuality = (count) => {
    const { made, scores } = example();
    const svg = find("quality"), width = 1000, height = 100;
    const values = made.map((one) => one.psnr);
    const low = Math.min(...values), high = Math.max(...values);
    const x = (n) => (width * (n - 1)) / Math.max(1, scores.length - 1);
    const y = (value) => (high > low ? 88 - (76 * (value - low)) / (high - low) : 50);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    const points = made.map((one) => `${x(one.count)},${y(one.psnr)}`).join(" ");
    svg.replaceChildren(
      draw("line", { class: "now", x1: x(count), x2: x(count), y1: 0, y2: height }),
      draw("polyline", { class: "psnr", points }),
      ...made.map((one, i) => draw("line", {
        class: i === nearestMade(count) ? "stop chosen" : "stop", x1: x(one.count), x2: x(one.count), y1: y(one.psnr), y2: y(one.psnr),
      })));
  };

  const tell = (count) => {
    const { scores, order, kept, label, key, made } = example();
    const shown = made[nearestMade(count)];
    find("which").textContent = `${current + 1} / ${data.examples.length}${label ? ` · ${label}` : ""}`;
    find("which").title = key;
    find("about-kept").textContent = `${count} of ${scores.length} cells`;
    find("about-reconstruction").textContent = `${shown.psnr.toFixed(1)} dB`;
    const threshold = scores[order[count - 1]];
    find("share-text").textContent = `${count}, mask ratio ${Math.round(100 * (1 - count / scores.length))} %, threshold ${threshold.toFixed(3)}`;
    const trained = shown.count === kept.length ? ", as trained" : "";
    const stored = shown.count === count ? "" : ", the nearest that is stored";
    find("source").textContent = `reconstruction from ${shown.count} cells${trained}${stored}`;
    find("reset").disabled = count === kept.length;
    slider.setAttribute("aria-valuetext", `${count} of ${scores.length} cells`);
  };

  /** Frame the pointed cell in every panel, and say what is known of it. */
  const tellCell = () => {
    const { grid: [rows, columns], scores, order, kept, codes } = example();
    frames.forEach((frame) => { frame.hidden = pointed === null; });
    if (pointed === null) {
      find("cell-text").textContent = "Point at a cell to read it out.";
      return;
    }
    const row = Math.floor(pointed / columns), column = pointed % columns;
    frames.forEach(({ style }) => {
      style.left = `${(100 * column) / columns}%`;
      style.top = `${(100 * row) / rows}%`;
      style.width = `${100 / columns}%`;
      style.height = `${100 / rows}%`;
    });
    const at = kept.indexOf(pointed);
    const fate = at < 0 ? "dropped" : `kept as code ${codes[at]}`;
    find("cell-text").textContent = `row ${row + 1}, column ${column + 1}: importance ${scores[pointed].toFixed(3)}, number ${order.indexOf(pointed) + 1} of ${scores.length}; as trained, ${fate}`;
  };

  const drawAll = () => {
    const { input, made } = pictures[current];
    const count = Number(slider.value);
    if (![input, made[nearestMade(count)]].every((image) => image.complete)) return;
    drawPanels(count);
    drawQuality(count);
    tell(count);
    tellCell();
  };

  const show = (index) => {
    current = (index + data.examples.length) % data.examples.length;
    find("viewer").dataset.current = current;
    [...find("thumbs").children].forEach((button, i) => {
      button.setAttribute("aria-current", String(i === current));
      button.tabIndex = i === current ? 0 : -1;
    });
    if (find("thumbs").contains(document.activeElement)) find("thumbs").children[current].focus();
    drawAll();
  };

  const moveCell = (key) => {
    const [rows, columns] = example().grid;
    const row = pointed === null ? Math.floor(rows / 2) : Math.floor(pointed / columns);
    const column = pointed === null ? Math.floor(columns / 2) : pointed % columns;
    const down = { ArrowUp: -1, ArrowDown: 1 }[key] ?? 0, right = { ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0;
    pointed = ((row + down + rows) % rows) * columns + ((column + right + columns) % columns);
    tellCell();
  };

  data.examples.forEach((one, i) => {
    const button = make("button", { type: "button" });
    button.setAttribute("aria-label", `Image ${i + 1}${one.label ? `, ${one.label}` : ""}`);
    button.append(picture(one.input));
    button.addEventListener("click", () => show(i));
    find("thumbs").append(button);
  });
  pictures.flatMap(({ input, made }) => [input, ...made]).forEach((image) => image.addEventListener("load", drawAll));
  find("previous").addEventListener("click", () => show(current - 1));
  find("next").addEventListener("click", () => show(current + 1));
  slider.addEventListener("input", drawAll);
  find("reset").addEventListener("click", () => {
    slider.value = example().kept.length;
    drawAll();
  });
  const point = (event) => {
    const box = event.target.getBoundingClientRect();
    const inside = (value, size) => Math.max(0, Math.min(size - 1e-6, value));
    pointed = cellAt(inside(event.clientX - box.left, box.width), inside(event.clientY - box.top, box.height), box.width, box.height);
    tellCell();
  };
  Object.values(panels).forEach((canvas) => {
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
  });
  find("panels").addEventListener("pointerleave", () => {
    pointed = null;
    tellCell();
  });
  document.addEventListener("keydown", (event) => {
    const busy = event.target.closest("input, select, textarea, .chart, .scatter, .wall, .board, .scroll, .groups");
    const key = event.key.startsWith("Arrow") ? event.key : "";
    if (busy || !key || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.shiftKey) moveCell(key);
    else if (key === "ArrowLeft" || key === "ArrowRight") show(current + stepOf(key, 0));
    else return;
    event.preventDefault();
  });
  show(0);
};
