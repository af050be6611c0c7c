"""Where the report leads into the viewers: to pages that there are, under names that the pages know."""

from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

from support.scores import evaluation, type_scores

from shest.draw import report, view_links
from shest.draw.view_links import Pages

NET = evaluation(
    "net", types=replace(type_scores(0.7), types=["X", "Y", "Z"], counts=[[50, 7, 0], [1, 40, 9], [0, 0, 3]])
)
RIDGE, PAPER = evaluation("ridge", types=NET.types), evaluation("net", protocol="paper", types=NET.types)
BLIND = evaluation("blind", "net", types=None, calibration=None)
EVERY = [NET, PAPER, BLIND, RIDGE]
PAGES = Pages({"s1": ["cells", "spots"], "s 2": ["spots"]}, ["net", "blind"], "strict")


def view(address):
    """Page, and what it shows, as the page reads it."""
    parts = urlsplit(address)
    return parts.path, parse_qsl(parts.fragment)


def test_samples_lead_to_each_of_their_pages_and_to_the_most_frequent_confusions():
    links = view_links.sample_links(PAGES, EVERY)
    assert [text for text, _ in links] == [
        "all samples",
        "s1",
        "s1: its spots",
        "s1: Y called Z by net (9 of the scored cells)",
        "s1: X called Y by net (7 of the scored cells)",
        "s1: Y called X by net (1 of the scored cells)",
        "s 2",
    ]
    assert [address for _, address in links[:3]] == [
        "viewer/index.html",
        "viewer/s1/index.html",
        "viewer/s1/spots.html",
    ]
    shown = [("left", "predicted.net"), ("only", "annotated~Y"), ("only", "predicted.net~Z")]
    assert view(links[3][1]) == ("viewer/s1/index.html", shown)
    assert links[-1][1] == "viewer/s%202/index.html"


def test_doubts_lead_to_their_cells_where_there_are_any():
    links = view_links.doubt_links(PAGES, EVERY, {"s1": {"kept", "bare_glass"}, "s 2": {"kept", "little_tissue"}})
    assert [text for text, _ in links] == [
        "s1: nuclei that lie on bare glass",
        "s1: cells that net is unsure of (probability up to 0.5)",
        "s1: cells that net types otherwise than annotated",
    ]
    assert [view(address)[1] for _, address in links] == [
        [("left", "reason"), ("only", "reason~bare_glass")],
        [("left", "predicted.net"), ("between", "probability.net~0~0.5")],
        [("left", "predicted.net"), ("only", "agree.net~another type")],
    ]
    disagreeing = view_links.doubt_links(PAGES, [], {"s1": {"disagrees"}})
    assert [view(address)[1][1] for _, address in disagreeing] == [("only", "reason~disagrees")]


def test_figures_lead_to_what_their_panels_show():
    def links(number, system="net", samples=("s1", "s 2", "nobody"), measured=("CD3E",)):
        return view_links.figure_links(number, samples, PAGES, EVERY, system, {"X": "CD3E"}, {"s1": measured})

    assert [(text, view(address)[1]) for text, address in links("6")] == [
        ("s1, annotated beside predicted", [("left", "annotated"), ("right", "predicted.net"), ("swipe", "0.5")])
    ]
    gene = [("left", "gene:CD3E|measured"), ("right", "gene:CD3E|expected.net"), ("swipe", "0.5")]
    alone = [("left", "gene:CD3E|expected.net")]
    assert [view(address)[1] for _, address in links("7")] == [gene, [*gene, ("only", "annotated~X")]]
    assert [view(address)[1] for _, address in links("7", measured=())] == [alone, [*alone, ("only", "annotated~X")]]
    assert [text for text, _ in links("S2")] == ["Y called Z", "X called Y"], "the most frequent one of each label"
    assert [view(address)[1] for _, address in links("5")] == [[("left", "predicted.net")]]
    assert links("8") == links("6", system="ridge") == links("6", samples=[]) == [], "no page shows that"


def test_the_report_carries_them_where_they_belong():
    drawn = report.Picture(
        "data:,", 1, 1, "Figure 6", "data", [("seen <here>", "viewer/s1/index.html#left=a&only=b~c")]
    )
    page = report.render(
        "t", "s", [], ["a doubt"], [report.Block("f", "F", pictures=[drawn])], [("see & doubt", "viewer/x/index.html")]
    )
    assert '<a href="viewer/s1/index.html#left=a&amp;only=b~c">seen &lt;here&gt;</a>' in page
    doubts = page[page.index("a doubt") : page.index('<h2 id="f"')]
    assert '<a href="viewer/x/index.html">see &amp; doubt</a>' in doubts
    assert "Look at the cells" not in report.render("t", "s", [], ["a doubt"], [])
