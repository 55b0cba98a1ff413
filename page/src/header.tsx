// The head of the page: what it is about, the totals, what a reviewer would say.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Finding, ModelData } from "./data";
import { timeline } from "./memory";
import { Copy, Layer, Name } from "./parts";
import { network } from "./state";
import { bytes, integer, si, times } from "./units";

export function Header(): JSX.Element {
  const { page, diff } = network;
  return (
    <header class="page">
      {diff ? <Pair models={page.models} /> : <Title model={network.model} />}
      {page.models.map((model) => model.failed.length > 0 && <Failed model={model} key={model.name} />)}
      {diff ? <div class="pair"><Said /><Totals /></div> : <Tiles model={network.model} />}
      {page.models.map((model) => <Findings model={model} named={!!diff} key={model.name} />)}
      <Made />
    </header>
  );
}

function Title({ model }: { model: ModelData }): JSX.Element {
  return (
    <div class="title">
      <h1><Name>{model.name}</Name></h1>
      <p class="facts">{times(model.header)}</p>
    </div>
  );
}

function Pair({ models }: { models: readonly ModelData[] }): JSX.Element {
  const [a, b] = models as [ModelData, ModelData];
  return (
    <div class="title">
      <h1>
        <Name>{a.name}</Name> <span class="arrow" aria-label="to">→</span> <Name>{b.name}</Name>
      </h1>
      {a.header === b.header
        ? <p class="facts">{times(a.header)}</p>
        : models.map((model, i) => (
          <p class="facts" key={i}><b>{i ? "after" : "before"}</b> {times(model.header)}</p>
        ))}
    </div>
  );
}

/** The forward raised: where, why, and what would run. */
function Failed({ model }: { model: ModelData }): JSX.Element {
  return (
    <section class="failed" aria-label="The forward failed">
      <p>The forward failed. What follows is what ran until then.</p>
      <dl>
        {model.failed.map(([title, text]) => (
          <div key={title}><dt>{title}</dt><dd><Name>{times(text)}</Name></dd></div>
        ))}
      </dl>
    </section>
  );
}

function Tiles({ model }: { model: ModelData }): JSX.Element {
  const t = model.totals;
  const layers = t.conv_layers + t.linear_layers + (t.recurrent_layers ?? 0);
  const kinds = [
    [t.conv_layers, "conv"], [t.recurrent_layers ?? 0, "recurrent"], [t.linear_layers, "linear"],
  ] as const;
  const input = model.inputs[0]?.slice(2).join("\u00d7");
  return (
    <dl class="tiles">
      <Tile label="Parameters" value={si(t.params, 2)}
        detail={`${integer(t.params)} \u00b7 ${bytes(t.param_bytes)}`} />
      <Tile label="MACs" value={si(t.macs, 2)} detail={`${si(t.flops, 2)}FLOPs`} />
      <Tile label="Peak activations" value={bytes(t.peak_activation_bytes)}
        detail={peakOf(model)} />
      <Tile label="Receptive field" value={t.field ? `${times(t.field)}${/\d$/.test(t.field) ? " px" : ""}` : "\u2013"}
        detail={t.field_exceeds_input_at
          ? <>exceeds the input at <Layer path={t.field_exceeds_input_at} /></>
          : input ? `of a ${input} px input` : ""} />
      <Tile label="Weight layers" value={integer(layers)}
        detail={kinds.filter(([n]) => n).map(([n, kind]) => `${n} ${kind}`).join(" \u00b7 ")} />
    </dl>
  );
}

/** Where most memory is alive: the layer, or the operation that no layer has. */
function peakOf(model: ModelData): JSX.Element | string {
  const values = timeline(model), [name, row] = model.operations[values.indexOf(Math.max(...values))] ?? [];
  const path = model.rows[row ?? -1]?.path;
  return path ? <>at <Layer path={path} /></> : name ? `at ${name}` : "";
}

function Tile(props: { label: string; value: string; detail: JSX.Element | string }): JSX.Element {
  const [number, unit] = props.value.split(" ");
  return (
    <div class="tile">
      <dt>{props.label}</dt>
      <dd class="value">{number}{unit && <small>{unit}</small>}</dd>
      <dd class="detail">{props.detail}</dd>
    </div>
  );
}

function Totals(): JSX.Element {
  const { headings, totals } = network.diff!;
  return (
    <div class="scroll">
      <table class="totals">
        <caption class="sr">Totals of both models</caption>
        <thead><tr>{headings.map((text) => <th scope="col" key={text}><Name>{text}</Name></th>)}</tr></thead>
        <tbody>
          {totals.map(([title, ...cells]) => (
            <tr key={title} class={cells[2] === "=" ? "equal" : ""}>
              <th scope="row">{title}</th>
              {cells.map((text, i) => <td key={i}>{times(text)}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** The differences in words. */
function Said(): JSX.Element {
  let last = "";
  return (
    <ul class="said">
      {network.diff!.findings.map(([title, text], i) => {
        last = title || last;
        return (
          <li key={i}>
            <span class={`status ${last}`}>{last}</span> <span>{times(text.replaceAll("->", "\u2192"))}</span>
          </li>
        );
      })}
    </ul>
  );
}

const SHOWN = 4;

function Findings({ model, named }: { model: ModelData; named: boolean }): JSX.Element | null {
  const [all, setAll] = useState(false);
  const notes = model.notes.map((text): Finding => ({ severity: "note", text, layers: [] }));
  const every = [...model.findings, ...notes];
  if (!every.length) return null;
  const shown = all || every.length <= SHOWN + 1 ? every : every.slice(0, SHOWN);
  return (
    <div class="findings">
      <h2 class="sr">Findings{named ? ` of ${model.name}` : ""}</h2>
      <ul>
        {shown.map((one, i) => (
          <li key={i} class={one.severity}>
            <span class="severity">{one.severity}</span>
            <span>
              {named && <b><Name>{model.name}</Name>: </b>}
              <Name>{one.text}</Name>{" "}
              {one.layers[0] && network.find(one.layers[0]) !== undefined && (
                <span class="where">Show <Layer path={one.layers[0]} /></span>
              )}
            </span>
          </li>
        ))}
      </ul>
      {shown.length < every.length && (
        <button type="button" class="link" onClick={() => setAll(true)}>
          {every.length - shown.length} more findings
        </button>
      )}
    </div>
  );
}

/** The command that made the page, and with which versions. */
function Made(): JSX.Element {
  const { command, cnnscope } = network.page;
  const own = Object.entries(network.model.versions).filter(([name]) => name !== "cnnscope");
  const versions = own.map(([name, v]) => `${name} ${name === "commit" ? v.slice(0, 12) : v.split("+")[0]}`);
  return (
    <p class="made">
      {command && <><code><Name>{command}</Name></code><Copy text={command} label="Copy the command" /></>}
      <span>{[`cnnscope ${cnnscope}`, ...versions].join(" \u00b7 ")}</span>
    </p>
  );
}
