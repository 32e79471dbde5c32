"""After the tars are made: checks, lines for the user, and the facts of the set."""

from pathlib import Path

from shards.images import SKIPPED, ImageFacts
from shards.layouts.formats import told_passed_over
from shards.layouts.listed import Source
from shards.layouts.names import counted
from shards.making.duplicates import Tally, told_duplicates
from shards.making.gathering import Written
from workspace.errors import UserError
from workspace.progress import say


def check_classes(source: Source, trained: set[int], skipped: Path) -> None:
    """UserError if no training image of a class is readable, because the class would still be sampled."""
    lost = [name for number, name in enumerate(source.classes or ()) if number not in trained]
    if lost:
        count = f"{len(lost):,} of {len(source.classes or ()):,} classes"
        raise UserError(
            f"{count} have no readable training image: {counted(lost)}; see {skipped}. Fix the files, "
            f"or leave them out, shard.roles: {{{lost[0]}: skip}}"
        )


def say_all(source: Source, written: Written, dropped: int, twins: Tally) -> None:
    """Report what a user should know, one line each: skipped files, guesses, duplicates, and the result."""
    guessed = ", ".join(f"{count:,} {note}" for note, count in sorted(written.counts("notes").items()))
    for line in (
        told_passed_over(dict(source.passed_over)),
        guessed and f"pictures: {guessed}",
        told_duplicates(twins),
        f"{dropped:,} duplicates left out; see {SKIPPED}" if dropped else "",
        f"{written.reused:,} pictures taken from an earlier run: unchanged" if written.reused else "",
    ):
        if line:
            say(line)


def image_facts(source: Source, written: Written, image_size: int, form: str) -> ImageFacts:
    """The manifest's facts."""
    sizes = written.sizes
    return ImageFacts(
        kind=source.kind,
        image_size=image_size,
        format=form,
        classes=source.classes,
        captions=source.images.captioned,
        attributes=source.attributes,
        masks=source.images.masked,
        counts={split: sum(own) for split, own in sizes.items()},
        shards=sizes,
    )
