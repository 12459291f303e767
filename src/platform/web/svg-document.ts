// A document that charts are drawn into where there is no page: in workers, Node and Deno. It has what Observable Plot and d3
// ask of one, and nothing of HTML. Whole implementations of the DOM are larger than all else that draws a chart.
const svgNamespace = "http://www.w3.org/2000/svg";

const escaped: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text: string) => text.replace(/[&<>"]/g, (character) => escaped[character]);

abstract class ChartNode {
  parentNode: ChartElement | null = null;
  readonly ownerDocument: ChartDocument;

  constructor(document: ChartDocument) {
    this.ownerDocument = document;
  }

  abstract textContent: string;
  abstract readonly outerHTML: string;
  abstract cloneNode(deep?: boolean): ChartNode;

  get nextSibling(): ChartNode | null {
    const siblings = this.parentNode?.childNodes ?? [];
    return siblings[siblings.indexOf(this) + 1] ?? null;
  }

  remove(): void {
    this.parentNode?.removeChild(this);
  }

  replaceWith(...nodes: readonly ChartNode[]): void {
    const parent = this.parentNode;
    for (const node of nodes) parent?.insertBefore(node, this);
    this.remove();
  }
}

class ChartText extends ChartNode {
  textContent: string;

  constructor(document: ChartDocument, text: string) {
    super(document);
    this.textContent = text;
  }

  get outerHTML(): string {
    return escape(this.textContent);
  }

  cloneNode(): ChartText {
    return new ChartText(this.ownerDocument, this.textContent);
  }
}

/** A property as CSS names it: `fontSize` is font-size. */
const cssName = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** An element's `style`, over its attribute. */
class ChartStyle {
  private readonly element: ChartElement;

  constructor(element: ChartElement) {
    this.element = element;
  }

  private get entries(): Map<string, string> {
    const text = this.element.getAttribute("style") ?? "";
    return new Map(text.split(";").flatMap((rule) => (rule === "" ? [] : [rule.split(":", 2) as [string, string]])));
  }

  private write(entries: ReadonlyMap<string, string>): void {
    if (entries.size === 0) this.element.removeAttribute("style");
    else this.element.setAttribute("style", [...entries].map(([name, value]) => `${name}:${value}`).join(";"));
  }

  getPropertyValue(name: string): string {
    return this.entries.get(name) ?? "";
  }

  setProperty(name: string, value: unknown): void {
    this.write(this.entries.set(name, String(value)));
  }

  removeProperty(name: string): void {
    const { entries } = this;
    entries.delete(name);
    this.write(entries);
  }
}

class ChartElement extends ChartNode {
  readonly tagName: string;
  readonly namespaceURI: string;
  readonly childNodes: ChartNode[] = [];
  /** Properties can be set as fields of it too. */
  readonly style: ChartStyle = new Proxy(new ChartStyle(this), {
    set(style, name, value) {
      style.setProperty(cssName(String(name)), value);
      return true;
    },
  });
  private readonly attributes = new Map<string, string>();

  constructor(document: ChartDocument, namespace: string, name: string) {
    super(document);
    this.namespaceURI = namespace;
    this.tagName = name;
  }

  get children(): ChartElement[] {
    return this.childNodes.filter((node) => node instanceof ChartElement);
  }

  get firstChild(): ChartNode | null {
    return this.childNodes[0] ?? null;
  }

  /** A chart is never part of a page, so nothing has a size on a screen. */
  get isConnected(): boolean {
    return false;
  }

  getAttribute(name: string): string | null {
    return this.attributes.get(name) ?? null;
  }

  hasAttribute(name: string): boolean {
    return this.attributes.has(name);
  }

  setAttribute(name: string, value: unknown): void {
    this.attributes.set(name, String(value));
  }

  /** Names keep their prefix, as they are written in SVG. */
  setAttributeNS(_namespace: string, name: string, value: unknown): void {
    this.setAttribute(name, value);
  }

  removeAttribute(name: string): void {
    this.attributes.delete(name);
  }

  insertBefore<Node extends ChartNode>(node: Node, before: ChartNode | null): Node {
    node.remove();
    const at = before === null ? -1 : this.childNodes.indexOf(before);
    this.childNodes.splice(at < 0 ? this.childNodes.length : at, 0, node);
    node.parentNode = this;
    return node;
  }

  appendChild<Node extends ChartNode>(node: Node): Node {
    return this.insertBefore(node, null);
  }

  append(...nodes: readonly (ChartNode | string)[]): void {
    for (const node of nodes)
      this.appendChild(typeof node === "string" ? new ChartText(this.ownerDocument, node) : node);
  }

  removeChild<Node extends ChartNode>(node: Node): Node {
    const at = this.childNodes.indexOf(node);
    if (at >= 0) this.childNodes.splice(at, 1);
    node.parentNode = null;
    return node;
  }

  get textContent(): string {
    return this.childNodes.map((node) => node.textContent).join("");
  }

  set textContent(text: string) {
    for (const node of [...this.childNodes]) node.remove();
    if (text !== "") this.append(text);
  }

  /** Selectors of a tag's name or of one attribute: all that charts ask for. */
  querySelectorAll(selector: string): ChartElement[] {
    const [, attribute] = /^\[([\w-]+)\]$/.exec(selector) ?? [];
    if (attribute === undefined && !/^[a-zA-Z]+$/.test(selector)) throw new Error(`no selector ${selector} in charts`);
    const fits = (element: ChartElement) =>
      attribute === undefined ? element.tagName === selector : element.hasAttribute(attribute);
    return this.children.flatMap((child) => [...(fits(child) ? [child] : []), ...child.querySelectorAll(selector)]);
  }

  querySelector(selector: string): ChartElement | null {
    return this.querySelectorAll(selector)[0] ?? null;
  }

  cloneNode(deep = false): ChartElement {
    const copy = new ChartElement(this.ownerDocument, this.namespaceURI, this.tagName);
    for (const [name, value] of this.attributes) copy.setAttribute(name, value);
    if (deep) for (const node of this.childNodes) copy.appendChild(node.cloneNode(true));
    return copy;
  }

  get outerHTML(): string {
    const attributes = [...this.attributes].map(([name, value]) => ` ${name}="${escape(value)}"`).join("");
    return `<${this.tagName}${attributes}>${this.childNodes.map((node) => node.outerHTML).join("")}</${this.tagName}>`;
  }
}

class ChartDocument {
  readonly documentElement: ChartElement = new ChartElement(this, svgNamespace, "svg");
  readonly defaultView = null;

  createElementNS(namespace: string, name: string): ChartElement {
    return new ChartElement(this, namespace, name);
  }

  createElement(name: string): ChartElement {
    return new ChartElement(this, svgNamespace, name);
  }

  createTextNode(text: string): ChartText {
    return new ChartText(this, text);
  }
}

/** An empty document for a chart. */
export function chartDocument(): Document {
  const document: unknown = new ChartDocument();
  return document as Document;
}
