"use strict";
/** A Stackformer in the middle of its sequence (models/sampling/state.py): rows are the conditioned one, then, under guidance, the
 * unconditioned one. Keys and values of the past are kept. */

/** Attention of a token, or of several that do not see each other, to the kept past and to itself.
 *
 * `past` holds keys and values per place; `qkv` [tokens][3][heads][size]. Returns [tokens, width].
 */
const attend = (tokens, width, heads, query, key, value, past) => {
  const size = width / heads, out = new Float64Array(tokens * width), places = past.length + 1;
  const weights = new Float64Array(places);
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads; h++) {
      const at = t * width + h * size;
      const score = (keys, from) => {
        let sum = 0;
        for (let e = 0; e < size; e++) sum += query[at + e] * keys[from + e];
        return sum / Math.sqrt(size);
      };
      for (let s = 0; s < places - 1; s++) weights[s] = score(past[s].key, h * size);
      weights[places - 1] = score(key, at);
      softmax(weights, 0, places);
      for (let s = 0; s < places; s++) {
        const values = s < places - 1 ? past[s].value : value, from = s < places - 1 ? h * size : at;
        for (let e = 0; e < size; e++) out[at + e] += weights[s] * values[from + e];
      }
    }
  }
  return out;
};

/** One row of a stack of blocks: gpt or modern (models/stackformer/transformer.py), a token at a time. */
class Transformer {
  constructor(weights, prefix, network, layers, positions) {
    Object.assign(this, { weights, prefix, network, layers, positions });
    this.past = Array.from({ length: layers }, () => []);
  }

  /** Outputs of tokens [tokens, width] at cells `place`; kept for later tokens where `keep` (one token then). */
  step(u, tokens, place, keep) {
    const modern = this.network.block === "modern";
    let x = modern ? rowNorm(u, tokens, null, null, true) : u, first = null;
    for (let layer = 0; layer < this.layers; layer++) {
      const name = (part) => this.weights[`${this.prefix}.blocks.${layer}.${part}`];
      [x, first] = modern ? this.modern(x, tokens, place, keep, name, layer, first) : [this.gpt(x, tokens, keep, name, layer), null];
    }
    const norm = (part) => this.weights[`${this.prefix}.norm.${part}`];
    return modern ? rowNorm(x, tokens, null, null, true) : rowNorm(x, tokens, norm("weight"), norm("bias"));
  }

  gpt(x, tokens, keep, name, layer) {
    const { width } = this.network;
    const normed = rowNorm(x, tokens, name("attention_norm.weight"), name("attention_norm.bias"));
    const heard = this.hear(linear(normed, tokens, name("attention.to_qkv.weight"), name("attention.to_qkv.bias")), tokens, keep, layer);
    const added = linear(heard, tokens, name("attention.to_out.weight"), name("attention.to_out.bias"));
    const y = added.map((value, i) => value + x[i]);
    const wide = linear(rowNorm(y, tokens, name("mlp_norm.weight"), name("mlp_norm.bias")), tokens, name("widen.weight"), name("widen.bias"));
    const narrow = linear(wide.map(gelu), tokens, name("narrow.weight"), name("narrow.bias"));
    return y.map((value, i) => value + narrow[i]);
  }

  modern(x, tokens, place, keep, name, layer, first) {
    const qkv = linear(rowNorm(x, tokens, null, null, true), tokens, name("to_qkv.weight"));
    const { width, heads } = this.network, size = width / heads, mix = name("mix_2");
    const values = new Float64Array(tokens * width);
    for (let t = 0; t < tokens; t++) {
      for (const part of [0, 1]) {
        for (let h = 0; h < heads; h++) this.turn(qkv, t * 3 * width + part * width + h * size, size, place);
      }
      for (let i = 0; i < width; i++) {
        const at = t * 3 * width + 2 * width + i;
        if (first) qkv[at] = mix[0] * qkv[at] + mix[1] * first[t * width + i];
        values[t * width + i] = qkv[at];
      }
    }
    const added = linear(this.hear(qkv, tokens, keep, layer), tokens, name("to_out.weight"));
    const y = added.map((value, i) => value + x[i]);
    const wide = linear(rowNorm(y, tokens, null, null, true), tokens, name("widen.weight")).map((value) => Math.max(0, value) ** 2);
    const narrow = linear(wide, tokens, name("narrow.weight"));
    return [y.map((value, i) => value + narrow[i]), first ?? values];
  }

  /** Normalise a query or key and turn its pairs of features by the row and the column of a cell. */
  turn(qkv, at, size, place) {
    const normed = rowNorm(qkv.slice(at, at + size), 1, null, null, true);
    const side = Math.round(Math.sqrt(this.positions)), wide = side * side === this.positions ? side : this.positions;
    const [row, column] = place === this.positions ? [-1, -1] : [Math.floor(place / wide), place % wide];
    const pairs = size / 2, half = Math.floor(pairs / 2);
    for (let e = 0; e < pairs; e++) {
      const angle = (e < half ? row : column) / 100 ** ((e % half) / half);
      const cos = Math.fround(Math.cos(angle)), sin = Math.fround(Math.sin(angle)); // torch keeps them in float32
      qkv[at + e] = normed[e] * cos - normed[e + pairs] * sin;
      qkv[at + e + pairs] = normed[e] * sin + normed[e + pairs] * cos;
    }
  }

  hear(qkv, tokens, keep, layer) {
    const { width, heads } = this.network;
    const part = (which) => {
      const found = new Float64Array(tokens * width);
      for (let t = 0; t < tokens; t++) found.set(qkv.subarray((3 * t + which) * width, (3 * t + which + 1) * width), t * width);
      return found;
    };
    const [query, key, value] = [part(0), part(1), part(2)];
    const heard = attend(tokens, width, heads, query, key, value, this.past[layer]);
    if (keep) this.past[layer].push({ key, value });
    return heard;
  }
}

/** The next logits, given all codes and positions so far. `weights` by name; `config` as in config.json; `condition` the condition's codes. */
class Generating {
  constructor(weights, config, condition, guidance) {
    Object.assign(this, { weights, config, guidance, step: 0 });
    const guided = guidance !== 1 && config.condition !== "none";
    const none = condition.map(() => (config.condition === "none" ? 0 : config.condition_vocab));
    this.rows = (guided ? [condition, none] : [condition]).map((codes) => this.begin(codes));
  }

  row(table, index) {
    const { width } = this.config.network;
    return this.weights[table].subarray(index * width, (index + 1) * width);
  }

  embed(code, place, time) {
    const parts = [this.row("e_c.weight", code), this.row("e_p.weight", place), this.row("e_t.weight", time)];
    return Float64Array.from(parts[0], (value, i) => value + parts[1][i] + parts[2][i]);
  }

  begin(condition) {
    const { network, num_codes: codes, num_positions: positions } = this.config;
    const made = (prefix, layers) => new Transformer(this.weights, prefix, network, layers, positions);
    const row = { code: made("code_transformer", network.code_layers), position: made("position_transformer", network.position_layers), place: positions };
    condition.forEach((code, time) => { row.hidden = row.code.step(this.embed(codes + code, positions, time), 1, positions, true); });
    return row;
  }

  guide(logits) {
    const [given, none] = logits;
    return none ? given.map((value, i) => none[i] + this.guidance * (value - none[i])) : given;
  }

  codeLogits() {
    return this.guide(this.rows.map((row) => linear(row.hidden, 1, this.weights["code_head.weight"])));
  }

  /** Logits of the positions of these codes, [codes, positions]; of a single one, with `keep`, what later steps attend to. */
  positionLogits(codes, keep) {
    const { network, num_positions: positions } = this.config;
    if (!network.position_layers) {
      return Float64Array.from({ length: codes.length * positions }, (_, i) => (i % positions === this.step ? 0 : -Infinity));
    }
    return this.guide(this.rows.map((row) => {
      const u = new Float64Array(codes.length * network.width);
      codes.forEach((code, t) => u.set(row.hidden.map((value, i) => value + this.row("e_c.weight", code)[i]), t * network.width));
      return linear(row.position.step(u, codes.length, row.place, keep), codes.length, this.weights["position_head.weight"]);
    }));
  }

  advance(code, position) {
    const time = this.config.condition_length + this.step;
    this.step += 1;
    for (const row of this.rows) {
      row.place = position;
      row.hidden = row.code.step(this.embed(code, position, time), 1, position, true);
    }
  }
}
