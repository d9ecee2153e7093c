"""Ways to rename, shuffle, damage or double one side of a proven pair, and the truth with it."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace

from proven_pairs import Pair, Tensor, Truth

#: Last parts of names that say what a tensor is to its layer: kept where only the layers' words are renamed.
ROLES = frozenset(
    ["weight", "bias", "running_mean", "running_var", "num_batches_tracked", "kernel", "gamma", "beta", "moving_mean", "moving_variance"]
)
#: Sizes of class axes in the pairs, and what another number of classes makes of them.
CLASS_COUNTS, OTHER_CLASS_COUNT = (50, 21), 37
#: Channels of an image, and what another kind of image makes of them.
IMAGE_CHANNELS, OTHER_CHANNELS = 3, 5
#: What stands before the trained weights and before their running average.
EMA_PREFIXES = [("", "ema"), ("model", "model_ema"), ("student", "teacher"), ("net", "shadow_net"), ("online", "target")]

WORD = re.compile(r"[A-Za-z]+|\d+|[^A-Za-z\d]+")
SEPARATOR = re.compile(r"([./])")
LAST_SEPARATOR = re.compile(r"[./](?!.*[./])")

Change = Callable[[Pair, random.Random], Pair | None]


def made_up_words(rng: random.Random) -> Callable[[str], str]:
    """Give each word one made-up word of its own, the same every time it is met."""
    made: dict[str, str] = {}
    used: set[str] = set()

    def word_for(word: str) -> str:
        while word not in made:
            new = "".join(rng.choice("bcdfghjklmnprstvz") + rng.choice("aeiou") for _ in range(3))
            if new not in used:
                used.add(new)
                made[word] = new
        return made[word]

    return word_for


def rename(pair: Pair, new_name: Callable[[str], str]) -> Pair:
    """Rename every source tensor, in the truth too."""
    source = [tensor._replace(name=new_name(tensor.name)) for tensor in pair.source]
    assert len({tensor.name for tensor in source}) == len(source), f"{pair.name}: two tensors were given one name"
    truth: list[Truth] = [{**entry, "src": [new_name(name) for name in entry["src"]]} for entry in pair.truth]
    return replace(pair, source=source, truth=truth)


def words_renamed(pair: Pair, rng: random.Random) -> Pair:
    """Rename all words but the roles; numbers and punctuation stay."""
    word_for = made_up_words(rng)

    def new_part(part: str) -> str:
        return "".join(word_for(token) if token.isalpha() else token for token in WORD.findall(part))

    def new_name(name: str) -> str:
        *front, last = SEPARATOR.split(name)
        if last not in ROLES:
            tail = re.match(r"^(.*?)(_?(?:weight|bias|kernel))$", last)
            last = new_part(tail[1]) + tail[2] if tail and tail[1] else new_part(last)
        return "".join(part if part in "./" else new_part(part) for part in front) + last

    return rename(pair, new_name)


def everything_renamed(pair: Pair, rng: random.Random) -> Pair:
    """Rename each part between separators as a whole, numbers and roles included."""
    word_for = made_up_words(rng)
    return rename(pair, lambda name: "".join(part if part in "./" else word_for(part) for part in SEPARATOR.split(name)))


def numbered_at_random(pair: Pair, rng: random.Random) -> Pair:
    """Call every module by a number that says nothing, all of them side by side; roles stay."""
    modules = list(dict.fromkeys(module_of(tensor.name) for tensor in pair.source))
    numbers = rng.sample(range(len(modules)), len(modules))
    new = {module: f"m{number}" for module, number in zip(modules, numbers, strict=True)}
    return rename(pair, lambda name: new[module_of(name)] + name[len(module_of(name)) :])


@dataclass
class Folder:
    """What shares one prefix: tensors and folders in the order in which they were met."""

    entries: list[Folder | Tensor] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def folder(self, part: str) -> Folder:
        """Return the folder of that name, made where there is none."""
        if part not in self.folders:
            self.folders[part] = Folder()
            self.entries.append(self.folders[part])
        return self.folders[part]

    def shuffled(self, rng: random.Random) -> Iterator[Tensor]:
        """Yield all tensors; siblings change places, but the tensors of one layer keep their order."""
        entries = list(self.entries)
        if self.folders:
            rng.shuffle(entries)
        for entry in entries:
            if isinstance(entry, Folder):
                yield from entry.shuffled(rng)
            else:
                yield entry


def siblings_shuffled(pair: Pair, rng: random.Random) -> Pair:
    """Change the order of definition among siblings, on every level."""
    root = Folder()
    for tensor in pair.source:
        folder = root
        for part in re.split(r"[./]", tensor.name)[:-1]:
            folder = folder.folder(part)
        folder.entries.append(tensor)
    return replace(pair, source=list(root.shuffled(rng)))


def lose(pair: Pair, lost: Collection[str]) -> Pair:
    """Take the truth away from the targets that are made of lost source tensors."""
    gone = frozenset(entry["dst"] for entry in pair.truth if any(name in lost for name in entry["src"]))
    return replace(pair, truth=[entry for entry in pair.truth if entry["dst"] not in gone], gone=pair.gone | gone)


def without(pair: Pair, lost: Collection[str]) -> Pair:
    """Drop source tensors."""
    return replace(lose(pair, lost), source=[tensor for tensor in pair.source if tensor.name not in lost])


def resized(pair: Pair, new_shape: Callable[[tuple[int, ...]], tuple[int, ...] | None]) -> Pair:
    """Resize the source tensors for which there is a new shape: they fit no more."""
    changed = {tensor.name: shape for tensor in pair.source if (shape := new_shape(tensor.shape)) is not None}
    source = [tensor._replace(shape=changed.get(tensor.name, tensor.shape)) for tensor in pair.source]
    return replace(lose(pair, changed), source=source)


def other_classes(pair: Pair, _rng: random.Random) -> Pair:
    """Give the source another number of classes."""

    def new_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        if not any(size in CLASS_COUNTS for size in shape[:1] + shape[-1:]):
            return None
        return tuple(OTHER_CLASS_COUNT if size in CLASS_COUNTS else size for size in shape)

    return resized(pair, new_shape)


def other_channels(pair: Pair, _rng: random.Random) -> Pair:
    """Give the source's first kernel another number of input channels, whichever the layout of kernels."""

    def new_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        if len(shape) != 4:
            return None
        channels_last = shape[0] == shape[1] <= 16 and shape[3] > 11
        axis = 2 if channels_last else 1
        return (*shape[:axis], OTHER_CHANNELS, *shape[axis + 1 :]) if shape[axis] == IMAGE_CHANNELS else None

    return resized(pair, new_shape)


def module_of(name: str) -> str:
    """Return what stands before the last separator; the name itself where there is none."""
    return LAST_SEPARATOR.split(name)[0]


def block_dropped(pair: Pair, rng: random.Random) -> Pair | None:
    """Drop one numbered block of several layers; None where there is none of less than half of the tensors."""
    under: defaultdict[str, set[str]] = defaultdict(set)
    for tensor in pair.source:
        parts = SEPARATOR.split(tensor.name)
        for index in range(0, len(parts) - 2, 2):
            if re.search(r"\d", parts[index]):
                under["".join(parts[: index + 1])].add(tensor.name)
    most = 0.5 * len(pair.source)
    blocks = sorted(block for block, names in under.items() if len(set(map(module_of, names))) >= 2 and len(names) < most)
    return without(pair, under[rng.choice(blocks)]) if blocks else None


def part_of_modules(side: list[Tensor], rng: random.Random, share: float) -> set[str]:
    """Names of the tensors of so large a share of the modules that own tensors, at least one."""
    modules = sorted({module_of(tensor.name) for tensor in side})
    chosen = set(rng.sample(modules, max(1, round(share * len(modules)))))
    return {tensor.name for tensor in side if module_of(tensor.name) in chosen}


def modules_dropped(pair: Pair, rng: random.Random, share: float = 0.1) -> Pair:
    """Drop a share of the modules that own tensors."""
    return without(pair, part_of_modules(pair.source, rng, share))


def dropped_on_both_sides(pair: Pair, rng: random.Random) -> Pair:
    """Drop a tenth of the source's modules, and another tenth of the target's."""
    dropped = part_of_modules(pair.target, rng, 0.1)
    target = [tensor for tensor in pair.target if tensor.name not in dropped]
    return modules_dropped(replace(pair, target=target, truth=[entry for entry in pair.truth if entry["dst"] not in dropped]), rng)


def containers(side: list[Tensor], fewest: int = 2, most: float = 0.5) -> dict[str, set[str]]:
    """Tensors below each module of at least so many layers and at most so large a share of all tensors."""
    under: defaultdict[str, set[str]] = defaultdict(set)
    for tensor in side:
        parts = SEPARATOR.split(tensor.name)
        for index in range(0, len(parts) - 2, 2):
            under["".join(parts[: index + 1])].add(tensor.name)
    return {
        path: names for path, names in sorted(under.items()) if len(set(map(module_of, names))) >= fewest and len(names) <= most * len(side)
    }


def largest_part_dropped(pair: Pair, rng: random.Random) -> Pair | None:
    """Drop one of the three largest parts of less than half of the tensors: a stage, an encoder's half, a decoder."""
    found = sorted(containers(pair.source).items(), key=lambda item: -len(item[1]))[:3]
    return without(pair, rng.choice(found)[1]) if found else None


def only_a_part(pair: Pair, rng: random.Random) -> Pair | None:
    """Keep one large part of the source under its own names, as a file of an encoder would."""
    found = [(path, names) for path, names in containers(pair.source, most=0.95).items() if len(names) >= 0.3 * len(pair.source)]
    if not found:
        return None
    path, names = rng.choice(found)
    kept = without(pair, {tensor.name for tensor in pair.source} - names)
    return rename(kept, lambda name: name[len(path) + 1 :])


def stack_shortened(pair: Pair, rng: random.Random) -> Pair | None:
    """Drop the last third of a numbered series of at least four members."""
    series: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for path in containers(pair.source, most=1.0):
        before, number = re.fullmatch(r"(.*?)(\d*)", path, re.DOTALL).groups()  # type: ignore[union-attr]
        if number:
            series[before, ""].add(int(number))
    long = sorted((before, sorted(numbers)) for (before, _), numbers in series.items() if len(numbers) >= 4)
    if not long:
        return None
    before, numbers = rng.choice(long)
    last = {f"{before}{number}" for number in numbers[-(len(numbers) // 3) :]}
    return without(pair, {tensor.name for path in last for tensor in pair.source if re.match(re.escape(path) + "[./]", tensor.name)})


def stage_widened(pair: Pair, rng: random.Random) -> Pair | None:
    """Give the most frequent size in one part of the source another value: what it occurs in fits no more."""
    found = list(containers(pair.source).values())
    if not found:
        return None
    names = rng.choice(found)
    sizes = Counter(size for tensor in pair.source if tensor.name in names for size in tensor.shape if size > 11)
    if not sizes:
        return None
    common = sizes.most_common(1)[0][0]
    changed = {tensor.name for tensor in pair.source if tensor.name in names and common in tensor.shape}
    wider = [
        tensor._replace(shape=tuple(size + 8 if size == common else size for size in tensor.shape)) if tensor.name in changed else tensor
        for tensor in pair.source
    ]
    return replace(lose(pair, changed), source=wider)


def part_doubled(pair: Pair, rng: random.Random) -> Pair | None:
    """Put a second copy of one part of the source right behind it, under a name of its own."""
    found = list(containers(pair.source, fewest=1).items())
    if not found:
        return None
    path, names = rng.choice(found)
    last = max(index for index, tensor in enumerate(pair.source) if tensor.name in names)
    word = made_up_words(rng)("copy")
    copies = [tensor._replace(name=f"{path}_{word}{tensor.name[len(path) :]}") for tensor in pair.source if tensor.name in names]
    return replace(pair, source=[*pair.source[: last + 1], *copies, *pair.source[last + 1 :]])


def layer_added(pair: Pair, rng: random.Random) -> Pair:
    """Add a layer to the source whose shapes are those of another one, at a random place."""
    modules = sorted({module_of(tensor.name) for tensor in pair.source})
    chosen = rng.choice(modules)
    separator = "/" if "/" in pair.source[0].name else "."
    word = made_up_words(rng)("added")
    new = [
        tensor._replace(name=f"{word}{separator}{tensor.name[len(chosen) + 1 :]}")
        for tensor in pair.source
        if module_of(tensor.name) == chosen
    ]
    place = rng.randrange(len(pair.source) + 1)
    return replace(pair, source=[*pair.source[:place], *new, *pair.source[place:]])


def second_copy(pair: Pair, rng: random.Random) -> Pair:
    """Put a running average of all weights behind the weights that the truth is about."""
    separator = "/" if "/" in pair.source[0].name else "."
    prefix, copy = rng.choice(EMA_PREFIXES)
    front = prefix + separator if prefix else ""
    new = rename(pair, lambda name: front + name)
    return replace(new, source=new.source + [tensor._replace(name=copy + separator + tensor.name) for tensor in pair.source])


def then(change: Callable[[Pair, random.Random], Pair], pair: Pair | None, rng: random.Random) -> Pair | None:
    """Change a pair further, if there is one."""
    return None if pair is None else change(pair, rng)


@dataclass(frozen=True)
class Row:
    """One kind of change; a seeded one is repeated with every seed."""

    change: Change
    seeded: bool = True


ROWS = {
    "unchanged": Row(lambda pair, _: pair, seeded=False),
    "words renamed": Row(words_renamed),
    "everything renamed": Row(everything_renamed),
    "numbered at random": Row(numbered_at_random),
    "siblings shuffled": Row(siblings_shuffled),
    "alphabetical order": Row(lambda pair, _: replace(pair, source=sorted(pair.source)), seeded=False),
    "both alphabetical": Row(lambda pair, _: replace(pair, source=sorted(pair.source), target=sorted(pair.target)), seeded=False),
    "renamed and shuffled": Row(lambda pair, rng: siblings_shuffled(words_renamed(pair, rng), rng)),
    "other num_classes": Row(other_classes, seeded=False),
    "other in_channels": Row(other_channels, seeded=False),
    "one numbered block dropped": Row(block_dropped),
    "10 % of leaf modules dropped": Row(modules_dropped),
    "dropped and renamed": Row(lambda pair, rng: words_renamed(modules_dropped(pair, rng), rng)),
    "dropped and shuffled": Row(lambda pair, rng: siblings_shuffled(modules_dropped(pair, rng), rng)),
    "second EMA copy": Row(second_copy),
    "numbered at random, shuffled": Row(lambda pair, rng: siblings_shuffled(numbered_at_random(pair, rng), rng)),
    "everything renamed, shuffled": Row(lambda pair, rng: siblings_shuffled(everything_renamed(pair, rng), rng)),
    "everything renamed, dropped": Row(lambda pair, rng: everything_renamed(modules_dropped(pair, rng), rng)),
    "30 % of leaf modules dropped": Row(lambda pair, rng: modules_dropped(pair, rng, 0.3)),
    "dropped on both sides": Row(dropped_on_both_sides),
    "dropped on both, renamed": Row(lambda pair, rng: words_renamed(dropped_on_both_sides(pair, rng), rng)),
    "a large part dropped": Row(largest_part_dropped),
    "large part dropped, renamed": Row(lambda pair, rng: then(words_renamed, largest_part_dropped(pair, rng), rng)),
    "only a part of the source": Row(only_a_part),
    "only a part, renamed": Row(lambda pair, rng: then(words_renamed, only_a_part(pair, rng), rng)),
    "a stack shortened": Row(stack_shortened),
    "a stack shortened, renamed": Row(lambda pair, rng: then(words_renamed, stack_shortened(pair, rng), rng)),
    "a part widened": Row(stage_widened),
    "a part widened, renamed": Row(lambda pair, rng: then(words_renamed, stage_widened(pair, rng), rng)),
    "a part doubled": Row(part_doubled),
    "a part doubled, renamed": Row(lambda pair, rng: then(words_renamed, part_doubled(pair, rng), rng)),
    "a layer added": Row(layer_added),
    "a layer added, renamed": Row(lambda pair, rng: words_renamed(layer_added(pair, rng), rng)),
}
