"use strict";
/** The part of the page that draws: controls → codes, one by one on the board → the picture; marked cells are drawn again. */
const drawing = () => {
  const { tensors, stackformer, mqvae, settings, tokenizer, tints } = data.draw;
  const { num_positions: cells, num_kept: count, condition } = stackformer;
  const side = Number(find("board").dataset.side);
  const tokens = new Map(), marked = new Set(); // position → code; positions
  let models = null, busy = false, focused = 0;

  // the board

  const board = Array.from({ length: cells }, (_, cell) => {
    const button = make("button", { type: "button", tabIndex: cell ? -1 : 0 });
    find("board").append(button);
    return button;
  });
  find("board").style.gridTemplateColumns = `repeat(${side}, minmax(0, 1fr))`;

  /** A code's colour: the mean of the cells that it was seen in, or one of its own. */
  const tintOf = (code) => {
    const seen = tints[code];
    if (seen) return [1, 3, 5].map((at) => parseInt(seen.slice(at, at + 2), 16));
    const hue = (360 * code) / stackformer.num_codes;
    return [0, 8, 4].map((n) => 255 * (0.72 - 0.18 * Math.max(-1, Math.min((n + hue / 30) % 12 - 3, 9 - ((n + hue / 30) % 12), 1))));
  };
  const paintCell = (cell, late = false) => {
    const button = board[cell], code = tokens.get(cell);
    const rgb = code === undefined ? null : tintOf(code);
    button.textContent = code ?? "";
    button.style.background = rgb ? `rgb(${rgb.map(Math.round).join(" ")})` : "";
    button.className = [rgb ? (luma(rgb, 0) > 140 ? "bright" : "dark") : "", late ? "late" : ""].join(" ").trim();
    button.setAttribute("aria-pressed", String(marked.has(cell)));
    const what = code === undefined ? "no code" : `code ${code}`;
    button.setAttribute("aria-label", `row ${Math.floor(cell / side) + 1}, column ${(cell % side) + 1}: ${what}`);
  };
  const paintBoard = () => {
    board.forEach((_, cell) => paintCell(cell));
    const inside = [...marked].filter((cell) => tokens.has(cell)).length;
    find("draw-count").textContent = marked.size ? `${inside} of ${tokens.size || count} in ${marked.size} marked cells` : `${tokens.size} of ${cells} cells`;
    find("draw-again").disabled = busy || !inside;
  };
  const mark = (chosen, on) => {
    chosen.forEach((cell) => (on ? marked.add(cell) : marked.delete(cell)));
    paintBoard();
  };
  const remark = (wanted) => {
    board.forEach((_, cell) => (wanted(cell) ? marked.add(cell) : marked.delete(cell)));
    paintBoard();
  };

  // drawing

  const number = (name) => Number(find(`draw-${name}`).value);
  const truncation = (of) => Object.fromEntries(["temperature", "top_k", "top_p"].map((name) => [name, number(`${of}-${name}`)]));
  const conditionOf = () => {
    if (condition === "class") return [number("class")];
    return condition === "text" ? encodeCaption(find("draw-caption").value, tokenizer, stackformer.condition_length) : [0];
  };
  const asked = () => ({
    condition: conditionOf(), guidance: number("guidance"), code: truncation("code"), position: truncation("position"), seed: number("seed"), index: number("index"),
    label: find("draw-class")?.selectedOptions[0].text, caption: find("draw-caption")?.value, example: Number(find("viewer")?.dataset.current),
  });
  const say = (text) => { find("draw-status").textContent = text; };
  const rest = (milliseconds = 0) => new Promise((done) => { setTimeout(done, milliseconds); });
  const paintPicture = (words) => {
    const positions = [...tokens.keys()].sort((a, b) => a - b);
    const image = decodePicture(models.mqvae, mqvae, positions.map((cell) => tokens.get(cell)), positions);
    const canvas = find("draw-picture");
    canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", words);
  };

  /** Draw the codes that do not stay, each shown as it comes, then the picture. */
  const generate = async (now, stays, free) => {
    const began = performance.now(), slowly = find("draw-slowly").checked;
    let shown = began;
    tokens.clear();
    stays.forEach((code, cell) => tokens.set(cell, code));
    paintBoard();
    for (const { code, position, fresh } of choosing(models.stackformer, stackformer, now, stays, free)) {
      tokens.set(position, code);
      paintCell(position, fresh);
      if (slowly && fresh) await rest(90);
      else if (performance.now() - shown > 30) {
        await rest(); // the browser shows what is there
        shown = performance.now();
      }
    }
    paintPicture(`A picture of ${count} codes`);
    find("draw-time").textContent = slowly ? "" : `${((performance.now() - began) / 1000).toFixed(2)} s`;
  };

  /** One task at a time, with the settings at its start: what is typed or chosen meanwhile is for the next. A failure is shown. */
  const run = async (task, next = 0) => {
    if (busy || !find("asking").reportValidity()) return;
    busy = true;
    if (next) find("draw-index").value = number("index") + next;
    find("drawing").setAttribute("aria-busy", "true");
    const controls = [...find("drawing").querySelectorAll(".go button, .tools button")];
    controls.forEach((button) => { button.disabled = true; });
    try {
      const now = asked();
      if (!models) {
        say("Unpacking the weights …");
        await rest();
        models = await unpackWeights(find("weights").textContent.trim(), tensors);
      }
      await task(now);
    } catch (error) {
      say(`This browser could not draw: ${error.message}`);
    }
    busy = false;
    find("drawing").setAttribute("aria-busy", "false");
    controls.forEach((button) => { button.disabled = false; });
    paintBoard();
  };

  const drawAll = (next) => run(async (now) => {
    say("Drawing …");
    marked.clear();
    await generate(now, new Map(), new Set(board.keys()));
    say(`Number ${now.index} of seed ${now.seed}: ${count} codes.`);
    find("draw-shell").textContent = shellLine(now);
    find("draw-file").textContent = `drawn/png/${String(now.index).padStart(8, "0")}.png`;
    find("draw-command").hidden = false;
  }, next);
  const drawMarked = () => run(async (now) => { // with the next number, so that codes differ from the picture's own
    say("Drawing the marked cells …");
    const stays = new Map([...tokens].filter(([cell]) => !marked.has(cell)));
    await generate(now, stays, new Set(marked));
    const behind = Math.max(-1, ...stays.keys()) > Math.min(...marked);
    const how = behind ? "each given what is before it, row by row" : "from the exact distribution given the rest";
    say(`${count - stays.size} codes drawn again with number ${now.index}, ${how}.`);
    find("draw-command").hidden = true;
  }, 1);
  const loadExample = () => run(async ({ example: index }) => {
    const example = data.examples[index];
    marked.clear();
    tokens.clear();
    example.kept.forEach((cell, n) => tokens.set(cell, example.codes[n]));
    const at = [...(find("draw-class")?.options ?? [])].findIndex((option) => option.text === example.label);
    if (at >= 0) find("draw-class").selectedIndex = at;
    paintPicture(`Held-out image ${index + 1}, painted from its codes`);
    find("draw-time").textContent = "";
    find("draw-command").hidden = true;
    say(`Held-out image ${index + 1}: mark what to draw again.`);
  });

  /** The command that draws the same picture; options that are the run's own are left out. */
  const shellLine = (now) => {
    const quoted = (text) => (/^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
    const words = ["python -m stages.sample"];
    if (condition === "class") words.push(`--class ${quoted(now.label)}`);
    if (condition === "text") words.push(`--prompt ${quoted(now.caption)}`);
    const set = (name, value, usual) => { if (value !== usual) words.push(`--set sample.${name}=${value}`); };
    set("seed", now.seed, null);
    set("num_images", Math.max(16, now.index + 1), condition === "none" ? null : 16);
    if (condition !== "none") set("guidance_scale", now.guidance, settings.guidance_scale);
    for (const of of ["code", "position"]) {
      for (const name of ["temperature", "top_k", "top_p"]) set(`${of}.${name}`, now[of][name], settings[of][name]);
    }
    if (condition === "none") words.push("--set sample.png_files=true");
    return `${words.join(" ")} --out drawn`;
  };

  // what the reader does

  const cellOf = (event) => board.indexOf(event.target.closest("button"));
  let drag = null; // a drag of the mouse: its pointer, whether it marks or unmarks, its last cell
  let pressed = -1; // the cell that the mouse's last press marked: the click that ends this press must not mark it again

  /** Cells on the straight line from one to another, the last included: a busy browser reports only some places of a fast mouse. */
  const between = (from, to) => {
    const row = Math.floor(from / side), column = from % side;
    const down = Math.floor(to / side) - row, right = (to % side) - column;
    const steps = Math.max(1, Math.abs(down), Math.abs(right));
    const at = (n) => Math.round(row + (down * n) / steps) * side + Math.round(column + (right * n) / steps);
    return Array.from({ length: steps }, (_, n) => at(n + 1));
  };
  document.addEventListener("pointerdown", (event) => {
    const cell = cellOf(event), mouse = event.pointerType === "mouse" && event.button === 0;
    pressed = mouse && !busy ? cell : -1;
    if (pressed < 0) return;
    drag = { pointer: event.pointerId, on: !marked.has(cell), last: cell };
    mark([cell], drag.on);
  });
  find("board").addEventListener("pointerover", (event) => {
    if (event.pointerId !== drag?.pointer) return;
    if (!(event.buttons & 1)) drag = null; // released outside the window
    const cell = cellOf(event);
    if (!drag || cell < 0) return;
    if (!busy) mark(drag.last < 0 ? [cell] : between(drag.last, cell), drag.on);
    drag.last = cell;
  });
  find("board").addEventListener("pointerleave", () => { if (drag) drag.last = -1; });
  for (const kind of ["pointerup", "pointercancel"]) {
    document.addEventListener(kind, (event) => { if (event.pointerId === drag?.pointer) drag = null; });
  }
  find("board").addEventListener("click", (event) => {
    const cell = cellOf(event), done = event.detail > 0 && cell === pressed; // a key's detail is 0
    if (done) pressed = -1;
    else if (cell >= 0 && !busy) mark([cell], !marked.has(cell)); // a key, a finger, a pen, assistive technology
  });
  find("board").addEventListener("focusin", (event) => {
    board[focused].tabIndex = -1;
    focused = Math.max(0, cellOf(event));
    board[focused].tabIndex = 0;
  });
  find("board").addEventListener("keydown", (event) => {
    const to = focused + stepOf(event.key, side);
    const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    if (to === focused || !board[to] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!sideways || Math.floor(to / side) === Math.floor(focused / side)) board[to].focus();
  });
  find("mark-lower").addEventListener("click", () => remark((cell) => cell >= side * Math.ceil(side / 2)));
  find("mark-invert").addEventListener("click", () => remark((cell) => !marked.has(cell)));
  find("mark-none").addEventListener("click", () => remark(() => false));
  find("asking").addEventListener("submit", (event) => {
    event.preventDefault();
    drawAll();
  });
  find("draw-next").addEventListener("click", () => drawAll(1));
  find("draw-again").addEventListener("click", drawMarked);
  find("draw-load")?.addEventListener("click", loadExample);

  find("draw-seed").value = settings.seed;
  find("draw-guidance").value = settings.guidance_scale;
  for (const of of ["code", "position"]) {
    for (const name of ["temperature", "top_k", "top_p"]) find(`draw-${of}-${name}`).value = settings[of][name];
  }
  paintBoard();
  find("draw-count").textContent = `${count} of ${cells} cells will have one`;
};
