// Bundle src/ into the package: one script and one style, which the page holds inside.
// `node build.mjs` writes them, `--check` fails if what is committed differs, `--test` bundles
// the tests instead.
import { readFileSync, readdirSync } from "node:fs";
import { build } from "esbuild";

const target = new URL("../cnnscope/render/page_html/", import.meta.url).pathname;
const common = {
  bundle: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
  absWorkingDir: new URL(".", import.meta.url).pathname,
};

if (process.argv.includes("--test")) {
  const tests = readdirSync(new URL("test/", import.meta.url));
  await build({
    ...common,
    entryPoints: tests.filter((name) => name.endsWith(".test.ts")).map((name) => `test/${name}`),
    platform: "node",
    format: "esm",
    outdir: "node_modules/.tests",
    outExtension: { ".js": ".test.mjs" },
    external: ["node:*"],
  });
} else {
  const made = await build({
    ...common,
    entryPoints: [{ in: "src/main.tsx", out: "page" }, { in: "src/style.css", out: "page" }],
    entryNames: "[name]",
    minify: true,
    charset: "ascii", // nothing in the file depends on how it is read
    legalComments: "none",
    format: "iife",
    outdir: target,
    write: !process.argv.includes("--check"),
  });
  if (process.argv.includes("--check")) {
    for (const { path, text } of made.outputFiles) {
      if (readFileSync(path, "utf8") !== text) {
        console.error(`${path} is not what src/ builds to: run npm run build, and commit it`);
        process.exitCode = 1;
      }
    }
  }
}
