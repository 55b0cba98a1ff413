// What all charts share: a width, an axis of layers in the order in which they run, a cursor.
import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ModelData } from "./data";
import { hovered, network, printing } from "./state";

export const LEFT = 64, RIGHT = 12;

/** The width of an element, as it changes. */
export function useWidth(): [{ current: HTMLDivElement | null }, number] {
  const ref = useRef<HTMLDivElement>(null), [width, setWidth] = useState(800);
  useEffect(() => {
    if (!ref.current) return;
    const watch = new ResizeObserver(([entry]) => entry && setWidth(entry.contentRect.width));
    watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return [ref, printing.value ? 720 : width];
}

/** A place on the axis: the line that it is of, and the top of the model that it is in. */
export interface Stop { readonly line: number; readonly group: string }

/** Layers without layers inside, those that only move data left out. */
export function layersOf(model: ModelData, side: number): Stop[] {
  const found = model.rows.flatMap((row, at) => {
    const line = row.leaf && !row.minor && row.kind !== "parameter" ? network.lineOf(at, side) : undefined;
    return line === undefined ? [] : [{ line, path: row.path }];
  });
  const groups = grouped(found.map(({ path }) => path));
  return found.map(({ line }, n) => ({ line, group: groups[n] ?? "" }));
}

const PARTS = 20; // bands of a chart, at most

/** The part of the model that each path is in: so deep that not nearly all are in one of them. */
export function grouped(paths: readonly string[]): readonly string[] {
  const at = (depth: number): string[] => paths.map((path) => path.split(".").slice(0, depth).join("."));
  const most = Math.min(PARTS, paths.length / 3);
  let found = at(1);
  for (let depth = 2; depth < 4; depth++) {
    const sizes = new Map<string, number>(), deeper = at(depth);
    for (const group of found) sizes.set(group, (sizes.get(group) ?? 0) + 1);
    if (Math.max(0, ...sizes.values()) <= 0.6 * paths.length || new Set(deeper).size > most) break;
    found = deeper;
  }
  return found;
}

/** A number and its ticks that are round: 0, 50, 100, 150. */
export function ticks(most: number, count: number, binary = false): number[] {
  if (!(most > 0)) return [0];
  const unit = binary ? 1024 ** Math.floor(Math.log(most) / Math.log(1024)) : 1;
  const rough = most / unit / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((n) => n * power >= rough) ?? 10) * power * unit;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, n) => n * step);
}

interface Frame {
  readonly label: string;
  readonly stops: readonly Stop[];
  readonly width: number;
  readonly height: number;
  readonly most: number;
  readonly binary?: boolean;
  readonly bands?: boolean;
  readonly format: (value: number) => string;
  readonly at: number | null;
  readonly onMove: (at: number | null) => void;
  readonly onPick: (at: number) => void;
  readonly children: (x: (at: number) => number, y: (value: number) => number) => ComponentChildren;
}

const BANDS = 20;

/** Axes, bands of the model's parts, and a cursor that pointer and arrow keys move. */
export function Chart(props: Frame): JSX.Element {
  const { stops, width, height, most, at } = props, count = Math.max(stops.length, 1);
  const low = height - (props.bands ? BANDS : 6), high = 10, inner = Math.max(width - LEFT - RIGHT, 10);
  const x = (n: number): number => LEFT + (inner * n) / count;
  const y = (value: number): number => low - ((low - high) * value) / (most || 1);
  const place = (event: MouseEvent): number => {
    const edge = (event.currentTarget as Element).getBoundingClientRect();
    return Math.min(Math.max(Math.floor(((event.clientX - edge.left - LEFT) / inner) * count), 0), count - 1);
  };
  const keys = (event: KeyboardEvent): void => {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) props.onMove(Math.min(Math.max((at ?? -1) + step, 0), count - 1));
    else if (event.key === "Enter" && at !== null) props.onPick(at);
    else if (event.key === "Escape") props.onMove(null);
    else return;
    event.preventDefault();
  };
  return (
    <svg
      class="chart" width={width} height={height} role="img" aria-label={props.label} tabindex={0}
      onMouseMove={(event) => props.onMove(place(event))} onMouseLeave={() => props.onMove(null)}
      onClick={(event) => props.onPick(place(event))} onKeyDown={keys} onBlur={() => props.onMove(null)}
    >
      {props.bands && <Bands stops={stops} x={x} low={low} high={high} />}
      {ticks(most, height < 130 ? 2 : 4, props.binary).map((value) => (
        <g key={value}>
          <line class="grid" x1={LEFT} x2={width - RIGHT} y1={y(value)} y2={y(value)} />
          <text x={LEFT - 8} y={y(value) + 4} text-anchor="end">{props.format(value)}</text>
        </g>
      ))}
      {props.children(x, y)}
      {at !== null && <line class="cursor" x1={x(at + 0.5)} x2={x(at + 0.5)} y1={high} y2={low} />}
    </svg>
  );
}

function Bands(props: { stops: readonly Stop[]; x: (n: number) => number; low: number; high: number }): JSX.Element {
  const bands: { name: string; from: number; to: number }[] = [];
  props.stops.forEach(({ group }, n) => {
    const last = bands.at(-1);
    if (last?.name === group) last.to = n + 1;
    else bands.push({ name: group, from: n, to: n + 1 });
  });
  if (bands.length > 3 * PARTS) return <g />; // a stripe for each layer says nothing
  return (
    <g class="bands">
      {bands.map(({ name, from, to }) => {
        const left = props.x(from), wide = props.x(to) - left, room = Math.floor((wide - 6) / 6.6);
        const short = name.length > room ? name.slice(name.lastIndexOf(".") + 1) : name;
        return (
          <g key={from}>
            <line class="edge" x1={left} x2={left} y1={props.high} y2={props.low + BANDS - 4} />
            {room >= Math.min(short.length, 4) && (
              <text x={left + 4} y={props.low + 15}>{short.length > room ? `\u2026${short.slice(1 - room)}` : short}</text>
            )}
          </g>
        );
      })}
    </g>
  );
}

/** A path that keeps each value for its place: the outline of bars without gaps. */
export function steps(values: readonly number[], x: (at: number) => number, y: (value: number) => number): string {
  return values.map((value, n) => `${n ? "L" : "M"}${x(n).toFixed(1)} ${y(value).toFixed(1)}H${x(n + 1).toFixed(1)}`).join("");
}

/** Where the cursor of the charts along depth is: the same layer in all of them. */
export const cursor = signal<number | null>(null);

/** The place of the line that is under the pointer somewhere else. */
export function placeOf(stops: readonly Stop[]): number | null {
  const line = cursor.value ?? hovered.value;
  const found = line === null ? -1 : stops.findIndex((stop) => stop.line === line);
  return found < 0 ? null : found;
}
