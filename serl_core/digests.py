"""What tells two task digests apart, in words: the task, or only the frozen encoder and the mode behind the ``+``."""


def other_encoder(found: str, here: str) -> tuple[str, str] | None:
    """Return the encoders of two digests where they are all that differs; "none" for a digest without one."""
    (found_task, _, found_encoder), (task, _, encoder) = found.partition("+"), here.partition("+")
    if found_task != task or found_encoder == encoder:
        return None
    return found_encoder or "none", encoder or "none"


def not_of_here(what: str, found: str, here: str, remedy: str) -> str:
    """Return the sentence that refuses `what`, made for the digest `found`, where the digest is `here`.

    Args:
        what: the subject, such as a path.
        found: its digest.
        here: the digest of the task in use.
        remedy: what else to do.
    """
    encoders = other_encoder(found, here)
    if encoders is None:
        return f"{what} belongs to a task of digest {found}, this one has {here}: {remedy}"
    return (
        f"{what} goes with features of the encoder {encoders[0]} and this machine takes {encoders[1]}: set "
        f"EncoderConfig.kind, weights, mode and copies to the former's (kind auto takes what it finds), or {remedy}"
    )
