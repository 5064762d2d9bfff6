"""Films a trial: an MP4 of what the cameras saw, what the policy or the human did, and what the wrist felt."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from actors.video_frame import VideoFrame, draw, vision_package
from serl_core.errors import ConfigError, DataError


class TrialVideo:
    """The MP4 file of one trial, in the time of the robot.

    The file gets its name when `close` has made it whole. Nothing stays when the `with` block ends
    in an error, or when no frame was added.
    """

    def __init__(self, path: Path, *, fps: float) -> None:
        """Store where to write; the file is made with the first frame.

        Args:
            path: should end in ``.mp4``; folders are made, a file that is there is replaced.
            fps: frames in a second: the control rate.

        Raises:
            ConfigError: `fps` is not 1 to 240, or a package for videos is missing.
        """
        if not 1.0 <= fps <= 240.0:
            raise ConfigError(f"TrialVideo.fps of {path}: must be 1 to 240 frames a second, got {fps}")
        self._av = vision_package("av")
        vision_package("cv2")
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._rate = Fraction(fps).limit_denominator(100)  # MPEG-4 takes numerators up to 65535
        self._container: Any = None
        self._stream: Any = None
        self._frames = 0
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def add(self, frame: VideoFrame) -> None:
        """Draw `frame` and append it.

        Raises:
            DataError: the file cannot be written.
            ValueError: the video is closed, or the frame's images or action are of other sizes than the first frame's.
        """
        if self._is_closed:
            raise ValueError(f"{self._path}: the video is closed; make a new one for another trial")
        picture = draw(frame)
        height, width, _ = picture.shape
        with self._or_nothing():
            if self._container is None:
                self._open(height, width)
            if (height, width) != (self._stream.height, self._stream.width):
                raise ValueError(
                    f"{self._path}: frame {self._frames} is {width} x {height} pixels, the first "
                    f"{self._stream.width} x {self._stream.height}; images and action must keep their sizes"
                )
            video_frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
            video_frame.pts, video_frame.time_base = self._frames, 1 / self._rate
            self._container.mux(self._stream.encode(video_frame))
        self._frames += 1

    def close(self) -> None:
        """Write what is left and give the file its name. Safe to call twice.

        Raises:
            DataError: the file cannot be written.
        """
        if self._container is not None:
            with self._or_nothing():
                self._container.mux(self._stream.encode(None))
                self._container.close()
                self._partial.replace(self._path)
        self._container, self._is_closed = None, True

    def _open(self, height: int, width: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        if "libx264" in self._av.codecs_available:
            self._stream = self._container.add_stream(
                "libx264", rate=self._rate, options={"preset": "veryfast", "crf": "20"}
            )
        else:  # a PyAV without GPL parts
            self._stream = self._container.add_stream("mpeg4", rate=self._rate, bit_rate=4_000_000)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Leave no file behind an error, and name the file in an error of the disk."""
        try:
            yield
        except (OSError, self._av.FFmpegError) as error:
            self._discard()
            raise DataError(
                f"cannot write {self._path}: {error.strerror}; make room or choose another folder"
            ) from error
        except BaseException:  # also Ctrl-C: no half file stays; raised again
            self._discard()
            raise

    def _discard(self) -> None:
        container, self._container = self._container, None
        self._is_closed = True
        if container is None:
            return
        with suppress(OSError, self._av.FFmpegError):  # of a file that goes anyway
            container.close()
        self._partial.unlink(missing_ok=True)
