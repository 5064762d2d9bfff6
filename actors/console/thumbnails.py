"""The last picture of an episode, straight from its file in the learner's log."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from serl_core.data.episode_file import SUFFIX

MAX_PICTURE_BYTES = 4 * 1024 * 1024
FRAMES, ENDS = "observation/frames/", "observation/frame_ends/"
PNG_START = b"\x89PNG\r\n\x1a\n"


def episode_file(run: Path, session: str, episode: int) -> Path:
    """Return where the learner's log keeps an episode, once it has ended. Names are checked by the caller."""
    return run / "experience" / "episodes" / f"{session}-{episode:06d}{SUFFIX}"


def last_picture(path: Path, camera: str | None = None) -> bytes | None:
    """Return the last frame of an episode as it was logged, PNG or JPEG; None when there is none.

    Only these bytes are read, not the whole file: so its checksum is not looked at. A broken picture
    is one that the browser does not draw.

    Args:
        path: the episode's file.
        camera: whose; the first by name when None.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = sorted(name for name in file.keys() if name.startswith(FRAMES))  # noqa: SIM118
            name = names[0] if camera is None and names else f"{FRAMES}{camera}"
            if name not in names:
                return None
            ends = file.get_tensor(name.replace(FRAMES, ENDS))
            start = int(ends[-2]) if len(ends) > 1 else 0
            if not 0 <= start < int(ends[-1]) <= start + MAX_PICTURE_BYTES:
                return None
            return bytes(file.get_slice(name)[start : int(ends[-1])].tobytes())
    except (SafetensorError, OSError, ValueError, IndexError):
        return None


def media_type(picture: bytes) -> str:
    """Return what a picture is, by how it begins."""
    return "image/png" if picture.startswith(PNG_START) else "image/jpeg"
