"""Has atheris look for bytes that no decoder was made for: `make fuzz`. Not collected by pytest.

The first byte of an input says which decoder it is for, so that one corpus serves all. What it finds is kept in
.venv/fuzz and fails the run.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / ".venv" / "fuzz" / "corpus"


def main(arguments: list[str]) -> int:
    """Goes on until `-max_total_time`, or whatever else libFuzzer is told."""
    try:
        import atheris
    except ImportError:
        version = ".".join(map(str, sys.version_info[:2]))
        sys.stderr.write(f"skipped: there is no atheris for Python {version} on {sys.platform}\n")
        return 0
    logging.disable()  # a bad entry is worth a warning to users; here it is what is wanted
    sys.path.insert(0, str(ROOT))
    with atheris.instrument_imports(include=["consul_access"]):
        from tests.faults.decoders import DECODERS, RAW, as_bytes
        from tests.faults.test_fuzz import check
    decoders = [decoder for decoder, _ in DECODERS.values()] + [*RAW.values()]
    CORPUS.mkdir(parents=True, exist_ok=True)
    for number, (_, sample) in enumerate(DECODERS.values()):
        (CORPUS / f"good-{number}").write_bytes(bytes([number]) + as_bytes(sample))

    def look(data: bytes) -> None:
        if data:
            check(decoders[data[0] % len(decoders)], data[1:])

    prefix = f"-artifact_prefix={CORPUS.parent}/"
    atheris.Setup([sys.argv[0], prefix, "-max_len=4096", *arguments, str(CORPUS)], look)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
