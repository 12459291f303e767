// Types of language.js for the tests.
interface HelpRow {
  readonly name: string;
  readonly summary: string;
  readonly options: Readonly<Record<string, { readonly description?: string }>>;
  readonly details?: string;
}
export function wordFaults(text: string): string[];
export function pageFaults(markdown: string, options?: { readonly width?: boolean }): string[];
export function messageFaults(name: string, text: string): string[];
export function helpFaults(row: HelpRow, lines: readonly string[]): string[];
