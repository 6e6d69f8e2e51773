from benchmarks.measure import Figures
from benchmarks.report import Row, lines


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_ratios_go_by_round() -> None:
    figures = {"darkroom": Figures((1.0, 2.0, 1.0), None), "diffusers": Figures((2.0, 2.0, 3.0), 2**20)}
    ours, theirs = lines(Row("w", 10**9, figures, {"darkroom": 0.5}), 2e9).splitlines()
    assert cells(ours) == ["w", "darkroom", "1.000", "2.00 (1.00–3.00)", "50%", "", "5.0e-01"]
    assert cells(theirs) == ["w", "diffusers", "2.000", "1.00 (1.00–1.00)", "25%", "1 MiB", ""]


def test_cells_without_a_meaning_stay_empty() -> None:
    figures = {"darkroom": Figures((3.0,), None, {"start": (2.0,), "draw": (1.0,)})}
    whole, start, _ = lines(Row("w", None, figures, {}), 2e9).splitlines()
    assert cells(whole) == ["w", "darkroom", "3.000", "", "", "", ""]
    assert cells(start) == ["w", "darkroom: start", "2.000", "", "", "", ""]
