// Memory over time: the peak, who is alive at it, and the phases of a training step.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { Chart, grouped, type Stop, steps, useWidth } from "./chart";
import { expand, type ModelData, type Training } from "./data";
import { Layer, Name, Section } from "./parts";
import { network, select } from "./state";
import { bytes, integer, percent } from "./units";

const MOST = 8; // tensors that are listed

export function Memory(): JSX.Element | null {
  if (network.page.models.every((model) => !model.operations.length)) return null;
  return (
    <Section id="memory" title="Memory over time" about="Bytes of inputs and activations that are alive after each operation; weights are not among them.">
      {network.page.models.map((model, side) => model.operations.length > 0 && (
        <Forward key={side} model={model} side={side} />
      ))}
      {network.page.models.map((model, side) => model.training && (
        <Step key={`step-${side}`} model={model} training={model.training} side={side} />
      ))}
    </Section>
  );
}

const known = new WeakMap<ModelData, readonly number[]>();

/** The bytes that are alive after each operation. */
export function timeline(model: ModelData): readonly number[] {
  const found = known.get(model) ?? alive(model);
  known.set(model, found);
  return found;
}

function alive(model: ModelData): number[] {
  const changes = new Array<number>(model.operations.length + 1).fill(0);
  for (const [size, born, died] of model.lives) {
    const from = Math.max(born, 0), to = Math.min(died, model.operations.length);
    if (from >= to) continue;
    changes[from] = (changes[from] as number) + size;
    changes[to] = (changes[to] as number) - size;
  }
  let sum = 0;
  return changes.slice(0, -1).map((change) => (sum += change));
}

function Forward({ model, side }: { model: ModelData; side: number }): JSX.Element {
  const [ref, width] = useWidth(), at = useSignal<number | null>(null);
  const values = timeline(model), top = useMemo(() => values.indexOf(Math.max(...values)), [values]);
  const stops = useMemo(() => stopsOf(model, side), [model]);
  const most = useMemo(() => 1.12 * Math.max(1, ...network.page.models.map((one) => Math.max(...timeline(one)))), []);
  const shown = at.value ?? top;
  return (
    <figure class="card split">
      <div ref={ref}>
        <figcaption>
          {network.diff && <b><Name>{model.name}</Name> </b>}
          {at.value === null ? <b>Peak {bytes(values[top] ?? 0)}</b> : <b>{bytes(values[shown] ?? 0)}</b>} at{" "}
          <Operation model={model} at={shown} />
        </figcaption>
        <Chart
          label={`Memory over ${integer(values.length)} operations; the peak is ${bytes(values[top] ?? 0)}`} stops={stops} width={width}
          height={230} most={most} binary bands format={whole} at={at.value} onMove={(n) => { at.value = n; }}
          onPick={(n) => stops[n] && select(stops[n].line, "chart")}
        >
          {(x, y) => (
            <>
              <path class="area" d={`${steps(values, x, y)}V${y(0)}H${x(0)}Z`} />
              <path class="line size" d={steps(values, x, y)} />
              <circle class="peak" cx={x(top + 0.5)} cy={y(values[top] ?? 0)} r="4" />
            </>
          )}
        </Chart>
      </div>
      <Alive model={model} at={shown} whole={values[shown] ?? 0} peak={at.value === null} />
    </figure>
  );
}

function stopsOf(model: ModelData, side: number): Stop[] {
  const groups = grouped(model.operations.map(([, row]) => model.rows[row]?.path ?? ""));
  return model.operations.map(([, row], n) => ({ line: network.lineOf(row, side) ?? 0, group: groups[n] ?? "" }));
}

function Operation({ model, at }: { model: ModelData; at: number }): JSX.Element {
  const [name, row] = model.operations[at] ?? ["", -1], path = model.rows[row]?.path;
  return path ? <Layer path={path} by="chart" /> : <span>{name}</span>;
}

/** What is alive at a time, the largest first. */
function Alive(props: { model: ModelData; at: number; whole: number; peak: boolean }): JSX.Element {
  const { model, at, whole } = props;
  const alive = model.lives.filter(([, born, died]) => born <= at && at < died).sort((a, b) => b[0] - a[0]);
  const rest = alive.slice(MOST).reduce((sum, [size]) => sum + size, 0);
  return (
    <div class="alive">
      <h3>{props.peak ? "Alive at the peak" : "Alive then"}</h3>
      <ul>
        {alive.slice(0, MOST).map(([size, born, , row], n) => (
          <li key={n}>
            <span class="who"><Name>{born < 0 ? "input" : model.rows[row]?.path || model.operations[born]?.[0] || ""}</Name></span>
            <span class="size">{bytes(size)}</span>
            <meter value={size} max={whole || 1} aria-label="share of what is alive" />
          </li>
        ))}
        {rest > 0 && <li><span class="who">{alive.length - MOST} more</span><span class="size">{bytes(rest)}</span></li>}
      </ul>
    </div>
  );
}

const whole = (value: number): string => bytes(value).replace(".0 ", " ");

// -------------------------------------------------------------------------------- a training step

const KINDS = ["weight", "buffer", "optimizer state", "gradient", "saved", "input", "output", "temporary"];

function Step({ model, training, side }: { model: ModelData; training: Training; side: number }): JSX.Element {
  const [ref, width] = useWidth(), at = useSignal<number | null>(null);
  const kinds = useMemo(() => [...training.kinds].sort((a, b) => KINDS.indexOf(a[0]) - KINDS.indexOf(b[0])).map(([kind, atPeak, , runs]) => ({ kind, atPeak, values: expand(runs).slice(1) })), [training]);
  const stops = useMemo(() => {
    const phases = training.phases.flatMap(([name, count]) => new Array<string>(count).fill(name));
    return training.events.map(([, path], n): Stop => ({ line: network.find(path) ?? 0, group: phases[n] ?? "" }));
  }, [training]);
  const { optimizer, loss } = training.step, shown = at.value ?? training.peak, layers = training.layers.slice(0, MOST);
  const { layered, base, most } = useMemo(() => {
    let base = stops.map(() => 0);
    const layered = kinds.map(({ kind, values }) => {
      const low = base;
      base = base.map((sum, n) => sum + (values[n] ?? 0));
      return { kind, low, high: base };
    });
    return { layered, base, most: 1.05 * Math.max(...base, 1) };
  }, [kinds, stops]);
  return (
    <figure class="card split">
      <div ref={ref}>
        <figcaption>
          <b>Training step{network.diff && <> of <Name>{model.name}</Name></>}</b> with {optimizer}, {loss} of the outputs: {at.value === null ? "peak " : ""}<b>{bytes(base[shown] ?? 0)}</b>
          {at.value === null ? `, ${bytes(training.reserved)} reserved` : <> after <Name>{training.events[shown]?.[1] || training.events[shown]?.[0] || ""}</Name></>}
        </figcaption>
        <Chart
          label={`Memory of a training step over ${integer(stops.length)} operations; the peak is ${bytes(training.tensors)}`} stops={stops}
          width={width} height={260} most={most} binary bands format={whole} at={at.value}
          onMove={(n) => { at.value = n; }} onPick={(n) => stops[n]?.line && select(stops[n].line, "chart")}
        >
          {(x, y) => layered.map(({ kind, low, high }) => (
            <path key={kind} class={`kind ${kind.replace(" ", "-")}`} d={`${steps(high, x, y)}${back(low, x, y)}Z`} />
          ))}
        </Chart>
        <p class="keys">
          {kinds.map(({ kind, values }) => (
            <span key={kind}><i class={`key kind ${kind.replace(" ", "-")}`} />{kind} <b>{bytes(values[shown] ?? 0)}</b></span>
          ))}
        </p>
      </div>
      <div class="alive">
        <h3>Whose it is at the peak</h3>
        <ul>
          {layers.map(([path, ...parts]) => {
            const sum = parts.reduce((a, b) => a + b, 0);
            return (
              <li key={path} title={["weights", "gradients", "state", "saved", "other"].map((name, n) => `${name} ${bytes(parts[n] ?? 0)}`).join(", ")}>
                <span class="who">{path ? <Name>{path}</Name> : "the model"}</span><span class="size">{bytes(sum)}</span>
                <meter value={sum} max={training.tensors || 1} aria-label={`${percent(sum, training.tensors)} of the peak, layer ${side}`} />
              </li>
            );
          })}
        </ul>
      </div>
    </figure>
  );
}

/** The lower edge of an area, from its end to its beginning. */
function back(values: readonly number[], x: (at: number) => number, y: (value: number) => number): string {
  let path = "";
  for (let n = values.length - 1; n >= 0; n--) path += `L${x(n + 1).toFixed(1)} ${y(values[n] as number).toFixed(1)}H${x(n).toFixed(1)}`;
  return path;
}

