// Small parts that several sections share.
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { selectPath, type Origin } from "./state";

/** A name from a model: in a direction of its own, whatever letters it has. */
export const Name = ({ children }: { children: string }): JSX.Element => <bdi>{children}</bdi>;

/** A section with its heading. */
export function Section(props: {
  id: string; title: string; about?: ComponentChildren | undefined; tools?: ComponentChildren;
  children: ComponentChildren;
}): JSX.Element {
  return (
    <section id={props.id} aria-labelledby={`${props.id}-title`}>
      <header class="section">
        <h2 id={`${props.id}-title`}>{props.title}</h2>
        {props.about && <p class="about">{props.about}</p>}
        {props.tools && <div class="tools">{props.tools}</div>}
      </header>
      {props.children}
    </section>
  );
}

/** A button that copies text, and says that it did. */
export function Copy({ text, label }: { text: string; label: string }): JSX.Element {
  const [done, setDone] = useState(false);
  const copy = async (): Promise<void> => {
    if (await copied(text)) {
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    }
  };
  return (
    <button type="button" class="icon" onClick={copy} aria-label={label} title={label}>
      <Icon name={done ? "check" : "copy"} />
      <span class="sr" role="status">{done ? "copied" : ""}</span>
    </button>
  );
}

/** Copy text, with or without the clipboard's interface (a file may not have it). */
async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

const ICONS = {
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  check: "M3 8.5l3.5 3.5L13 4.5",
  chevron: "M6 4l4 4-4 4",
  close: "M4 4l8 8M12 4l-8 8",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.7 10.7L14 14",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6v-3.500h3.500M10 2.500h3.500V6M13.500 10v3.500H10M6 13.500H2.500V10",
};

/** An icon of 16 by 16. */
export const Icon = ({ name }: { name: keyof typeof ICONS }): JSX.Element => (
  <svg class="glyph" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
    <path d={ICONS[name]} />
  </svg>
);

/** A layer's path that selects it. */
export function Layer({ path, by = "panel" }: { path: string; by?: Origin }): JSX.Element {
  return (
    <button type="button" class="link path" onClick={() => selectPath(path, by)}>
      <Name>{path}</Name>
    </button>
  );
}
