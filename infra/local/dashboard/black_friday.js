// The button that starts a Black Friday, and what comes of it.

import { Refused, post, readJson } from "./api.js";
import { byId, say } from "./elements.js";
import { Bars } from "./stock.js";

const PATH = "/dashboard/black-friday";
const VERDICTS = {
  running: "Running: the buyers are on their way.",
  passed: "✓ Passed: every unit is accounted for.",
  failed: "✗ Failed: the lines that begin with ✗ say what is wrong.",
  "could not run": "Could not run: the last lines say why.",
};

export class BlackFriday {
  #bars = new Bars(byId("black-friday-stock"));
  #button = byId("black-friday-start");
  #run = { state: "not started", resourceId: "", lines: [] };
  #refusal = "";

  constructor() {
    this.#button.addEventListener("click", () => this.#start());
  }

  /** Where the run is, and the stock that it sells. */
  async show() {
    this.#run = await readJson(PATH);
    this.#draw();
    if (this.#run.resourceId) await this.#showStock();
  }

  async #start() {
    if (this.#button.ariaDisabled === "true") return;
    this.#button.ariaDisabled = "true"; // not `disabled`, which would take the focus away
    try {
      this.#run = await post(PATH);
      this.#refusal = "";
    } catch (error) {
      this.#refusal = error.message;
    }
    this.#draw();
  }

  async #showStock() {
    try {
      const prefix = encodeURIComponent(this.#run.resourceId);
      const { resources } = await readJson(`/api/v1/resources?limit=1&prefix=${prefix}`);
      this.#bars.show(resources); // none, as long as it is not created
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }

  #draw() {
    const { state, lines } = this.#run;
    this.#button.ariaDisabled = String(state === "running");
    const verdict = byId("black-friday-verdict");
    verdict.dataset.state = this.#refusal ? "refused" : state;
    say(verdict, this.#refusal || (VERDICTS[state] ?? ""));
    const printed = byId("black-friday-lines");
    const wasAtEnd = printed.scrollTop + printed.clientHeight >= printed.scrollHeight - 4;
    printed.hidden = !lines.length;
    say(printed, lines.join("\n"));
    if (wasAtEnd) printed.scrollTop = printed.scrollHeight;
  }
}
