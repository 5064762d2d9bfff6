"""A RealSense camera made of software, in librealsense's own `software_device`, and recordings of it."""

import time

import numpy as np

from actors.cameras.librealsense import librealsense

HEIGHT, WIDTH, HZ = 48, 64, 30
BASELINE_M, FOCAL = 0.05, 60.0  # colour is this far to the right of depth; in pixels
DEPTH_M = 1.0
SHIFT = 3  # pixels: FOCAL * BASELINE_M / DEPTH_M, by which depth moves when it is aligned


class SoftCamera:
    """Gives the pictures it is told to: red 200, green 100 + 4 x number, blue 30, and a plane 1 m away.

    Args:
        exposure: lowest, highest and present value of the option, in the sensor's unit; None for no such option.
    """

    def __init__(self, serial="42", *, exposure=None, has_depth=True, sensor="RGB Camera"):
        rs = self.rs = librealsense()
        self.serial = serial
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, serial)
        self.device.register_info(rs.camera_info.name, "Software D400")
        self.colour = self.device.add_sensor(sensor)
        if exposure is not None:
            self._add_option(rs.option.exposure, *exposure)
            self._add_option(rs.option.enable_auto_exposure, 0, 1, 1)
        self._profiles = {
            "color": self.colour.add_video_stream(self._stream(rs.stream.color, 1, rs.format.rgb8, 3)),
        }
        self._sensors = {"color": self.colour}
        if has_depth:
            sensor = self.device.add_sensor("Stereo Module")
            sensor.add_read_only_option(rs.option.depth_units, 0.001)
            profile = sensor.add_video_stream(self._stream(rs.stream.depth, 2, rs.format.z16, 2))
            to_colour = rs.extrinsics()
            to_colour.rotation, to_colour.translation = list(np.eye(3).ravel()), [BASELINE_M, 0.0, 0.0]
            profile.register_extrinsics_to(self._profiles["color"], to_colour)
            self._sensors["depth"], self._profiles["depth"] = sensor, profile
            self.device.create_matcher(rs.matchers.default)

    def show(self, number, *, is_black=False, with_depth=True):
        """Give a pair of pictures, as of `number` / HZ seconds of the camera's clock."""
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        if not is_black:
            picture[:] = (200, 100 + 4 * number, 30)
        self._give("color", picture, 3, number)
        if with_depth and "depth" in self._sensors:
            self._give("depth", np.full((HEIGHT, WIDTH), round(1000 * DEPTH_M), np.uint16), 2, number)

    def record(self, path, count):
        """Write `count` pairs of pictures to a file."""
        rs = self.rs
        recorder = rs.recorder(str(path), self.device)
        queue, sensors = rs.frame_queue(count), recorder.query_sensors()
        for sensor in sensors:
            sensor.open(sensor.get_stream_profiles())
            sensor.start(queue)
        for number in range(1, count + 1):
            self.show(number)
            time.sleep(1.0 / HZ)
        for sensor in sensors:
            sensor.stop()
            sensor.close()
        recorder.pause()  # with its end the file is complete
        return str(path)

    def _give(self, kind, pixels, bytes_per_pixel, number):
        rs = self.rs
        frame = rs.software_video_frame()
        frame.pixels, frame.bpp, frame.stride = pixels, bytes_per_pixel, WIDTH * bytes_per_pixel
        frame.timestamp, frame.domain = 1000.0 * number / HZ, rs.timestamp_domain.hardware_clock
        frame.frame_number, frame.depth_units = number, 0.001
        frame.profile = self._profiles[kind].as_video_stream_profile()
        self._sensors[kind].on_video_frame(frame)

    def _add_option(self, option, low, high, default):
        allowed = self.rs.option_range()
        allowed.min, allowed.max, allowed.step, allowed.default = low, high, 1, default
        self.colour.add_option(option, allowed, True)

    def _stream(self, kind, number, form, bytes_per_pixel):
        stream = self.rs.video_stream()
        stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = kind, 0, number, form, bytes_per_pixel
        stream.width, stream.height, stream.fps = WIDTH, HEIGHT, HZ
        lens = self.rs.intrinsics()
        lens.width, lens.height, lens.ppx, lens.ppy = WIDTH, HEIGHT, WIDTH / 2, HEIGHT / 2
        lens.fx = lens.fy = FOCAL
        lens.model, lens.coeffs = self.rs.distortion.none, [0.0] * 5
        stream.intrinsics = lens
        return stream
