"""Templates become the words of a letter, whoever it is for and whatever they wrote of themselves."""

import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrew.errors import ConfigurationError, TemplateError
from nightcrew.letters.templates import DEFAULT, LARGEST, LONGEST_SUBJECT, Templates, Words

SEGMENTS = ("general", "developer", "security_focused", "enterprise")
VARIABLES = {
    "name": "Ada Lovelace", "address": "ada@example.org", "segment": "general", "arm": "a", "person": "42",
    "unsubscribe_url": "https://app.example.org/api/emails/unsubscribe/AUx0Lx", "preferences_url": "",
    "product": "Tealight", "app_url": "https://app.example.org/",
}  # fmt: skip
OURS = Templates(DEFAULT)


class Page(HTMLParser):
    """What a mail program makes of a page: its elements with their attributes' names, its addresses, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str | None] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attributes)))
        self.addresses += [value for name, value in attributes if name in ("href", "src", "background")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def write(tmp_path):
    """Write the files of a mail “m”, whose parts are plain unless they are given, and return the templates."""

    def write(**files: str) -> Templates:
        plain = {"m_subject_txt": "Hello", "m_txt": "Hello", "m_html": "<p>Hello</p>"}
        for name, text in {**plain, **files}.items():
            (tmp_path / name.replace("_", ".")).write_text(text, encoding="utf-8")
        return Templates(tmp_path)

    return write


def said(templates: Templates, **variables: object) -> Words:
    return templates.render("m", variables)


def test_the_mails_that_come_along_are_without_fault():
    sequence = {"welcome": (SEGMENTS, ("a", "b")), "day3": (SEGMENTS, ()), "day7": (SEGMENTS, ())}
    assert (OURS.check(sequence, VARIABLES), OURS.names) == ([], sorted(sequence))


@pytest.mark.parametrize("mail", ["welcome", "day3", "day7"])
@pytest.mark.parametrize("segment", SEGMENTS)
def test_each_of_them_tells_why_it_came_and_how_it_ends_and_fetches_nothing(mail, segment):
    words = OURS.render(mail, {**VARIABLES, "preferences_url": "https://app.example.org/settings"}, segment=segment)
    page = Page(words.html)
    for text in (words.text, page.text):
        assert "because you signed up for Tealight with ada@example.org" in " ".join(text.split())
    assert VARIABLES["unsubscribe_url"] in words.text
    assert page.addresses == [
        "https://app.example.org/", VARIABLES["unsubscribe_url"], "https://app.example.org/settings",
    ]  # fmt: skip
    assert not {"img", "script", "link"} & {tag for tag, _ in page.elements}
    assert words.text.count("\n-- \n") == 1
    assert max(map(len, words.text.splitlines())) <= 78  # RFC 5322, 2.1.1


@pytest.mark.parametrize("mail", ["welcome", "day3", "day7"])
def test_text_and_html_say_the_same(mail):
    for segment in SEGMENTS:
        words = OURS.render(mail, VARIABLES, segment=segment)
        paragraphs = [" ".join(each.split()) for each in words.text.partition("\n\nOpen ")[0].split("\n\n")]
        shown = " ".join(Page(words.html).text.split())
        assert [each for each in paragraphs if each not in shown] == []


def test_each_file_is_the_closest_to_segment_and_arm_by_itself(write):
    templates = write(
        m_b_subject_txt="Hello of b", m_dev_txt="Hello of dev", m_dev_b_html="<p>Hello of dev and b</p>",
        m_dev_html="<p>Hello of dev</p>", m_b_html="<p>Hello of b</p>",
    )  # fmt: skip
    found = {}
    for segment, arm in [(None, None), ("dev", None), (None, "b"), ("dev", "b"), ("other", "c")]:
        words = templates.render("m", {}, segment=segment, arm=arm)
        found[segment, arm] = words.subject, words.text.strip(), Page(words.html).text
    assert found == {
        (None, None): ("Hello", "Hello", "Hello"),
        ("dev", None): ("Hello", "Hello of dev", "Hello of dev"),
        (None, "b"): ("Hello of b", "Hello", "Hello of b"),
        ("dev", "b"): ("Hello of b", "Hello of dev", "Hello of dev and b"),
        ("other", "c"): ("Hello", "Hello", "Hello"),
    }


@pytest.mark.parametrize("segment", ["subject", "../../etc", "dev/../x", "", "d\0", "x" * 100_000])
def test_a_segment_that_is_no_word_is_the_plain_mail(write, segment):
    templates = write(m_subject_txt="Dear reader")
    assert templates.render("m", {}, segment=segment, arm=segment) == templates.render("m", {})


def test_an_application_that_has_a_mail_of_ours_has_all_of_it_and_may_have_the_frame_of_the_others(tmp_path):
    for name, text in {"welcome.subject.txt": "Mine", "welcome.txt": "Mine", "welcome.html": "<p>Mine</p>"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "layout.txt").write_text("My frame: {% block body %}{% endblock %}")
    templates = Templates(tmp_path, DEFAULT)
    mine = templates.render("welcome", VARIABLES, segment="developer", arm="b")
    assert (mine.subject, mine.text, Page(mine.html).text) == ("Mine", "Mine\n", "Mine")
    assert templates.render("day3", VARIABLES).text.startswith("My frame: ")


SCRIPTS = ["אדה", "\u200fسلمى\u200f", "👩‍💻 Ada", "Zoë & Søn", "O'Hara"]
HOSTILE = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "{{ 7 * 7 }}{% raw %}", "Ada\r\nBcc: a@b.org",
    "a\u202egnp.exe", "\u2066\u2067x", "\0\x1b[31m", "\ud800", "</title></style><p>", "' onclick='x", "&lt;b&gt;",
    "-->", "A\u2028B\x85C", *SCRIPTS, "x" * 10_000, "\t \n", "]]>", "<!--[if mso]><b>",
]  # fmt: skip


@given(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=200)))
def test_a_name_is_text_and_nothing_else_whatever_it_holds(name):
    plain = OURS.render("welcome", VARIABLES)
    words = OURS.render("welcome", {**VARIABLES, "name": name, "product": name, "address": name})
    assert len(words.html.encode()) < 100_000 + 10 * len(name.encode("utf-8", "replace"))  # can be sent at all
    if name.strip():
        assert Page(words.html).elements == Page(plain.html).elements
    for text in (words.subject, words.text, words.html):
        assert not set(text) & set("\0\x1b\x07\x7f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert len(words.subject.splitlines()) == 1
    assert len(words.subject) <= LONGEST_SUBJECT


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_name_of_any_script_is_shown_as_it_is_written(name):
    words = OURS.render("welcome", {**VARIABLES, "name": name})
    assert f"Welcome, {name}" in words.text
    assert f"Welcome, {name}" in Page(words.html).text


def test_what_looks_like_a_template_in_a_value_is_not_one(write):
    words = said(write(m_txt="{{ name }}", m_html="<p>{{ name }}</p>"), name="{{ 7 * 7 }} {% include 'm.txt' %}")
    assert words.text == "{{ 7 * 7 }} {% include 'm.txt' %}\n"
    assert Page(words.html).text == "{{ 7 * 7 }} {% include 'm.txt' %}"


def test_a_text_is_not_escaped_and_an_empty_column_is_nothing(write):
    words = said(write(m_txt="{{ name }} & {{ plan }}!", m_html="<p>{{ name }}{{ plan }}</p>"), name="<Ada>", plan=None)
    assert (words.text, Page(words.html).text) == ("<Ada> & !\n", "<Ada>")


def test_lines_of_a_text_end_alike_and_no_subject_has_two(write):
    words = said(
        write(m_subject_txt="Dear\n  {{ name }}", m_txt="a  \r\nb\u2028c\n\n\n\n-- \n{{ name }}\t\n\n"), name="A\r\nB"
    )
    assert (words.subject, words.text) == ("Dear A B", "a\nb\nc\n\n-- \nA\nB\n")


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", " JaVaScRiPt:x", "java\nscript:x", "\tjava\tscript:x", "data:text/html,x", "vbscript:x",
     "file:///etc/passwd", "javascript&colon;x"],
)  # fmt: skip
def test_an_address_that_would_run_or_read_something_is_left_out(write, address):
    link = '<a class="x" href="{{ url }}" title=\'href="javascript:x"\'>x</a>'
    page = f'<p title="a>b">{link}<img src="{{{{ url }}}}"> href="javascript:x"</p>'
    made = Page(said(write(m_html=page), url=address).html)
    kept = [address] if "&" in address else []  # a value is no markup: this one is the name of a file
    assert made.addresses == kept * 2
    assert made.text == 'x href="javascript:x"'


def test_an_address_that_a_link_needs_stays(write):
    addresses = [
        "https://a.example/?b=1&c=2#d",
        "HTTP://a.example",
        "mailto:a@b.example",
        "tel:+41",
        "/up",
        "?x=a:b",
        "#y",
    ]
    page = "{% for url in urls %}<a href='{{ url }}'>x</a>{% endfor %}"
    assert Page(said(write(m_html=page), urls=addresses).html).addresses == addresses


def test_styles_are_inlined_and_those_for_some_screens_stay(write):
    style = "<style>p { color: #123456 } @media (max-width: 9px) { p { color: red !important } }</style>"
    page = said(write(m_html=f"<html><head>{style}</head><body><p>x</p></body></html>")).html
    assert '<p style="color: #123456;">x</p>' in page
    assert "@media (max-width: 9px)" in page


def test_no_stylesheet_is_fetched_nor_read(write, tmp_path):
    (tmp_path / "own.css").write_text("p { color: #654321 }")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        remote = f"http://127.0.0.1:{server.getsockname()[1]}/x.css"
        links = "".join(f'<link rel="stylesheet" href="{url}">' for url in (remote, tmp_path / "own.css", "own.css"))
        page = said(write(m_html=f"{links}<p>x</p>")).html
        with pytest.raises(TimeoutError):
            server.accept()
    assert Page(page).addresses == []
    assert "654321" not in page


def test_templates_cannot_reach_into_the_program(write):
    with pytest.raises(TemplateError, match=r"m\.txt, line 2: .*unsafe"):
        said(write(m_txt="x\n{{ ''.__class__.__mro__ }}"))


def test_a_part_that_is_too_large_to_be_mail_is_refused(write):
    with pytest.raises(TemplateError, match=r"m\.txt came out with 600,000 characters"):
        said(write(m_txt="{{ x }}"), x="y" * 600_000)
    assert LARGEST == 500_000


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"m_txt": "one\n{{ nmae }}"}, r"m\.txt, line 2: 'nmae' is undefined"),
        (
            {"m_txt": "{% include 'n.txt' %}", "n_txt": "\n\n{{ 1 // zero }}"},
            r"n\.txt, line 3: it ended with ZeroDivision",
        ),
        ({"m_html": "<p>\n{% if %}"}, r"m\.html, line 2: Expected an expression"),
        ({"m_html": "\n{% include 'm.txt' %}"}, "m.html cannot hold 'm.txt', which is escaped otherwise"),
        ({"m_txt": "{% include 'gone.txt' %}"}, r"m\.txt, line 1: 'gone\.txt' not found|gone\.txt"),
        ({"m_txt": " \n{{ '' }}"}, r"m\.txt came out empty"),
        ({"m_subject_txt": "{{ nothing }}"}, r"m\.subject\.txt came out empty"),
        ({"m_html": ""}, r"m\.html came out empty"),
    ],
)
def test_a_template_that_cannot_be_filled_is_named_with_its_line(write, files, message):
    with pytest.raises(TemplateError, match=message):
        said(write(**files), zero=0, nothing=None, name="Ada")


def test_what_a_broken_template_says_holds_nothing_personal(write):
    with pytest.raises(TemplateError) as caught:
        said(write(m_txt="{{ name|int(base='x') + name }}"), name="Ada of Secret Street")
    assert "Ada" not in str(caught.value)


def test_a_mail_that_is_not_there_is_named_with_the_nearest(write, tmp_path):
    with pytest.raises(TemplateError, match=r"mail 'welcmoe' has no .*welcmoe\.subject\.txt; did you mean 'welcome'\?"):
        OURS.render("welcmoe", {})
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(TemplateError, match=r"mail 'x' has no .*x\.subject\.txt: write it"):
        write().render("x", {})


def test_a_folder_that_is_none_is_said_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match="gone cannot be read"):
        Templates(tmp_path / "gone")


def test_without_the_extra_one_sentence_says_what_to_install():
    code = (
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'css_inline' else find(name, *more)\n"
        "import nightcrew.letters"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtra: mail needs css_inline, not installed here: pip install 'nightcrew[mail]'" in run.stderr


def test_the_mails_that_come_along_are_in_their_folder():
    assert {path.suffix for path in Path(DEFAULT).iterdir()} == {".html", ".txt"}
