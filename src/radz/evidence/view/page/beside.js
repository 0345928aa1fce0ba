// What the model makes on demand: the heat-map over the picture, and the nearest cases below it.

import * as server from "./server.js";
import * as panel from "./panel.js";

const POLL = 700; // milliseconds
const $ = (id) => document.getElementById(id);
const heats = server.remembered(64, (study, frame, finding) => server.bitmap(`studies/${study}/frames/${frame}/heat/${finding}`));

/** `state` is the page's; `name()` is the finding's; `go(frame)` shows another image. */
export class Heat {
  constructor(picture, state, name, go) {
    Object.assign(this, { picture, state, name, go, on: false });
    $("heat").addEventListener("click", () => this.toggle());
  }

  tell(text) {
    $("corner-heat").textContent = text;
  }

  /** Draws the map of what is looked at now, if it is wanted and there is one. */
  async draw() {
    this.picture.setHeat(null);
    $("heat").setAttribute("aria-pressed", this.on);
    const { study, frame, finding, about } = this.state;
    if (!this.on || !about?.images) return this.tell("");
    if (!about.images.seen.includes(frame)) return this.tell(`${this.name()}\nthe model does not see this slice`);
    const now = () => this.on && this.state.study === study && this.state.frame === frame && this.state.finding === finding;
    const name = this.name();
    this.tell(`${name}\nheat-map is made …`);
    try {
      const map = await heats(study, frame, finding);
      if (!now()) return;
      this.picture.setHeat(map);
      this.tell(`heat-map: ${name}`);
    } catch (error) {
      if (now()) this.tell(server.words(error));
    }
  }

  /** On and off; from a slice that the model does not see, to the nearest that it does. */
  toggle() {
    this.on = !this.on;
    const { frame, about } = this.state;
    const seen = about?.images?.seen ?? [];
    if (!this.on || !seen.length || seen.includes(frame)) return this.draw();
    this.go(seen.reduce((best, one) => (Math.abs(one - frame) < Math.abs(best - frame) ? one : best)));
  }
}

export class Nearest {
  /** `of(study)` says what is shown of a case, `choose(study)` opens it. */
  constructor(state, of, choose) {
    Object.assign(this, { state, of, choose, wanted: false, cases: [] });
    $("nearest-find").addEventListener("click", () => this.find());
  }

  /** From now on they are looked for whenever a study is opened: the first question has all studies encoded. */
  find() {
    this.wanted = true;
    $("nearest-find").hidden = true;
    this.load();
  }

  async load() {
    const { study } = this.state;
    if (study === null || !this.wanted) return;
    const say = (text) => ($("nearest-progress").textContent = text);
    try {
      for (;;) {
        const found = await server.json(`studies/${study}/nearest`);
        if (this.state.study !== study) return;
        this.cases = found.cases ?? [];
        this.draw();
        if (found.cases) return void say(found.cases.length ? "" : "there is no other study");
        say(`encoding studies: ${found.done.toLocaleString("en")} of ${found.total.toLocaleString("en")}`);
        await new Promise((wake) => setTimeout(wake, POLL));
      }
    } catch (error) {
      if (this.state.study !== study) return;
      this.cases = [];
      this.draw();
      say(server.words(error));
    }
  }

  draw() {
    panel.drawNearest($("nearest"), this.cases, this.of, this.choose);
  }
}
