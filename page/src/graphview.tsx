// The graph: boxes that open in place, coloured by a cost, followed with the arrow keys.
import { computed, signal, useComputed, useSignalEffect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { headOf, textOf } from "./boxes";
import type { Graph, Node } from "./graph";
import {
  current, drawing, flow, goTo, graph, lineOf, nodeOf, reveal, setAll, states, toggle, unfold, visibleOf,
} from "./graphstate";
import { COSTS } from "./model";
import { Icon, Section } from "./parts";
import { type Box, HEAD, type Point, State } from "./restack";
import { Search } from "./search";
import { heat, hovered, network, origin, printing, selected } from "./state";
import { cost as written, integer } from "./units";

const MARGIN = 24;
const ROUND = 6; // radius of a line's corners
const SMALLEST = 0.8; // at first: smaller letters are hard to read
const scale = signal(1);

const HEATS = [...COSTS.filter(({ key }) => key !== "time" || network.timed), { key: "field", label: "Receptive field" }, { key: "none", label: "Nothing" }] as const;
type Heat = (typeof HEATS)[number]["key"];

export function GraphSection(): JSX.Element | null {
  if (!graph || !drawing.value) return null;
  return (
    <Section id="graph" title="Graph" tools={<Tools />} about={network.diff && "What is equal is grey."}>
      <Viewport graph={graph} />
      <Legend graph={graph} />
    </Section>
  );
}

function Tools(): JSX.Element {
  return (
    <>
      <Search />
      {!network.diff && (
        <label class="field">
          Colour
          <select value={heat.value} onChange={(event) => { heat.value = event.currentTarget.value as Heat; }}>
            {HEATS.map(({ key, label }) => <option value={key} key={key}>{label}</option>)}
          </select>
        </label>
      )}
      <button type="button" onClick={() => setAll("all")}>Expand all</button>
      <button type="button" onClick={() => setAll("first")}>Reset</button>
    </>
  );
}

// ---------------------------------------------------------------- the part of it that is seen

function Viewport({ graph }: { graph: Graph }): JSX.Element {
  const frame = useRef<HTMLDivElement>(null);
  const { width: wide, height: high, boxes } = drawing.value!;
  const whole: Point = [wide + 2 * MARGIN, high + 2 * MARGIN - HEAD];
  const held = useHeld(frame, boxes), tallest = useRef(0);
  tallest.current = Math.max(tallest.current, whole[1]);
  const fit = (most: number, least: number, all: boolean): void => {
    const seen = frame.current;
    if (!seen) return;
    const [x, y] = [seen.clientWidth / whole[0], seen.clientHeight / whole[1]];
    scale.value = Math.min(Math.max(all ? Math.min(x, y) : x, least), most);
  };
  useLayoutEffect(() => {
    fit(1, 0.6, false);
    if (frame.current) scale.value = Math.min(scale.value, Math.max(frame.current.clientHeight / whole[1], SMALLEST));
    requestAnimationFrame(() => centre(frame.current, firstChange(frame.current)));
  }, []);
  useSignalEffect(() => bringIntoView(frame.current));
  useEffect(() => pans(frame.current), []);
  const zoom = (by: number, x?: number, y?: number): void => zoomed(frame.current, by, x, y);
  if (printing.value) return <Strips graph={graph} held={held} />;
  return (
    <div class="graph">
      <div
        ref={frame} class="viewport" tabindex={-1} role="group" style={{ "--tallest": `${tallest.current}px` }}
        aria-label="Graph of the network; arrow keys follow the data, Enter opens a block"
        onWheel={(event) => {
          if (!event.ctrlKey && !event.metaKey) return;
          event.preventDefault();
          zoom(Math.exp(-event.deltaY / 200), event.clientX, event.clientY);
        }}
        onKeyDown={(event) => onKey(event, { held, zoom, fit: () => fit(1.25, 0.05, true) })}
      >
        <svg
          width={whole[0] * scale.value} height={whole[1] * scale.value}
          viewBox={`${-MARGIN} ${HEAD - MARGIN} ${whole[0]} ${whole[1]}`} role="tree" aria-label="Blocks and layers"
        >
          <Areas graph={graph} held={held} />
          <Lines graph={graph} />
          <Highlight graph={graph} />
          <Closed graph={graph} held={held} />
        </svg>
      </div>
      <div class="zoom">
        <button type="button" class="icon" aria-label="Zoom in" title="Zoom in (+)" onClick={() => zoom(1.25)}><Icon name="plus" /></button>
        <button type="button" class="icon" aria-label="Zoom out" title="Zoom out (\u2212)" onClick={() => zoom(0.8)}><Icon name="minus" /></button>
        <button type="button" class="icon" aria-label="Fit" title="Fit (0)" onClick={() => fit(1.25, 0.05, true)}><Icon name="fit" /></button>
      </div>
    </div>
  );
}

const PAPER = 700, STRIP = 280; // width of a sheet, and height of what is kept together

/** On paper: pieces that are cut between boxes, so that none is cut by the end of a sheet. */
function Strips({ graph, held }: { graph: Graph; held: Held }): JSX.Element {
  const { width, height } = drawing.value!, wide = width + 2 * MARGIN, k = Math.min(SMALLEST, PAPER / wide);
  const ends = cuts(height + MARGIN, STRIP / k);
  return (
    <div class="graph">
      {ends.map((end, n) => {
        const top = n ? ends[n - 1] as number : HEAD - MARGIN, part: Point = [top, end];
        return (
          <svg key={end} class="strip" width={wide * k} height={(end - top) * k} viewBox={`${-MARGIN} ${top} ${wide} ${end - top}`} aria-hidden="true">
            <Areas graph={graph} held={held} part={part} />
            <Lines graph={graph} part={part} />
            <Closed graph={graph} held={held} part={part} />
          </svg>
        );
      })}
    </div>
  );
}

/** Heights between boxes and heads, none much further from the one before than asked. */
function cuts(bottom: number, most: number): number[] {
  const solid = drawing.value!.boxes.filter(({ node }) => node)
    .map(({ y, height, inside }): Point => [y - 2, y + (inside < 0 ? height : HEAD) + 2]).sort((a, b) => a[0] - b[0]);
  const found: number[] = [];
  let top = HEAD - MARGIN, reach = -Infinity, best: number | null = null;
  for (const [first, last] of solid) {
    if (first > reach) {
      if (best !== null && first - top > most) {
        found.push(best);
        top = best;
      }
      best = first;
    }
    reach = Math.max(reach, last);
  }
  if (best !== null && bottom - top > most) found.push(best);
  return [...found, bottom];
}

const overlaps = (first: number, last: number, part: Point | undefined): boolean => !part || (first < part[1] && last > part[0]);

type Held = (id: number, act: () => void) => void;

/** Keep a box where it is on the screen while something opens or closes. */
function useHeld(frame: { current: HTMLDivElement | null }, boxes: readonly Box[]): Held {
  const before = useRef<{ id: number; x: number; y: number } | null>(null);
  useLayoutEffect(() => {
    const kept = before.current, now = kept && boxes.find((box) => box.node === kept.id), seen = frame.current;
    before.current = null;
    if (!kept || !now || !seen) return;
    seen.scrollLeft += (now.x + now.width / 2 - kept.x) * scale.peek();
    seen.scrollTop += (now.y - kept.y) * scale.peek();
    // What had the focus is another element now.
    seen.querySelector<SVGElement>(`[data-node="${kept.id}"]`)?.focus({ preventScroll: true });
  });
  return (id, act) => {
    const box = boxes.find((one) => one.node === id);
    if (box) before.current = { id, x: box.x + box.width / 2, y: box.y };
    act();
  };
}

/** Zoom around a point of the screen, the middle if none is given. */
function zoomed(seen: HTMLElement | null, by: number, x?: number, y?: number): void {
  if (!seen) return;
  const edge = seen.getBoundingClientRect(), old = scale.value;
  const dx = (x ?? edge.left + edge.width / 2) - edge.left, dy = (y ?? edge.top + edge.height / 2) - edge.top;
  const left = (seen.scrollLeft + dx) / old, top = (seen.scrollTop + dy) / old;
  scale.value = Math.min(Math.max(old * by, 0.05), 3);
  requestAnimationFrame(() => {
    seen.scrollLeft = left * scale.value - dx;
    seen.scrollTop = top * scale.value - dy;
  });
}

/** Put the axis of the model into the middle. */
function centre(seen: HTMLElement | null, top: number): void {
  if (!seen) return;
  const box = drawing.peek()?.boxes[1], middle = box ? (box.x + box.width / 2 + MARGIN) * scale.peek() : 0;
  seen.scrollLeft = middle - seen.clientWidth / 2;
  seen.scrollTop = top;
}

/** Where two models differ first, if it is not in view. */
function firstChange(seen: HTMLElement | null): number {
  const changed = (drawing.peek()?.boxes ?? []).filter(({ inside, node }) => inside < 0 && DIFFERS.includes(graph?.node(node).status ?? ""));
  const first = (Math.min(...changed.map((box) => box.y)) + MARGIN - HEAD) * scale.peek();
  return !changed.length || !seen || first < 0.6 * seen.clientHeight ? 0 : first - 80;
}

const DIFFERS = ["changed", "added", "removed"];

/** Move the picture with the mouse; fingers scroll by themselves. */
function pans(seen: HTMLElement | null): () => void {
  if (!seen) return () => {};
  let from: { x: number; y: number; left: number; top: number } | null = null;
  const down = (event: PointerEvent): void => {
    if (event.pointerType === "mouse" && event.button === 0) {
      from = { x: event.clientX, y: event.clientY, left: seen.scrollLeft, top: seen.scrollTop };
    }
  };
  const move = (event: PointerEvent): void => {
    if (!from) return;
    const dx = event.clientX - from.x, dy = event.clientY - from.y;
    if (Math.abs(dx) + Math.abs(dy) > 3) seen.classList.add("pans");
    seen.scrollLeft = from.left - dx;
    seen.scrollTop = from.top - dy;
  };
  const up = (): void => {
    from = null;
    setTimeout(() => seen.classList.remove("pans"));
  };
  seen.addEventListener("pointerdown", down);
  addEventListener("pointermove", move);
  addEventListener("pointerup", up);
  return () => {
    seen.removeEventListener("pointerdown", down);
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", up);
  };
}

/** Show the box of what was chosen elsewhere. */
function bringIntoView(seen: HTMLElement | null): void {
  const line = selected.value;
  if (!line || origin.value === "graph") return;
  const id = nodeOf(line);
  if (id === undefined) return;
  if (graph && visibleOf(id, states.peek()) !== id) reveal(id);
  const visible = visibleOf(id, states.peek());
  current.value = visible;
  requestAnimationFrame(() => showBox(seen, visible));
}

function showBox(seen: HTMLElement | null, id: number): void {
  const box = drawing.peek()?.boxes.find((one) => one.node === id);
  if (!box || !seen) return;
  const k = scale.peek(), x = (box.x + MARGIN) * k, y = (box.y + MARGIN - HEAD) * k, pad = 40;
  const high = Math.min(box.height * k, seen.clientHeight - 2 * pad), wide = Math.min(box.width * k, seen.clientWidth - 2 * pad);
  if (x < seen.scrollLeft + pad || x + wide > seen.scrollLeft + seen.clientWidth - pad) {
    seen.scrollLeft = x + wide / 2 - seen.clientWidth / 2;
  }
  if (y < seen.scrollTop + pad || y + high > seen.scrollTop + seen.clientHeight - pad) {
    seen.scrollTop = y + high / 2 - seen.clientHeight / 2;
  }
}

// ------------------------------------------------------------------------------ the keyboard

interface Acts { readonly held: Held; zoom(by: number): void; fit(): void }

/** Along the data with up and down, between branches with left and right. */
function onKey(event: KeyboardEvent, { held, zoom, fit }: Acts): void {
  if (event.ctrlKey || event.metaKey || event.altKey || !graph) return;
  const id = current.value;
  const acts: Record<string, () => void> = {
    ArrowDown: () => follow(id, 1), ArrowUp: () => follow(id, -1),
    ArrowRight: () => beside(id, 1), ArrowLeft: () => beside(id, -1),
    Enter: () => held(id, () => toggle(id)), " ": () => held(id, () => toggle(id)),
    Home: () => go(closed()[0]?.node), End: () => go(closed().at(-1)?.node),
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": fit,
    a: () => graph?.node(id).repeat && held(id, () => unfold(id)),
    c: () => { void navigator.clipboard?.writeText(network.line(lineOf((graph as Graph).node(id)) ?? 0).path).catch(() => {}); },
  };
  const act = acts[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

const closed = (): readonly Box[] => drawing.value!.boxes.filter((box) => box.inside < 0);

function go(id: number | undefined): void {
  if (id === undefined) return;
  goTo(id);
  requestAnimationFrame(() => {
    const box = document.querySelector<SVGElement>(`#graph [data-node="${id}"]`);
    box?.focus({ preventScroll: true });
    showBox(document.querySelector<HTMLElement>("#graph .viewport"), id);
  });
}

/** To what reads a box, or to what it reads; into an open block at its first or last box. */
function follow(id: number, way: 1 | -1): void {
  const boxes = drawing.value!.boxes, box = boxes.find((one) => one.node === id);
  if (box && box.inside >= 0) {
    const within = closed().filter((one) => one.x >= box.x && one.y >= box.y && one.x < box.x + box.width && one.y < box.y + box.height);
    return go((way > 0 ? within[0] : within.at(-1))?.node);
  }
  const ends = (way > 0 ? flow.value?.next : flow.value?.before)?.get(id);
  if (ends?.length) return go(nearest(id, ends));
  return id ? undefined : go(closed()[0]?.node);
}

/** Of several boxes the one that is straight ahead. */
function nearest(id: number, ends: readonly number[]): number | undefined {
  const here = middle(id);
  return [...ends].sort((a, b) => Math.abs(middle(a)[0] - here[0]) - Math.abs(middle(b)[0] - here[0])
    || Math.abs(middle(a)[1] - here[1]) - Math.abs(middle(b)[1] - here[1]))[0];
}

function middle(id: number): Point {
  const box = drawing.value!.boxes.find((one) => one.node === id);
  return box ? [box.x + box.width / 2, box.y + Math.min(box.height, HEAD) / 2] : [0, 0];
}

/** To the nearest box at the side. */
function beside(id: number, way: 1 | -1): void {
  const [x, y] = middle(id);
  const found = closed()
    .map((box) => ({ node: box.node, dx: (box.x + box.width / 2 - x) * way, dy: Math.abs(box.y + box.height / 2 - y) }))
    .filter(({ dx, dy }) => dx > 4 && dy < dx + 60)
    .sort((a, b) => a.dx + 3 * a.dy - b.dx - 3 * b.dy);
  go(found[0]?.node);
}

// ----------------------------------------------------------------------------------- drawing

/** Tinted areas of open blocks, with their heads. */
function Areas({ graph, held, part }: { graph: Graph; held: Held; part?: Point }): JSX.Element {
  return <>{drawing.value!.boxes.filter((box) => box.inside >= 0 && box.node && overlaps(box.y - 6, box.y + box.height, part)).map((box) => (
    <Area key={box.node} box={box} node={graph.node(box.node)} held={held} />
  ))}</>;
}

function Closed({ graph, held, part }: { graph: Graph; held: Held; part?: Point }): JSX.Element {
  return <>{drawing.value!.boxes.filter((box) => box.inside < 0 && overlaps(box.y - 6, box.y + box.height, part)).map((box) => (
    <ClosedBox key={box.node} box={box} node={graph.node(box.node)} held={held} />
  ))}</>;
}

function useChosen(node: Node): { chosen: boolean; warm: boolean } {
  const line = lineOf(node);
  const chosen = useComputed(() => current.value === node.id && (line === undefined || selected.value === line));
  const warm = useComputed(() => line !== undefined && hovered.value === line);
  return { chosen: chosen.value, warm: warm.value };
}

const touch = (node: Node): { onMouseEnter: () => void; onMouseLeave: () => void } => ({
  onMouseEnter: () => { hovered.value = lineOf(node) ?? null; },
  onMouseLeave: () => { hovered.value = null; },
});

const isPan = (event: Event): boolean => !!(event.currentTarget as Element).closest(".pans");

function Area({ box, node, held }: { box: Box; node: Node; held: Held }): JSX.Element {
  const { chosen, warm } = useChosen(node), said = headOf(node), all = states.value.get(node.id) === State.Unfolded;
  return (
    <g
      class={`area ${node.status ?? ""} ${chosen ? "chosen" : ""} ${warm ? "warm" : ""}`} data-node={node.id} {...touch(node)}
      style={{ "--level": Math.min(box.depth, 4) }} role="treeitem" aria-expanded="true" aria-selected={chosen} aria-level={box.depth}
      aria-label={label(node)} tabindex={chosen ? 0 : -1}
      onClick={(event) => { event.stopPropagation(); if (!isPan(event)) goTo(node.id); }}
    >
      {node.repeat && <Stack box={box} radius={9} />}
      <rect class="shape" x={box.x} y={box.y} width={box.width} height={box.height} rx={9} />
      <g class="head" onClick={(event) => { event.stopPropagation(); if (!isPan(event)) held(node.id, () => { goTo(node.id); toggle(node.id); }); }}>
        <rect class="hit" x={box.x} y={box.y} width={box.width} height={HEAD} rx={9} />
        <path class="arrow" d={`M${box.x + 10} ${box.y + 10}l4 4l4 -4`} />
        <text x={box.x + 24} y={box.y + 17}>
          <tspan class="strong">{said.title}</tspan><tspan dx="8" class="dim">{said.note}</tspan>
        </text>
      </g>
      {node.repeat && (
        <text class="all" x={box.x + box.width - 10} y={box.y + 17} text-anchor="end"
          onClick={(event) => { event.stopPropagation(); held(node.id, () => unfold(node.id)); }}>
          {all ? "show one" : `show all ${node.repeat}`}
        </text>
      )}
    </g>
  );
}

/** The edges of the boxes behind the first of a repeat. */
const Stack = ({ box, radius }: { box: Box; radius: number }): JSX.Element => (
  <>{[6, 3].map((d) => (
    <rect class="shape behind" key={d} x={box.x + d} y={box.y - d} width={box.width} height={box.height} rx={radius} />
  ))}</>
);

function ClosedBox({ box, node, held }: { box: Box; node: Node; held: Held }): JSX.Element {
  const { chosen, warm } = useChosen(node), said = textOf(node), opens = node.children.length > 0;
  const tick = GROUPS.includes(node.group ?? "") && !opens;
  const share = heatOf(node), end = node.kind === "input" || node.kind === "output";
  const first = box.y + (said.below ? 18 : box.height / 2 + 4);
  const middle = box.x + (box.width + (opens ? 14 : tick ? 6 : 0)) / 2;
  const open = (): void => held(node.id, () => { goTo(node.id); toggle(node.id); });
  return (
    <g
      class={`box ${node.kind} ${(!end && node.status) || ""} ${chosen ? "chosen" : ""} ${warm ? "warm" : ""} ${share === null ? "" : "hot"} ${node.fails ? "fails" : ""}`}
      data-node={node.id} data-group={node.group} {...touch(node)} {...(share === null ? {} : { style: { "--heat": share } })}
      role="treeitem" aria-selected={chosen} aria-level={box.depth} {...(opens ? { "aria-expanded": false } : {})} aria-label={label(node)}
      tabindex={chosen || (!current.value && node.kind === "input") ? 0 : -1}
      onClick={(event) => { event.stopPropagation(); if (!isPan(event)) goTo(node.id); }} onDblClick={() => opens && open()}
    >
      {node.repeat && <Stack box={box} radius={6} />}
      <rect class="shape" x={box.x} y={box.y} width={box.width} height={box.height} rx={end ? box.height / 2 : node.kind === "operation" ? 13 : 6} />
      {tick && <rect class="tick" x={box.x + 5} y={box.y + 6} width={3.5} height={box.height - 12} rx={1.75} />}
      {opens && (
        <g class="open" onClick={(event) => { event.stopPropagation(); if (!isPan(event)) open(); }}>
          <rect class="hit" x={box.x} y={box.y} width={28} height={box.height} />
          <path class="arrow" d={`M${box.x + 12} ${box.y + box.height / 2 - 4}l4 4l-4 4`} />
        </g>
      )}
      <text x={middle} y={first} text-anchor="middle">
        <tspan class="strong">{said.title}</tspan>
        {said.note && <tspan dx="7" class="dim">{said.note}</tspan>}
      </text>
      {said.below && (
        <text x={middle} y={first + 15} text-anchor="middle" class="dim">
          {said.below[0]}{said.below[0] && said.below[1] && <tspan dx="8">{said.below[1]}</tspan>}{!said.below[0] && said.below[1]}
        </text>
      )}
    </g>
  );
}

/** What a screen reader says of a box. */
function label(node: Node): string {
  const said = textOf(node), parts = [node.name, node.label, node.repeat ? `${node.repeat} times` : "", said.below?.[1] || said.note];
  const key = heat.value;
  if (key !== "none" && key !== "field" && node.costs?.[key]) parts.push(amount(key, node.costs[key] as number));
  return [...parts, node.status].filter(Boolean).join(", ");
}

function Lines({ graph, part }: { graph: Graph; part?: Point }): JSX.Element {
  const lines = drawing.value!.lines.filter(({ points }) => !part || overlaps(points[0]![1], points.at(-1)![1], part));
  return <g class="lines">{lines.map((line) => (
    <Arrow key={`${line.block}-${line.edge}`} points={line.points} ends={graph.node(line.block).grid?.edges[line.edge]?.[2] === -1} />
  ))}</g>;
}

/** Lines of the chosen box again, above the others. */
function Highlight({ graph }: { graph: Graph }): JSX.Element | null {
  const id = current.value, node = graph.node(id);
  if (!id) return null;
  const parent = graph.node(node.parent), order = parent?.children.indexOf(id) ?? -1;
  const own = drawing.value!.lines.filter(({ block, edge }) => {
    const [from, , to] = parent?.grid?.edges[edge] ?? [];
    return block === node.parent && (from === order || to === order);
  });
  return <g class="lines chosen">{own.map((line) => (
    <Arrow key={line.edge} points={line.points} ends={parent.grid?.edges[line.edge]?.[2] === -1} />
  ))}</g>;
}

function Arrow({ points, ends }: { points: readonly Point[]; ends: boolean }): JSX.Element {
  const [x, y] = points.at(-1) as Point;
  const way = ends ? points : [...points.slice(0, -1), [x, y - 5] as const];
  return <path d={`${rounded(way)}${ends ? "" : `M${x - 3.500} ${y - 6.500}L${x} ${y - 1}L${x + 3.500} ${y - 6.500}`}`} />;
}

/** A path along corners that are rounded as far as their sides are long enough. */
function rounded(points: readonly Point[]): string {
  let path = `M${points[0]}`;
  for (let i = 1; i + 1 < points.length; i++) {
    const [before, at, after] = points.slice(i - 1, i + 2) as [Point, Point, Point];
    const radius = Math.min(ROUND, apart(before, at) / 2, apart(at, after) / 2);
    path += `L${toward(at, before, radius)}Q${at} ${toward(at, after, radius)}`;
  }
  return `${path}L${points.at(-1)}`;
}

const apart = (a: Point, b: Point): number => Math.abs(a[0] - b[0]) + Math.abs(a[1] - b[1]);

function toward(a: Point, b: Point, length: number): Point {
  const share = apart(a, b) ? length / apart(a, b) : 0;
  return [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];
}

// -------------------------------------------------------------------------------------- heat

const most = computed((): number => {
  const key = heat.value;
  if (!graph || key === "none") return 0;
  return Math.max(0, ...drawing.value!.boxes.filter((box) => box.inside < 0).map((box) => (graph as Graph).node(box.node).costs?.[key] ?? 0));
});

/** A cost between nothing (0) and the largest of a box (1); null where it has none. */
function heatOf(node: Node): number | null {
  const key = heat.value;
  if (key === "none" || network.diff || node.kind === "input" || node.kind === "output") return null;
  const value = node.costs?.[key] ?? 0;
  return key === "field" && value < 0 ? 1 : most.value ? value / most.value : 0;
}

const amount = (key: Heat, value: number): string =>
  key === "field" ? `${integer(value)} px` : key === "none" ? "" : `${written(key, value)}${key === "macs" ? "MACs" : ""}`;

const GROUPS = [
  "convolution", "linear, product", "recurrent", "pool, resample", "norm", "activation", "join", "other arithmetic",
];

function Legend({ graph }: { graph: Graph }): JSX.Element {
  const key = heat.value;
  if (network.diff) {
    const seen = new Set(graph.nodes.map((node) => node.status));
    return (
      <p class="legend">
        {(["same", "resized", "changed", "added", "removed"] as const).filter((one) => seen.has(one)).map((one) => (
          <span key={one}><i class={`key ${one}`} />{one}</span>
        ))}
      </p>
    );
  }
  const label = HEATS.find((one) => one.key === key)?.label;
  const groups = new Set(drawing.value!.boxes.filter((box) => box.inside < 0).map((box) => graph.node(box.node).group));
  return (
    <p class="legend">
      {key !== "none" && <><span>{label} of a box</span> <i class="scale" /> <span>{amount(key, most.value)}</span></>}
      <span class="groups">
        {GROUPS.filter((one) => groups.has(one)).map((one) => <span key={one}><i class="key" data-group={one} />{one}</span>)}
      </span>
      <span class="hint">Double-click or Enter opens a block; arrow keys follow the data; Ctrl and wheel zoom.</span>
    </p>
  );
}
