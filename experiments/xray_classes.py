"""Lay the chest X-ray archive out by three classes: normal, bacteria, virus.

    python experiments/xray_classes.py chest-xray-pneumonia-128.zip -o xray-3.zip

The archive's folders tell two classes, NORMAL and PNEUMONIA; its file names say which pneumonia. The parts (train, val,
test: by patient) and the images' bytes stay as they are. `--classes 'normal,pneumonia=bacteria+virus'` gives two.
"""

import argparse
import zipfile
from pathlib import Path, PurePosixPath


def main() -> None:
    """Copy every image into its class's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(options.archive) as source, zipfile.ZipFile(options.out, "w") as target:
        for name in sorted(source.namelist()):
            path = PurePosixPath(name)
            if path.suffix == ".jpg":
                # A fixed date, so that the result's hash depends on its content only.
                entry = zipfile.ZipInfo(f"{path.parts[0]}/{class_of(path)}/{path.name}", (2000, 1, 1, 0, 0, 0))
                target.writestr(entry, source.read(name))


def class_of(path: PurePosixPath) -> str:
    """Return the class of PART/NORMAL/… or PART/PNEUMONIA/…_bacteria_… or …_virus_…."""
    if path.parts[1] == "NORMAL":
        return "normal"
    (name_of_class,) = [name for name in ("bacteria", "virus") if f"_{name}_" in path.name]
    return name_of_class


if __name__ == "__main__":
    main()
