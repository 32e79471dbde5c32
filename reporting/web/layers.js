"use strict";
/** Layers of both networks on plain arrays: weights float32, everything computed in float64, so that a draw depends on no rounding
 * of this page. Grids are [channels][height + 2][width + 2] with a border of zeros, flat. */

/** erf by its series of positive terms: exact to float64, and short where activations are, near 0. */
const erf = (x) => {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  let term = size, sum = size;
  for (let n = 1; term > sum * 1e-17; n++) {
    term *= (2 * size * size) / (2 * n + 1);
    sum += term;
  }
  return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * Math.exp(-size * size) * sum;
};
const gelu = (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2));
const silu = (x) => x / (1 + Math.exp(-x));

/** x Wᵀ + b of `rows` vectors that lie one after another; W is [out, in]. */
const linear = (x, rows, weight, bias) => {
  const wide = x.length / rows, outs = weight.length / wide;
  const y = new Float64Array(rows * outs);
  for (let o = 0, w = 0; o < outs; o++, w += wide) {
    for (let r = 0, at = 0; r < rows; r++, at += wide) {
      let a = 0, b = 0, c = 0, d = 0, i = 0; // four sums: their additions do not wait for each other
      for (; i + 3 < wide; i += 4) {
        a += weight[w + i] * x[at + i];
        b += weight[w + i + 1] * x[at + i + 1];
        c += weight[w + i + 2] * x[at + i + 2];
        d += weight[w + i + 3] * x[at + i + 3];
      }
      for (; i < wide; i++) a += weight[w + i] * x[at + i];
      y[r * outs + o] = a + b + c + d + (bias ? bias[o] : 0);
    }
  }
  return y;
};

/** LayerNorm of each row; without weights and with `root` RMSNorm. */
const rowNorm = (x, rows, weight, bias, root = false) => {
  const wide = x.length / rows, y = new Float64Array(x.length);
  const epsilon = root ? 2 ** -23 : 1e-5; // torch's: of RMSNorm the spacing of float32 at 1
  for (let at = 0; at < x.length; at += wide) {
    let mean = 0, square = 0;
    if (!root) for (let i = 0; i < wide; i++) mean += x[at + i] / wide;
    for (let i = 0; i < wide; i++) square += (x[at + i] - mean) ** 2 / wide;
    const scale = 1 / Math.sqrt(square + epsilon);
    for (let i = 0; i < wide; i++) {
      const value = (x[at + i] - mean) * scale;
      y[at + i] = weight ? value * weight[i] + bias[i] : value;
    }
  }
  return y;
};

/** Softmax in place of `count` numbers from `at` on. */
const softmax = (x, at, count) => {
  let most = -Infinity, sum = 0;
  for (let i = at; i < at + count; i++) most = Math.max(most, x[i]);
  for (let i = at; i < at + count; i++) sum += x[i] = Math.exp(x[i] - most);
  for (let i = at; i < at + count; i++) x[i] /= sum;
};

/** A grid of zeros. */
const emptyGrid = (channels, height, width) => ({ channels, height, width, values: new Float64Array(channels * (height + 2) * (width + 2)) });

/** Calls back with the place of each cell of a channel, row by row. */
const eachCell = ({ height, width }, channel, visit) => {
  const stride = width + 2, plane = (height + 2) * stride;
  for (let y = 0, cell = 0; y < height; y++) {
    for (let x = 0; x < width; x++, cell++) visit(channel * plane + (y + 1) * stride + x + 1, cell);
  }
};

/** GroupNorm (at least 4 channels per group, at most 32 groups), then a function of each value. */
const groupNorm = (grid, weight, bias, then = (value) => value) => {
  const groups = Math.max(1, Math.min(32, Math.floor(grid.channels / 4))), size = grid.channels / groups;
  const out = emptyGrid(grid.channels, grid.height, grid.width), count = size * grid.height * grid.width;
  for (let first = 0; first < grid.channels; first += size) {
    let sum = 0, square = 0;
    for (let c = first; c < first + size; c++) eachCell(grid, c, (at) => { sum += grid.values[at]; });
    const mean = sum / count;
    for (let c = first; c < first + size; c++) eachCell(grid, c, (at) => { square += (grid.values[at] - mean) ** 2; });
    const scale = 1 / Math.sqrt(square / count + 1e-6);
    for (let c = first; c < first + size; c++) {
      eachCell(grid, c, (at) => { out.values[at] = then((grid.values[at] - mean) * scale * weight[c] + bias[c]); });
    }
  }
  return out;
};

/** A 3 × 3 convolution with a border of zeros, or a 1 × 1 one; W is [out, in, k, k]. */
const convolve = (grid, weight, bias) => {
  const outs = bias.length, side = weight.length === outs * grid.channels ? 1 : 3;
  const out = emptyGrid(outs, grid.height, grid.width);
  const stride = grid.width + 2, plane = (grid.height + 2) * stride;
  const first = stride + 1, end = (grid.height + 1) * stride - 1; // rows lie one after another: one long inner loop
  for (let o = 0, w = 0; o < outs; o++) {
    const sum = out.values.subarray(o * plane, (o + 1) * plane);
    for (let c = 0; c < grid.channels; c++) {
      const from = grid.values.subarray(c * plane, (c + 1) * plane);
      for (let k = 0; k < side * side; k++, w++) {
        const value = weight[w], shift = side === 1 ? 0 : (Math.floor(k / 3) - 1) * stride + (k % 3) - 1;
        for (let at = first; at < end; at++) sum[at] += value * from[at + shift];
      }
    }
    for (let y = 1; y <= grid.height; y++) sum[y * stride] = sum[y * stride + stride - 1] = 0;
    eachCell(out, o, (at) => { out.values[at] += bias[o]; });
  }
  return out;
};

/** Adds a grid to another, in place. */
const addTo = (grid, other) => {
  for (let at = 0; at < grid.values.length; at++) grid.values[at] += other.values[at];
  return grid;
};

/** Cells as rows of features, [cells, channels]; and back. */
const toRows = (grid) => {
  const rows = new Float64Array(grid.channels * grid.height * grid.width);
  for (let c = 0; c < grid.channels; c++) eachCell(grid, c, (at, cell) => { rows[cell * grid.channels + c] = grid.values[at]; });
  return rows;
};
const toGrid = (rows, channels, height, width) => {
  const grid = emptyGrid(channels, height, width);
  for (let c = 0; c < channels; c++) eachCell(grid, c, (at, cell) => { grid.values[at] = rows[cell * channels + c]; });
  return grid;
};
