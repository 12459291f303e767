/** An option's name as a command line says it: `keptBlocks` is `kept-blocks`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** A word of a command, as a shell takes it: in quotes where it holds more than plain letters. */
export function shellWord(text: string): string {
  return /^[\w./=,@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
