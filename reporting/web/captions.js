"use strict";
/** A caption → its codes, as shards/text.py: NFC, lower case, byte-level BPE; cut or padded with 0 to `length`. */
const encodeCaption = (text, { vocab, merges }, length) => {
  const PAD = "<pad>";
  // GPT-2's letters for bytes: printable ones are themselves, the others follow from 256 on
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const letters = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte++) letters.push(String.fromCodePoint(printable(byte) ? byte : next++));
  const ranks = new Map(merges.map((pair, rank) => [pair, rank]));
  const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

  /** The pair that was learned first is merged wherever it is, until none is left. */
  const merged = (word) => {
    let parts = [...new TextEncoder().encode(word)].map((byte) => letters[byte]);
    for (;;) {
      let best = Infinity;
      for (let i = 0; i + 1 < parts.length; i++) best = Math.min(best, ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity);
      if (best === Infinity) return parts;
      const joined = [];
      for (let i = 0; i < parts.length; i++) {
        const pair = i + 1 < parts.length && ranks.get(`${parts[i]} ${parts[i + 1]}`) === best;
        joined.push(pair ? parts[i] + parts[++i] : parts[i]);
      }
      parts = joined;
    }
  };
  const encode = (piece) => {
    const plain = piece.normalize("NFC").toLowerCase();
    const words = (plain.startsWith(" ") ? plain : ` ${plain}`).match(WORDS) ?? [];
    return words.flatMap(merged).map((part) => vocab[part]);
  };
  // the pad's name, typed in a caption, is the pad
  const codes = text.split(PAD).flatMap((piece, i) => [...(i ? [vocab[PAD]] : []), ...(piece ? encode(piece) : [])]);
  return Array.from({ length }, (_, i) => codes[i] ?? 0);
};
