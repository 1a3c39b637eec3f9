"""English prose by name: what is parsed, cleaned and left out, on archives made in their layout."""

import bz2
import csv
import hashlib
import io
import json
import re
import struct
import tarfile
import zipfile
import zlib
from dataclasses import replace

import pytest
from playout.errors import DataError
from playout.rlhf.data import corpora
from playout.rlhf.data.curation import debian
from playout.rlhf.data.curation.prose import OLDER, PROSE, tidy
from playout.rlhf.data.curation.quotations import quoting
from playout.rlhf.data.datasets import Datasets
from playout.rlhf.data.downloads import SOURCES
from playout.rlhf.stages.paths import whole

JUDGED = "a dull , lifeless film that never finds the heart it keeps talking about ."
OTHER = "this one is a quiet triumph , and the best thing she has done in years ."
FETCHED = [name for name in PROSE if name not in ("austen-novels", "wordnet-glosses")]


def table(*rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def zipped(**files):
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return blob.getvalue()


def packed(files):
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w:gz") as bundle:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return blob.getvalue()


def reviews():
    kept = 'A "fine" film.<br /><br />It\x92s <i>really</i> good &amp; short.<br />Ten of ten. {}'
    return [
        {"text": kept.format("<p>"), "label": 1, "source": "imdb"},
        {"text": kept.format(""), "label": 1, "source": "imdb"},  # the same without its mark
        {"text": f"As they said: <i>{JUDGED.upper()}</i> So true.", "label": 0, "source": "imdb"},
        {"text": OTHER, "label": 1, "source": "rotten_tomatoes"},
        {"text": "an end\x85", "label": 1, "source": "rotten_tomatoes"},
    ]


def speeches():
    said = "(Cheers, applause.)\nANN B. O'LEE: Thank you.  Thank you. (Laughter.)\n"
    said += "AUDIENCE MEMBERS: More!\nFour years — (applause) — and (I mean it) four more."
    plots = [("plot", "A man &amp; a dog."), ("fresh", OTHER), ("rotten", JUDGED)]
    films = table(*({"category": kind, "text": text} for kind, text in plots))
    return zipped(
        s__data__political_data_DOT_json=json.dumps([{"name": "x", "speeches": [said]}]),
        s__data__republican_convention_2016_DOT_csv=table(
            {"speaker": "Z", "text": "Good\xa0night."}
        ),
        s__data__rotten_tomatoes_corpus_full_DOT_csv_DOT_bz2=bz2.compress(films),
    )


def articles():
    texts = ['He said "no" to all of it.', 'DeVos"?plan', 'It isn"t so.', "it cost ?24 then"]
    texts += ["a storm that-forced him", "state-of-the-art", f"Its critic wrote: {JUDGED}"]
    rows = [{"title": "t", "text": text} for text in texts]
    house = table({"speaker": "X", "text": "I paid Â£5 for â€œLomÃ©â€\x9d, Sir."})
    return zipped(
        t__data__en__NewsArticles_DOT_zip=zipped(NewsArticles_DOT_csv=table(*rows)),
        **{
            "t__data__en__parlspeech-v2-sample-houseofcommons_DOT_zip": zipped(en_DOT_csv=house),
            "t__data__de__NewsArticles_DOT_zip": b"another",
        },
    )


def bible():
    chapters = ["\nIn [the] beginning. God`s earth [was] . And    so.", " Praise ye.", " Blessed."]
    text = f"{chapters[0]}  BOOK I    Psalm 1 A Psalm.{chapters[1]}{chapters[2]}"
    places = [text.index(part.strip()) for part in chapters] + [text.index("And")]
    verses = dict(zip((18042001, 19001001, 19002001, 18042002), places, strict=True))
    starts = "".join(f"        {verse}: {at},\n" for verse, at in sorted(verses.items()))
    ends = (
        "    },\n    {\n        18042001: 9,\n    },\n    {\n        Book.JOB: {1: 2},\n    },\n)"
    )
    source = f'# made\nbible = Bible(\n    Version.X,\n    """{text}""",\n    {{\n{starts}{ends}'
    wanted = "pythonbible__plain_text_readers_bible_DOT_py"
    return zipped(**{wanted: source, "pythonbible__plain_text_bible_DOT_py": "other"})


def ratings():
    files = {}
    for number, name in enumerate(corpora.RATED):
        kind = corpora._RATED_FILES[name]
        text = JUDGED if name == "movie-reviews" else f"only {name} say this of it every time"
        files[f"h/{kind}_GroundTruth.txt"] = f"{number}\t1.5\t{text}\n".encode()
        files[f"h/{kind}_anonDataRatings.txt"] = f"{number}\t1.5\t0.5\t[1, 2]\n".encode()
    return packed({"v/hutto_ICWSM_2014.tar.gz": packed(files)})


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """A cache with small archives in place of the real ones."""
    monkeypatch.setenv("PLAYOUT_CACHE", str(tmp_path))
    folder = tmp_path / "downloads"
    folder.mkdir()
    made = {
        "film-reviews": zipped(m__data__combined_movie_reviews_DOT_csv=table(*reviews())),
        "speeches": speeches(),
        "news": articles(),
        "bible-kjv": bible(),
        "bible-web": bible(),
        "ratings": ratings(),
    }
    for name, content in made.items():
        source = replace(SOURCES[name], sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(SOURCES, name, source)
        (folder / source.file).write_bytes(content)
    return folder


CHAPTERS = ["In the beginning. God's earth was. And\nso.", "Praise ye.", "Blessed."]
WANTED = {
    "film-reviews": ['A "fine" film.\n\nIt’s really good & short.\nTen of ten.'],
    "film-plots": ["A man & a dog."],
    "news-articles": ['He said "no" to all of it.', "state-of-the-art"],
    "house-of-commons": ["I paid £5 for “Lomé”, Sir."],
    "convention-speeches": [
        "Thank you. Thank you.\n\nFour years — and (I mean it) four more.",
        "Good night.",
    ],
    "bible-kjv": CHAPTERS,
    "bible-web": CHAPTERS,
}


@pytest.mark.parametrize("name", FETCHED)
def test_an_archive_is_read_and_cleaned(name, archives):
    assert corpora.texts(name) == WANTED[name]


@pytest.mark.parametrize("name", [name for name in FETCHED if name not in OLDER])
def test_no_text_holds_what_rewards_are_judged_by(name, archives):
    words = re.findall(r"\w+", JUDGED)
    for text in corpora.texts(name):
        assert " ".join(words) not in " ".join(re.findall(r"\w+", text.lower()))
        assert OTHER not in text  # the short reviews are the source of the judged ones
    assert any(item.text == JUDGED for item in corpora.rated("movie-reviews"))


def test_what_is_judged_is_in_neither_side_of_what_is_pretrained_on(archives):
    learned, heldout = Datasets("files").texts(("film-reviews", "news-articles"))
    assert len({*learned, *heldout}) == 3
    assert "lifeless film" not in " ".join([*learned, *heldout]).lower()


def test_without_the_judged_sentences_nothing_is_read(archives):
    (archives / SOURCES["ratings"].file).write_bytes(b"other")
    with pytest.raises(DataError, match="delete it and try again"):
        corpora.texts("film-reviews")
    assert corpora.texts("bible-kjv") == CHAPTERS  # older than all of them


@pytest.mark.parametrize("name", FETCHED)
def test_another_archive_is_refused(name, archives):
    used = {"film-plots": "speeches", "convention-speeches": "speeches"}
    used |= {"news-articles": "news", "house-of-commons": "news"}
    path = archives / SOURCES[used.get(name, name)].file
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"has sha256 .* delete it and try again"):
        corpora.texts(name)


def test_an_archive_without_its_table_is_named(archives, monkeypatch):
    content = zipped(m__other_DOT_csv="text\nx\n")
    source = replace(SOURCES["film-reviews"], sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(SOURCES, "film-reviews", source)
    (archives / source.file).write_bytes(content)
    with pytest.raises(DataError, match="archive of film-reviews holds 0 files"):
        corpora.texts("film-reviews")


@pytest.mark.parametrize("name", ["film-reviews", "speeches", "news", "bible-kjv", "bible-web"])
def test_an_archive_is_pinned_by_version_and_hash(name):
    source = SOURCES[name]
    package, _, version = source.requirement.partition("==")
    assert source.file == f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    assert re.fullmatch("[0-9a-f]{64}", source.sha256)
    assert source.licence and source.origin


def test_a_sentence_is_found_whatever_is_around_it():
    sentence = "The plot, such as it is, goes nowhere slowly."
    texts = [
        "They say the plot -- such as it is -- goes nowhere, slowly; so I left.",
        "the plot such as it is goes nowhere slowly",
        "The plot, such as it is, goes to Rome quickly.",
        "Nothing of the kind.",
        "",
    ]
    assert quoting(texts, [sentence]).tolist() == [True, True, False, False, False]
    assert not quoting(["it is what it is"], ["it is what it is"]).any()  # said by chance
    assert not quoting(texts, []).any() and not len(quoting([], [sentence]))


def test_tidy_text_has_single_blanks_and_no_windows_codes():
    assert tidy(" a\x85\t b \n\n\n\n\xa0c\x93d\x94\r\ne ") == "a… b\n\nc“d”\ne"


def serialised(lines):
    """A vector of texts as R's serialize(ascii = FALSE) writes it."""
    head = b"X\n" + struct.pack(">III", 3, 0x040201, 0x030500) + struct.pack(">I", 5) + b"UTF-8"
    texts = (struct.pack(">II", 0x40009, len(line.encode())) + line.encode() for line in lines)
    return head + struct.pack(">II", 16, len(lines)) + b"".join(texts)


NOVEL = ["EMMA", "", "By Jane Austen", "", "VOLUME I", "", "CHAPTER I", "", "Emma, _handsome_,"]
NOVEL += [
    "and rich.",
    "",
    "“Well?”",
    "",
    "END OF VOLUME I",
    "",
    "Chapter 2",
    "",
    "She was £5.",
    "",
    "FINIS",
]
NOVEL += ["", "A NOTE ON THE TEXT", "", "It was revised in Chapter 2 and sold."]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """What the two packages hold, made small."""
    objects = [serialised(NOVEL), serialised(["X", "", "Chapter 1", "", "All ends."])]
    packs = [struct.pack(">I", len(one)) + zlib.compress(one) for one in objects]
    novels = tmp_path / "Rdata.rdb"
    novels.write_bytes(b"".join(packs))
    entries = {
        "data.noun": "  1 This software | is free.  \n"
        '1 03 n 02 dog 0 Canis_familiaris 0 001 @ 2 n 0 | a pet; "the dog barked"  \n',
        "data.verb": "7 29 v 01 respire 1 002 * 3 v 0 + 4 n 1 01 + 02 00 | draw air  \n",
        "data.adj": "3 00 s 01 galore(ip) 0 001 & 2 a 0 | in great numbers  \n",
        "data.adv": "4 02 r 01 a_la_carte 0 000 | by ordering items  \n",
    }
    for name, text in entries.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(debian, "AUSTEN_FILE", novels)
    monkeypatch.setattr(debian, "AUSTEN_SHA256", hashlib.sha256(b"".join(objects)).hexdigest())
    monkeypatch.setattr(debian, "WORDNET_FOLDER", tmp_path)
    whole = "".join(entries.values()).encode()
    monkeypatch.setattr(debian, "WORDNET_SHA256", hashlib.sha256(whole).hexdigest())
    return tmp_path


def test_novels_are_chapters_of_joined_lines(installed):
    found = ["Emma, handsome, and rich.\n\n“Well?”", "She was £5.", "All ends."]
    assert corpora.texts("austen-novels") == found


def test_glosses_stand_behind_the_words_they_explain(installed):
    assert corpora.texts("wordnet-glosses") == [
        'dog, Canis familiaris: a pet; "the dog barked"',
        "respire: draw air",
        "galore: in great numbers",
        "a la carte: by ordering items",
    ]


@pytest.mark.parametrize(
    ("name", "file", "package"),
    [
        ("austen-novels", "Rdata.rdb", "r-cran-janeaustenr"),
        ("wordnet-glosses", "data.adj", "wordnet-base"),
    ],
)
def test_what_is_not_installed_as_published_is_said_in_one_line(name, file, package, installed):
    path = installed / file
    content = path.read_bytes()
    other = serialised(["X", "", "Chapter 1", "", "Other."])
    path.write_bytes(struct.pack(">I", len(other)) + zlib.compress(other))
    with pytest.raises(DataError, match=f"{installed}.* has sha256 .* it is not "):
        corpora.texts(name)
    path.write_bytes(content[:40])
    with pytest.raises(DataError, match=r"has sha256|is damaged"):
        corpora.texts(name)
    path.unlink()
    with pytest.raises(DataError, match=f"apt-get install {package}$"):
        corpora.texts(name)


def test_names_are_words_and_no_paths():
    assert set(PROSE) <= set(corpora.TEXTS)
    assert [whole("text", name) for name in PROSE] == list(PROSE)
    mixture = ",".join(f"{name}:1" for name in PROSE)
    assert whole("corpus", mixture) == mixture


SIZES = {
    "film-reviews": (24_897, 5_768_162),
    "film-plots": (1_083, 120_043),
    "news-articles": (2_164, 1_081_563),
    "house-of-commons": (989, 193_125),
    "convention-speeches": (246, 200_017),
    "bible-kjv": (1_189, 789_790),
    "bible-web": (1_189, 762_175),
}


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("name", FETCHED)
def test_the_real_corpora_have_the_sizes_they_should(name):
    try:
        texts = corpora.texts(name)
    except DataError as error:
        if "cannot be fetched" not in str(error):
            raise
        pytest.skip(str(error))
    assert (len(texts), sum(len(text.split()) for text in texts)) == SIZES[name]
