// The page: header, sections, and the panel beside them.
import { options, render } from "preact";
import { Costs, GrowthSection } from "./costs";
import { FieldSection } from "./fieldview";
import { GraphSection } from "./graphview";
import { Header } from "./header";
import { Memory } from "./memory";
import { Panel } from "./panel";
import { printing } from "./state";
import { Table } from "./table";

function Page() {
  return (
    <div class="layout">
      <Header />
      <main>
        <GraphSection />
        <Table />
        <Costs />
        <Memory />
        <GrowthSection />
        <FieldSection />
      </main>
      <Panel />
    </div>
  );
}

// Paper has everything open; the browser does not wait, so it is drawn at once.
addEventListener("beforeprint", () => {
  const later = options.debounceRendering;
  options.debounceRendering = (draw: () => void) => draw();
  printing.value = true;
  if (later) options.debounceRendering = later;
  else delete options.debounceRendering;
});
addEventListener("afterprint", () => { printing.value = false; });

const root = document.getElementById("page") as HTMLElement;
root.textContent = "";
render(<Page />, root);
root.dataset["ready"] = "true";
