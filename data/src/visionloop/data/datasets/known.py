"""Archives that are known: one row says how each is laid out.

Everything else comes from the formats: a row holds only what the files cannot say of
themselves. Where the archive is: ``VISIONLOOP_MIRROR``, or the path that a person names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

__all__ = ["KNOWN", "KnownArchive", "known_archive_of"]


@dataclass(frozen=True)
class KnownArchive:
    """A row of the table.

    Attributes
    ----------
    file : str
        Name of the archive.
    sha256 : str
        Of its bytes; another version is read as well, with a note.
    format : str
        Row of the format table.
    vision_task : str
        What its annotations are good for first.
    licence, origin : str
        What may be done with it; who made it.
    classes : tuple of str
        In the order of the model's outputs, after ``class_prefix`` is taken off.
    class_prefix : str
        Taken off class names.
    leave_out : tuple of str
        Folders that are no samples.
    attributes : str
        Regular expression over the picture's stem; its named groups become columns,
        those ending in ``_n`` as whole numbers without that ending.
    splits : tuple of (folder, split)
        Folders that make an official split.
    people : str
        ``module:function`` that lays people's answers from ``labels_file`` over the pictures.
    labels_file : str
        Name of the archive that holds them.
    parts : tuple of str
        Rows that this one is made of, where it holds no pictures itself.
    normal_class : str
        Its pictures are normal, all others are not: what an anomaly project imports as
        ``normal`` and ``defective``, and what a scene has no attribute for.
    scene_columns : tuple of str
        Columns whose values are attributes of a scene: ``exposure`` 3 is ``exposure3``.
    """

    file: str
    sha256: str
    format: str
    vision_task: str
    licence: str
    origin: str
    classes: tuple[str, ...]
    class_prefix: str = ""
    leave_out: tuple[str, ...] = ()
    attributes: str = ""
    splits: tuple[tuple[str, str], ...] = ()
    people: str = ""
    labels_file: str = ""
    parts: tuple[str, ...] = ()
    normal_class: str = ""
    scene_columns: tuple[str, ...] = ()


_CIFAR = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_CIFAR_ORIGIN = "Krizhevsky, 2009: Learning Multiple Layers of Features from Tiny Images"
_CIFAR_PEOPLE = "cifar10-labels.zip"
_NC = "none stated for the images; the people's answers are CC BY-NC 4.0"

KNOWN = {
    "deeppcb": KnownArchive(
        file="deeppcb.zip",
        sha256="8ef525a8adc51e1991fd9f7f9923cc97b51f5052defbbd078ef49a20d6447071",
        format="deeppcb",
        vision_task="detection",
        licence="MIT file; its README adds 'for research purpose'",
        origin="Tang et al., 2019: Online PCB Defect Detector On A New PCB Defect Dataset",
        classes=("open", "short", "mousebite", "spur", "copper", "pin-hole"),
        leave_out=("temp/",),
        attributes=r"(?P<board>\d{5})\d{3}",
    ),
    "neu-det": KnownArchive(
        file="neu-det.zip",
        sha256="1197d8535c4231168055697ee21074e2d28b6106b7f0353becbdad5636a0bc12",
        format="voc",
        vision_task="detection",
        licence="none stated: internal tests only",
        origin="Song and Yan, 2013: A noise robust method ... (NEU surface defect database)",
        classes=(
            *("crazing", "inclusion", "patches"),
            *("pitted_surface", "rolled-in_scale", "scratches"),
        ),
        splits=(("Validation_Images/", "val"),),
    ),
    "hardhat": KnownArchive(
        file="hardhat.zip",
        sha256="0345396dd803e147dcc3b04a1ac8155bfe8dd933422d79d5289108947003ae05",
        format="voc",
        vision_task="detection",
        licence="CC0 (as far as known)",
        origin="Kaggle: hard-hat-detection, a part of it",
        classes=("Safety Helmet", "No Safety Helmet"),
    ),
    "bccd": KnownArchive(
        file="bccd.zip",
        sha256="26fe5d53cffd387f0277ccfe515b835ac0dec1bca2cf4751a1cf8048152bc83a",
        format="voc",
        vision_task="detection",
        licence="MIT",
        origin="Shenggan, 2017: BCCD Dataset",
        classes=("RBC", "WBC", "Platelets"),
    ),
    "magnetic-tile": KnownArchive(
        file="magnetic-tile.zip",
        sha256="61f5cff7a4e1ccb7db14680b49cf73c2e15f1dd4d97ba25b33c1f8aa0d350f42",
        format="mask",
        vision_task="classification",
        licence="'welcome to use', cite the paper",
        origin="Huang et al., 2020: Surface defect saliency of magnetic tile",
        classes=("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven"),
        class_prefix="MT_",
        attributes=r"exp(?P<exposure_n>\d)_num_(?P<number_n>\d+)",
        normal_class="Free",
        scene_columns=("exposure",),
    ),
    "cifar10-test": KnownArchive(
        file="cifar10_test.zip",
        sha256="c85d24bcf53f877447467edb08f30fc388d175fa00514667e43491e557f53606",
        format="imagefolder",
        vision_task="classification",
        licence="none stated",
        origin=_CIFAR_ORIGIN,
        classes=_CIFAR,
    ),
    "cifar10-train": KnownArchive(
        file="cifar10_train_first1000pc.zip",
        sha256="c99fc2c7dbbf116da31b007aae8db480022ac3b903ae9f4a0bf76467b9f9f07a",
        format="imagefolder",
        vision_task="classification",
        licence="none stated",
        origin=_CIFAR_ORIGIN,
        classes=_CIFAR,
    ),
    "cifar10h": KnownArchive(
        file="cifar10_test.zip",
        sha256="c85d24bcf53f877447467edb08f30fc388d175fa00514667e43491e557f53606",
        format="imagefolder",
        vision_task="classification",
        licence=_NC,
        origin="Peterson et al., 2019: Human uncertainty makes classification more robust",
        classes=_CIFAR,
        people="visionloop.data.datasets.cifar_people:answers_of_many",
        labels_file=_CIFAR_PEOPLE,
    ),
    "cifar10n": KnownArchive(
        file="cifar10_train_first1000pc.zip",
        sha256="c99fc2c7dbbf116da31b007aae8db480022ac3b903ae9f4a0bf76467b9f9f07a",
        format="imagefolder",
        vision_task="classification",
        licence=_NC,
        origin="Wei et al., 2022: Learning with Noisy Labels Revisited",
        classes=_CIFAR,
        people="visionloop.data.datasets.cifar_people:noisy_answers",
        labels_file=_CIFAR_PEOPLE,
    ),
    "cifar10-labels": KnownArchive(
        file=_CIFAR_PEOPLE,
        sha256="f7cb19ee673246814ffd881c5f42cf5b59c479923b4fe68ea823c2c71f3b005d",
        format="imagefolder",
        vision_task="classification",
        licence=_NC,
        origin="CIFAR-10H, CIFAR-10N and cleanlab's corrected test set",
        classes=_CIFAR,
        parts=("cifar10h", "cifar10n"),
    ),
}
"""Name to row."""


def known_archive_of(path: str) -> str:
    """Name of the row whose archive has this file name; empty if there is none."""
    file = PurePosixPath(path).name
    for name, row in KNOWN.items():
        if row.file == file and not row.people:
            return name
    return ""
