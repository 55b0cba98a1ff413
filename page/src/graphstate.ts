// What is open in the graph, and which box the reader is at.
import { computed, signal } from "@preact/signals";
import { sizeOf } from "./boxes";
import { Graph, type Node } from "./graph";
import { type Drawing, insideOf, restack, State } from "./restack";
import { network, printing, select } from "./state";

export const graph = network.page.graph ? new Graph(network.page.graph, (row) => network.model.rows[row]?.time ?? 0) : null;

export type States = ReadonlyMap<number, State>;

const first: States = new Map(graph?.data.opened.map((id) => [id, State.Open]));
export const states = signal<States>(first);
/** The box with the keyboard's focus. */
export const current = signal(0);

export const drawing = computed((): Drawing | null => graph && restack(graph, states.value, sizeOf));
export const flow = computed(() => graph?.flow(states.value));

/** Nodes of each line; a repeat after its first member. */
const nodesOf = new Map<number, number[]>();
graph?.nodes.forEach((node) => {
  for (const row of [node.row, ...(node.merged ?? [])]) {
    const line = row < 0 ? undefined : lineOfRow(node, row);
    if (line === undefined) continue;
    const list = nodesOf.get(line) ?? [];
    if (node.kind === "repeat") list.push(node.id);
    else list.unshift(node.id);
    nodesOf.set(line, list);
  }
});

function lineOfRow(node: Node, row: number): number | undefined {
  return network.lineOf(row, node.status === "removed" ? 0 : undefined);
}

/** The line that a box stands for. */
export const lineOf = (node: Node): number | undefined => (node.row < 0 ? undefined : lineOfRow(node, node.row));

/** The node of a line, or of the module around it. */
export function nodeOf(line: number): number | undefined {
  for (const id of [line, ...network.around(line)]) {
    const found = nodesOf.get(id)?.[0];
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The visible box that shows a node, or the closed block that it is in. */
export function visibleOf(id: number, at: States = states.value): number {
  if (!graph) return -1;
  const way = [...graph.around(id).reverse(), id];
  let seen = 0;
  for (const step of way) {
    const node = graph.node(step), parent = node.parent;
    const hidden = parent >= 0 && graph.node(parent).kind === "repeat" && insideOf(graph, parent, at.get(parent) ?? 0) !== parent;
    if (hidden && graph.node(parent).children[0] !== step) return seen;
    if (!hidden) seen = step;
    if (insideOf(graph, seen, at.get(seen) ?? 0) < 0) return seen;
  }
  return seen;
}

const MANY = 200; // members of a repeat that are not all shown for the sake of one

/** Open what is around a node. */
export function reveal(id: number): void {
  if (!graph) return;
  const next = new Map(states.value);
  let child = id;
  for (const around of graph.around(id)) {
    const node = graph.node(around), among = node.kind === "repeat" && (node.children[0] !== child || !graph.node(child).children.length);
    if (among && node.children.length > MANY) next.delete(around); // its box stands for all
    else if (among) next.set(around, State.Unfolded);
    else if (!next.get(around)) next.set(around, State.Open);
    child = around;
  }
  states.value = next;
}

/** Open a closed box, or close an open one; a repeat shows its first member. */
export function toggle(id: number): void {
  if (!graph) return;
  const node = graph.node(id), next = new Map(states.value);
  if (next.get(id)) next.delete(id);
  else if (node.children.length) next.set(id, insideOf(graph, id, State.Open) < 0 ? State.Unfolded : State.Open);
  states.value = next;
}

/** Show all members of a repeat, or its first one alone. */
export function unfold(id: number): void {
  if (!graph) return;
  const node = graph.node(id), next = new Map(states.value), all = next.get(id) === State.Unfolded;
  const one = insideOf(graph, id, State.Open) >= 0;
  if (!all) {
    if (one && next.get(id)) next.set(node.children[0] as number, State.Open); // it was open
    next.set(id, State.Unfolded);
  }
  else if (one) next.set(id, State.Open);
  else next.delete(id);
  states.value = next;
}

/** Open every block, as at first, or none. */
export function setAll(what: "all" | "first" | "none"): void {
  if (!graph) return;
  const all: States = new Map(graph.nodes.filter((node) => node.children.length).map((node) => [node.id, State.Open]));
  states.value = { all, first, none: new Map([[0, State.Open]]) }[what];
}

/** Go to a box. */
export function goTo(id: number): void {
  current.value = id;
  const line = graph && lineOf(graph.node(id));
  if (typeof line === "number") select(line, "graph");
}

/** What is open on paper: repeats stay folded, all else is shown where it is not too much. */
const kept = signal<States | null>(null);
printing.subscribe((now) => {
  if (now && graph && graph.nodes.length < 400) {
    kept.value = states.peek();
    setAll("all");
  } else if (!now && kept.peek()) {
    states.value = kept.peek() as States;
    kept.value = null;
  }
});
