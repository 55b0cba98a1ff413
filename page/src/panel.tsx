// The panel beside the page: everything that is known of the chosen layer.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ModelData, RowData, Step } from "./data";
import { COSTS, type Line, totalOf } from "./model";
import { Copy, Icon, Name } from "./parts";
import { line, network, select, selected } from "./state";
import { bytes, cost, integer, percent, shape, signed, times } from "./units";

export function Panel(): JSX.Element {
  const chosen = line.value;
  useEffect(() => {
    const close = (event: KeyboardEvent): void => {
      if (event.key === "Escape" && !(event.target as Element).closest("input")) select(0, "panel");
    };
    addEventListener("keydown", close);
    return () => removeEventListener("keydown", close);
  }, []);
  return (
    <aside id="panel" class={selected.value ? "chosen" : ""} aria-label="Selected layer">
      <div class="head">
        <Trail chosen={chosen} />
        {chosen.id > 0 && (
          <button type="button" class="icon" aria-label="Close" onClick={() => select(0, "panel")}>
            <Icon name="close" />
          </button>
        )}
      </div>
      <h2 aria-live="polite"><Name>{times(chosen.operation.replaceAll("->", "\u2192"))}</Name></h2>
      {chosen.path && (
        <p class="where"><code><Name>{chosen.path}</Name></code><Copy text={chosen.path} label="Copy the path" /></p>
      )}
      {chosen.status && <Changes chosen={chosen} />}
      {chosen.rows.map((row, side) => row && (
        <Row key={`${chosen.id}-${side}`} row={row} model={network.page.models[side] as ModelData}
          named={chosen.rows.filter(Boolean).length > 1} />
      ))}
    </aside>
  );
}

/** Where it is in the model: each part selects the module of that name. */
function Trail({ chosen }: { chosen: Line }): JSX.Element {
  const around = network.around(chosen.id).reverse();
  return (
    <nav aria-label="Position in the model" class="trail">
      {around.map((id) => (
        <button type="button" class="link" key={id} onClick={() => select(id, "panel")}>
          <Name>{network.line(id).name}</Name>
        </button>
      ))}
      <span aria-current="true"><Name>{chosen.name}</Name></span>
    </nav>
  );
}

function Changes({ chosen }: { chosen: Line }): JSX.Element {
  const [a, b] = chosen.rows;
  return (
    <div class="changes">
      <p><span class={`status ${chosen.status}`}>{chosen.status}</span></p>
      {chosen.changes.length > 0 && (
        <ul>{chosen.changes.map((text) => <li key={text}>{times(text.replaceAll("->", "\u2192").replaceAll(" - ", " \u2212 "))}</li>)}</ul>
      )}
      {a && b && (
        <dl class="pairs">
          {COSTS.filter(({ key }) => (a[key] ?? 0) !== (b[key] ?? 0)).map(({ key, label }) => (
            <div key={key}>
              <dt>{label}</dt>
              <dd>{signed((b[key] ?? 0) - (a[key] ?? 0), (v) => cost(key, v))}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

function Row({ row, model, named }: { row: RowData; model: ModelData; named: boolean }): JSX.Element {
  const steps = network.steps(row, model);
  return (
    <>
      {named && <h3 class="side"><Name>{model.name}</Name></h3>}
      <Shapes row={row} />
      <Costs row={row} model={model} />
      {row.unproductive && <p class="note">It slides over units that have seen the whole input before.</p>}
      {steps.length > 0 && <Steps steps={steps} />}
    </>
  );
}

function Shapes({ row }: { row: RowData }): JSX.Element {
  const list = (shapes: RowData["inputs"]): string => {
    const texts = (shapes ?? []).map(shape);
    return texts.length > 3 ? `${texts.slice(0, 2).join(", ")} and ${texts.length - 2} more` : texts.join(", ");
  };
  return (
    <dl class="pairs">
      {row.inputs && <div><dt>Input</dt><dd>{list(row.inputs)}</dd></div>}
      {row.outputs && <div><dt>Output</dt><dd>{list(row.outputs)}</dd></div>}
      {row.line && <div><dt>Called at</dt><dd><bdi>{row.line.split("/").map((part, n) => <>{n > 0 && <>/<wbr /></>}{part}</>)}</bdi></dd></div>}
    </dl>
  );
}

function Costs({ row, model }: { row: RowData; model: ModelData }): JSX.Element {
  const field = network.field(row, model), effective = network.effective.get(row), trainable = row.trainable_params ?? 0;
  return (
    <dl class="costs">
      {COSTS.map(({ key, label }) => {
        const value = row[key] ?? 0, whole = totalOf(model, key);
        if (!value) return null;
        return (
          <div key={key}>
            <dt>{label}</dt>
            <dd title={integer(value)}>{key === "params" ? integer(value) : cost(key, value)}</dd>
            <dd class="share">{percent(value, whole)}</dd>
            <meter value={value} max={whole || 1} aria-label={`share of all ${label}`} />
          </div>
        );
      })}
      {!!row.buffers && <div><dt>Buffers</dt><dd>{integer(row.buffers)}</dd></div>}
      {field && <div><dt>Receptive field</dt><dd>{inPixels(field.text)}</dd></div>}
      {row.field_unknown && <div><dt>Receptive field</dt><dd>not known</dd></div>}
      {effective && <div><dt>Effective field</dt><dd>{effective.size} px</dd></div>}
      {trainable < (row.params ?? 0) && <div><dt>Trainable</dt><dd>{integer(trainable)}</dd></div>}
      {!!row.unknown_ops && <div><dt>Of unknown cost</dt><dd>{integer(row.unknown_ops)} operations</dd></div>}
    </dl>
  );
}

/** 27 px, stride 4 for 27 /4, as tables write it. */
const inPixels = (text: string): string => times(text.replace(/^(\d\S*)(?: \/(\S+))?$/, (_, size: string, stride?: string) => `${size} px${stride ? `, stride ${stride}` : ""}`));

/** The formulas with their numbers put in, one group for each topic. */
function Steps({ steps }: { steps: readonly Step[] }): JSX.Element {
  return (
    <div class="steps">
      <h3>Formulas</h3>
      <dl>
        {steps.map(([topic, arithmetic, value, formula, note], i) => (
          <div key={`${i} ${arithmetic}`}>
            <dt>{topic !== steps[i - 1]?.[0] ? topic : <span class="sr">{topic}</span>}</dt>
            <dd>
              {arithmetic
                ? <Equation arithmetic={arithmetic} value={value ?? ""} memory={topic === "memory"} />
                : value && !note && <span class="number">{value}</span>}
              {formula && <span class="formula">{pretty(formula)}</span>}
              {note && <span class="note">{pretty(note)}</span>}
            </dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

const LONG = 260; // characters of arithmetic that are shown at once

function Equation(props: { arithmetic: string; value: string; memory: boolean }): JSX.Element {
  const number = Number(props.value.replaceAll(",", "")), [all, setAll] = useState(false);
  const end = props.arithmetic.length > LONG ? props.arithmetic.lastIndexOf(" + ", LONG) : -1, cut = end > 0 && !all;
  return (
    <span class="equation">
      {props.arithmetic === props.value ? null : <>{pretty(cut ? props.arithmetic.slice(0, end) : props.arithmetic)} </>}
      {cut && <button type="button" class="link" onClick={() => setAll(true)}>+ {props.arithmetic.slice(end).split(" + ").length - 1} more terms </button>}
      {props.arithmetic === props.value ? null : <><wbr />= </>}
      <b>{props.value}</b>
      {props.memory && number >= 1024 && <> ({bytes(number)})</>}
    </span>
  );
}

/** Signs of arithmetic as they are printed. */
const pretty = (text: string): string =>
  times(text.replaceAll("->", "\u2192").replaceAll(" - ", " \u2212 ")).replace(/ \* | ?\*(?=[\w(])/g, "\u00a0\u00b7\u00a0");
