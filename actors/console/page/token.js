// The session's token: out of the link once, then in this tab's storage only.

const KEY = "serl.console.token";
const NAME_KEY = "serl.console.operator";

/** Return the token of this tab, or null; take it out of the address bar if it stands there. */
export function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    sessionStorage.setItem(KEY, found);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

/** Return this tab's name: another tab, another operator. */
export function operatorName() {
  let name = sessionStorage.getItem(NAME_KEY);
  if (!name) {
    const bytes = crypto.getRandomValues(new Uint8Array(2));
    name = `operator-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    sessionStorage.setItem(NAME_KEY, name);
  }
  return name;
}
