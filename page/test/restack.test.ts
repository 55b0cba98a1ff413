// Coordinates are those of cnnscope/render/graph/restack.py, of which restack.json has a golden
// (tests/render/test_page_html.py writes it): a small network, with different blocks open.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Graph, type Node } from "../src/graph";
import { type Point, restack, type State } from "../src/restack";

const golden = JSON.parse(readFileSync("test/restack.json", "utf8"));
const size = (node: Node, open: boolean): Point => [40 + 8 * node.label.length, open ? 24 : node.costs?.macs ? 42 : 26];

for (const { states, drawing } of golden.drawings) {
  test(`coordinates with ${JSON.stringify(states)} open`, () => {
    const found = restack(new Graph(golden.graph), new Map<number, State>(states), size);
    assert.deepEqual([found.width, found.height], drawing.size);
    assert.deepEqual(found.boxes.map((b) => [b.node, b.depth, b.x, b.y, b.width, b.height, b.inside]), drawing.boxes);
    assert.deepEqual(found.lines.map((one) => [one.block, one.edge, one.points]), drawing.lines);
  });
}

test("data flow leads into open blocks and out of them", () => {
  const graph = new Graph(golden.graph);
  for (const { states } of golden.drawings) {
    const open = new Map<number, State>(states);
    const { next, before } = graph.flow(open);
    const closed = restack(graph, open, size).boxes.filter((box) => box.inside < 0).map((box) => box.node);
    const seen = new Set<number>();
    const waiting = [closed.find((id) => graph.node(id).kind === "input") as number];
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      if (seen.has(at)) continue;
      seen.add(at);
      waiting.push(...(next.get(at) ?? []));
      for (const after of next.get(at) ?? []) assert.ok(before.get(after)?.includes(at));
    }
    assert.deepEqual([...seen].sort((a, b) => a - b), closed.sort((a, b) => a - b));
  }
});
