"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);

  // ---- what the model keeps -------------------------------------------------------------------------------
  const colour = (share) => {
    const place = share * (data.colours.length - 1);
    const low = Math.min(Math.floor(place), data.colours.length - 2);
    return data.colours[low].map((value, i) => value + (place - low) * (data.colours[low + 1][i] - value));
  };
  const luma = (pixels, at) => 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];

  const paint = (name, source, width, height, change) => {
    const canvas = find(`panel-${name}`);
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

  const viewer = () => {
    let current = 0;
    const ranks = data.examples.map((example) => {
      const order = example.scores.map((_, cell) => cell).sort((a, b) => example.scores[b] - example.scores[a] || a - b);
      return order;
    });
    const pictures = data.examples.map((example) =>
      [example.input, example.reconstruction].map((uri) => Object.assign(new Image(), { src: uri })));
    const share = find("share");

    const keptCells = (example, count) =>
      new Set(count === example.kept.length ? example.kept : ranks[current].slice(0, count));

    const draw = () => {
      const example = data.examples[current];
      const [input, back] = pictures[current];
      if (!input.complete || !back.complete) return;
      const [rows, columns] = example.grid;
      const width = input.naturalWidth, height = input.naturalHeight;
      const cell = (x, y) => Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width);
      const low = Math.min(...example.scores), high = Math.max(...example.scores);
      const heat = example.scores.map((score) => colour(high > low ? (score - low) / (high - low) : 0));
      const count = Number(share.value);
      const kept = keptCells(example, count);
      paint("input", input, width, height);
      paint("importance", input, width, height, (pixels, at, x, y) => {
        const grey = luma(pixels, at), tint = heat[cell(x, y)];
        for (let i = 0; i < 3; i++) pixels[at + i] = data.heat * tint[i] + (1 - data.heat) * grey;
      });
      paint("kept", input, width, height, (pixels, at, x, y) => {
        if (kept.has(cell(x, y))) return;
        pixels.fill(data.faded * luma(pixels, at) + (1 - data.faded) * data.fog, at, at + 3);
      });
      paint("reconstruction", back, back.naturalWidth, back.naturalHeight);
      const cells = example.scores.length;
      find("which").textContent = `${current + 1} / ${data.examples.length}${example.label ? ` · ${example.label}` : ""}`;
      find("which").title = example.key;
      find("about-kept").textContent = `${count} of ${cells} cells`;
      find("about-reconstruction").textContent = `${example.psnr.toFixed(1)} dB`;
      find("share-text").textContent = `${Math.round((100 * count) / cells)} %${count === example.kept.length ? ", the model's" : ""}`;
      find("reset").disabled = count === example.kept.length;
      [...find("thumbs").children].forEach((button, i) => button.setAttribute("aria-current", String(i === current)));
    };

    const show = (index) => {
      const count = data.examples.length;
      current = (index + count) % count;
      draw();
    };

    data.examples.forEach((example, i) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.setAttribute("aria-label", `Image ${i + 1}${example.label ? `, ${example.label}` : ""}`);
      button.append(Object.assign(new Image(), { src: example.input, alt: "" }));
      button.addEventListener("click", () => show(i));
      find("thumbs").append(button);
    });
    pictures.flat().forEach((picture) => picture.addEventListener("load", draw));
    find("previous").addEventListener("click", () => show(current - 1));
    find("next").addEventListener("click", () => show(current + 1));
    share.addEventListener("input", draw);
    find("reset").addEventListener("click", () => {
      share.value = data.examples[current].kept.length;
      draw();
    });
    document.addEventListener("keydown", (event) => {
      const busy = event.target.closest("input, select, textarea, .chart, .scroll, .groups");
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (busy || !step || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      show(current + step);
    });
    draw();
  };

  // ---- what it makes --------------------------------------------------------------------------------------
  const filters = () => {
    const items = [...find("wall").children];
    const only = (label) => {
      items.forEach((item) => { item.hidden = label !== null && item.dataset.label !== label; });
      find("shown-count").textContent = items.filter((item) => !item.hidden).length;
    };
    const buttons = [...document.querySelectorAll("#filters button")];
    buttons.forEach((button) => button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      only("all" in button.dataset ? null : button.dataset.label);
    }));
    const select = find("filter-select");
    if (select) {
      select.addEventListener("change", () => only(select.selectedIndex ? select.selectedOptions[0].dataset.label : null));
    }
  };

  // ---- curves ---------------------------------------------------------------------------------------------
  const short = (value) => {
    const size = Math.abs(value);
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return size >= 1e-4 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
  };

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

  if (data.examples.length) viewer();
  filters();
  document.querySelectorAll(".chart").forEach(chart);
})();
