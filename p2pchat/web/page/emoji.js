/** Emoji: their :shortcodes: (the usual ones of GitHub and Slack), and the dialog to pick one. */

import { dialog } from "./dialog.js";
import { fill, h } from "./dom.js";

const TABLE = {
  "Faces": `😀 grinning|😃 smiley|😄 smile|😁 grin|😆 laughing,satisfied|😅 sweat_smile|🤣 rofl|😂 joy|🙂 slightly_smiling_face|🙃 upside_down_face|😉 wink|😊 blush|😇 innocent|🥰 smiling_face_with_three_hearts|😍 heart_eyes|🤩 star_struck|😘 kissing_heart|😋 yum|😛 stuck_out_tongue|😜 stuck_out_tongue_winking_eye|🤪 zany_face|🤗 hugs|🤭 hand_over_mouth|🤫 shushing_face|🤔 thinking|🤐 zipper_mouth_face|🤨 raised_eyebrow|😐 neutral_face|😑 expressionless|😶 no_mouth|😏 smirk|😒 unamused|🙄 roll_eyes|😬 grimacing|😌 relieved|😔 pensive|😪 sleepy|😴 sleeping|😷 mask|🤒 face_with_thermometer|🤢 nauseated_face|🤧 sneezing_face|🥵 hot_face|🥶 cold_face|🥴 woozy_face|🤯 exploding_head|🥳 partying_face|😎 sunglasses|🤓 nerd_face|🧐 monocle_face|😕 confused|😟 worried|🙁 slightly_frowning_face|😮 open_mouth|😲 astonished|😳 flushed|🥺 pleading_face|😨 fearful|😰 cold_sweat|😢 cry|😭 sob|😱 scream|😖 confounded|😣 persevere|😞 disappointed|😓 sweat|😩 weary|😫 tired_face|🥱 yawning_face|😤 triumph|😡 rage,pout|😠 angry|🤬 cursing_face|😈 smiling_imp|💀 skull|💩 poop,hankey|🤡 clown_face|👻 ghost|👽 alien|🤖 robot`,
  "Hands and people": `👍 +1,thumbsup|👎 -1,thumbsdown|👌 ok_hand|✌️ v|🤞 crossed_fingers|🤘 metal|🤙 call_me_hand|👈 point_left|👉 point_right|👆 point_up_2|👇 point_down|☝️ point_up|✋ raised_hand|👋 wave|👏 clap|🙌 raised_hands|👐 open_hands|🤝 handshake|🙏 pray|✍️ writing_hand|💪 muscle|👀 eyes|🧠 brain|🤷 shrug|🤦 facepalm|🙋 raising_hand|🙇 bow|💁 tipping_hand_person|🏃 running|🚶 walking|💃 dancer|👶 baby|🧑 adult|👥 busts_in_silhouette`,
  "Hearts and signs": `❤️ heart|🧡 orange_heart|💛 yellow_heart|💚 green_heart|💙 blue_heart|💜 purple_heart|🖤 black_heart|💔 broken_heart|💕 two_hearts|💯 100|💥 boom,collision|💫 dizzy|💬 speech_balloon|💤 zzz|✅ white_check_mark|☑️ ballot_box_with_check|✔️ heavy_check_mark|❌ x|❓ question|❗ exclamation|⚠️ warning|⛔ no_entry|🚫 no_entry_sign|🔴 red_circle|🟡 yellow_circle|🟢 green_circle|🔵 large_blue_circle|⬆️ arrow_up|➡️ arrow_right|⬇️ arrow_down|⬅️ arrow_left|🔄 arrows_counterclockwise|➕ heavy_plus_sign|➖ heavy_minus_sign|♻️ recycle|🆗 ok|🆕 new|🆘 sos`,
  "Nature and weather": `🐶 dog|🐱 cat|🐭 mouse|🐰 rabbit|🦊 fox_face|🐻 bear|🐼 panda_face|🐨 koala|🐯 tiger|🦁 lion|🐮 cow|🐷 pig|🐸 frog|🐵 monkey_face|🙈 see_no_evil|🙉 hear_no_evil|🙊 speak_no_evil|🐔 chicken|🐧 penguin|🦄 unicorn|🐝 bee,honeybee|🐛 bug|🦋 butterfly|🐢 turtle|🐍 snake|🐙 octopus|🐠 tropical_fish|🐬 dolphin|🐳 whale|🌵 cactus|🌲 evergreen_tree|🌱 seedling|🍀 four_leaf_clover|🌹 rose|🌻 sunflower|🌍 earth_africa|🌙 crescent_moon|⭐ star|🌟 star2|✨ sparkles|⚡ zap|🔥 fire|🌈 rainbow|☀️ sunny|⛅ partly_sunny|☁️ cloud|🌧️ cloud_with_rain|❄️ snowflake|⛄ snowman|💧 droplet|🌊 ocean`,
  "Food": `🍎 apple|🍌 banana|🍇 grapes|🍓 strawberry|🍒 cherries|🍑 peach|🍍 pineapple|🥑 avocado|🍅 tomato|🥕 carrot|🌶️ hot_pepper|🍞 bread|🧀 cheese|🍔 hamburger|🍟 fries|🍕 pizza|🌮 taco|🍜 ramen|🍣 sushi|🍦 icecream|🍩 doughnut|🍪 cookie|🎂 birthday|🍰 cake|🍫 chocolate_bar|☕ coffee|🍵 tea|🍺 beer|🍻 beers|🍷 wine_glass|🥂 clinking_glasses|🍾 champagne`,
  "Things and places": `🎉 tada|🎊 confetti_ball|🎈 balloon|🎁 gift|🏆 trophy|🥇 1st_place_medal|⚽ soccer|🏀 basketball|🎮 video_game|🎲 game_die|🎯 dart|🎵 musical_note|🎸 guitar|🎨 art|🎬 clapper|📷 camera|💻 computer|⌨️ keyboard|📱 iphone|☎️ phone,telephone|🔋 battery|🔌 electric_plug|💡 bulb|🔦 flashlight|🔧 wrench|🔨 hammer|⚙️ gear|🔒 lock|🔓 unlock|🔑 key|🔗 link|📎 paperclip|✂️ scissors|📌 pushpin|📅 date|📈 chart_with_upwards_trend|📉 chart_with_downwards_trend|📝 memo,pencil|📖 book|📚 books|📦 package|📬 mailbox|✉️ envelope|🗑️ wastebasket|⏰ alarm_clock|⏳ hourglass_flowing_sand|⌛ hourglass|💰 moneybag|💳 credit_card|🚀 rocket|✈️ airplane|🚗 car,red_car|🚲 bike|🚂 steam_locomotive|🚢 ship|🚧 construction|🚨 rotating_light|🏠 house|🏢 office|🏥 hospital|🏖️ beach_umbrella|⛰️ mountain|🗺️ world_map|🏁 checkered_flag|🚩 triangular_flag_on_post|🏳️‍🌈 rainbow_flag`,
};

/** @typedef {{emoji: string, codes: string[]}} Emoji */

/** @type {[string, Emoji[]][]} */
const GROUPS = Object.entries(TABLE).map(([group, row]) => [group, row.split("|").map((one) => {
  const [emoji, codes] = one.split(" ");
  return { emoji, codes: codes.split(",") };
})]);
const BY_CODE = new Map(GROUPS.flatMap(([, all]) => all.flatMap(({ emoji, codes }) => codes.map((code) => [code, emoji]))));
const CODE_BEFORE = /(?<=^|[\s([*_~]|\p{Extended_Pictographic}|\uFE0F):([a-z0-9_+-]{1,40}):$/u; // at the beginning of a word, or behind another emoji

/**
 * Return the shortcode that ends a text, and its emoji; null for none, and inside of `code`.
 * @param {string} text before the cursor
 * @returns {{emoji: string, length: number}|null}
 */
export function emojiAtEnd(text) {
  const [code, name] = CODE_BEFORE.exec(text) ?? ["", ""];
  const emoji = BY_CODE.get(name);
  const inCode = text.split("`").length % 2 === 0;
  return emoji && !inCode ? { emoji, length: code.length } : null;
}

/**
 * Show a dialog to pick an emoji. Tab reaches the search field and one emoji, arrow keys the others.
 * @param {string} title
 * @param {(picked: string) => void} picked
 * @param {object} [how]
 * @param {string[]} [how.first] offered before all others
 * @param {number} [how.ownCharacters] at most in a text that may be typed instead of picking one; 0: none may
 */
export function pickEmoji(title, picked, { first = [], ownCharacters = 0 } = {}) {
  const choose = (/** @type {string} */ emoji) => {
    shown.close();
    picked(emoji);
  };
  const search = h("input", { type: "search", id: "emoji-search", autocomplete: "off", oninput: () => draw() });
  const list = h("div", { class: "emoji-list", onkeydown: (/** @type {KeyboardEvent} */ event) => moveFocus(list, event) });
  const status = h("p", { class: "hint", role: "status" });
  const offered = new Set(first);
  const groups = [["Often used", first.map((emoji) => ({ emoji, codes: codesOf(emoji) }))], ...GROUPS.map(([name, all]) => [name, all.filter(({ emoji }) => !offered.has(emoji))])];
  const own = () => (ownCharacters && [...new Intl.Segmenter().segment(search.value.trim())].length <= ownCharacters ? search.value.trim() : "");
  const draw = () => {
    const words = search.value.trim().toLowerCase().replace(/^:|:$/gu, "");
    const found = groups.map(([name, all]) => [name, all.filter(({ emoji, codes }) => !words || emoji === words || codes.some((code) => code.includes(words)))]);
    fill(list, found.filter(([, all]) => all.length).map(([name, all]) => h("section", {}, h("h3", {}, name), h("div", { class: "picks" }, all.map((one) => pick(one, choose))))));
    list.querySelector("button")?.setAttribute("tabindex", "0");
    const count = found.reduce((sum, [, all]) => sum + all.length, 0);
    status.textContent = !words ? "" : count ? `${count} found, Enter takes the first` : own() ? `Enter takes “${own()}”` : "No matches";
  };
  const enter = (/** @type {Event} */ event) => {
    event.preventDefault();
    const choice = list.querySelector("button")?.textContent || own();
    if (choice) choose(choice);
  };
  draw();
  const shown = dialog(title, [
    h("form", { onsubmit: enter }, h("label", { for: "emoji-search" }, ownCharacters ? `Search, or type your own (up to ${ownCharacters} characters)` : "Search"), search, status),
    list,
  ]);
  if (matchMedia("(pointer: coarse)").matches) list.querySelector("button")?.focus(); // the keyboard on the screen would cover it
}

/** @param {Emoji} one @param {(emoji: string) => void} choose */
function pick({ emoji, codes }, choose) {
  return h("button", { type: "button", class: "pick", tabindex: -1, title: codes.map((code) => `:${code}:`).join(" "), onclick: () => choose(emoji) }, emoji);
}

/** @param {string} emoji */
function codesOf(emoji) {
  return [...BY_CODE].filter(([, one]) => one === emoji).map(([code]) => code);
}

/** Move the focus with the arrow keys, as in a grid. @param {HTMLElement} list @param {KeyboardEvent} event */
function moveFocus(list, event) {
  const all = /** @type {HTMLElement[]} */ ([...list.querySelectorAll("button")]);
  const at = all.indexOf(/** @type {HTMLElement} */ (event.target));
  const here = all[at]?.getBoundingClientRect();
  if (!here) return;
  const rows = { ArrowUp: all.slice(0, at).reverse(), ArrowDown: all.slice(at + 1) }[event.key];
  const below = rows?.filter((one) => one.getBoundingClientRect().top !== here.top);
  const row = below?.[0]?.getBoundingClientRect().top;
  const beside = (/** @type {HTMLElement} */ one) => Math.abs(one.getBoundingClientRect().left - here.left);
  const next = { ArrowLeft: all[at - 1], ArrowRight: all[at + 1], Home: all[0], End: all.at(-1) }[event.key] ?? below?.filter((one) => one.getBoundingClientRect().top === row).sort((one, other) => beside(one) - beside(other))[0];
  if (!next) return;
  event.preventDefault();
  all[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
