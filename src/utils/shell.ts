/** A word of a command, as a shell takes it: in quotes where it holds more than plain letters. */
export function shellWord(text: string): string {
  return /^[\w./=,@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
