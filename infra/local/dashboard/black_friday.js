// The button that starts a Black Friday, its progress and its verdict.

import { ErrorResponse, post, readJson } from "./api.js";
import { byId, say } from "./elements.js";
import { Bars } from "./stock.js";

const PATH = "/dashboard/black-friday";
const VERDICTS = {
  running: "Running.",
  passed: "✓ Passed: every unit is accounted for.",
  failed: "✗ Failed: lines that begin with ✗ list the errors.",
  "could not run": "Could not run: see the last lines of the output.",
};

export class BlackFriday {
  #bars = new Bars(byId("black-friday-stock"));
  #button = byId("black-friday-start");
  #run = { state: "not started", resourceId: "", lines: [] };
  #error = "";

  constructor() {
    this.#button.addEventListener("click", () => this.#start());
  }

  /** Update the state of the run, and the stock that it sells. */
  async show() {
    this.#run = await readJson(PATH);
    this.#draw();
    if (this.#run.resourceId) await this.#showStock();
  }

  async #start() {
    if (this.#button.ariaDisabled === "true") return;
    this.#button.ariaDisabled = "true"; // not `disabled`, which would lose the focus
    try {
      this.#run = await post(PATH);
      this.#error = "";
    } catch (error) {
      this.#error = error.message;
    }
    this.#draw();
  }

  async #showStock() {
    try {
      const prefix = encodeURIComponent(this.#run.resourceId);
      const { resources } = await readJson(`/api/v1/resources?limit=1&prefix=${prefix}`);
      this.#bars.show(resources); // empty until the resource is created
    } catch (error) {
      if (!(error instanceof ErrorResponse)) throw error;
    }
  }

  #draw() {
    const { state, lines } = this.#run;
    this.#button.ariaDisabled = String(state === "running");
    const verdict = byId("black-friday-verdict");
    verdict.dataset.state = this.#error ? "refused" : state;
    say(verdict, this.#error || (VERDICTS[state] ?? ""));
    const printed = byId("black-friday-lines");
    const wasAtEnd = printed.scrollTop + printed.clientHeight >= printed.scrollHeight - 4;
    printed.hidden = !lines.length;
    say(printed, lines.join("\n"));
    if (wasAtEnd) printed.scrollTop = printed.scrollHeight;
  }
}
