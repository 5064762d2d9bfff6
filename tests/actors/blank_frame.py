"""A frame of a video with nothing in it, for tests to fill."""

import numpy as np

from actors.video_frame import VideoFrame

FRAME = VideoFrame(
    images={},
    action=np.zeros(6, np.float32),
    force_n=np.zeros(3),
    torque_nm=np.zeros(3),
    success_probability=None,
    success_threshold=None,
    is_intervention=False,
    step=0,
    caption="trial 1 of 1",
)
