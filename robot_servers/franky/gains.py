"""Impedance parameters in franky's terms.

franky's rotational error is the full angle t, ours the vector part of the error's quaternion, sin(t/2), about t/2.
The same torque needs half the stiffness and twice the clip: K sin(t/2) = (K/2) t to third order, and at the clip
(K/2) (2 c) = K c. Damping acts on the angular velocity in both laws, so it is the same number. K_r 150 with a clip of
0.05 here is 75 with 0.10 there.
"""

import franky

from serl_core.robots.messages import ImpedanceParams, Vector3

FULL_ANGLE = 2.0  # of half the angle


def cartesian_gains(params: ImpedanceParams) -> franky.CartesianImpedanceGains:
    """Return stiffness and damping as franky takes them."""
    return franky.CartesianImpedanceGains.isotropic(
        params.translational_stiffness_n_m,
        params.rotational_stiffness_nm_rad / FULL_ANGLE,
        params.translational_damping_ns_m,
        params.rotational_damping_nms_rad,
    )


def nullspace_gains(params: ImpedanceParams) -> franky.NullspaceGains:
    """Return the posture's stiffness as franky takes it; franky keeps its damping critical."""
    gains = franky.NullspaceGains()
    gains.posture_stiffness = params.nullspace_stiffness_nm_rad
    return gains


def axis_clips(params: ImpedanceParams) -> tuple[Vector3, Vector3]:
    """Return the clips of franky's own loop, in m [3] and rad [3]: it has one per axis, so the larger of the two signs.

    The smaller one is kept by clipping the reference in every control tick.
    """
    m, rad = params.translational_clip_m, params.rotational_clip_rad
    turns = (max(rad[:2]), max(rad[2:4]), max(rad[4:]))
    return (max(m[:2]), max(m[2:4]), max(m[4:])), (turns[0] * FULL_ANGLE, turns[1] * FULL_ANGLE, turns[2] * FULL_ANGLE)
