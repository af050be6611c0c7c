"""Databases of marker genes are read alike, what is broken is said, and the project's rules know their names."""

import gzip
import os
from pathlib import Path

import pytest

from shest.core.errors import InputError
from shest.io import marker_databases as databases
from shest.labels import vote

ROOT = Path(__file__).resolve().parents[2]
RESOURCES = ROOT / "resources"
PUBLIC = Path(os.environ.get("SHEST_MARKERS") or ROOT.parent / "shared" / "data" / "markers")
PANGLAO = "species\tofficial gene symbol\tcell type\torgan\nMm Hs\tCd3e\tT cells\tBlood\nMm\tXyz\tT cells\tBlood\n"


def write(path, text):
    path.write_text(text)
    return path


CONDENSED = 'Tissue,CT,Gene\nLung,T\xa0cell,"CD3E, CD2,CD3E"\n'
PUBLISHED = "species,tissue_class,cell_name,Symbol\nHuman,Lung,B cell,CD19\nMouse,Lung,B cell,Cd22\n"
OWN = "organ\tcell_type\tgenes\tsource\n\tB cell\tCD19,MS4A1\tme\n"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("panglaodb", PANGLAO, [["Blood", "T cells", "CD3E"]]),
        ("cellmarker", CONDENSED, [["Lung", "T cell", "CD3E"], ["Lung", "T cell", "CD2"]]),
        ("cellmarker", PUBLISHED, [["Lung", "B cell", "CD19"]]),
        ("cancersea", "EnsembleID\tGeneName\nENSG1\tMKI67\n", [["", databases.CANCERSEA, "MKI67"]]),
        ("table", OWN, [["", "B cell", "CD19"], ["", "B cell", "MS4A1"]]),
    ],
)
def test_formats_become_the_same_table(tmp_path, kind, text, expected):
    path = write(tmp_path / "d.txt", text)
    found = databases.read_databases([{"format": kind, "paths": [path]}])
    assert found[databases.COLUMNS].values.tolist() == expected
    assert set(found["database"]) == {kind}


def test_packed_tables_are_read(tmp_path):
    with gzip.open(tmp_path / "p.tsv.gz", "wt") as handle:
        handle.write(PANGLAO)
    assert len(databases.read_panglaodb(tmp_path / "p.tsv.gz")) == 1


@pytest.mark.parametrize(
    ("kind", "name", "text", "message"),
    [
        (
            "panglaodb",
            "d.tsv",
            "gene\tcell type\nA\tB\n",
            "no PanglaoDB: it has no column organ (it has gene, cell type)",
        ),
        ("panglaodb", "d.tsv", PANGLAO.replace("Mm Hs", "Mm"), "no marker gene of a human cell in it"),
        ("panglaodb", "d.tsv", "", "no table of PanglaoDB that can be read"),
        ("cellmarker", "d.csv", "a,b\n1,2\n", "no CellMarker: it has no column tissue_class"),
        ("cellmarker", "d.xlsx", "x", "an Excel file. Save it as CSV, and name that"),
        ("cancersea", "d.txt", "<html>not found</html>\n", "no CancerSEA: it has no column GeneName"),
        ("table", "d.tsv", "cell_type\tgenes\n\t\n", "no marker gene of a human cell in it"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, kind, name, text, message):
    with pytest.raises(InputError, match="d\\.") as error:
        databases.READERS[kind](write(tmp_path / name, text))
    assert message in str(error.value)
    with pytest.raises(InputError, match="can be read"):
        databases.read_table(tmp_path / "none.tsv")


def test_rules_that_cannot_be_used_are_said(tmp_path):
    columns = ["pattern", "category"]
    with pytest.raises(InputError, match="no regular expression"):
        databases.read_rules(write(tmp_path / "a.tsv", "pattern\tcategory\n(\tX\n"), columns)
    with pytest.raises(InputError, match="rows with an empty cell"):
        databases.read_rules(write(tmp_path / "b.tsv", "pattern\tcategory\na\t\n"), columns)
    with pytest.raises(InputError, match="no column category"):
        databases.read_rules(write(tmp_path / "c.tsv", "pattern\tgroup\na\tX\n"), columns)


@pytest.fixture(scope="module")
def rules():
    return databases.read_rules(RESOURCES / "marker_categories.tsv", ["pattern", "category"])


LIKE_OTHERS = {
    "Connective": "Cancer-associated fibroblast;Inflammatory cancer‐associated fibroblast (iCAF);Adipocytes;Pericytes;"
    "Endothelial cells (blood brain barrier);Airway smooth muscle cells;Lymphatic endothelial cell;"
    "Hepatic stellate cell",
    "Inflammatory": "Tumor‐associated macrophage (TAM);Tumor-infiltrating lymphocyte(TIL);Alveolar macrophages;"
    "Microglia;Epithelioid macrophage;Naive T(Th0) cell;T helper17 (Th17) cell;CD8+ intraepithelial cell;NK cells;"
    "Follicular B cell;Plasmacytoid dendritic cell(pDC);Kupffer cells",
    "Neoplastic": "Cancer stem cell;Malignant cell;Tumor epithelial cell;Cancer cell (CancerSEA)",
    "Epithelial": "Pulmonary alveolar type II cells;Goblet cell;Luminal epithelial cells;Basal cell;Hepatocytes;"
    "Enterochromaffin cells;Beta cell(β cell);Proximal tubule cells;Club cell (Clara cell)",
    "Unknown": "Basal forebrain cholinergic neuron (BFCN);Retinal ganglion cells;Radial glia cells;Platelets;"
    "Neuroepithelial cell;Spermatocytes;Hematopoietic stem cells;Melanocytes",
}


@pytest.mark.parametrize("category", LIKE_OTHERS)
def test_the_projects_rules_know_names_that_look_like_others(rules, category):
    found = vote.categorise(LIKE_OTHERS[category].split(";"), rules)
    assert found.eq(category).all(), found[~found.eq(category)].to_dict()


def test_the_projects_own_table_is_known_to_its_rules_and_names_sources(rules):
    source = [{"format": "table", "paths": [RESOURCES / "marker_genes.tsv"]}]
    table = vote.with_categories(databases.read_databases(source), rules)
    assert vote.unmapped(table) == {}
    assert {"Neoplastic", "Epithelial", "Inflammatory", "Connective"} <= set(table["category"])
    lines = (RESOURCES / "marker_genes.tsv").read_text().splitlines()
    assert lines[0].split("\t")[-1] == "source"
    assert all(line.split("\t")[-1] for line in lines)
    genes = table.loc[table["category"] == "Inflammatory", "gene"]
    assert {"CD3E", "MS4A1", "CD68", "KIT"} <= set(genes)


def test_published_databases_are_read_and_mapped(rules):
    if not PUBLIC.is_dir():
        pytest.skip("needs the databases of SHEST_MARKERS, which are not there")
    sources = [
        {"format": "panglaodb", "paths": [PUBLIC / "PanglaoDB_markers_27_Mar_2020.tsv"]},
        {"format": "cellmarker", "paths": [PUBLIC / "CellMarker2_Human_Aug.csv"]},
        {"format": "cancersea", "paths": sorted((PUBLIC / "cancersea").glob("*.txt"))},
    ]
    table = vote.with_categories(databases.read_databases(sources), rules)
    genes = table.groupby("database")["gene"].nunique()
    assert genes.to_dict() == {"cancersea": 1244, "cellmarker": 12897, "panglaodb": 4343}
    unknown = vote.unmapped(table)
    assert set(unknown) >= {"Stem cell", "Progenitor cell"}
    assert sum(unknown.values()) < 0.1 * len(table)
    names = table.drop_duplicates("cell_type").dropna(subset="category")
    by_name = names.set_index("cell_type")["category"]
    assert (by_name == "Neoplastic").sum() == 20
