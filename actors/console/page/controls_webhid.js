// A SpaceMouse through WebHID.
//
// Report 1 has three shifts as little-endian int16; six numbers where the device turns in the same report, else the
// turns come as report 2. Report 3 has the buttons, a bit each. 350 is the end of the travel. The device's own y and z
// point to the person and down; its turns follow them.

import { beyondDeadZone } from "./intent.js";

const TRAVEL = 350;
const MAX_AGE_MS = 200; // a pushed puck speaks many times a second; one that is silent is not believed
const VENDORS = { logitech: 0x046d, connexion: 0x256f };
const MOUSE = { usagePage: 0x01, usage: 0x08 }; // generic desktop, multi-axis controller
const PRODUCTS = {
  [VENDORS.logitech]: [0xc625, 0xc626, 0xc627, 0xc629, 0xc62b],
  [VENDORS.connexion]: [0xc62e, 0xc632, 0xc633, 0xc635, 0xc638, 0xc63a, 0xc641, 0xc652],
};

/** Which bits of report 3 are a device's first and last button, as [byte, bit], where not the first two. */
const ENDS = {
  0xc633: [
    [1, 4],
    [3, 2],
  ], // Enterprise
  0xc627: [
    [1, 0],
    [0, 4],
  ], // Explorer
  0xc625: [
    [0, 0],
    [2, 4],
  ], // Pilot
  0xc629: [
    [3, 0],
    [0, 1],
  ], // Pilot Pro
};
const USUAL_ENDS = [
  [0, 0],
  [0, 1],
];

/**
 * Take a report in.
 *
 * @param {number[]} deflection in the puck's axes: x right, y away from the person, z up, right-handed turns;
 *   in [-1, 1].
 * @param {number} reportId
 * @param {DataView} data without the report's number.
 * @returns {number[]} the new deflection.
 */
export function decodeMotion(deflection, reportId, data) {
  const next = deflection.slice();
  const put = (axis, offset, sign) => {
    if (offset + 2 > data.byteLength) return;
    next[axis] = Math.min(1, Math.max(-1, (sign * data.getInt16(offset, true)) / TRAVEL));
  };
  const turnsAt = reportId === 2 ? 0 : 6;
  if (reportId === 1)
    [
      [0, 1],
      [1, -1],
      [2, -1],
    ].forEach(([axis, sign], i) => put(axis, 2 * i, sign));
  if (reportId === 1 || reportId === 2) {
    [
      [3, 1],
      [4, -1],
      [5, -1],
    ].forEach(([axis, sign], i) => put(axis, turnsAt + 2 * i, sign));
  }
  return next;
}

/** Return whether the first and the last button are down, by a report 3. */
export function decodeButtons(productId, data) {
  return (ENDS[productId] ?? USUAL_ENDS).map(
    ([byte, bit]) => byte < data.byteLength && (data.getUint8(byte) & (1 << bit)) !== 0,
  );
}

export class SpaceMouse {
  name = "SpaceMouse";
  #device = null;
  #deflection = [0, 0, 0, 0, 0, 0];
  #movedMs = -Infinity;
  #isKnown = false; // it was seen at rest
  #down = [false, false];

  /** @param {{pressed: Function, changed: Function, deadZone: number}} commander */
  constructor(commander, hid = navigator.hid) {
    this.commander = commander;
    this.hid = hid;
  }

  get status() {
    if (!this.hid) return "this browser has no WebHID";
    return this.#device ? this.#device.productName || "SpaceMouse" : "SpaceMouse…";
  }

  /** Ask the person for the device. Only a click may do that. */
  async choose() {
    const filters = Object.entries(PRODUCTS).flatMap(([vendor, products]) =>
      products.map((productId) => ({ vendorId: Number(vendor), productId, ...MOUSE })),
    );
    const [device] = await this.hid.requestDevice({ filters });
    if (device) await this.#use(device);
  }

  /** Take a device that was allowed before. */
  async resume() {
    if (!this.hid) return;
    this.hid.addEventListener("disconnect", (event) => {
      if (event.device === this.#device) this.#lose();
    });
    const known = (await this.hid.getDevices()).find((device) => PRODUCTS[device.vendorId]?.includes(device.productId));
    if (known) await this.#use(known);
  }

  read(nowMs = performance.now()) {
    const none = { intent: [0, 0, 0, 0, 0, 0], isEngaged: false, isFine: false };
    if (!this.#device) return none;
    const puck = this.#deflection.map((axis) => beyondDeadZone(axis, this.commander.deadZone));
    const isDeflected = puck.some((axis) => axis !== 0);
    if (!isDeflected) this.#isKnown = true;
    if (!this.#isKnown || nowMs - this.#movedMs > MAX_AGE_MS) return none;
    // The puck's x is to the right and its y forward.
    const intent = [puck[1], -puck[0], puck[2], puck[4], -puck[3], puck[5]];
    return { intent, isEngaged: isDeflected, isFine: false };
  }

  release() {
    this.#isKnown = false;
  }

  async #use(device) {
    if (!device.opened) await device.open();
    this.#device = device;
    this.release();
    device.addEventListener("inputreport", (event) => this.#take(event));
  }

  #take({ device, reportId, data }) {
    if (device !== this.#device) return;
    if (reportId === 3) {
      const down = decodeButtons(device.productId, data);
      if (down[0] && !this.#down[0]) this.commander.pressed("gripper");
      if (down[1] && !this.#down[1]) this.commander.pressed("hand_back");
      this.#down = down;
      return;
    }
    this.#deflection = decodeMotion(this.#deflection, reportId, data);
    this.#movedMs = performance.now();
    this.commander.changed();
  }

  #lose() {
    this.#device = null;
    this.#deflection.fill(0);
    this.commander.lost("the SpaceMouse was unplugged");
  }
}
