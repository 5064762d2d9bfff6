"""What to do about a file of another version of its format."""


def other_version(what: object, found: object, read: int, since: str = "0.1") -> str:
    """Return the sentence that refuses a file, with the command that helps.

    Args:
        what: the file.
        found: its version; what is no number is taken for an older one.
        read: the version that this program reads.
        since: the release of serl that began to write that one.
    """
    is_newer = isinstance(found, int) and found > read
    command = "pip install --upgrade serl" if is_newer else f"pip install 'serl<{since}'"
    return f"{what} is of version {found}, this program reads {read}: use the serl that wrote it, with `{command}`"
