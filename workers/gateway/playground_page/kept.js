// What this browser keeps: who the guest is, names of conversations, and the notes between their items, which the server
// keeps nowhere (who handed over to whom, what was stopped, which message is a dead letter).

const MOST_NOTES = 200;
const MOST_THREADS = 40;

export const kept = {
  get: (name) => JSON.parse(localStorage.getItem(`chatkit.${name}`) ?? "null"),
  set: (name, value) => {
    if (value == null) localStorage.removeItem(`chatkit.${name}`);
    else localStorage.setItem(`chatkit.${name}`, JSON.stringify(value));
  },
};

/** The notes of one thread. Each has a key: tabs that see the same frame write the same note. */
export class Notes {
  constructor(thread) {
    this.name = `notes.${thread}`;
  }

  all() {
    return kept.get(this.name) ?? [];
  }

  add(note) {
    this.change((notes) => [...notes.filter((other) => other.key !== note.key), note].slice(-MOST_NOTES));
  }

  remove(keys) {
    this.change((notes) => notes.filter((note) => !keys.includes(note.key)));
  }

  /** What stood behind an item that is gone stands behind the one before it. */
  move(from, to) {
    this.change((notes) => notes.map((note) => (note.after === from ? { ...note, after: to } : note)));
  }

  change(how) {
    kept.set(this.name, how(this.all()));
  }
}

/** The turns that this browser has begun and not seen the end of: one may end before anybody follows its thread. */
export const begun = {
  in: (thread) => (kept.get("begun") ?? []).filter(([id]) => id === thread).map(([, event]) => event),
  add: (thread, event) => kept.set("begun", [...(kept.get("begun") ?? []), [thread, event]].slice(-MOST_THREADS)),
  end: (event) => kept.set("begun", (kept.get("begun") ?? []).filter(([, other]) => other !== event)),
};

/** A conversation is called by its first words until it has a title. Old ones are forgotten. */
export function nameThread(thread, words) {
  const names = (kept.get("names") ?? []).filter(([id]) => id !== thread);
  names.push([thread, words.slice(0, 60)]);
  for (const [old] of names.splice(0, names.length - MOST_THREADS)) kept.set(`notes.${old}`, null);
  kept.set("names", names);
}

export function nameOf(thread) {
  return (kept.get("names") ?? []).find(([id]) => id === thread)?.[1];
}
