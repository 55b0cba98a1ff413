// What is written in a box of the graph, and how large that makes it.
import type { Status } from "./data";
import type { Node } from "./graph";
import type { Point } from "./restack";
import { perSample, times } from "./units";

/** `title` in bold and `note` behind it, `below` in the second line. */
export interface Text { readonly title: string; readonly note: string; readonly below: readonly [string, string] | null }

const EDGE = 12, LOW = 26, HIGH = 42, STRIPE = 4;
const BUTTON = 22; // for the arrow that opens a block
const LEAST: Partial<Record<Node["kind"], number>> = { block: 136, repeat: 136, layer: 124 };
export const FONTS = { title: "600 12px", small: "400 11px" };

const CONTAINERS = ["Sequential", "ModuleList", "ModuleDict"]; // CONTAINERS of records/summary.py
const MARKS: Partial<Record<Status, string>> = { changed: "~ ", added: "+ ", removed: "\u2212 " };

/** What a closed box says; of two models, what became of it. */
export function textOf(node: Node): Text {
  const said = ownText(node), mark = node.fails ? "\u2715 " : node.status && MARKS[node.status];
  if (!mark) return said;
  const was = node.changes ? [pretty(cut(node.changes, 60)), ""] as const : said.below;
  return { ...said, title: mark + said.title, below: was };
}

function ownText(node: Node): Text {
  const name = `${cut(node.name ?? "", 32)}${node.call ? ` #${node.call}` : ""}`, label = pretty(cut(node.label, 44));
  const shape = node.outputs?.[0] ? perSample(node.outputs[0]) + (node.more ? ` +${node.more}` : "") : "";
  switch (node.kind) {
    case "input": case "output": case "parameter": return { title: name, note: shape, below: null };
    case "constant": case "operation": return { title: label, note: shape, below: null };
    case "layer": return node.costs?.macs || node.costs?.params
      ? { title: label, note: "", below: [name, shape] }
      : { title: label, note: name === label ? shape : name, below: null };
    default: {
      const [title, other] = ofBlock(node);
      return { title, note: "", below: [other, shape] };
    }
  }
}

/** What stands above an open block. */
export function headOf(node: Node): Text {
  const [title, note] = ofBlock(node);
  return { title, note, below: null };
}

/** Class and name of a block; of a container, whose class says little, the name first. */
function ofBlock(node: Node): readonly [string, string] {
  const label = pretty(cut(node.label, 44)), name = membersOf(node) + (node.call ? ` #${node.call}` : "");
  return CONTAINERS.includes(node.label) && name ? [name + repeats(node), label] : [label + repeats(node), name];
}

const repeats = (node: Node): string => (node.repeat ? ` \u00d7 ${node.repeat}` : "");

function membersOf(node: Node): string {
  const [first, last] = node.members ?? [];
  return first === undefined || last === undefined ? cut(node.name ?? "", 32) : cut(range(first, last), 32);
}

/** 0\u20135, layer_0\u201311, or both names in full. */
export function range(first: string, last: string): string {
  const stem = /^(.*?)(\d+)$/.exec(first), end = /^(.*?)(\d+)$/.exec(last);
  return stem && end && stem[1] === end[1] ? `${first}\u2013${end[2]}` : `${first} \u2026 ${last}`;
}

const pretty = (text: string): string => times(text.replaceAll("->", "\u2192"));
const cut = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}\u2026` : text);

/** Least width of a box and its height; of an open block those of its head. */
export function sizeOf(node: Node, open: boolean): Point {
  const said = open ? headOf(node) : textOf(node);
  const opens = node.children.length > 0;
  const first = width(said.title, "title") + (said.note ? 8 + width(said.note, "small") : 0) + (opens ? BUTTON : 0);
  const second = said.below ? width(said.below.filter(Boolean).join("   "), "small") : 0;
  const more = open && node.kind === "repeat" ? 70 : 0;
  const least = open ? 0 : LEAST[node.kind] ?? 56;
  const broad = Math.max(first, second) + 2 * EDGE + STRIPE + more;
  return [Math.max(Math.ceil(broad / 4) * 4, least), said.below ? HIGH : LOW];
}

const known = new Map<string, number>();
let pen: CanvasRenderingContext2D | null | undefined;

/** Width of a text in pixels, in the fonts of the page. */
export function width(text: string, font: keyof typeof FONTS): number {
  const key = `${font} ${text}`;
  let found = known.get(key);
  if (found === undefined) {
    pen ??= document.createElement("canvas").getContext("2d");
    if (pen) pen.font = `${FONTS[font]} ${getComputedStyle(document.documentElement).fontFamily}`;
    found = pen ? pen.measureText(text).width : text.length * 7;
    known.set(key, found);
  }
  return found;
}
