"use strict";
/** Codes and positions → a picture (models/mqvae): fill the grid, de-mask, decode. `weights` by name; `config` as in config.json. */
const decodePicture = (weights, config, codes, positions) => {
  const get = (name) => weights[name];
  const side = config.image_size / (config.patch_size << (config.channel_multipliers.length - 1)), dim = config.code_dim;

  const normed = (prefix, grid, then) => groupNorm(grid, get(`${prefix}.weight`), get(`${prefix}.bias`), then);
  const conv = (prefix, grid) => convolve(grid, get(`${prefix}.weight`), get(`${prefix}.bias`));
  const resBlock = (prefix, grid) => {
    const hidden = conv(`${prefix}.conv1`, normed(`${prefix}.norm1`, grid, silu));
    const added = conv(`${prefix}.conv2`, normed(`${prefix}.norm2`, hidden, silu));
    return addTo(added, get(`${prefix}.shortcut.weight`) ? conv(`${prefix}.shortcut`, grid) : grid);
  };

  /** One head over all cells; `scale` weights each key before (renormalised) or after the softmax: Eq. 5-7. */
  const attention = (prefix, grid, scale, renormalised) => {
    const { channels, height, width } = grid, cells = height * width;
    const qkv = linear(toRows(normed(`${prefix}.norm`, grid)), cells, get(`${prefix}.to_qkv.weight`), get(`${prefix}.to_qkv.bias`));
    const heard = new Float64Array(cells * channels), weight = new Float64Array(cells);
    for (let q = 0; q < cells; q++) {
      for (let k = 0; k < cells; k++) {
        let sum = 0;
        for (let c = 0; c < channels; c++) sum += qkv[3 * q * channels + c] * qkv[(3 * k + 1) * channels + c];
        weight[k] = sum / Math.sqrt(channels) + (renormalised ? Math.log(scale[k]) : 0);
      }
      softmax(weight, 0, cells);
      for (let k = 0; k < cells; k++) {
        const share = renormalised ? weight[k] : weight[k] * scale[k];
        for (let c = 0; c < channels; c++) heard[q * channels + c] += share * qkv[(3 * k + 2) * channels + c];
      }
    }
    const out = linear(heard, cells, get(`${prefix}.to_out.weight`), get(`${prefix}.to_out.bias`));
    return addTo(toGrid(out, channels, height, width), grid);
  };

  const filled = () => {
    const rows = new Float64Array(side * side * dim);
    for (let cell = 0; cell < side * side; cell++) rows.set(get("mask_code_D"), cell * dim);
    codes.forEach((code, n) => rows.set(get("quantizer.codebook_KD").subarray(code * dim, (code + 1) * dim), positions[n] * dim));
    return toGrid(rows, dim, side, side);
  };

  const demask = (grid) => {
    if (config.demask === "none") return grid;
    const kept = new Set(positions), { demask: kind } = config;
    let trust = Float64Array.from({ length: side * side }, (_, cell) => (kept.has(cell) || kind === "sa" ? 1 : 0.02));
    for (let block = 0; block < config.demask_blocks; block++) {
      const next = resBlock(`demasker.res_blocks.${block}`, grid);
      grid = attention(`demasker.attentions.${block}`, next, trust, kind === "dcsa_renormalised");
      if (kind === "dcsa_update" || kind === "dcsa_renormalised") trust = trust.map(Math.sqrt); // (8)
    }
    return resBlock("demasker.last", grid);
  };

  const twice = (grid) => {
    const out = emptyGrid(grid.channels, 2 * grid.height, 2 * grid.width);
    for (let c = 0; c < grid.channels; c++) {
      const stride = grid.width + 2, plane = (grid.height + 2) * stride;
      eachCell(out, c, (at, cell) => {
        const y = Math.floor(cell / out.width) >> 1, x = (cell % out.width) >> 1;
        out.values[at] = grid.values[c * plane + (y + 1) * stride + x + 1];
      });
    }
    return out;
  };

  /** Every block of factor² channels becomes factor × factor cells. */
  const shuffled = (grid, factor) => {
    const out = emptyGrid(grid.channels / factor ** 2, grid.height * factor, grid.width * factor);
    const stride = grid.width + 2, plane = (grid.height + 2) * stride;
    for (let c = 0; c < out.channels; c++) {
      eachCell(out, c, (at, cell) => {
        const y = Math.floor(cell / out.width), x = cell % out.width;
        const from = c * factor ** 2 + (y % factor) * factor + (x % factor);
        out.values[at] = grid.values[from * plane + (Math.floor(y / factor) + 1) * stride + Math.floor(x / factor) + 1];
      });
    }
    return out;
  };

  // the layers of models/mqvae/autoencoder.py's Decoder are numbered in their order
  let layer = 0;
  const next = () => `decoder.${layer++}`;
  const ones = (grid) => new Float64Array(grid.height * grid.width).fill(1);
  let grid = conv(next(), demask(filled()));
  grid = resBlock(next(), grid);
  if (config.attention) grid = attention(next(), grid, ones(grid), false);
  grid = resBlock(next(), grid);
  const levels = config.channel_multipliers.length;
  for (let level = 0; level < levels; level++) {
    for (let block = 0; block <= config.res_blocks; block++) {
      grid = resBlock(next(), grid);
      if (config.attention && level === 0) grid = attention(next(), grid, ones(grid), false);
    }
    if (level < levels - 1) grid = conv(`${next()}.conv`, twice(grid));
  }
  grid = normed(next(), grid, silu);
  layer += 1; // SiLU, which has no weights
  grid = shuffled(conv(next(), grid), config.patch_size);
  layer += 1; // the shuffle
  if (config.refine) {
    grid.values = grid.values.map(silu);
    layer += 1;
    grid = conv(next(), grid);
  }
  const pixels = new Uint8ClampedArray(4 * grid.height * grid.width).fill(255);
  for (let c = 0; c < 3; c++) {
    eachCell(grid, c, (at, cell) => { pixels[4 * cell + c] = Math.round((Math.max(-1, Math.min(1, grid.values[at])) + 1) * 127.5); });
  }
  return new ImageData(pixels, grid.width, grid.height);
};
