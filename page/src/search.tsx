// Find a layer by its path or operation: `/` from anywhere, arrows, Enter.
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Line } from "./model";
import { Icon, Name } from "./parts";
import { network, select } from "./state";
import { times } from "./units";

const MOST = 12;
const words = signal("");
const at = signal(0);
const open = signal(false);

const found = computed((): readonly Line[] => {
  const parts = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (!parts.length) return [];
  const hits = network.lines.filter((line) => line.id > 0 && parts.every((part) => text(line).includes(part)));
  const first = parts[0] as string;
  const rank = (line: Line): number =>
    (line.path === first ? 0 : line.name.toLowerCase() === first ? 1 : line.minor ? 3 : 2);
  return hits.sort((a, b) => rank(a) - rank(b)).slice(0, MOST);
});

const text = (line: Line): string => `${line.path} ${line.operation}`.toLowerCase();

export function Search(): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const focus = (event: KeyboardEvent): void => {
      const typing = (event.target as Element).closest("input, textarea, select");
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      input.current?.focus();
      input.current?.select();
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);
  const list = open.value ? found.value : [];
  return (
    <div class="search">
      <label class="field">
        <Icon name="search" /><span class="sr">Find a layer</span>
        <input
          ref={input} type="text" placeholder="Find a layer" value={words.value} autocomplete="off"
          role="combobox" aria-expanded={list.length > 0} aria-controls="found" aria-autocomplete="list"
          {...(list[at.value] ? { "aria-activedescendant": `found-${at.value}` } : {})}
          onInput={(event) => { words.value = event.currentTarget.value; at.value = 0; open.value = true; }}
          onFocus={() => { open.value = true; }}
          onBlur={() => { open.value = false; }}
          onKeyDown={(event) => onKey(event, input.current)}
        />
        <kbd aria-hidden="true">/</kbd>
      </label>
      <ul id="found" role="listbox" aria-label="Layers found" hidden={!words.value || !open.value}>
        {list.map((line, i) => (
          <li key={line.id} id={`found-${i}`} role="option" aria-selected={i === at.value}
            onMouseDown={(event) => { event.preventDefault(); take(line); }}>
            <Name>{line.path}</Name> <span>{times(line.operation)}</span>
          </li>
        ))}
        {words.value && !found.value.length && <li class="none">No layer matches</li>}
      </ul>
    </div>
  );
}

function take(line: Line | undefined): void {
  if (!line) return;
  select(line.id, "search");
  open.value = false;
}

function onKey(event: KeyboardEvent, input: HTMLInputElement | null): void {
  const count = found.value.length;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    open.value = true;
    at.value = count ? (at.value + (event.key === "ArrowDown" ? 1 : count - 1)) % count : 0;
  } else if (event.key === "Enter") {
    take(found.value[at.value]);
  } else if (event.key === "Escape") {
    if (words.value) words.value = "";
    else input?.blur();
    event.stopPropagation();
  }
}
