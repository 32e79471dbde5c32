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
  const mark = (cell, on) => {
    if (on) marked.add(cell);
    else marked.delete(cell);
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
  const generate = async (stays, free) => {
    const began = performance.now(), slowly = find("draw-slowly").checked;
    let shown = began;
    tokens.clear();
    stays.forEach((code, cell) => tokens.set(cell, code));
    paintBoard();
    for (const { code, position, fresh } of choosing(models.stackformer, stackformer, asked(), stays, free)) {
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

  /** One task at a time; a failure is shown. */
  const run = async (task) => {
    if (busy || !find("asking").reportValidity()) return;
    busy = true;
    find("drawing").setAttribute("aria-busy", "true");
    const controls = [...find("asking").querySelectorAll("button"), find("draw-again")];
    controls.forEach((button) => { button.disabled = true; });
    try {
      if (!models) {
        say("Unpacking the weights …");
        await rest();
        models = await unpackWeights(find("weights").textContent.trim(), tensors);
      }
      await task();
    } catch (error) {
      say(`This browser could not draw: ${error.message}`);
    }
    busy = false;
    find("drawing").setAttribute("aria-busy", "false");
    controls.forEach((button) => { button.disabled = false; });
    paintBoard();
  };

  const drawAll = () => run(async () => {
    say("Drawing …");
    marked.clear();
    await generate(new Map(), new Set(board.keys()));
    say(`Number ${number("index")} of seed ${number("seed")}: ${count} codes.`);
    find("draw-shell").textContent = shellLine();
    find("draw-file").textContent = `drawn/png/${String(number("index")).padStart(8, "0")}.png`;
    find("draw-command").hidden = false;
  });
  const drawMarked = () => run(async () => {
    find("draw-index").value = number("index") + 1; // other numbers than those of the picture itself
    say("Drawing the marked cells …");
    const stays = new Map([...tokens].filter(([cell]) => !marked.has(cell)));
    await generate(stays, new Set(marked));
    const behind = Math.max(-1, ...stays.keys()) > Math.min(...marked);
    const how = behind ? "each given what is before it, row by row" : "from the exact distribution given the rest";
    say(`${count - stays.size} codes drawn again with number ${number("index")}, ${how}.`);
    find("draw-command").hidden = true;
  });
  const loadExample = () => run(async () => {
    const index = Number(find("viewer").dataset.current), example = data.examples[index];
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
  const shellLine = () => {
    const quoted = (text) => (/^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
    const words = ["python -m stages.sample"];
    if (condition === "class") words.push(`--class ${quoted(find("draw-class").selectedOptions[0].text)}`);
    if (condition === "text") words.push(`--prompt ${quoted(find("draw-caption").value)}`);
    const set = (name, value, usual) => { if (value !== usual) words.push(`--set sample.${name}=${value}`); };
    const now = asked();
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

  let painting = null; // whether a drag of the mouse marks or unmarks
  const cellOf = (event) => board.indexOf(event.target.closest("button"));
  find("board").addEventListener("pointerdown", (event) => {
    const cell = cellOf(event);
    if (cell < 0 || busy || event.pointerType !== "mouse") return;
    painting = !marked.has(cell);
    mark(cell, painting);
  });
  find("board").addEventListener("pointerover", (event) => {
    const cell = cellOf(event);
    if (painting !== null && cell >= 0 && !busy) mark(cell, painting);
  });
  document.addEventListener("pointerup", () => setTimeout(() => { painting = null; }));
  find("board").addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (cell >= 0 && painting === null && !busy) mark(cell, !marked.has(cell)); // keys and fingers
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
  find("draw-next").addEventListener("click", () => {
    find("draw-index").value = number("index") + 1;
    drawAll();
  });
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
