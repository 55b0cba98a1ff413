// Cost of every layer along the depth of the network, and the growth of its receptive field.
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { Chart, cursor, layersOf, placeOf, type Stop, steps, useWidth } from "./chart";
import type { ModelData, RowData } from "./data";
import { COSTS, type Cost, totalOf } from "./model";
import { Name, Section } from "./parts";
import { network, select } from "./state";
import { cost, integer, percent } from "./units";

const SHOWN: readonly Cost[] = ["params", "macs", "activation_bytes", ...(network.timed ? ["time" as const] : [])];

export function Costs(): JSX.Element | null {
  if (network.page.models.every((model, side) => !layersOf(model, side).length)) return null;
  return (
    <Section id="costs" title="Cost along the depth" about="Each layer in the order in which it runs.">
      {network.page.models.map((model, side) => <Depth key={side} model={model} side={side} />)}
    </Section>
  );
}

function Depth({ model, side }: { model: ModelData; side: number }): JSX.Element {
  const [ref, width] = useWidth();
  const stops = useMemo(() => layersOf(model, side), [model]), at = placeOf(stops);
  const rows = useMemo(() => stops.map(({ line }) => rowOf(line, side)), [stops]);
  return (
    <div class="card" ref={ref}>
      {network.diff && <h3><Name>{model.name}</Name></h3>}
      {SHOWN.map((key, n) => (
        <Bars key={key} cost={key} model={model} side={side} stops={stops} rows={rows} width={width} at={at} last={n === SHOWN.length - 1} />
      ))}
    </div>
  );
}

function Bars(props: {
  cost: Cost; model: ModelData; side: number; stops: readonly Stop[]; rows: readonly RowData[]; width: number;
  at: number | null; last: boolean;
}): JSX.Element {
  const { cost: key, stops, rows, at } = props, most = useMemo(() => highest(key), [key]);
  const { values, top } = useMemo(() => {
    const values = rows.map((row) => row[key] ?? 0);
    return { values, top: values.indexOf(Math.max(...values)) };
  }, [rows, key]);
  const whole = totalOf(props.model, key), label = COSTS.find((one) => one.key === key)?.label ?? "", shown = at ?? top;
  return (
    <figure class="small">
      <figcaption>
        <b>{label}</b>
        {rows[shown] && (values[shown] ?? 0) > 0 && (
          <span aria-live={at === null ? "off" : "polite"}>
            {at === null ? "most in " : ""}<Name>{rows[shown].path}</Name>: {cost(key, values[shown] as number)} <i>{percent(values[shown] as number, whole)}</i>
          </span>
        )}
        {rows[shown] && !values[shown] && <span><Name>{rows[shown].path}</Name>: none</span>}
      </figcaption>
      <Chart
        label={`${label} of ${integer(rows.length)} layers, the most in ${rows[top]?.path ?? ""}`} stops={stops} width={props.width}
        height={props.last ? 116 : 96} most={most} binary={key === "activation_bytes"} bands={props.last} format={(v) => axis(key, v)} at={at}
        onMove={(n) => { cursor.value = n === null ? null : stops[n]?.line ?? null; }}
        onPick={(n) => stops[n] && select(stops[n].line, "chart")}
      >
        {(x, y) => (
          <>
            <path class="bar" d={values.map((value, n) => bar(value, n, x, y)).join("")} />
            {at !== null && <path class="bar at" d={bar(values[at] ?? 0, at, x, y)} />}
          </>
        )}
      </Chart>
    </figure>
  );
}

/** The largest cost of a layer: two models have one scale, so that heights can be compared. */
const highest = (key: Cost): number => network.page.models.reduce(
  (most, model) => model.rows.reduce((best, row) => (row.leaf ? Math.max(best, row[key] ?? 0) : best), most), 1);

/** The outline of a bar; all bars of a chart are one path, because there may be thousands. */
function bar(value: number, n: number, x: (n: number) => number, y: (value: number) => number): string {
  if (!value) return "";
  const gap = Math.min(2, (x(1) - x(0)) / 4), wide = Math.max(x(n + 1) - x(n) - gap, 0.8);
  return `M${(x(n) + gap / 2).toFixed(1)} ${y(0).toFixed(1)}V${Math.min(y(value), y(0) - 0.8).toFixed(1)}h${wide.toFixed(2)}V${y(0).toFixed(1)}z`;
}

function axis(key: Cost, value: number): string {
  return value ? cost(key, value).replace(/\.0+(?= )/, "") : "0";
}

// ------------------------------------------------------------------------------ receptive field

interface Growth { readonly size: number | null; readonly clipped: number; readonly shortest: number | null; readonly effective: number | undefined }

export function GrowthSection(): JSX.Element | null {
  const models = network.page.models.filter((model) => model.fields.length);
  if (!models.length) return null;
  return (
    <Section id="growth" title="Growth of the receptive field" about="Pixels of the input that one unit sees, along its widest axis.">
      {network.page.models.map((model, side) => <Field key={side} model={model} side={side} />)}
    </Section>
  );
}

function Field({ model, side }: { model: ModelData; side: number }): JSX.Element {
  const [ref, width] = useWidth();
  const stops = useMemo(() => layersOf(model, side).filter(({ line }) => growthOf(rowOf(line, side), model)), [model]);
  const grown = useMemo(() => stops.map(({ line }) => growthOf(rowOf(line, side), model) as Growth), [stops]);
  const at = placeOf(stops), input = useMemo(() => Math.max(...model.fields.flatMap((field) => field.axes.map((one) => one[7]))), [model]);
  const most = useMemo(() => 1.08 * Math.max(input, ...grown.map((one) => one.size ?? 0)), [grown]);
  const shown = at === null ? null : grown[at];
  return (
    <figure class="card" ref={ref}>
      <figcaption class="keys">
        {network.diff && <b><Name>{model.name}</Name></b>}
        <span><i class="line size" />theoretical</span>
        <span><i class="line clipped" />within the input</span>
        <span><i class="line shortest" />shortest path</span>
        {model.effective && <span><i class="dot" />effective, by {model.effective.samples} random inputs</span>}
        {shown && at !== null && (
          <span class="now" aria-live="polite">
            <Name>{rowOf((stops[at] as Stop).line, side).path}</Name>: <b>{shown.size === null ? "all" : `${integer(shown.size)} px`}</b>, {integer(shown.clipped)} px within the input{shown.effective ? `, effective ${shown.effective} px` : ""}
          </span>
        )}
      </figcaption>
      <Chart
        label={`Receptive field of ${integer(stops.length)} layers; the input has ${input} pixels`} stops={stops} width={width} height={240} most={most} bands
        format={(v) => (v ? `${integer(v)} px` : "0")} at={at}
        onMove={(n) => { cursor.value = n === null ? null : stops[n]?.line ?? null; }} onPick={(n) => stops[n] && select(stops[n].line, "chart")}
      >
        {(x, y) => (
          <>
            <line class="input" x1={x(0)} x2={x(stops.length)} y1={y(input)} y2={y(input)} />
            <text class="input" x={x(0) + 6} y={y(input) - 5}>input, {integer(input)} px</text>
            <path class="line shortest" d={steps(grown.map((one) => Math.min(one.shortest ?? input, most)), x, y)} />
            <path class="line clipped" d={steps(grown.map((one) => one.clipped), x, y)} />
            <path class="line size" d={steps(grown.map((one) => one.size ?? most), x, y)} />
            {grown.map(({ effective }, n) => effective && <circle class="dot" key={`e${n}`} cx={x(n + 0.5)} cy={y(effective)} r="4" />)}
            {grown.map((one, n) => one.size === null && grown[n - 1]?.size !== null && (
              <text key={n} class="all" x={x(n) - 6} y={y(most) + 11} text-anchor="end">all</text>
            ))}
          </>
        )}
      </Chart>
    </figure>
  );
}

const rowOf = (line: number, side: number): RowData => network.line(line).rows[network.diff ? side : 0] as RowData;

/** Sizes along the axis that is seen most of; null where nothing of the input is seen. */
function growthOf(row: RowData, model: ModelData): Growth | null {
  const field = network.field(row, model);
  if (!field || row.field_unknown) return null;
  const wide = field.axes.reduce((a, b) => ((b[1] ?? Infinity) > (a[1] ?? Infinity) ? b : a));
  return { size: wide[1], clipped: wide[1] === null ? wide[7] : wide[6], shortest: wide[2], effective: network.effective.get(row)?.size };
}

