"use strict";
/** The models that this page carries (reporting/carried.py): unpacked once, when the first picture is drawn. */
const unpackWeights = async (text, tensors) => {
  const binary = atob(text), deflated = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) deflated[i] = binary.charCodeAt(i);
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const counts = tensors.map(([, shape]) => shape.reduce((product, side) => product * side, 1));
  const total = (kind) => counts.reduce((sum, count, i) => sum + (tensors[i][2] === kind ? count : 0), 0);
  const singles = total("float32"), halves = total("float16");

  const whole = new Uint8Array(4 * singles); // bytes come sorted by significance
  for (let b = 0; b < 4; b++) for (let i = 0; i < singles; i++) whole[4 * i + b] = bytes[b * singles + i];
  const float32 = new Float32Array(whole.buffer), float16 = new Float32Array(halves), from = 4 * singles;
  for (let i = 0; i < halves; i++) float16[i] = fromHalf(bytes[from + i] + 256 * bytes[from + halves + i]);

  const models = { stackformer: {}, mqvae: {} }, at = { float32: 0, float16: 0 };
  tensors.forEach(([name, , kind], i) => {
    const [model, ...rest] = name.split(".");
    models[model][rest.join(".")] = (kind === "float32" ? float32 : float16).subarray(at[kind], at[kind] + counts[i]);
    at[kind] += counts[i];
  });
  return models;
};

/** A float16's bits as a number. */
const fromHalf = (bits) => {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
};
