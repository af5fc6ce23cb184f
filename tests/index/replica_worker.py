"""What the other process of a test of replicas does: as told on its standard input."""

import json
import sys
import time
from pathlib import Path

from index.types import SearchFilter
from tests.index.builders import axis, media_file, new_class, new_clip, open_library


def main(directory: Path, url: str) -> None:
    with open_library(directory, catalogue_url=url) as library:
        print(json.dumps("open"), flush=True)
        for line in sys.stdin:
            words = line.split()
            answer: object = None
            match words:
                case ["add_class", name, number]:
                    answer = library.add_class(new_class(name, axis(int(number)))).class_id
                case ["add_clip", name, number]:
                    upload = media_file(directory, name.encode())
                    new = new_clip(axis(int(number)), filename=name)
                    answer = library.add_clip(new, upload).clip_id
                case ["remove_class", class_id]:
                    library.remove_class(class_id)
                case ["remove_clip", clip_id]:
                    library.remove_clip(clip_id)
                case ["names", number]:
                    scores = library.label_similarities(axis(int(number))[None])
                    answer = dict(zip(scores.names, scores.similarity[0].tolist(), strict=True))
                case ["search", number, *class_name]:
                    only = SearchFilter(class_name=class_name[0]) if class_name else None
                    hits = library.search(axis(int(number)), filter=only)
                    answer = [hit.clip.filename for hit in hits]
                case ["write_for_ever"]:
                    for number in range(10**9):
                        added = library.add_class(new_class(f"{number} {time.time()}"))
                        if number % 3 == 0:
                            library.remove_class(added.class_id)
                case _:
                    raise ValueError(line)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
