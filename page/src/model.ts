// What the page shows: lines of a tree. A line is a row of one model, or a pair of rows of two.
import type { DiffData, EffectiveField, FieldData, MapData, ModelData, PageData, RowData, Status, Step } from "./data";
import { expand } from "./data";

export interface Line {
  readonly id: number;
  readonly parent: number;
  readonly depth: number;
  readonly children: number[];
  readonly name: string;
  readonly path: string;
  readonly operation: string;
  readonly status: Status | "";
  readonly changes: readonly string[];
  /** The row in each model, null where it has none. */
  readonly rows: readonly (RowData | null)[];
  /** The row that stands for all: the last there is. */
  readonly row: RowData | null;
  readonly minor: boolean;
  readonly leaf: boolean;
}

export type Cost = "macs" | "params" | "activation_bytes" | "element_ops" | "time";

export const COSTS: readonly { readonly key: Cost; readonly label: string; readonly short: string }[] = [
  { key: "macs", label: "MACs", short: "MACs" },
  { key: "params", label: "Parameters", short: "Params" },
  { key: "activation_bytes", label: "Activations", short: "Activations" },
  { key: "element_ops", label: "Element operations", short: "Element ops" },
  { key: "time", label: "Time", short: "Time" },
];

export interface UnitMap {
  readonly lo: readonly number[];
  readonly hi: readonly number[];
  /** First and last pixel of a unit, those outside the image included. */
  unclipped(unit: number): readonly [number, number];
}

export class Network {
  readonly lines: readonly Line[];
  /** Effective fields of the rows of which they were measured. */
  readonly effective: ReadonlyMap<RowData, EffectiveField>;
  readonly diff: DiffData | undefined;
  private readonly byPath = new Map<string, number>();
  private readonly places: readonly Map<number, number>[];

  constructor(readonly page: PageData) {
    this.diff = page.diff;
    this.lines = page.diff ? pairs(page.diff, page.models) : single(this.model);
    this.places = page.models.map(() => new Map());
    this.effective = new Map(page.models.flatMap((model) => (model.effective?.layers ?? []).map((one) => [model.rows[one.row] as RowData, one] as const)));
    for (const line of this.lines) {
      if (!this.byPath.has(line.path)) this.byPath.set(line.path, line.id);
      this.lines[line.parent]?.children.push(line.id);
    }
    if (page.diff) {
      page.diff.rows.forEach((row, id) => row.pair.forEach((at, side) => this.places[side]?.set(at, id)));
    } else {
      this.lines.forEach((_, id) => this.places[0]?.set(id, id));
    }
  }

  /** The only model, or the second one. */
  get model(): ModelData {
    return this.page.models[this.page.models.length - 1] as ModelData;
  }

  line(id: number): Line {
    return this.lines[id] as Line;
  }

  /** Whether times of layers were measured. */
  get timed(): boolean {
    return this.page.models.some((model) => !!model.rows[0]?.time);
  }

  /** The line of a row of a model. */
  lineOf(row: number, side = this.page.models.length - 1): number | undefined {
    return this.places[side]?.get(row);
  }

  /** The line of a dotted path, or of the module around it. */
  find(path: string): number | undefined {
    for (let at = path; at; at = at.slice(0, Math.max(at.lastIndexOf("."), 0))) {
      const found = this.byPath.get(at);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Lines around a line, the innermost first. */
  around(id: number): number[] {
    const found: number[] = [];
    for (let at = this.line(id).parent; at >= 0; at = this.line(at).parent) found.push(at);
    return found;
  }

  steps(row: RowData, model = this.model): Step[] {
    return row.steps.map((step) => model.steps[step] as Step);
  }

  field(row: RowData, model = this.model): FieldData | undefined {
    return row.field === undefined ? undefined : model.fields[row.field];
  }

  maps(row: RowData, model = this.model): (UnitMap | null)[] {
    return (row.maps ?? []).map((at) => (at < 0 ? null : unitMap(model.maps[at] as MapData)));
  }

  /** The model that the row of a line is from. */
  owner(line: Line): ModelData {
    const side = line.rows.findLastIndex((row) => row !== null);
    return this.page.models[Math.max(side, 0)] as ModelData;
  }
}

/** What all of a model costs. */
export const totalOf = (model: ModelData, key: Cost): number =>
  (key === "time" ? model.rows[0]?.time ?? 0 : model.totals[key]);

/** Cost of a line; of a pair, the difference. */
export function costOf(line: Line, key: Cost): number {
  return line.row?.[key] ?? 0;
}

/** Difference of a cost between both rows of a line. */
export function change(line: Line, key: Cost): number {
  return (line.rows.at(-1)?.[key] ?? 0) - (line.rows[0]?.[key] ?? 0);
}

function single(model: ModelData): Line[] {
  return model.rows.map((row, id) => ({
    id, parent: row.parent, depth: depth(model.rows, id), children: [],
    name: row.parent < 0 ? model.name : row.name, path: row.path, operation: row.operation,
    status: "", changes: [], rows: [row], row, minor: !!row.minor, leaf: !!row.leaf,
  }));
}

function pairs(diff: DiffData, models: readonly ModelData[]): Line[] {
  return diff.rows.map((row, id) => {
    const rows = row.pair.map((at, side) => models[side]?.rows[at] ?? null);
    const shown = rows.findLast((one) => one !== null) ?? null;
    return {
      id, parent: row.parent, depth: depth(diff.rows, id), children: [],
      name: row.parent < 0 ? models.map((one) => one.name).join(" \u2192 ") : row.name,
      path: row.path, operation: row.operation, status: row.status, changes: row.changes ?? [],
      rows, row: shown, minor: !!shown?.minor, leaf: shown ? !!shown.leaf : true,
    };
  });
}

function depth(rows: readonly { readonly parent: number }[], id: number): number {
  let levels = 0;
  for (let at = rows[id]?.parent ?? -1; at >= 0; at = rows[at]?.parent ?? -1) levels++;
  return levels;
}

function unitMap(data: MapData): UnitMap {
  const lo = expand(data.lo), hi = expand(data.hi), { step = 0, first, last } = data;
  return {
    lo, hi,
    unclipped(unit) {
      if (!first || !last) return [lo[unit] ?? 0, hi[unit] ?? -1];
      const turns = Math.floor(unit / first.length), phase = unit % first.length;
      return [turns * step + (first[phase] ?? 0), turns * step + (last[phase] ?? 0)];
    },
  };
}
