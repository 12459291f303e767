// Names from other people's files in messages: short, whatever the file says.

const longest = 100;
const shown = 8;

/** A name, cut to about 100 characters. */
export function shortName(name: string): string {
  return name.length <= longest ? name : `${name.slice(0, longest - 20)}...${name.slice(-17)}`;
}

/** A few names, and how many more there are. */
export function shortNames(names: readonly string[]): string {
  const first = names.slice(0, shown).map(shortName).join(", ");
  return names.length <= shown ? first : `${first} and ${names.length - shown} more`;
}
