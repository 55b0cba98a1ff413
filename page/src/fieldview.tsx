// The receptive field on a picture: choose a layer and a unit of its map, see what it sees.
import { computed, signal, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import type { Axis, EffectiveField } from "./data";
import type { Line, UnitMap } from "./model";
import { Name, Section } from "./parts";
import { network, select, selected } from "./state";
import { integer, percent, times } from "./units";

/** One axis of the input: its pixels, the units of the layer along it, and what each sees. */
interface Along { readonly pixels: number; readonly units: number; readonly map: UnitMap | null; readonly axis: Axis | null }

/** What one unit sees along one axis: [first, last] pixel, whatever is outside, and cut to the input. */
export interface Seen { readonly theoretical: readonly [number, number]; readonly clipped: readonly [number, number] }

const choices: readonly Line[] = network.lines.filter(
  (line) => line.leaf && !line.minor && line.row?.maps?.some((map) => map >= 0),
);

/** The chosen layer; what has no map leaves the one before. At first the last whose field is inside. */
const last = signal<number | null>((choices.findLast((line) => inside(line) && measured(line)) ?? choices.findLast(inside) ?? choices[0])?.id ?? null);
selected.subscribe((id) => {
  if (id && network.line(id).row?.maps?.some((map) => map >= 0)) last.value = id;
});

function measured(line: Line): EffectiveField | undefined {
  return line.row ? network.effective.get(line.row) : undefined;
}

function inside(line: Line): boolean {
  const axes = network.field(line.row!, network.owner(line))?.axes ?? [];
  return axes.every(([, local, , , , , , pixels]) => local !== null && local <= 0.75 * pixels);
}

const layer = computed(() => (last.value === null ? null : network.line(last.value)));

/** The picture of the reader: an address of a file that stays on this machine. */
const picture = signal<string | null>(null);

export function FieldSection(): JSX.Element | null {
  const line = layer.value;
  if (!line?.row) return null;
  return (
    <Section id="field" title="Receptive field on a picture" tools={<Tools line={line} />}
      about="What one unit of a layer sees.">
      <Views key={line.id} line={line} />
    </Section>
  );
}

function Tools({ line }: { line: Line }): JSX.Element {
  return (
    <>
      <label class="field">
        Layer
        <select value={line.id} onChange={(event) => select(Number(event.currentTarget.value), "chart")}>
          {!choices.includes(line) && <option value={line.id}>{line.path}</option>}
          {choices.map((one) => <option value={one.id} key={one.id}>{one.path}{measured(one) ? " \u00b7 measured" : ""}</option>)}
        </select>
      </label>
      <label class="file">
        <input type="file" accept="image/*" class="sr" onChange={(event) => take(event.currentTarget.files?.[0])} />
        Picture…
      </label>
      {picture.value && <button type="button" onClick={() => take(undefined)}>Grid</button>}
    </>
  );
}

function take(file: File | undefined): void {
  if (picture.value) URL.revokeObjectURL(picture.value);
  picture.value = file?.type.startsWith("image/") ? URL.createObjectURL(file) : null;
}

/** Axes of a layer: height and width of a picture, and those before them. */
function alongOf(line: Line): readonly Along[] {
  const model = network.owner(line), row = line.row!, maps = network.maps(row, model), field = network.field(row, model);
  const found = maps.map((map, n): Along => {
    const axis = field?.axes[n] ?? null;
    return { pixels: axis?.[7] ?? map?.hi.length ?? 1, units: map ? map.lo.length : 0, map, axis };
  });
  const strip: Along = { pixels: Math.max(Math.round((found[0]?.pixels ?? 8) / 8), 1), units: 0, map: null, axis: null };
  return found.length === 1 ? [strip, ...found] : found;
}

export function seenBy({ map, pixels }: Pick<Along, "map" | "pixels">, unit: number): Seen {
  if (!map) return { theoretical: [0, pixels - 1], clipped: [0, pixels - 1] };
  return { theoretical: map.unclipped(unit), clipped: [map.lo[unit] ?? 0, map.hi[unit] ?? -1] };
}

function Views({ line }: { line: Line }): JSX.Element {
  const along = useMemo(() => alongOf(line), [line]);
  const effective = measured(line);
  const unit = useSignal<readonly number[]>(along.map(({ units }, n) => effective?.unit[n - along.length + effective.unit.length] ?? Math.floor(units / 2)));
  const there = effective?.unit.every((at, n) => unit.value[n + along.length - effective.unit.length] === at) ?? false;
  const seen = along.map((one, n) => seenBy(one, unit.value[n] ?? 0));
  const move = (to: readonly number[]): void => {
    unit.value = to.map((at, n) => Math.min(Math.max(at, 0), Math.max((along[n]?.units ?? 0) - 1, 0)));
  };
  return (
    <div class="card fields">
      <div class="map">
        <h3><Name>{line.path}</Name> <span>{along.filter((one) => one.units).map((one) => one.units).join("\u00d7")} units</span></h3>
        <Units along={along} unit={unit.value} onMove={move} />
        {along.slice(0, -2).map((one, n) => one.units > 1 && (
          <label class="slide" key={n}>
            Unit along {n ? `axis ${n}` : "the first axis"}: {unit.value[n]}
            <input type="range" min={0} max={one.units - 1} value={unit.value[n] ?? 0}
              onInput={(event) => move(unit.value.with(n, Number(event.currentTarget.value)))} />
          </label>
        ))}
        <Said along={along} unit={unit.value} seen={seen} effective={there ? effective : undefined} />
        {effective && !there && (
          <p class="note">
            <button type="button" class="link" onClick={() => move([...unit.value.slice(0, along.length - effective.unit.length), ...effective.unit])}>Unit ({effective.unit.join(", ")})</button> has an effective field that was measured.
          </p>
        )}
      </div>
      <Picture along={along} seen={seen} effective={there ? effective : undefined} />
    </div>
  );
}

const SIDE = 232; // pixels of the map at most

/** The map of the layer: one cell for each unit. */
function Units(props: { along: readonly Along[]; unit: readonly number[]; onMove: (to: readonly number[]) => void }): JSX.Element {
  const { along, unit, onMove } = props, before = unit.slice(0, -2);
  const [y, x] = along.slice(-2) as [Along, Along], rows = Math.max(y.units, 1), columns = Math.max(x.units, 1);
  const cell = Math.min(SIDE / Math.max(rows, columns), 40), wide = cell * columns, high = Math.max(cell * rows, 18);
  const [row, column] = unit.slice(-2) as [number, number];
  const place = (event: MouseEvent): void => {
    const edge = (event.currentTarget as Element).getBoundingClientRect();
    onMove([...before, Math.floor((event.clientY - edge.top) / (high / rows)), Math.floor((event.clientX - edge.left) / cell)]);
  };
  const keys = (event: KeyboardEvent): void => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    onMove([...before, row + (step[0] as number), column + (step[1] as number)]);
  };
  const lines = cell >= 4;
  return (
    <svg class="units" width={wide} height={high} tabindex={0} role="application"
      aria-label="Units of the layer; arrow keys choose one" onMouseMove={place} onClick={place} onKeyDown={keys}>
      <rect class="sheet" width={wide} height={high} />
      {lines && Array.from({ length: rows - 1 }, (_, n) => <path key={`r${n}`} d={`M0 ${(n + 1) * cell}H${wide}`} />)}
      {lines && Array.from({ length: columns - 1 }, (_, n) => <path key={`c${n}`} d={`M${(n + 1) * cell} 0V${high}`} />)}
      <rect class="unit" x={(column + 0.5) * cell - dot(cell) / 2} y={((row + 0.5) * high) / rows - dot(high / rows) / 2} width={dot(cell)} height={dot(high / rows)} />
    </svg>
  );
}

/** Sides of the marked unit: to be found, they are never smaller. */
const dot = (cell: number): number => Math.max(cell, 6);

/** In words, for those who do not see the picture too. */
function Said(props: { along: readonly Along[]; unit: readonly number[]; seen: readonly Seen[]; effective: EffectiveField | undefined }): JSX.Element {
  const { along, unit, seen, effective } = props;
  const shown = along.map((one, n) => ({ ...one, unit: unit[n] ?? 0, seen: seen[n] as Seen })).filter((one) => one.axis || one.map);
  const names = { 1: ["positions"], 2: ["rows", "columns"], 3: ["frames", "rows", "columns"] }[shown.length] ?? [];
  const size = ([first, end]: readonly [number, number]): number => Math.max(end - first + 1, 0);
  const context = shown.some(({ axis }) => axis && axis[0] === null && axis[1] !== null);
  return (
    <div class="said" aria-live="polite">
      <p>Unit ({shown.map((one) => one.unit).join(", ")}) sees</p>
      <ul>
        {shown.map((one, n) => (
          <li key={n}>
            {names[n] ?? `axis ${n}`}{" "}
            <b>{size(one.seen.clipped) ? `${one.seen.clipped[0]}\u2013${one.seen.clipped[1]}` : "none"}</b>
            {!one.map && " (all)"}
          </li>
        ))}
      </ul>
      <dl class="pairs">
        <div><dt><i class="key field-theoretical" />Theoretical</dt><dd>{times(shown.map((one) => (one.map ? integer(size(one.seen.theoretical)) : "all")).join("\u00d7"))} px</dd></div>
        <div><dt><i class="key field-clipped" />Within the input</dt><dd>{shown.map((one) => integer(size(one.seen.clipped))).join("\u00d7")} px</dd></div>
        {effective && <div><dt><i class="key field-effective" />Effective</dt><dd>{effective.unit.map(() => effective.size).join("\u00d7")} px</dd></div>}
      </dl>
      {effective && <p class="note">{integer(effective.pixels)} pixels with more than {percent(network.model.effective?.threshold ?? 0, 1)} of the largest gradient, by random inputs and weights.</p>}
      {context && <p class="note">It also depends on a function of the whole image.</p>}
    </div>
  );
}

/** Where the pixels with a strong gradient are; of a signal, over the whole height. */
function frame({ box }: EffectiveField, wide: number, high: number): { x: number; y: number; width: number; height: number } {
  const [x, y] = [box.at(-1) ?? [0, wide - 1], box.at(-2) ?? [0, high - 1]] as const;
  return { x: x[0], y: y[0], width: x[1] - x[0] + 1, height: y[1] - y[0] + 1 };
}

const ROOM = 0.5; // of the picture's size, beside it, for what lies outside

/** Gradients as a picture, transparent where there is none. */
function heated(heat: readonly string[]): string {
  const canvas = Object.assign(document.createElement("canvas"), { width: heat[0]?.length ?? 0, height: heat.length });
  const pen = canvas.getContext("2d");
  heat.forEach((line, y) => [...line].forEach((digit, x) => {
    if (!pen) return;
    pen.fillStyle = `rgb(214 40 20 / ${(0.9 * Math.sqrt(DIGITS.indexOf(digit) / 63)).toFixed(3)})`;
    pen.fillRect(x, y, 1, 1);
  }));
  return canvas.toDataURL();
}

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"; // as block.py writes them

function Picture({ along, seen, effective }: { along: readonly Along[]; seen: readonly Seen[]; effective: EffectiveField | undefined }): JSX.Element {
  const over = useSignal(false), heat = useMemo(() => (effective?.heat.length ? heated(effective.heat) : null), [effective]);
  const [y, x] = along.slice(-2) as [Along, Along], [sy, sx] = seen.slice(-2) as [Seen, Seen];
  const high = y.pixels, wide = x.pixels, longest = Math.max(high, wide);
  const outside = (one: Along): number => (one.map ? Math.max(...[0, one.units - 1].map((u) => one.map!.unclipped(u)).map(([a, b]) => Math.max(-a, b - one.pixels + 1, 0))) : 0);
  const pad = Math.min(Math.max(outside(x), outside(y)) * 1.03, ROOM * longest) + 0.02 * longest;
  const thick = longest / 220, step = 2 ** Math.max(Math.round(Math.log2(longest / 14)), 0);
  const box = (kind: "theoretical" | "clipped"): { x: number; y: number; width: number; height: number } => ({
    x: sx[kind][0], y: sy[kind][0],
    width: Math.max(sx[kind][1] - sx[kind][0] + 1, 0), height: Math.max(sy[kind][1] - sy[kind][0] + 1, 0),
  });
  const clipped = box("clipped");
  return (
    <div
      class={`picture ${over.value ? "over" : ""}`}
      onDragOver={(event) => { event.preventDefault(); over.value = true; }} onDragLeave={() => { over.value = false; }}
      onDrop={(event) => { event.preventDefault(); over.value = false; take(event.dataTransfer?.files[0]); }}
    >
      <svg viewBox={`${-pad} ${-pad} ${wide + 2 * pad} ${high + 2 * pad}`} role="img"
        aria-label={`The input, ${high} by ${wide} pixels, with the receptive field of the unit`}>
        <defs>
          <pattern id="cells" width={2 * step} height={2 * step} patternUnits="userSpaceOnUse">
            <rect class="even" width={2 * step} height={2 * step} />
            <path class="odd" d={`M0 0h${step}v${step}H0zM${step} ${step}h${step}v${step}h${-step}z`} />
          </pattern>
          <clipPath id="input-area"><rect width={wide} height={high} /></clipPath>
        </defs>
        <rect class="outside" x={-pad} y={-pad} width={wide + 2 * pad} height={high + 2 * pad} />
        {picture.value
          ? <image href={picture.value} width={wide} height={high} preserveAspectRatio="xMidYMid slice" clip-path="url(#input-area)" />
          : <rect width={wide} height={high} fill="url(#cells)" />}
        <path class="shade" fill-rule="evenodd" d={`M0 0H${wide}V${high}H0Z M${clipped.x} ${clipped.y}v${clipped.height}h${clipped.width}v${-clipped.height}Z`} />
        {heat && <image class="heat" href={heat} {...clipped} preserveAspectRatio="none" />}
        {heat && effective && <rect class="effective" {...frame(effective, wide, high)} stroke-width={1.3 * thick} />}
        <rect class="theoretical" {...box("theoretical")} stroke-width={thick} stroke-dasharray={`${4 * thick} ${3 * thick}`} />
        <rect class="clipped" {...clipped} stroke-width={1.6 * thick} />
      </svg>
      <p>{picture.value ? `Scaled and cropped to ${high}\u00d7${wide}.` : `Cells of ${step}\u00d7${step} pixels. Drop a picture here; it stays on this machine.`}</p>
    </div>
  );
}
