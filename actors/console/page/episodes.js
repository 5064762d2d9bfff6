// Past episodes: a thumbnail, how each ended, and a way to say otherwise.

import { byId, drawPicture, make, say } from "./dom.js";
import { notify } from "./notices.js";

const MOST = 200;

export class Episodes {
  #cards = new Map(); // id -> card
  #newest = null; // the episode at the top of the list

  constructor(store, api, send) {
    this.api = api;
    this.send = send;
    this.list = byId("episode-list");
    this.seen = new IntersectionObserver((entries) => entries.forEach((entry) => this.#see(entry)), { root: null });
    byId("undo").addEventListener("click", () => {
      if (this.#say({ kind: "undo" })) byId("undo").disabled = true;
    });
    store.on("episode", (episode) => this.#put(episode));
  }

  /** Fetch the list; to be called at each new connection, too. */
  async load() {
    try {
      const { episodes, can_undo: canUndo } = await this.api.json("episodes");
      this.#cards.clear();
      this.#newest = null;
      this.list.replaceChildren();
      for (const episode of episodes.slice(0, MOST).reverse()) this.#put(episode);
      byId("undo").disabled = !canUndo;
      say(byId("episodes-state"), episodes.length ? "" : "No episode has ended yet.");
    } catch (error) {
      say(byId("episodes-state"), `No episodes: ${error.message}`);
    }
  }

  #put(episode) {
    const id = `${episode.session}-${episode.episode}`;
    let card = this.#cards.get(id);
    if (!card) {
      card = this.#make(id);
      this.#cards.set(id, card);
      card.gap = gap(this.#newest, episode);
      this.#newest = episode;
      this.list.prepend(card.root);
      while (this.list.children.length > MOST) this.list.lastElementChild.remove();
      say(byId("episodes-state"), "");
    }
    if (episode.label && episode.label !== card.label) byId("undo").disabled = false;
    card.label = episode.label ?? null;
    const end = episode.label ?? episode.end;
    card.root.dataset.end = end;
    card.root.dataset.isRelabelled = Boolean(episode.label);
    say(card.title, `${episode.episode} · ${end.replaceAll("_", " ")}${episode.label ? ` (was ${episode.end})` : ""}`);
    say(
      card.detail,
      `${episode.length_steps} steps, ${Math.round(100 * (episode.intervention_rate ?? 0))} % corrected${card.gap}`,
    );
    card.success.disabled = end === "success";
    card.failure.disabled = end === "failure";
    card.hasThumbnail = episode.has_thumbnail !== false;
    card.canvas.hidden = !card.hasThumbnail;
    card.session = episode.session;
    card.episode = episode.episode;
  }

  #make(id) {
    const canvas = make("canvas", { width: 64, height: 64 });
    const [title, detail] = [make("strong"), make("span", { className: "quiet" })];
    const card = { id, canvas, title, detail, isFetched: false };
    const button = (label) =>
      make("button", { type: "button", textContent: label, onclick: () => this.#relabel(card, label) });
    [card.success, card.failure] = [button("success"), button("failure")];
    const words = make("div", {}, title, detail, make("div", { className: "row" }, card.success, card.failure));
    card.root = make("li", { id: `episode-${id}` }, canvas, words);
    this.seen.observe(card.root);
    return card;
  }

  #relabel(card, label) {
    this.#say({ kind: "relabel", session: card.session, episode: card.episode, label });
  }

  #say(message) {
    const isSent = this.send(message);
    if (!isSent) notify("error", "Relabel: no connection, nothing was sent");
    return isSent;
  }

  async #see({ isIntersecting, target }) {
    const card = [...this.#cards.values()].find(({ root }) => root === target);
    if (!isIntersecting || !card || card.isFetched || !card.hasThumbnail) return;
    card.isFetched = true;
    try {
      await drawPicture(card.canvas, await this.api.blob(`episodes/${card.id}/thumbnail.jpg`));
    } catch {
      card.canvas.classList.add("missing"); // learnt from state: there are no pictures
    }
  }
}

/** Return the words for the numbers that the list leaves out before an episode: nothing of those was kept as a whole. */
function gap(before, { session, episode }) {
  const missing = before?.session === session ? episode - before.episode - 1 : 0;
  if (missing < 1) return "";
  const numbers = missing === 1 ? `${episode - 1} was` : `${episode - missing} to ${episode - 1} were`;
  return ` · ${numbers} abandoned`;
}
