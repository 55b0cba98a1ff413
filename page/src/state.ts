// What the reader has chosen; every part of the page reads and writes it here.
import { computed, signal } from "@preact/signals";
import { load } from "./data";
import { Network, type Cost } from "./model";

export const network = new Network(load());

/** The line that the panel tells of; the model itself at first. */
export const selected = signal(0);
/** The line under the pointer, in the graph, the table or a chart. */
export const hovered = signal<number | null>(null);
/** The cost that colours the graph and orders the charts. */
export const heat = signal<Cost | "field" | "none">("macs");
/** True while the page is printed: everything is open then. */
export const printing = signal(false);

/** Who asked for the selection, so that everybody else brings it into view. */
export type Origin = "graph" | "table" | "chart" | "search" | "panel";
export const origin = signal<Origin>("panel");

export const line = computed(() => network.line(selected.value));

/** Choose a line. */
export function select(id: number, by: Origin): void {
  origin.value = by;
  selected.value = id;
}

/** Choose the line of a dotted path, or of the module around it. */
export function selectPath(path: string, by: Origin): void {
  const found = network.find(path);
  if (found !== undefined) select(found, by);
}
