// The graph of the page: nodes with their grids, and what can be asked of them.
import type { Shape, Status } from "./data";
import type { Cost } from "./model";
import { insideOf, type State } from "./restack";

export type Kind = "block" | "repeat" | "layer" | "operation" | "parameter" | "constant" | "input" | "output";

/** Where the children of a block are, and the way of each of its edges; see `records/graph.py`. */
export interface Grid {
  /** Row and rail of each child. */
  readonly places: readonly (readonly [number, number])[];
  readonly rows: number;
  /** Column, first and last row. */
  readonly rails: readonly (readonly [number, number, number])[];
  readonly trunk: number;
  readonly tracks: readonly number[];
  readonly lanes: readonly number[];
  /** source, output port, target, input port; children by their order in the block. */
  readonly edges: readonly (readonly [number, number, number, number])[];
  readonly routes: readonly (readonly [number, number, number, number, number])[];
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

export interface NodeData {
  readonly kind: Kind;
  readonly parent: number;
  readonly label?: string;
  readonly group?: string;
  readonly row: number;
  readonly name?: string;
  readonly call?: number;
  readonly merged?: readonly number[];
  readonly outputs?: readonly Shape[];
  readonly more?: number;
  readonly repeat?: number;
  readonly members?: readonly string[];
  readonly grid?: number;
  readonly costs?: Readonly<Partial<Record<Cost | "field", number>>>;
  readonly status?: Status;
  /** The forward raised here. */
  readonly fails?: boolean;
  /** What is not the same: groups 1 -> 32. */
  readonly changes?: string;
}

export interface GraphData {
  readonly nodes: readonly NodeData[];
  readonly grids: readonly Grid[];
  readonly opened: readonly number[];
}

export interface Node extends Omit<NodeData, "grid" | "label"> {
  readonly label: string;
  readonly id: number;
  readonly children: readonly number[];
  readonly grid: Grid | undefined;
}

/** A visible end of an edge: the node of a closed box. */
export interface Flow { readonly next: Map<number, number[]>; readonly before: Map<number, number[]> }

export class Graph {
  readonly nodes: readonly Node[];

  constructor(readonly data: GraphData, timeOf: (row: number) => number = () => 0) {
    const children: number[][] = data.nodes.map(() => []);
    data.nodes.forEach((node, id) => children[node.parent]?.push(id));
    this.nodes = data.nodes.map((node, id) => ({
      ...node, id, label: node.label ?? "",
      costs: { ...node.costs, time: [node.row, ...(node.merged ?? [])].reduce((sum, row) => sum + timeOf(row), 0) }, children: children[id] as number[],
      grid: node.grid === undefined ? undefined : data.grids[node.grid],
    }));
  }

  node(id: number): Node {
    return this.nodes[id] as Node;
  }

  /** Nodes around a node, the innermost first. */
  around(id: number): number[] {
    const found: number[] = [];
    for (let at = this.node(id).parent; at >= 0; at = this.node(at).parent) found.push(at);
    return found;
  }

  /** Data flow between the closed boxes that are visible. */
  flow(states: ReadonlyMap<number, State>): Flow {
    const next = new Map<number, number[]>(), before = new Map<number, number[]>();
    const seen = (id: number): number => insideOf(this, id, states.get(id) ?? 0);
    const port = (id: number, number: number, end: 0 | 2): number[] => {
      const inside = seen(id);
      if (inside < 0) return [id];
      const block = this.node(inside);
      return (block.grid?.edges ?? [])
        .filter((edge) => edge[end] === -1 && edge[end + 1] === number && edge[2 - end] !== -1)
        .flatMap((edge) => port(block.children[edge[2 - end] as number] as number, edge[3 - end] as number, end));
    };
    const visit = (id: number): void => {
      const inside = seen(id);
      if (inside < 0) return;
      const block = this.node(inside);
      for (const [from, out, to, into] of block.grid?.edges ?? []) {
        if (from < 0 || to < 0) continue;
        for (const a of port(block.children[from] as number, out, 2)) {
          for (const b of port(block.children[to] as number, into, 0)) {
            add(next, a, b);
            add(before, b, a);
          }
        }
      }
      block.children.forEach(visit);
    };
    visit(0);
    return { next, before };
  }
}

function add(map: Map<number, number[]>, key: number, value: number): void {
  const list = map.get(key);
  if (!list) map.set(key, [value]);
  else if (!list.includes(value)) list.push(value);
}
