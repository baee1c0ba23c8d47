/** The title of the window: the unread count and the open conversation. */

/** @param {import("./model.js").Model} model */
export function showTitle(model) {
  const draw = () => {
    const unread = model.unread;
    const front = model.front;
    const where = front ? (front.kind === "room" ? "Room" : front.kind === "group" ? `#${front.name}` : front.name) : "";
    document.title = `${unread ? `(${unread}) ` : ""}${where ? `${where} – ` : ""}p2pchat`;
  };
  for (const topic of ["talks", "front", "state"]) model.bus.on(topic, draw);
}
