// The block of JSON that the page holds: `cnnscope/render/page_html/block.py` writes it.
// What is left out has the value 0, "", false or nothing.

import type { GraphData } from "./graph";

export const SCHEMA = 1;

export type Shape = readonly number[];

/** Topic, arithmetic, value, formula, note; empty ones at the end are left out. */
export type Step = readonly string[];

/** size, local size, size of the shortest path (null: all of the axis), stride, padding, smallest
 *  and largest field within the input, size of the input, units. */
export type Axis = readonly [
  number | null, number | null, number | null, number | null, number | null,
  number, number, number, number,
];

export interface FieldData { readonly text: string; readonly axes: readonly Axis[] }

/** Pixels that each unit sees along one axis; `lo` and `hi` as runs (see `expand`). */
export interface MapData {
  readonly lo: readonly number[];
  readonly hi: readonly number[];
  readonly step?: number;
  readonly first?: readonly number[];
  readonly last?: readonly number[];
}

export interface RowData {
  readonly path: string;
  readonly name: string;
  readonly parent: number;
  readonly kind: "module" | "operation" | "parameter";
  readonly operation: string;
  readonly call?: number;
  readonly inputs?: readonly Shape[];
  readonly outputs?: readonly Shape[];
  readonly params?: number;
  readonly trainable_params?: number;
  readonly buffers?: number;
  readonly macs?: number;
  readonly element_ops?: number;
  readonly activation_bytes?: number;
  readonly unknown_ops?: number;
  /** Nanoseconds, where they were measured. */
  readonly time?: number;
  /** The source line that called it. */
  readonly line?: string;
  readonly leaf?: boolean;
  readonly minor?: boolean;
  readonly unproductive?: boolean;
  readonly field_unknown?: boolean;
  readonly steps: readonly number[];
  readonly field?: number;
  readonly maps?: readonly number[];
}

export interface Finding {
  readonly severity: "error" | "warning" | "note";
  readonly text: string;
  readonly layers: readonly string[];
}

export interface Totals {
  readonly params: number;
  readonly trainable_params: number;
  readonly param_bytes: number;
  readonly macs: number;
  readonly flops: number;
  readonly element_ops: number;
  readonly input_bytes: number;
  readonly activation_bytes: number;
  readonly peak_activation_bytes: number;
  readonly peak_layer: string;
  readonly field: string;
  readonly field_exceeds_input_at: string;
  readonly conv_layers: number;
  readonly linear_layers: number;
  readonly recurrent_layers?: number;
}

export interface Training {
  readonly step: { readonly optimizer?: string; readonly loss?: string; readonly form?: string };
  readonly peak: number;
  readonly tensors: number;
  readonly reserved: number;
  readonly phases: readonly (readonly [string, number])[];
  readonly events: readonly (readonly [string, string])[];
  readonly kinds: readonly (readonly [string, number, number, readonly number[]])[];
  readonly layers: readonly (readonly [string, number, number, number, number, number])[];
}

/** The effective receptive field of one unit of a row's layer. */
export interface EffectiveField {
  readonly row: number;
  readonly unit: readonly number[];
  /** Pixels that the unit can see, and those with a strong gradient: [first, last] of each axis. */
  readonly clipped: readonly (readonly [number, number])[];
  readonly box: readonly (readonly [number, number])[];
  readonly pixels: number;
  /** Side of a square (cube) of as many pixels. */
  readonly size: number;
  /** Mean gradient in cells of what it can see, a digit of base 64 each. */
  readonly heat: readonly string[];
}

export interface Effective {
  readonly samples: number;
  readonly threshold: number;
  readonly layers: readonly EffectiveField[];
}

export interface ModelData {
  readonly name: string;
  readonly header: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly inputs: readonly Shape[];
  readonly totals: Totals;
  readonly findings: readonly Finding[];
  readonly notes: readonly string[];
  /** Where a forward raised, why, and the remedy: a title and a text each. */
  readonly failed: readonly (readonly [string, string])[];
  readonly rows: readonly RowData[];
  readonly steps: readonly Step[];
  readonly fields: readonly FieldData[];
  readonly maps: readonly MapData[];
  readonly operations: readonly (readonly [string, number])[];
  readonly lives: readonly (readonly [number, number, number, number])[];
  readonly training?: Training;
  readonly effective?: Effective;
}

export type Status = "same" | "resized" | "changed" | "added" | "removed";

export interface DiffRowData {
  readonly status: Status;
  readonly parent: number;
  readonly pair: readonly [number, number];
  readonly name: string;
  readonly path: string;
  readonly operation: string;
  readonly changes?: readonly string[];
  readonly params?: number;
  readonly macs?: number;
  readonly element_ops?: number;
  readonly activation_bytes?: number;
}

export interface DiffData {
  readonly findings: readonly (readonly [string, string])[];
  readonly headings: readonly string[];
  readonly totals: readonly (readonly string[])[];
  readonly rows: readonly DiffRowData[];
}

export interface PageData {
  readonly schema_version: number;
  readonly cnnscope: string;
  readonly command: string;
  readonly models: readonly ModelData[];
  readonly diff?: DiffData;
  readonly graph?: GraphData;
}

/** The data of this page. */
export function load(): PageData {
  const data = JSON.parse(document.getElementById("data")?.textContent ?? "{}") as PageData;
  if (data.schema_version !== SCHEMA) {
    throw new Error(`data of version ${data.schema_version}, and the page reads ${SCHEMA}`);
  }
  return data;
}

/** Numbers from their first, and the difference and length of each run of equal steps. */
export function expand(runs: readonly number[]): number[] {
  const found = runs.slice(0, 1);
  for (let i = 1; i < runs.length; i += 2) {
    for (let n = runs[i + 1] ?? 0; n > 0; n--) found.push((found.at(-1) ?? 0) + (runs[i] ?? 0));
  }
  return found;
}
