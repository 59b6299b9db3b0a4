"""The division of miniImageNet by Ravi and Larochelle (2017), by WordNet id: 64 / 16 / 20."""

from __future__ import annotations

from data_pipeline.datasets import Part

#: Images of every class in the complete benchmark.
IMAGES_PER_CLASS = 600

_TRAIN = """
n01532829 n01558993 n01704323 n01749939 n01770081 n01843383 n01910747 n02074367
n02089867 n02091831 n02101006 n02105505 n02108089 n02108551 n02108915 n02111277
n02113712 n02120079 n02165456 n02457408 n02606052 n02687172 n02747177 n02795169
n02823428 n02966193 n03017168 n03047690 n03062245 n03207743 n03220513 n03337140
n03347037 n03400231 n03476684 n03527444 n03676483 n03838899 n03854065 n03888605
n03908618 n03924679 n03998194 n04067472 n04243546 n04251144 n04258138 n04275548
n04296562 n04389033 n04435653 n04443257 n04509417 n04515003 n04596742 n04604644
n04612504 n06794110 n07584110 n07697537 n07747607 n09246464 n13054560 n13133613
"""
_VAL = """
n01855672 n02091244 n02114548 n02138441 n02174001 n02950826 n02971356 n02981792
n03075370 n03417042 n03535780 n03584254 n03770439 n03773504 n03980874 n09256479
"""
_TEST = """
n01930112 n01981276 n02099601 n02110063 n02110341 n02116738 n02129165 n02219486
n02443484 n02871525 n03127925 n03146219 n03272010 n03544143 n03775546 n04146614
n04149813 n04418357 n04522168 n07613480
"""

#: WordNet ids of each part, sorted.
CLASSES: dict[Part, tuple[str, ...]] = {
    "train": tuple(_TRAIN.split()),
    "val": tuple(_VAL.split()),
    "test": tuple(_TEST.split()),
}

#: SHA-256 over the sorted file names of each part of the published lists, a newline after each.
LIST_SHA256: dict[Part, str] = {
    "train": "60a86c4c54e41cdffa9080e7bca684ad5d9451541a1f97d3aef3be90607fb827",
    "val": "ae47054c2024940d250195ba18676111a06331a14cf4c7a00b29ec63c5701f14",
    "test": "dac01f0a8edb80832dbe660ca25c381ad92c99aa677e757ed147d5eb2bcd1243",
}

#: Contents of one known complete copy at 84 x 84, taken to be SHA-256 over the sorted file names
#: of a part, each followed by a NUL byte and the SHA-256 of the file. A copy may be recognised by
#: it, none is refused for it: other encoders make other bytes of the same photographs.
KNOWN_COPY_SHA256: dict[Part, str] = {
    "train": "ed19ecb78457db704c7989d0c5a8d2967ff5c173e969b03669c48791bd19079d",
    "val": "be0423c54935b3e2221b1ba876a8944d2088283e7766d462e81f121d704d5ddb",
    "test": "a7c21648e98adf5a189a855dbea577da42dd56e4a30ced76c9e5518a94f83333",
}
