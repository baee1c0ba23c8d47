/** The reaction picker: common reactions, or any text of up to eight characters. */

import { dialog } from "./dialog.js";
import { h } from "./dom.js";

const USUAL = ["👍", "❤️", "😄", "🎉", "😮", "😢", "🙏", "✅", "👀", "🚀", "+1", "-1"];
const MOST_CHARACTERS = 8;

/** @param {(reaction: string) => void} picked */
export function pickReaction(picked) {
  const choose = (/** @type {string} */ reaction) => {
    shown.close();
    picked(reaction);
  };
  const own = h("input", { maxlength: MOST_CHARACTERS, id: "own-reaction", autocomplete: "off" });
  const shown = dialog("React", [
    h("div", { class: "picks" }, USUAL.map((one) => h("button", { type: "button", class: "pick", onclick: () => choose(one) }, one))),
    h("form", { onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), own.value.trim() && choose(own.value.trim())) },
      h("label", { for: "own-reaction" }, "Or type your own (up to 8 characters)"),
      h("div", { class: "row" }, own, h("button", {}, "React"))),
  ], { class: "small" });
}
