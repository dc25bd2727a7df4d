// Server-sent events out of text that arrives in pieces. Pure: no network, no page.

export class EventReader {
  #rest = "";

  /** Takes the next piece and returns the data of every event that it completes. */
  feed(piece) {
    this.#rest += piece;
    const events = this.#rest.split(/\r?\n\r?\n/);
    this.#rest = events.pop();
    return events.map(dataOf).filter((data) => data !== "");
  }
}

function dataOf(event) {
  return event
    .split(/\r?\n/)
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).replace(/^ /, ""))
    .join("\n");
}
