// The page: makes the parts and gives each message from the console to those who asked for its kind.

import { Api } from "./api.js";
import { Ask } from "./ask.js";
import { Charts } from "./charts.js";
import { armCorrect } from "./correct.js";
import { Episodes } from "./episodes.js";
import { Evaluation } from "./evaluation.js";
import { armLabels } from "./labels.js";
import { notify } from "./notices.js";
import { armRecord } from "./record.js";
import { Socket } from "./socket.js";
import { Store, controlOf } from "./state.js";
import { armStop } from "./stop.js";
import { armTabs } from "./tabs.js";
import { armTheme } from "./theme.js";
import { operatorName, takeToken } from "./token.js";
import { showBanner } from "./view_banner.js";
import { showCameras } from "./view_cameras.js";
import { showStatus } from "./view_status.js";
import { showTrace } from "./view_trace.js";
import { showWrench } from "./view_wrench.js";

const ASK_MS = 3000;

const token = takeToken();
const store = new Store();
const api = new Api(token);
const socket = new Socket({
  token,
  operator: operatorName(),
  onMessage: hear,
  onPicture: (name, blob) => store.set("picture", { name, blob }),
  onLink: (link) => store.set("link", link),
});
const send = (message) => socket.send(message);

armStop(store, api, send); // first: it must work whatever becomes of the rest
showStatus(store);
showBanner(store, send);
showCameras(store);
showWrench(store);
showTrace(store);
armLabels(store, send);
armCorrect(store, send);
armRecord(store, send);
const charts = new Charts(store, api);
const episodes = new Episodes(store, api, send);
const evaluation = new Evaluation(api);
const ask = new Ask(store, api);
let isAskShown = false;
armTheme(() => {
  charts.redraw();
  ask.redraw();
});
armTabs((name) => {
  charts.isVisible = name === "follow";
  if (name === "compare") evaluation.load();
  isAskShown = name === "ask";
  if (isAskShown) ask.load();
});
setInterval(() => {
  if (isAskShown && !document.hidden && store.get("link") === "open") ask.load();
}, ASK_MS);

store.set("link", token ? "connecting" : "no token");
if (token) socket.connect();

function hear(message) {
  switch (message.kind) {
    case "hello":
      store.set("operator", message.operator ?? operatorName());
      store.set("hello", message);
      charts.load();
      episodes.load();
      ask.load();
      break;
    case "state":
      store.set("steers", message.operator ?? null);
      store.set("control", controlOf(message));
      store.set("recording", message.recording ?? null);
      store.set("state", message);
      break;
    case "step":
      store.set("steers", message.operator ?? null);
      store.set("control", message.control);
      store.set("step", message);
      break;
    case "notice":
      notify(message.level, message.text);
      break;
    case "metrics":
    case "episode":
    case "record":
    case "pong":
      store.set(message.kind, message);
      break;
    default: // of a newer console: not for this page
  }
}
