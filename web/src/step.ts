// A step of the page: a numbered section that opens once the one before it is done.
import { fill, h } from "./view.ts";
import { messageOf } from "./words.ts";

export class Step {
  readonly section: HTMLElement;
  readonly body: HTMLElement;
  private readonly status: HTMLElement;
  private readonly notes: HTMLElement;

  constructor(number: number, id: string, title: string) {
    this.body = h("div");
    this.status = h("p", { className: "status", role: "status" });
    this.notes = h("ul", { className: "notes" });
    this.section = h(
      "section",
      { id, "aria-labelledby": `${id}-title`, "aria-disabled": "true" },
      h("h2", { id: `${id}-title` }, h("span", { className: "number", "aria-hidden": "true" }, number), title),
      this.body,
      this.status,
      this.notes,
    );
  }

  open(): void {
    this.section.removeAttribute("aria-disabled");
  }

  close(): void {
    this.section.setAttribute("aria-disabled", "true");
    this.section.classList.remove("done");
  }

  say(text: string, kind: "" | "good" | "error" = ""): void {
    this.status.className = `status ${kind}`;
    this.status.textContent = text;
  }

  note(...texts: readonly string[]): void {
    fill(
      this.notes,
      texts.map((text) => h("li", {}, text)),
    );
  }

  done(text: string): void {
    this.section.classList.add("done");
    this.say(text, "good");
  }

  /** Runs work and shows what goes wrong. Gives whether it went well. */
  async attempt(text: string, work: () => Promise<void>): Promise<boolean> {
    this.section.classList.remove("done");
    this.say(text);
    this.note();
    try {
      await work();
      return true;
    } catch (error) {
      this.say(messageOf(error), "error");
      return false;
    }
  }
}
