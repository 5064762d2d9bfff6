"""hidapi's C functions as easyhid calls them, over reports that a test gives: everything above them is real.

The reports are written byte by byte in the format of the devices: a report number, then 16-bit little-endian numbers
for right, towards the person and down, and the turns about them; or a bit for each button.
"""

import queue
import time

from easyhid.easyhid import ffi

COMPACT = (0x256F, 0xC635)  # reports shifts and turns apart
WIRELESS = (0x256F, 0xC63A)  # reports all six numbers at once
RECEIVER = (0x256F, 0xC652)

COMPACT_AT_REST = ("01 00 00 00 00 00 00", "02 00 00 00 00 00 00")
COMPACT_RIGHT = ("01 5e 01 00 00 00 00", "02 00 00 00 00 00 00")  # 350 is the end of the travel
COMPACT_RIGHT_GROWING = ("01 10 00 00 00 00 00", "01 50 00 00 00 00 00", "01 af 00 00 00 00 00")
COMPACT_UP = ("01 00 00 00 00 a2 fe", "02 00 00 00 00 00 00")
COMPACT_DOWN = ("01 00 00 00 00 5e 01", "02 00 00 00 00 00 00")
LEFT_DOWN, RIGHT_DOWN, BOTH_DOWN, ALL_UP = ("03 01 00",), ("03 02 00",), ("03 03 00",), ("03 00 00",)
WIRELESS_RIGHT = ("01 5e 01 00 00 00 00 00 00 00 00 00 00",)
WIRELESS_BATTERY = ("17 5f 00",)


class FakeHidapi:
    """The C library with the devices that are plugged in."""

    def __init__(self):
        self.plugged = {}  # by path: what hid_enumerate says of it
        self.locked = set()  # paths that this user may not open
        self.reports = {}  # of an open device, by path
        self.opened = []  # paths, in order
        self.open_now = 0
        self._kept = []  # cffi frees what nobody holds

    def plug(self, path, ids=COMPACT, serial="", usages=((1, 8),)):
        self.plugged[path] = (ids, serial, usages)
        self.reports[path] = queue.Queue()

    def unplug(self, path):
        del self.plugged[path]
        self.reports[path].put(None)

    def send(self, path, *reports):
        for report in reports:
            self.reports[path].put(bytes.fromhex(report))

    def hid_enumerate(self, vendor, product):
        first = ffi.NULL
        for path, (ids, serial, usages) in reversed(self.plugged.items()):
            for page, usage in usages:
                texts = [ffi.new("char[]", path.encode()), ffi.new("wchar_t[]", serial), ffi.new("wchar_t[]", "3Dx")]
                info = ffi.new("struct hid_device_info*")
                info.path, info.serial_number, info.product_string = texts
                info.manufacturer_string = texts[2]
                info.vendor_id, info.product_id = ids
                info.usage_page, info.usage = page, usage
                info.next = first
                first = info
                self._kept += [info, *texts]
        return first

    def hid_free_enumeration(self, first):
        pass

    def hid_open_path(self, path):
        path = path.decode()
        if path not in self.plugged or path in self.locked:
            return ffi.NULL
        self.opened.append(path)
        self.open_now += 1
        return self.reports[path]

    def hid_read_timeout(self, reports, data, size, timeout_ms):
        try:
            report = reports.get(timeout=timeout_ms / 1000) if timeout_ms else reports.get_nowait()
        except queue.Empty:
            return 0
        if report is None:
            return -1
        report = report[:size]  # the rest of a report that is longer is lost
        data[0 : len(report)] = report
        return len(report)

    def hid_close(self, reports):
        self.open_now -= 1


def eventually(is_so, timeout_s=20.0):
    """Wait until something is so."""
    give_up_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)
