"use strict";
/** The random numbers of `sample`, to the bit: an image's seed is a hash (workspace/exact/seeds.py), its numbers are torch's. */

/** BLAKE2b (RFC 7693) without a key of a text of at most 128 bytes, 8 bytes long: a BigInt, big-endian as Python reads it. */
const blake2b = (text) => {
  const MASK = (1n << 64n) - 1n;
  const START = [
    0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
    0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
  ];
  const ORDER = [
    "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
    "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
  ];
  const MIXED = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15], [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];
  const bytes = new TextEncoder().encode(text);
  const block = new Uint8Array(128);
  block.set(bytes);
  const words = new BigUint64Array(block.buffer);
  const state = [...START, ...START];
  state[0] ^= 0x01010008n; // no key, 8 bytes
  const first = state[0];
  state[12] ^= BigInt(bytes.length);
  state[14] ^= MASK; // the only block is the last
  const turn = (value, by) => ((value >> by) | (value << (64n - by))) & MASK;
  for (let round = 0; round < 12; round++) {
    const order = ORDER[round % 10];
    MIXED.forEach(([a, b, c, d], i) => {
      const half = (word, by, then) => {
        state[a] = (state[a] + state[b] + words[parseInt(order[word], 16)]) & MASK;
        state[d] = turn(state[d] ^ state[a], by);
        state[c] = (state[c] + state[d]) & MASK;
        state[b] = turn(state[b] ^ state[c], then);
      };
      half(2 * i, 32n, 24n);
      half(2 * i + 1, 16n, 63n);
    });
  }
  const digest = new DataView(new ArrayBuffer(8));
  digest.setBigUint64(0, first ^ state[0] ^ state[8], true);
  return digest.getBigUint64(0, false);
};

/** The seed of picture `index` under a seed: `sample_seed(seed, 0, index, "sample")`, a BigInt below 2⁶³. */
const sampleSeed = (seed, index) => blake2b(`${seed}/0/${index}/sample`) >> 1n;

/** Uniform numbers in [0, 1) as `torch.rand(…, dtype=float64)` draws them on a CPU: MT19937, 53 bits of two words each. */
const uniforms = (seed, count) => {
  const SIZE = 624, state = new Uint32Array(SIZE);
  state[0] = Number(seed & 0xffffffffn); // torch takes the low 32 bits
  for (let i = 1; i < SIZE; i++) {
    const before = state[i - 1] ^ (state[i - 1] >>> 30);
    state[i] = Math.imul(1812433253, before) + i;
  }
  let at = SIZE;
  const word = () => {
    if (at === SIZE) {
      for (let i = 0; i < SIZE; i++) {
        const bits = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
        state[i] = state[(i + 397) % SIZE] ^ (bits >>> 1) ^ (bits & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
  return Float64Array.from({ length: count }, () => {
    const high = word() & 0x1fffff; // 21 of its bits, then the 32 of the next: the low 53 of 64
    return (high * 4294967296 + word()) * 2 ** -53;
  });
};
