// What pickles are made of, beside numbers, texts, lists, Maps and Sets.

/** What a pickle holds. Dictionaries are Maps, tuples and lists arrays; other things come from the handlers. */
export type PickleValue = unknown;

/** A class or function that a pickle names. It is only ever a name: nothing is looked up, nothing is called. */
export class Global {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/**
 * An object of a class that is not known here. It is never made: what the pickle says of it is kept as it is written, so
 * that the tensors inside of it and beside it can be read.
 */
export class Opaque {
  /** Its class, or the function that would have made it. */
  readonly className: string;
  readonly args: PickleValue;
  /** What BUILD gives it; for most objects the dictionary of its attributes. */
  state: PickleValue;
  /** Its items, where its class is a kind of dictionary. */
  entries: Map<PickleValue, PickleValue> | undefined;
  /** Its elements, where its class is a kind of list or set. */
  elements: PickleValue[] | undefined;
  constructor(className: string, args: PickleValue = undefined) {
    this.className = className;
    this.args = args;
  }
}

/** Makes an object from a constructor's arguments. */
export type Construct = (args: readonly PickleValue[]) => PickleValue;

export interface PickleHandlers {
  /** What `module.name` makes when it is called; undefined leaves an opaque object in its place. */
  construct(name: string): Construct | undefined;
  /** Gives an object its state; nothing where left out, as tensors have none that matters. */
  build?(object: PickleValue, state: PickleValue): void;
  /** Whether Python 2's strings stay bytes. */
  readonly keepsBytes?: boolean;
  /** A reference to something outside of the pickle (a tensor's storage). */
  persistent(id: PickleValue): PickleValue;
}
