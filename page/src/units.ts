// Numbers as text, in the words of `cnnscope/render/units.py`; test/units.test.ts compares the two.

const SI = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const;
const BINARY = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]] as const;

/** 11,689,512 */
export const integer = (value: number): string => value.toLocaleString("en-US");

/** 1.814 G; below a thousand the number itself. */
export function si(value: number, digits = 3): string {
  for (const [scale, prefix] of SI) {
    if (value >= scale - scale / 2 / 10 ** (digits + 3)) {
      return `${(value / scale).toFixed(digits)} ${prefix}`;
    }
  }
  return String(value);
}

/** 118.0 M, 1.03 G: for a column. */
export const short = (value: number): string => si(value, value >= 1e9 ? 2 : 1);

/** 44.6 MiB */
export function bytes(value: number): string {
  for (const [scale, unit] of BINARY) {
    if (value >= scale - scale / 20480) return `${(value / scale).toFixed(1)} ${unit}`;
  }
  return `${value} B`;
}

/** 25.5 %; nothing of nothing is nothing. */
export const percent = (part: number, whole: number): string =>
  whole && part ? `${((100 * part) / whole).toFixed(1)} %` : "";

/** +184,512 or −513,000; nothing for no difference. */
export const signed = (value: number, written: (value: number) => string = integer): string =>
  value ? `${value < 0 ? "\u2212" : "+"}${written(Math.abs(value))}` : "";

/** 64×56×56; a scalar has no sizes. */
export const shape = (sizes: readonly number[]): string => sizes.join("\u00d7") || "scalar";

/** A shape without a batch of one. */
export const perSample = (sizes: readonly number[]): string =>
  shape(sizes.length > 1 && sizes[0] === 1 ? sizes.slice(1) : sizes);

/** 3x3 with a sign for times between numbers. */
export const times = (text: string): string => text.replace(/(\d)x(?=\d)/g, "$1\u00d7");

const TIMES = [[1e9, "s"], [1e6, "ms"], [1e3, "\u00b5s"], [1, "ns"]] as const;

/** 23.41 ms: four digits. */
export function duration(ns: number): string {
  const [scale, unit] = TIMES.find(([at]) => ns >= 0.99995 * at) ?? [1, "ns"];
  const value = ns / scale, whole = String(Math.trunc(value * 1.00005)).length;
  return `${value.toFixed(Math.max(4 - whole, 0))} ${unit}`;
}

/** A value with its unit: bytes for memory, a duration for time, else a count. */
export const cost = (key: string, value: number): string =>
  key === "activation_bytes" ? bytes(value) : key === "time" ? duration(value) : short(value);
