// The summary as a table: a tree that folds, sorts and filters, linked with all the rest.
import { computed, signal, useComputed, useSignalEffect } from "@preact/signals";
import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { COSTS, change, costOf, type Cost, type Line } from "./model";
import { Icon, Name, Section } from "./parts";
import { hovered, network, origin, printing, select, selected } from "./state";
import { cost, integer, percent, perSample, signed, times } from "./units";

type Key = "order" | "operation" | Cost | "field";
const ROOM = 42; // rows that a table opens with
const MANY = 500;

const open = signal(opened(network.lines));
const filter = signal("");
const sort = signal<{ key: Key; down: boolean }>({ key: "order", down: false });
const bookkeeping = signal(false);
/** Rows that are drawn: of thousands only the first ones, until the reader wants more. */
const limit = signal(MANY);

/** Open whole levels as long as the table fits a screen; of two models, what differs. */
function opened(lines: readonly Line[]): ReadonlySet<number> {
  if (network.diff) {
    return new Set(lines.filter((line) => line.status === "changed" && line.children.length).map((line) => line.id));
  }
  const deepest = Math.max(...lines.map((line) => line.depth));
  const count = (depth: number): number => lines.filter((line) => line.depth <= depth && !line.minor).length;
  let depth = 1;
  while (depth < deepest && count(depth + 1) <= ROOM) depth++;
  return toDepth(depth);
}

function toDepth(depth: number): ReadonlySet<number> {
  return new Set(network.lines.filter((line) => line.depth < depth && line.children.length).map((line) => line.id));
}

const shown = computed((): readonly Line[] => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean), { key, down } = sort.value;
  if (key !== "order" || words.length) {
    const found = network.lines.filter((line) => line.id > 0 && (key === "order" || line.leaf) && matches(line, words));
    return key === "order" ? found : found.sort((a, b) => (down ? -1 : 1) * compare(a, b, key));
  }
  return tree(0);
});

function tree(id: number): Line[] {
  const line = network.line(id);
  const inside = open.value.has(id) || printing.value ? line.children : [];
  return [...(id ? [line] : []), ...inside.filter(visible).flatMap(tree)];
}

function visible(id: number): boolean {
  const line = network.line(id);
  return bookkeeping.value || !line.minor || line.children.length > 0;
}

function matches(line: Line, words: readonly string[]): boolean {
  if (line.minor && !bookkeeping.value) return false;
  const text = `${line.path} ${line.operation} ${line.status}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function compare(a: Line, b: Line, key: Key): number {
  if (key === "operation") return a.operation.localeCompare(b.operation);
  if (key === "field") return extent(a) - extent(b);
  if (key === "order") return a.id - b.id;
  return network.diff ? change(a, key) - change(b, key) : costOf(a, key) - costOf(b, key);
}

function extent(line: Line): number {
  const axes = line.row && network.field(line.row, network.owner(line))?.axes;
  return axes ? Math.max(...axes.map(([, local]) => local ?? Infinity)) : -1;
}

/** Show a row in the frame of the table; the page itself stays where it is. */
function scrollTo(row: Element | null | undefined): void {
  const frame = row?.closest(".table"), head = 40;
  if (!row || !frame) return;
  const a = row.getBoundingClientRect(), b = frame.getBoundingClientRect();
  if (a.top < b.top + head) frame.scrollTop -= b.top + head - a.top;
  else if (a.bottom > b.bottom) frame.scrollTop += a.bottom - b.bottom + head;
}

/** Open what is around a line. */
export function reveal(id: number): void {
  open.value = new Set([...open.value, ...network.around(id)]);
  if (network.line(id).minor) bookkeeping.value = true;
}

export function Table(): JSX.Element {
  const body = useRef<HTMLTableSectionElement>(null);
  useSignalEffect(() => {
    const id = selected.value;
    if (!id) return;
    if (origin.value !== "table") reveal(id);
    const at = shown.peek().findIndex((line) => line.id === id);
    if (at >= limit.peek()) limit.value = at + MANY;
    if (origin.value === "table") return;
    requestAnimationFrame(() => scrollTo(body.current?.querySelector(`[data-id="${id}"]`)));
  });
  const tree = sort.value.key === "order" && !filter.value, rows = printing.value ? shown.value : shown.value.slice(0, limit.value);
  return (
    <Section id="layers" title="Layers" tools={<Tools />}
      about={network.diff ? "Both models aligned: what is equal, changed, added and removed." : "In the order in which they run."}>
      <div class="scroll table">
        <table class="layers" role={tree ? "treegrid" : "grid"} aria-label="Layers">
          <thead><Headings /></thead>
          <tbody ref={body} onKeyDown={onKey}>
            {rows.map((line) => <Row line={line} tree={tree} key={line.id} />)}
          </tbody>
        </table>
        {rows.length < shown.value.length && (
          <p class="empty">
            <button type="button" class="link" onClick={() => { limit.value = Infinity; }}>
              {integer(shown.value.length - rows.length)} more layers
            </button>
          </p>
        )}
        {shown.value.length === 0 && <p class="empty">No layer matches.</p>}
      </div>
    </Section>
  );
}

function Tools(): JSX.Element {
  const minor = network.lines.some((line) => line.minor);
  return (
    <>
      <label class="field">
        <Icon name="search" /><span class="sr">Filter layers</span>
        <input type="search" placeholder="Filter layers" value={filter.value}
          onInput={(event) => { filter.value = event.currentTarget.value; }} />
      </label>
      <button type="button" onClick={() => { open.value = toDepth(Infinity); }}>Expand all</button>
      <button type="button" onClick={() => { open.value = toDepth(1); }}>Collapse</button>
      {minor && (
        <label class="check" title="Views, slices and integer bookkeeping">
          <input type="checkbox" checked={bookkeeping.value}
            onChange={(event) => { bookkeeping.value = event.currentTarget.checked; }} />
          Views too
        </label>
      )}
    </>
  );
}

function Headings(): JSX.Element {
  const columns: readonly (readonly [Key | "output" | "change", string])[] = network.diff
    ? [["order", "Layer"], ["operation", "Operation"], ["change", "Change"], ["params", "Params"], ["macs", "MACs"]]
    : [["order", "Layer"], ["operation", "Operation"], ["output", "Output"], ["params", "Params"], ["macs", "MACs"],
      ["activation_bytes", "Activations"], ["field", "Field"]];
  return (
    <tr>
      {columns.map(([key, title]) => {
        if (key === "output" || key === "change") return <th scope="col" key={key}>{title}</th>;
        const here = sort.value.key === key;
        const order = here ? (sort.value.down ? "descending" : "ascending") : "none";
        return (
          <th scope="col" key={key} aria-sort={order} class={key === "order" || key === "operation" ? "" : key === "macs" && !network.diff ? "number share" : "number"}>
            <button type="button" onClick={() => sortBy(key)}>
              {title}<span aria-hidden="true" class={`arrow ${order}`} />
            </button>
          </th>
        );
      })}
    </tr>
  );
}

/** The largest first, then the smallest, then the order in which they run. */
function sortBy(key: Key): void {
  const { key: before, down } = sort.value, falls = key !== "operation";
  if (key === "order" || (before === key && down !== falls)) sort.value = { key: "order", down: false };
  else sort.value = { key, down: before === key ? !down : falls };
}

function Row({ line, tree }: { line: Line; tree: boolean }): JSX.Element {
  const id = line.id, folds = tree && line.children.some(visible), isOpen = folds && (open.value.has(id) || printing.value);
  // Computed, so that of thousands of rows only those are drawn again that change.
  const chosen = useComputed(() => selected.value === id).value;
  const warm = useComputed(() => hovered.value === id).value;
  const stop = useComputed(() => id === (selected.value || shown.value[0]?.id)).value;
  return (
    <tr
      data-id={id} tabIndex={stop ? 0 : -1}
      class={`${line.children.length ? "block" : ""} ${line.status} ${warm ? "hovered" : ""}`}
      aria-selected={chosen} {...(tree ? { "aria-level": line.depth } : {})}
      {...(folds ? { "aria-expanded": isOpen } : {})}
      onClick={() => select(id, "table")} onDblClick={() => folds && toggle(id)}
      onMouseEnter={() => { hovered.value = id; }} onMouseLeave={() => { hovered.value = null; }}
    >
      <th scope="row" style={{ "--depth": tree ? line.depth - 1 : 0 }}>
        <span class="name">
          {folds ? (
            <button type="button" class="fold" tabIndex={-1} aria-label={`${isOpen ? "Fold" : "Unfold"} ${line.name}`}
              onClick={(event) => { event.stopPropagation(); toggle(id); }}><Icon name="chevron" /></button>
          ) : <span class="fold" />}
          {line.status && <span class="mark" aria-label={line.status}>{MARKS[line.status]}</span>}
          <Name>{tree ? line.name : line.path}</Name>
          {(line.row?.call ?? 1) > 1 && <span class="call"> #{line.row?.call}</span>}
        </span>
      </th>
      <td class="operation"><Name>{times(line.operation.replaceAll("->", "\u2192"))}</Name></td>
      {network.diff ? <Changes line={line} /> : <Figures line={line} />}
    </tr>
  );
}

const MARKS = { same: "=", resized: "=", changed: "~", added: "+", removed: "\u2212" };

function Figures({ line }: { line: Line }): JSX.Element {
  const { row } = line, totals = network.model.totals;
  const outputs = row?.outputs ?? [];
  return (
    <>
      <td class="output">{outputs[0] && perSample(outputs[0])}{outputs.length > 1 && ` +${outputs.length - 1}`}</td>
      <td class="number">{row?.params ? integer(row.params) : ""}</td>
      <Share value={row?.macs ?? 0} whole={totals.macs} />
      <td class="number dim">{row?.activation_bytes ? cost("activation_bytes", row.activation_bytes) : ""}</td>
      <td class="number">{row?.field_unknown ? "?" : row && times(network.field(row)?.text ?? "")}</td>
    </>
  );
}

/** A count with a bar for its share of the whole behind it. */
function Share({ value, whole }: { value: number; whole: number }): JSX.Element {
  if (!value) return <td class="number" />;
  return (
    <td class="number share" style={{ "--share": value / whole }} title={percent(value, whole)}>
      {cost("macs", value)}
    </td>
  );
}

function Changes({ line }: { line: Line }): JSX.Element {
  return (
    <>
      <td class="change">{line.changes.map((text) => times(text.replaceAll("->", "\u2192"))).join(", ")}</td>
      {COSTS.slice(0, 2).reverse().map(({ key }) => {
        const value = line.status === "same" ? costOf(line, key) : change(line, key);
        const written = (v: number): string => (key === "params" ? integer(v) : cost(key, v));
        return <td class="number" key={key}>{line.status === "same" ? (value ? written(value) : "") : signed(value, written)}</td>;
      })}
    </>
  );
}

function toggle(id: number): void {
  const next = new Set(open.value);
  if (!next.delete(id)) next.add(id);
  open.value = next;
}

/** Arrow keys: up and down between rows, right and left into and out of a block. */
function onKey(event: KeyboardEvent): void {
  const row = (event.target as Element).closest("tr");
  if (!row || event.target !== row) return;
  // Keys may come faster than the focus moves.
  const ahead = origin.value === "table" && shown.value.includes(network.line(selected.value));
  const id = ahead ? selected.value : Number(row.dataset["id"]);
  const line = network.line(id), at = shown.value.indexOf(line), isOpen = open.value.has(id);
  const to: Record<string, () => number | undefined> = {
    ArrowDown: () => shown.value[at + 1]?.id,
    ArrowUp: () => shown.value[at - 1]?.id,
    Home: () => shown.value[0]?.id,
    End: () => shown.value.at(-1)?.id,
    ArrowRight: () => (line.children.length && !isOpen ? (toggle(id), id) : line.children.find(visible)),
    ArrowLeft: () => (isOpen ? (toggle(id), id) : line.parent || undefined),
    Enter: () => id,
    " ": () => id,
  };
  const move = to[event.key];
  if (!move) return;
  event.preventDefault();
  const next = move();
  if (next === undefined) return;
  select(next, "table");
  requestAnimationFrame(() => {
    const found = row.parentElement?.querySelector<HTMLElement>(`[data-id="${next}"]`);
    found?.focus();
    found?.scrollIntoView({ block: "nearest" });
  });
}
