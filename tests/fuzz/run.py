"""Fuzzes decoders, guided by coverage: `python -m tests.fuzz.run TARGET FOLDER -max_total_time=600`.

TARGET is one of `targets.TARGETS`; FOLDER keeps the inputs that reach something new; the options after it are
libFuzzer's. Needs `pip install atheris`, which has wheels for Linux only. Row X11 of the fault table does without: it
takes seeded mutations.
"""

import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["serl_core"]):
    from tests.fuzz.targets import TARGETS, checksums_off


def main(name: str, folder: Path, *options: str) -> None:
    """Fuzz one target until an input is a find, or the options say that it is enough."""
    with checksums_off():
        corpus = folder / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        target = TARGETS[name](folder)
        for number, seed in enumerate(target.seeds):
            (corpus / f"seed-{number}").write_bytes(seed)

        def one_input(data: bytes) -> None:
            with suppress(target.refusals):
                target.decode(data)

        atheris.Setup([sys.argv[0], f"-artifact_prefix={folder}/", *options, str(corpus)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
