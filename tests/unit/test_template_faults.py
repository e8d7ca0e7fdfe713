"""What is wrong with mails is said before anybody is sent one: in which file and line, and what was meant perhaps."""

import pytest

from nightcrew.letters.templates import Templates

KNOWN = ("name", "address", "unsubscribe_url", "product")
WAY_OUT = "{{ unsubscribe_url }}"
FRAMED = "{% extends 'f.html' %}"


@pytest.fixture
def faults(tmp_path):
    """Write a mail “m” and return its faults without the folder's path.

    Its parts are sound unless they are given; OUT stands for what shows the way out.
    """

    def faults(*, segments=(), arms=(), without=(), **files: str) -> list[str]:
        plain = {"m_subject_txt": "Hello", "m_txt": "OUT", "m_html": "<a href='OUT'>x</a>"}
        for name, text in {**plain, **files}.items():
            if name not in without:
                path = tmp_path / name.replace("__", "/").replace("_", ".")
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(text.replace("OUT", WAY_OUT).encode("latin-1"))
        found = Templates(tmp_path).check({"m": (segments, arms)}, KNOWN)
        return [fault.replace(f"{tmp_path}/", "") for fault in found]

    return faults


def test_a_sound_mail_has_none(faults):
    assert faults() == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"m_txt": "x\n{{ nmae }}OUT"}, "m.txt, line 2: nobody gives 'nmae'; did you mean 'name'?"),
        ({"m_subject_txt": "{{ prodct }}"}, "m.subject.txt, line 1: nobody gives 'prodct'; did you mean 'product'?"),
        (
            {"m_html": FRAMED, "f_html": "OUT\n{{ nmae }}{{ nmae }}"},
            "f.html, line 2: nobody gives 'nmae'; did you mean 'name'?",
        ),
        (
            {"m_txt": "OUT{% include 'parts/f.txt' %}", "parts__f_txt": "{{ addres }}"},
            "parts/f.txt, line 1: nobody gives 'addres'; did you mean 'address'?",
        ),
        (
            {"m_txt": "OUT{% from 'f.txt' import m %}{{ m() }}", "f_txt": "{% macro m() %}{{ name }}{% endmacro %}"},
            "f.txt, line 1: nobody gives 'name': import what names it 'with context', or hand it over",
        ),
        (
            {"segments": ("dev",), "m_dev_html": "{% extends 'm.html' %}{% set name = nmae %}"},
            "m.dev.html, line 1: nobody gives 'nmae'",
        ),
        ({"m_txt": "OUT\n{% if name %}"}, "m.txt, line 2: Unexpected end of template."),
        ({"m_txt": "OUT{% include 'f.txt' %}", "f_txt": "\n{% fi %}"}, "f.txt, line 2: Encountered unknown tag 'fi'."),
        ({"m_txt": "OUT{{ name|uper }}"}, "m.txt, line 1: there is no filter 'uper'; did you mean 'upper'?"),
        (
            {"m_txt": "OUT{% if name %}{{ 1 is evn }}{% endif %}"},
            "m.txt, line 1: there is no test 'evn'; did you mean 'even'?",
        ),
        (
            {"m_html": "OUT{% include 'fot.html' %}", "foot_html": "x"},
            "m.html, line 1: there is no template 'fot.html'; did you mean 'foot.html'?",
        ),
        (
            {"m_html": "OUT{% include 'm.txt' %}"},
            "m.html, line 1: m.html cannot hold 'm.txt', which is escaped otherwise:",
        ),
        (
            {"m_txt": "OUT{% include name %}"},
            "m.txt, line 1: which template this is turns out only when it is rendered: write its name",
        ),
        ({"m_txt": "\xff"}, "m.txt is not UTF-8 (byte 0): save it as UTF-8"),
        ({"m_html": "<p>x</p>"}, "m.html never shows unsubscribe_url: write it where people look for it,"),
        ({"m_txt": "{# unsubscribe_url #}"}, "m.txt never shows unsubscribe_url"),
        (
            {"m_html": FRAMED + "{% block b %}{% endblock %}", "f_html": "{% block b %}OUT{% endblock %}"},
            "m.html never shows unsubscribe_url",
        ),
        ({"m_html": FRAMED + "OUT", "f_html": "what stands beside blocks is lost"}, "m.html never shows"),
        (
            {"m_html": FRAMED + "\n{% block boddy %}{% endblock %}", "f_html": "{% block body %}{% endblock %}OUT"},
            "m.html, line 2: f.html has no block 'boddy'; did you mean 'body'?",
        ),
        ({"without": ["m_txt"]}, "mail 'm' has no m.txt: write it"),
        ({"without": ["m_html"]}, "mail 'm' has no m.html: write it"),
        ({"without": ["m_subject_txt"]}, "mail 'm' has no m.subject.txt: write it"),
        (
            {"segments": ("dev", "ops"), "without": ["m_txt"], "m_dev_txt": "OUT"},
            "mail 'm' has no m.txt: write it",
        ),
        (
            {"segments": ("general", "developer"), "m_develper_html": "OUT"},
            "m.develper.html is never used for mail 'm': 'develper' is none of its segments and arms; did you mean",
        ),
        ({"m_htm": "x"}, "m.htm is never used for mail 'm': rename or remove it"),
        ({"arms": ("subject",)}, "mail 'm' cannot have a segment or an arm 'subject'"),
        ({"segments": ("a/b",)}, "mail 'm' cannot have a segment or an arm 'a/b'"),
        (
            {"segments": ("b",), "arms": ("a", "b")},
            "mail 'm' has a segment and an arm 'b', whose files would be the same",
        ),
    ],
)
def test_a_fault_is_one_sentence_that_names_file_line_and_remedy(faults, files, fault):
    found = faults(**files)
    assert [each[: len(fault)] for each in found] == [fault]


def test_a_mail_that_is_not_there_is_named_with_the_nearest(tmp_path):
    (tmp_path / "welcome.subject.txt").write_text("x")
    found = Templates(tmp_path).check({"welcmoe": ((), ())}, ())
    assert found == [f"mail 'welcmoe' has no {tmp_path}/welcmoe.subject.txt; did you mean 'welcome'?"]


@pytest.mark.parametrize(
    "files",
    [
        {"m_txt": "{% set greeting = 'Hi' %}{{ greeting }}OUT"},
        {"m_txt": "{% for each in name %}{{ loop.index }}{{ each }}{% endfor %}OUT"},
        {"m_txt": "{% macro m(x) %}{{ x }}{{ caller() }}{% endmacro %}{% call m(name) %}{% endcall %}OUT"},
        {"m_txt": "{{ range(3)|join }}{{ dict(a=1) }}{{ name|line }}OUT"},
        {"m_txt": "{% extends 'f.txt' %}{% set title = 'x' %}", "f_txt": "{{ title }}OUT"},
        {
            "m_txt": "{% extends 'f.txt' %}{% block b %}{{ super() }}{{ tone }}{{ self.b }}{% endblock %}",
            "f_txt": "{% set tone = 1 %}{% block b %}OUT{% endblock %}",
        },
        {"m_txt": "{% set x = 1 %}{% include 'f.txt' %}", "f_txt": "{{ x }}OUT"},
        {"m_txt": "{% for x in name %}{% include ['no.txt', 'f.txt'] %}{% endfor %}", "f_txt": "{{ x }}OUT"},
        {"m_txt": "{% include 'no.txt' ignore missing %}OUT"},
        {
            "m_txt": "{% from 'f.txt' import m with context %}{{ m() }}",
            "f_txt": "{% macro m() %}{{ name }}OUT{% endmacro %}",
        },
        {
            "m_txt": "{% import 'f.txt' as f %}{{ f.m(unsubscribe_url) }}",
            "f_txt": "{% macro m(url) %}{{ url }}{% endmacro %}",
        },
        {"m_txt": "{% include 'f.txt' %}OUT", "f_txt": "{% if name == 1 %}{% include 'f.txt' %}{% endif %}"},
        {
            "m_html": FRAMED + "{% block b %}x{% block c %}y{% endblock %}{% endblock %}",
            "f_html": "{% block b %}{% endblock %}OUT",
        },
        {"segments": ("dev",), "arms": ("a", "b"), "m_dev_b_subject_txt": "x", "m_dev_html": "OUT", "m_b_txt": "OUT"},
        {"m_html": "{% include 'm.foot.html' %}", "m_foot_html": "OUT"},
        {"segments": ("dev", "ops"), "without": ["m_html"], "m_dev_html": "OUT", "m_ops_html": "OUT"},
    ],
)
def test_what_a_template_may_do_is_no_fault(faults, files):
    assert faults(**files) == []


def test_each_fault_is_told_once_though_many_mails_share_it(faults):
    found = faults(segments=("a", "b"), m_html=FRAMED, m_a_html=FRAMED, f_html="{{ nmae }}OUT")
    assert found == ["f.html, line 1: nobody gives 'nmae'; did you mean 'name'?"]
