"""A SpaceMouse in the browser means what it means to pyspacemouse."""

import numpy as np
import pyspacemouse
from pyspacemouse import AxisConvention, SpaceMouseDevice

DECODE = """const { decodeMotion, decodeButtons } = await import('/page/controls_webhid.js');
return args[0].map(({ product, reports }) => {
    let deflection = [0, 0, 0, 0, 0, 0];
    let down = [false, false];
    for (const [id, ...bytes] of reports) {
        const data = new DataView(new Uint8Array(bytes).buffer);
        if (id === 3) down = decodeButtons(product, data);
        else deflection = decodeMotion(deflection, id, data);
    }
    return [deflection, down];
});"""


class Reports:
    """A device that reports what it is given."""

    def __init__(self, reports):
        self.reports = list(reports)

    def open(self):
        pass

    def read(self, size, timeout=0):
        return bytearray(self.reports.pop(0))

    def __getattr__(self, name):
        return ""


def random_reports(info, random):
    """A motion of every kind that the device sends, then its buttons."""
    turns_with_shifts = info.mappings["roll"].channel == 1
    sizes = {1: 12} if turns_with_shifts else {1: 6, 2: 6}
    motion = [[i, *random.integers(-400, 401, size // 2).astype("<i2").tobytes()] for i, size in sizes.items()]
    return [*motion, [3, *random.integers(0, 256, 6).tolist()]]


def test_every_device_decodes_as_in_pyspacemouse(page, stub):
    random, cases, wanted = np.random.default_rng(7), [], []
    for spec in pyspacemouse.get_device_specs().values():
        info = pyspacemouse.apply_axis_convention(spec, AxisConvention.HID_Z_UP)
        for _ in range(5):
            reports = random_reports(info, random)
            device = SpaceMouseDevice(info=info, device=Reports(reports))
            device._state.buttons[:] = [0] * len(info.button_specs)
            for report in reports:
                device._process(bytes(report))
            state = device.state
            deflection = [state.x, state.y, state.z, state.roll, state.pitch, state.yaw]
            down = [bool(state.buttons[0]), bool(state.buttons[-1])] if info.button_specs else None
            cases.append({"product": info.product_id, "reports": reports})
            wanted.append((np.clip(deflection, -1, 1), down))
    page.open(stub.link)
    for case, got, (deflection, down) in zip(cases, page.call(DECODE, cases), wanted, strict=True):
        np.testing.assert_allclose(got[0], deflection, atol=1e-9, err_msg=str(case))
        if down is not None:
            assert got[1] == down, case


def test_a_puck_that_falls_silent_while_pushed_is_not_believed(page, stub):
    page.open(stub.link)
    seen = page.call("""const { SpaceMouse } = await import('/page/controls_webhid.js');
        const device = new EventTarget();
        Object.assign(device, { vendorId: 0x256f, productId: 0xc635, opened: true });
        const hid = Object.assign(new EventTarget(), { getDevices: async () => [device] });
        const commander = { changed: () => {}, pressed: () => {}, lost: () => {}, deadZone: 0.1 };
        const mouse = new SpaceMouse(commander, hid);
        await mouse.resume();
        const say = (y) => {
            const data = new DataView(new ArrayBuffer(6));
            data.setInt16(2, y, true);
            device.dispatchEvent(Object.assign(new Event('inputreport'), { device, reportId: 1, data }));
        };
        say(-350);
        const early = mouse.read().isEngaged;
        say(0);
        mouse.read();
        say(-350);
        const pushed = mouse.read();
        const silent = mouse.read(performance.now() + 250);
        return [early, pushed.isEngaged, pushed.intent, silent.isEngaged];""")
    assert seen == [False, True, [1, 0, 0, 0, 0, 0], False]
