// Coordinates of the graph from its grids and from what is open: `cnnscope/render/graph/restack.py`
// again, for expansion in place; test/restack.test.ts holds the two together.
import type { Graph, Grid, Node } from "./graph";

export const enum State { Closed, Open, Unfolded }

export const GAP = 16; // between rows
export const TRACK = 8; // between lines in a gap
export const SLOT = 12; // between lines that enter a box
export const LANE = 7; // beside a lane
export const SIDE = 9; // beside a box
export const PAD = 8; // inside the border of a block
export const HEAD = 24; // where the name of a block stands
const SINK = 10; // a box is at most so far below the upper edge of its row
const BORDER = -1;

export type Point = readonly [number, number];

/** A visible box: `inside` is the node whose children are drawn in it, -1 for a closed one. */
export interface Box {
  readonly node: number;
  readonly depth: number;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly inside: number;
}

/** The way of an edge: the block that has it, its number there, its corners. */
export interface Line { readonly block: number; readonly edge: number; readonly points: readonly Point[] }

export interface Drawing {
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly Box[];
  readonly lines: readonly Line[];
}

interface Measured {
  readonly width: number;
  readonly height: number;
  readonly axis: number;
  readonly inside: number;
  readonly rails: readonly number[];
  readonly rows: readonly Point[]; // top and bottom of each, the border's as the first and the last
  readonly heights: readonly number[];
  readonly children: readonly Measured[];
}

export type Size = (node: Node, open: boolean) => Point;

/** The node whose children are seen in a box, -1 if none are. */
export function insideOf(graph: Graph, id: number, state: State): number {
  const node = graph.nodes[id] as Node;
  if (!state || !node.children.length) return -1;
  if (node.kind === "repeat" && state === State.Open) return insideOf(graph, node.children[0] as number, State.Open);
  return id;
}

/** Place every visible box and line. */
export function restack(graph: Graph, states: ReadonlyMap<number, State>, size: Size): Drawing {
  const boxes: Box[] = [], lines: Line[] = [];

  function measure(id: number): Measured {
    const inside = insideOf(graph, id, states.get(id) ?? State.Closed);
    const [width, height] = size(graph.nodes[id] as Node, inside >= 0);
    if (inside < 0) return { width, height, axis: width / 2, inside, rails: [], rows: [], heights: [], children: [] };
    const block = graph.nodes[inside] as Node, grid = block.grid as Grid;
    const children = block.children.map(measure);
    const [axes, left, right] = railsOf(grid, children), [rows, heights] = rowsOf(grid, children);
    const spare = Math.max(0, width - left - right - 2 * PAD) / 2, axis = left + PAD + spare;
    return {
      width: axis + right + PAD + spare, height: (rows.at(-1) as Point)[1], axis, inside,
      rails: axes.map((x) => axis + x), rows, heights, children,
    };
  }

  function put(id: number, box: Measured, depth: number, x: number, y: number): void {
    boxes.push({ node: id, depth, x, y, width: box.width, height: box.height, inside: box.inside });
    if (box.inside < 0) return;
    const block = graph.nodes[box.inside] as Node, grid = block.grid as Grid;
    const ends = box.children.map((inner, n) => {
      const [row, rail] = grid.places[n] as Point;
      const left = x + (box.rails[rail] as number) - inner.axis;
      const spare = (box.heights[row + 1] as number) - inner.height;
      const top = y + (box.rows[row + 1] as Point)[0] + Math.min(spare / 2, SINK);
      put(block.children[n] as number, inner, depth + 1, left, top);
      return { x: left + inner.axis, top, bottom: top + inner.height, row };
    });
    const axis = x + (box.rails[grid.trunk] as number);
    const source = { x: axis, top: y, bottom: y + HEAD, row: -1 };
    const target = { x: axis, top: y + box.height, bottom: y, row: grid.rows };
    const track = (gap: number, number: number): number =>
      y + (box.rows[gap] as Point)[1] + GAP / 2 + TRACK * Math.max(number, 0);
    grid.edges.forEach(([from, , to], edge) => {
      const [exit, leave, lane, arrive, entry] = grid.routes[edge] as Grid["routes"][number];
      const begin = from === BORDER ? source : ends[from] as typeof source;
      const end = to === BORDER ? target : ends[to] as typeof source;
      const first = begin.x + SLOT * exit, last = end.x + SLOT * entry;
      const points: Point[] = [[first, begin.bottom]];
      if (lane < 0) {
        const at = track(begin.row + 1, leave);
        if (leave >= 0) points.push([first, at], [last, at]);
      } else {
        const way = x + (box.rails[grid.lanes[lane] as number] as number);
        const at = track(begin.row + 1, leave), below = track(end.row, arrive);
        if (leave >= 0) points.push([first, at], [way, at]);
        if (arrive >= 0) points.push([way, below], [last, below]);
      }
      points.push([last, end.top]);
      lines.push({ block: box.inside, edge, points });
    });
  }

  const whole = measure(0);
  put(0, whole, 0, 0, 0);
  return { width: whole.width, height: whole.height, boxes, lines };
}

/** Where the rails are from the trunk, and how far the block reaches to both sides of it. */
function railsOf(grid: Grid, children: readonly Measured[]): [number[], number, number] {
  const reach = new Map<string, Point>(); // to the left and right of a rail, in a row
  grid.places.forEach(([row, rail], n) => {
    const child = children[n] as Measured;
    reach.set(`${rail},${row}`, [child.axis + SIDE, child.width - child.axis + SIDE]);
  });
  const slots = SLOT * Math.max(0, ...[...grid.inputs, ...grid.outputs].map(Math.abs));
  const axes = grid.rails.map(() => 0), ends: [number, number] = [slots, slots];
  for (const side of [0, 1] as const) {
    const sign = 2 * side - 1, other = (1 - side) as 0 | 1;
    const edges = Array.from({ length: grid.rows }, (_, row) => reach.get(`${grid.trunk},${row}`)?.[side] ?? 0);
    const gaps = new Array<number>(grid.rows + 1).fill(0);
    const beside = grid.rails.map((rail, number) => ({ number, rail })).filter(({ rail }) => rail[0] * sign > 0);
    beside.sort((a, b) => Math.abs(a.rail[0]) - Math.abs(b.rail[0]));
    for (const { number, rail: [, first, last] } of beside) {
      const sizes: Point[] = [];
      for (let row = first; row <= last; row++) sizes.push(reach.get(`${number},${row}`) ?? [LANE, LANE]);
      const x = Math.max(
        ...sizes.map((size, n) => (edges[first + n] as number) + size[other]),
        ...gaps.slice(first, last + 2).map((gap) => gap + 2 * LANE),
      );
      axes[number] = sign * x;
      gaps.fill(x, first, last + 2);
      sizes.forEach((size, n) => { edges[first + n] = x + size[side]; });
    }
    ends[side] = Math.max(ends[side], 0, ...edges);
  }
  return [axes, ...ends];
}

/** Top and bottom of every row, and its height; the border is the first and the last one. */
function rowsOf(grid: Grid, children: readonly Measured[]): [Point[], number[]] {
  const heights = new Array<number>(grid.rows + 2).fill(0);
  grid.places.forEach(([row], n) => {
    heights[row + 1] = Math.max(heights[row + 1] as number, (children[n] as Measured).height);
  });
  let y = HEAD;
  const rows: Point[] = [[0, HEAD]];
  grid.tracks.forEach((lines, gap) => {
    y += GAP + TRACK * Math.max(lines - 1, 0);
    const height = heights[gap + 1] as number;
    rows.push([y, y + height]);
    y += height;
  });
  return [rows, heights];
}
