// Numbers are written as in Python: the goldens are what cnnscope/render/units.py gives.
import assert from "node:assert/strict";
import { test } from "node:test";
import { expand } from "../src/data";
import { bytes, duration, integer, perSample, percent, short, si, signed, times } from "../src/units";

test("counts have prefixes, and round up to the next", () => {
  assert.deepEqual([0, 999, 1000, 9408, 118013952, 999_999_600, 1814073344].map((n) => si(n)),
    ["0", "999", "1.000 k", "9.408 k", "118.014 M", "1.000 G", "1.814 G"]);
  assert.deepEqual([512000, 118013952, 1814073344].map(short), ["512.0 k", "118.0 M", "1.81 G"]);
});

test("bytes are binary", () => {
  assert.deepEqual([0, 1023, 1024, 1048524, 46_758_048].map(bytes),
    ["0 B", "1023 B", "1.0 KiB", "1023.9 KiB", "44.6 MiB"]);
});

test("durations have four digits", () => {
  assert.deepEqual([999, 23_410_000, 999_996, 1234.5].map(duration), ["999.0 ns", "23.41 ms", "1.000 ms", "1.234 \u00b5s"]);
});

test("shares, signs and shapes", () => {
  assert.equal(percent(1, 8), "12.5 %");
  assert.equal(percent(0, 8), "");
  assert.equal(signed(-513000), "\u2212513,000");
  assert.equal(signed(0), "");
  assert.equal(integer(11689512), "11,689,512");
  assert.equal(perSample([1, 64, 56, 56]), "64\u00d756\u00d756");
  assert.equal(perSample([2, 64]), "2\u00d764");
  assert.equal(times("Conv2d 3x3/2, 7x7x7 axb"), "Conv2d 3\u00d73/2, 7\u00d77\u00d77 axb");
});

test("runs are numbers again", () => {
  assert.deepEqual(expand([]), []);
  assert.deepEqual(expand([3, 2, 2, 0, 1]), [3, 5, 7, 7]);
});
